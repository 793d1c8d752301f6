// Cases of layernorm and layernorm_map, which have the same tensors, and their plain loops with float32 sums.
import { toBf16, randomValues, runCase, smallIntegers } from './op-case.js';
import type { OpCase, Values } from './op-case.js';

export type Make = (count: number, seed: number) => Float64Array;
export type NormOp = 'layernorm' | 'layernorm_map';

/**
 * Forward over `count` rows or maps of `width` elements.
 * @param full of x and y: those that stay float32 where activations are bfloat16
 */
export function normForward(op: NormOp, count: number, width: number, values: Make, eps: number, full: readonly string[] = []): OpCase {
  const shape = [count, width];
  return {
    op,
    tensors: {
      x: { shape, values: values(count * width, 1), full: full.includes('x') },
      gamma: { shape: [width], values: values(width, 2), full: true },
      beta: { shape: [width], values: values(width, 3), full: true },
      y: { shape, full: full.includes('y') },
      mean: { shape: [count], full: true },
      rstd: { shape: [count], full: true },
    },
    scalars: { eps },
  };
}

/** Backward of a forward case; its mean and rstd come from the float64 kernel. `full` is of dy and dx (with add). */
export function normBackward(
  f: OpCase,
  options: { add?: boolean; relu?: boolean; accumulate?: boolean; full?: readonly string[] } = {},
): OpCase {
  const shape = f.tensors['x']!.shape as [number, number];
  const [count, width] = shape;
  const full = (name: string): boolean => options.full?.includes(name) ?? false;
  const { mean, rstd } = runCase(f, 'float64') as { mean: Values; rstd: Values };
  const start = options.accumulate ? { values: randomValues(width, 7) } : {};
  return {
    op: f.op === 'layernorm' ? 'layernorm_grad' : 'layernorm_map_grad',
    tensors: {
      x: f.tensors['x']!,
      gamma: f.tensors['gamma']!,
      mean: { shape: [count], values: mean, full: true },
      rstd: { shape: [count], values: rstd, full: true },
      dy: { shape, values: randomValues(count * width, 5), full: full('dy') },
      ...(options.add ? { add: { shape, values: randomValues(count * width, 6), full: full('dx') } } : {}),
      dx: { shape, full: full('dx') },
      dgamma: { shape: [width], full: true, ...start },
      dbeta: { shape: [width], full: true, ...start },
    },
    scalars: { accumulate: options.accumulate ? 1 : 0, ...(f.op === 'layernorm_map' ? { relu: options.relu ? 1 : 0 } : {}) },
  };
}

/**
 * A backward case on small integers, rstd 2 and 1/2, whose sums into dgamma and dbeta are exact, and what they are. + 0: a sum that starts
 * at 0 cannot be -0.
 */
export function exactNormGrad(
  f: OpCase,
  accumulate: boolean,
): { backward: OpCase; expected: { dgamma: Float64Array; dbeta: Float64Array } } {
  const [count, width] = f.tensors['x']!.shape as [number, number];
  const backward = normBackward(f, { accumulate });
  const set = (name: string, values: Float64Array): Float64Array => (backward.tensors[name]!.values = values);
  const x = backward.tensors['x']!.values!;
  const mean = set('mean', smallIntegers(count, 8));
  const rstd = set(
    'rstd',
    Float64Array.from({ length: count }, (_, r) => (r % 2 ? 2 : 0.5)),
  );
  const dy = set('dy', smallIntegers(count * width, 9));
  const start = (name: string, seed: number): Float64Array =>
    accumulate ? Float64Array.from(set(name, smallIntegers(width, seed))) : new Float64Array(width);
  const [dgamma, dbeta] = [start('dgamma', 10), start('dbeta', 11)];
  for (let r = 0; r < count; r++)
    for (let i = 0; i < width; i++) {
      dgamma[i]! += dy[r * width + i]! * (x[r * width + i]! - mean[r]!) * rstd[r]!;
      dbeta[i]! += dy[r * width + i]!;
    }
  return { backward, expected: { dgamma: dgamma.map((v) => v + 0), dbeta: dbeta.map((v) => v + 0) } };
}

