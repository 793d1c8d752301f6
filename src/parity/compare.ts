import { TheiaError } from '../errors.js';

/** A tensor of a reference file: the whole, or samples of it. */
export interface ReferenceTensor {
  name: string;
  shape: readonly number[];
  values: Float32Array | Float64Array;
}

/** The model's own tensor of that name, in the published layout. */
export interface OwnTensor {
  shape: readonly number[];
  values: Float32Array | Float64Array;
}

/** How far a tensor is from its reference. */
export interface ParityRow {
  name: string;
  /** of the whole tensor */
  shape: number[];
  /** ‖x − r‖ / ‖r‖ over the entries that the reference holds; null where there is none (`scaled` then says why) or it is not finite */
  rel: number | null;
  /** largest absolute error; null if a value is not finite */
  abs: number | null;
  /** where the largest error is, or the first value that is not finite */
  at: number[];
  limit: number;
  ok: boolean;
  /** a gradient that is zero in exact arithmetic: ‖x‖ / the largest ‖r‖ among the gradients, judged in the place of `rel` */
  scaled?: number;
  /** number of entries compared, where the reference holds samples */
  samples?: number;
}

/** What is measured of a tensor before it is judged. */
export interface Difference {
  name: string;
  shape: number[];
  /** Euclidean norms in float64 over the compared entries */
  error: number;
  own: number;
  reference: number;
  abs: number;
  at: number[];
  finite: boolean;
  samples?: number;
}

/** Below this share of the largest gradient's norm a reference gradient is rounding noise around zero (key biases). */
const ZERO_GRADIENT = 1e-9;

/** True for the names whose values are gradients. */
export function isGradient(name: string): boolean {
  return name.startsWith('grad/') || name === 'grad_tokens';
}

/** Flat row-major index -> index per axis. */
export function placeOf(flat: number, shape: readonly number[]): number[] {
  const place = new Array<number>(shape.length);
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    place[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return place;
}

/** The flat index of sample k of count out of numel: floor(k · numel / count). The products stay below 2^53 for every real tensor. */
export function sampleIndex(k: number, numel: number, count: number): number {
  const product = k * numel;
  return (product - (product % count)) / count;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((s, i) => s === b[i]);
}

/**
 * Measures one tensor against its reference, in float64.
 * A reference of rank 1 with fewer entries holds samples of the tensor's row-major order; scalars may be [] or [1].
 * @throws ERR_SHAPE if the reference is neither of the tensor's shape nor samples of it
 */
export function measure(own: OwnTensor, reference: ReferenceTensor): Difference {
  const numel = own.values.length;
  const count = reference.values.length;
  const { shape } = reference;
  const scalar = numel === 1 && count === 1 && shape.length <= 1;
  const samples = shape.length === 1 && count > 0 && count <= numel;
  if (!sameShape(own.shape, shape) && !scalar && !samples)
    throw new TheiaError(
      'ERR_SHAPE',
      `${reference.name}: expected [${own.shape.join(',')}] as the model gives, or samples of it [n], got [${shape.join(',')}]`,
    );
  let [error, x2, r2, worst, at] = [0, 0, 0, -1, 0];
  let finite = true;
  for (let k = 0; k < count; k++) {
    const i = count === numel ? k : sampleIndex(k, numel, count);
    const x = own.values[i]!;
    const r = reference.values[k]!;
    const d = Math.abs(x - r);
    // NaN, or infinities on either side: the first such entry is the one to show.
    if (!(d < Infinity)) {
      if (finite) at = i;
      finite = false;
    }
    if (finite && d > worst) {
      worst = d;
      at = i;
    }
    error += d * d;
    x2 += x * x;
    r2 += r * r;
  }
  return {
    name: reference.name,
    shape: [...own.shape],
    error: Math.sqrt(error),
    own: Math.sqrt(x2),
    reference: Math.sqrt(r2),
    abs: Math.max(0, worst),
    at: placeOf(at, own.shape),
    finite,
    ...(count < numel ? { samples: count } : {}),
  };
}

/** Limits by name. */
export interface Tolerances {
  limit(name: string): number;
  /** for gradients that are zero in exact arithmetic, against the largest gradient's norm */
  zeroGradient: number;
  /** with it, gradients hold only if their median does: else each is judged by this limit too */
  gradientMedian?: number;
}

/** One limit for everything. */
export function uniformTolerances(rtol: number): Tolerances {
  return { limit: () => rtol, zeroGradient: rtol };
}

/** The middle of some numbers; NaN for none. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

function relative(d: Difference): number {
  if (!d.finite) return NaN;
  return d.error === 0 ? 0 : d.error / d.reference;
}

/** Judges what was measured. A row whose error is not finite never holds. */
export function judge(differences: readonly Difference[], tolerances: Tolerances): ParityRow[] {
  const parameters = differences.filter((d) => d.name.startsWith('grad/') && Number.isFinite(d.reference));
  const largest = parameters.reduce((n, d) => Math.max(n, d.reference), 0);
  const isZero = (d: Difference): boolean => d.name.startsWith('grad/') && d.reference < ZERO_GRADIENT * largest;
  const gradients = differences.filter((d) => isGradient(d.name) && !isZero(d)).map(relative);
  const middle = median(gradients);
  // Where the median is too far off, the gradients above its limit are what fails.
  const strict = tolerances.gradientMedian !== undefined && !(middle <= tolerances.gradientMedian) ? tolerances.gradientMedian : Infinity;
  return differences.map((d) => {
    const { name, shape, at, samples } = d;
    const abs = d.finite ? d.abs : null;
    const head = { name, shape };
    const tail = samples === undefined ? {} : { samples };
    if (isZero(d)) {
      const scaled = d.own / largest;
      const limit = tolerances.zeroGradient;
      return { ...head, rel: null, abs, at, limit, ok: d.finite && scaled <= limit, scaled, ...tail };
    }
    const rel = relative(d);
    const limit = isGradient(name) ? Math.min(strict, tolerances.limit(name)) : tolerances.limit(name);
    return { ...head, rel: Number.isFinite(rel) ? rel : null, abs, at, limit, ok: rel <= limit, ...tail };
  });
}