/** [B,C,P] to [B,P,C]: the golden maps are channels first, the engine's channels last. */
export function channelsLast(values: ArrayLike<number>, batch: number, channels: number): Float64Array {
  const positions = values.length / batch / channels;
  const out = new Float64Array(values.length);
  for (let b = 0; b < batch; b++)
    for (let c = 0; c < channels; c++)
      for (let p = 0; p < positions; p++) out[(b * positions + p) * channels + c] = values[(b * channels + c) * positions + p]!;
  return out;
}

/** The way back. */
export function channelsFirst(values: ArrayLike<number>, batch: number, channels: number): Float64Array {
  return channelsLast(values, batch, values.length / batch / channels);
}

const { fround } = Math;
const stored = (c: OpCase, name: string): ((v: number) => number) => (c.tensors[name]!.full ? fround : toBf16);

/** Forward, one number after the other in float32; y is rounded to bfloat16 unless it is full. */
export function plainNorm(c: OpCase): Record<string, Float64Array> {
  const [count, width] = c.tensors['x']!.shape as [number, number];
  const [x, gamma, beta] = ['x', 'gamma', 'beta'].map((name) => c.tensors[name]!.values!) as [Values, Values, Values];
  const round = stored(c, 'y');
  const y = new Float64Array(count * width);
  const mean = new Float64Array(count);
  const rstd = new Float64Array(count);
  for (let r = 0; r < count; r++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum = fround(sum + x[r * width + i]!);
    const m = (mean[r] = fround(sum / width));
    let squares = 0;
    for (let i = 0; i < width; i++) {
      const d = fround(x[r * width + i]! - m);
      squares = fround(squares + fround(d * d));
    }
    rstd[r] = fround(1 / Math.sqrt(fround(squares / width) + (c.scalars!['eps'] as number)));
    for (let i = 0; i < width; i++) {
      const xhat = fround(fround(x[r * width + i]! - m) * rstd[r]!);
      y[r * width + i] = round(fround(fround(xhat * gamma[i]!) + beta[i]!));
    }
  }
  return { y, mean, rstd };
}

/** Backward, one number after the other in float32; dx is rounded to bfloat16 unless it is full. */
export function plainNormGrad(c: OpCase): Record<string, Float64Array> {
  const [count, width] = c.tensors['x']!.shape as [number, number];
  const [x, gamma, mean, rstd, dy] = ['x', 'gamma', 'mean', 'rstd', 'dy'].map((name) => c.tensors[name]!.values!) as Values[] as [
    Values,
    Values,
    Values,
    Values,
    Values,
  ];
  const add = c.tensors['add']?.values;
  const round = stored(c, 'dx');
  const dx = new Float64Array(count * width);
  const start = (name: string): Float64Array => Float64Array.from(c.tensors[name]!.values ?? new Float64Array(width));
  const [dgamma, dbeta] = [start('dgamma'), start('dbeta')];
  for (let r = 0; r < count; r++) {
    const xhat = Float64Array.from({ length: width }, (_, i) => fround(fround(x[r * width + i]! - fround(mean[r]!)) * fround(rstd[r]!)));
    let c1 = 0;
    let c2 = 0;
    for (let i = 0; i < width; i++) {
      const g = fround(dy[r * width + i]! * gamma[i]!);
      c1 = fround(c1 + g);
      c2 = fround(c2 + fround(g * xhat[i]!));
    }
    c1 = fround(c1 / width);
    c2 = fround(c2 / width);
    for (let i = 0; i < width; i++) {
      const at = r * width + i;
      const g = fround(dy[at]! * gamma[i]!);
      const d = fround(fround(rstd[r]!) * fround(fround(g - c1) - fround(xhat[i]! * c2)));
      dx[at] = c.scalars!['relu'] && x[at]! <= 0 ? 0 : round(add ? fround(d + add[at]!) : d);
      dgamma[i] = fround(dgamma[i]! + fround(dy[at]! * xhat[i]!));
      dbeta[i] = fround(dbeta[i]! + dy[at]!);
    }
  }
  return { dx, dgamma, dbeta };
}
