// Cases of conv2d and conv_transpose2d: shapes, an independent reference in the scatter form, panels, golden values.
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/index.js';
import { countOf } from '../../src/tensor/index.js';
import { manifest, relativeError, requireGolden } from './golden.js';
import { INSTRUCTION_SETS, randomValues, runCase } from './op-case.js';
import type { CaseTensor, OpCase, Where } from './op-case.js';

export interface Geometry {
  b: number;
  h: number;
  w: number;
  i: number;
  o: number;
  k: number | [number, number];
  stride: number;
  padding: number;
  /** transposed convolution only, and what tells one */
  outputPadding?: number;
}

export type Make = (count: number, seed: number) => Float64Array;

export const isTransposed = (g: Geometry): boolean => g.outputPadding !== undefined;

/** For the titles of tests. */
export const nameOf = (g: Geometry): string =>
  `${g.b}x${g.h}x${g.w}x${g.i} -> ${g.o}, window ${g.k}, stride ${g.stride}, padding ${g.padding}` +
  (isTransposed(g) ? `, output padding ${g.outputPadding}` : '');

/** [x, w, y] shapes. */
export function shapesOf(g: Geometry): { x: number[]; w: number[]; y: number[] } {
  const [kh, kw] = typeof g.k === 'number' ? [g.k, g.k] : g.k;
  const out = (size: number, k: number): number =>
    isTransposed(g) ? (size - 1) * g.stride - 2 * g.padding + k + g.outputPadding! : Math.floor((size + 2 * g.padding - k) / g.stride) + 1;
  return { x: [g.b, g.h, g.w, g.i], w: [g.o, kh, kw, g.i], y: [g.b, out(g.h, kh), out(g.w, kw), g.o] };
}

/**
 * Calls meet(x, w, y) with the flat index of the first channel of every x and y position that meet through a tap, and the flat index of
 * w[0][ky][kx][0].
 */
function meetings(g: Geometry, meet: (x: number, w: number, y: number) => void): void {
  const s = shapesOf(g);
  const [small, big] = isTransposed(g) ? [s.x, s.y] : [s.y, s.x];
  for (let b = 0; b < g.b; b++)
    for (let sy = 0; sy < small[1]!; sy++)
      for (let sx = 0; sx < small[2]!; sx++)
        for (let ky = 0; ky < s.w[1]!; ky++)
          for (let kx = 0; kx < s.w[2]!; kx++) {
            const by = sy * g.stride - g.padding + ky;
            const bx = sx * g.stride - g.padding + kx;
            if (by < 0 || bx < 0 || by >= big[1]! || bx >= big[2]!) continue;
            const p = ((b * small[1]! + sy) * small[2]! + sx) * small[3]!;
            const q = ((b * big[1]! + by) * big[2]! + bx) * big[3]!;
            const t = (ky * s.w[2]! + kx) * g.i;
            if (isTransposed(g)) meet(p, t, q);
            else meet(q, t, p);
          }
}

type Numbers = ArrayLike<number>;

/** What sums are kept in: the reference's float64, or float32 as a plain loop of that precision keeps them. */
export type Sums = Float64ArrayConstructor | Float32ArrayConstructor;

/** Forward: every meeting of two positions adds to y; then bias, residual and activation. */
export function forwardReference(
  g: Geometry,
  x: Numbers,
  w: Numbers,
  bias?: Numbers,
  residual?: Numbers,
  relu = false,
  sums: Sums = Float64Array,
): Float64Array {
  const s = shapesOf(g);
  const row = s.w[1]! * s.w[2]! * g.i;
  const y = new sums(countOf(s.y));
  meetings(g, (xi, wi, yi) => {
    for (let o = 0; o < g.o; o++) for (let i = 0; i < g.i; i++) y[yi + o]! += x[xi + i]! * w[o * row + wi + i]!;
  });
  for (let n = 0; n < y.length; n++) {
    if (bias) y[n]! += bias[n % g.o]!;
    if (residual) y[n]! += residual[n]!;
    if (relu && y[n]! < 0) y[n] = 0;
  }
  return Float64Array.from(y);
}

/** Gradients, dy masked where y is given. */
export function gradientReference(
  g: Geometry,
  x: Numbers,
  w: Numbers,
  dy: Numbers,
  y?: Numbers,
  sums: Sums = Float64Array,
): Record<'dx' | 'dw' | 'dbias', Float64Array> {
  const s = shapesOf(g);
  const row = s.w[1]! * s.w[2]! * g.i;
  const d = Float64Array.from(dy, (v, n) => (y === undefined || y[n]! > 0 ? v : 0));
  const dx = new sums(countOf(s.x));
  const dw = new sums(countOf(s.w));
  const dbias = new sums(g.o);
  meetings(g, (xi, wi, yi) => {
    for (let o = 0; o < g.o; o++)
      for (let i = 0; i < g.i; i++) {
        dx[xi + i]! += d[yi + o]! * w[o * row + wi + i]!;
        dw[o * row + wi + i]! += d[yi + o]! * x[xi + i]!;
      }
  });
  d.forEach((v, n) => (dbias[n % g.o]! += v));
  return { dx: Float64Array.from(dx), dw: Float64Array.from(dw), dbias: Float64Array.from(dbias) };
}

/** Weights [O,kh,kw,I] as panels [panel of 32][k][32] with zeros behind the last column; forward: columns o and k = (t, i); backward: columns i and k = (t, o). */
export function panelsOf(g: Geometry, w: Numbers, backward: boolean): Float64Array {
  const s = shapesOf(g);
  const taps = s.w[1]! * s.w[2]!;
  const [n, run] = backward ? [g.i, g.o] : [g.o, g.i];
  const out = new Float64Array(Math.ceil(n / 32) * 32 * taps * run);
  for (let column = 0; column < n; column++)
    for (let t = 0; t < taps; t++)
      for (let c = 0; c < run; c++) {
        const [o, i] = backward ? [c, column] : [column, c];
        out[(Math.floor(column / 32) * taps * run + t * run + c) * 32 + (column % 32)] = w[(o * taps + t) * g.i + i]!;
      }
  return out;
}

export interface Options {
  packed?: boolean;
  bias?: boolean;
  residual?: boolean;
  relu?: boolean;
  accumulate?: boolean;
}

const scalarsOf = (g: Geometry, options: Options): Record<string, number | string> => ({
  stride: g.stride,
  padding: g.padding,
  ...(isTransposed(g) ? { output_padding: g.outputPadding! } : {}),
  activation: options.relu ? 'relu' : 'none',
});

export function forwardCase(g: Geometry, make: Make, options: Options = {}): OpCase {
  const s = shapesOf(g);
  const w = make(countOf(s.w), 2);
  const tensors: Record<string, CaseTensor> = { x: { shape: s.x, values: make(countOf(s.x), 1) }, w: { shape: s.w, values: w } };
  if (options.bias) tensors['bias'] = { shape: [g.o], values: make(g.o, 3), full: true };
  if (options.residual) tensors['residual'] = { shape: s.y, values: make(countOf(s.y), 4) };
  if (options.packed) {
    const panels = panelsOf(g, w, false);
    tensors['packed'] = { shape: [panels.length], values: panels };
  }
  tensors['y'] = { shape: s.y };
  return { op: isTransposed(g) ? 'conv_transpose2d' : 'conv2d', tensors, scalars: scalarsOf(g, options) };
}

export function gradientCase(g: Geometry, make: Make, options: Options = {}): OpCase {
  const s = shapesOf(g);
  const w = make(countOf(s.w), 2);
  const tensors: Record<string, CaseTensor> = {
    x: { shape: s.x, values: make(countOf(s.x), 1) },
    w: { shape: s.w, values: w },
    dy: { shape: s.y, values: make(countOf(s.y), 5) },
    dx: { shape: s.x },
    dw: options.accumulate ? { shape: s.w, values: make(countOf(s.w), 6), full: true } : { shape: s.w, full: true },
    dbias: options.accumulate ? { shape: [g.o], values: make(g.o, 7), full: true } : { shape: [g.o], full: true },
  };
  if (options.relu) tensors['y'] = { shape: s.y, values: make(countOf(s.y), 8) };
  if (options.packed) {
    const panels = panelsOf(g, w, true);
    tensors['packed'] = { shape: [panels.length], values: panels };
  }
  return {
    op: isTransposed(g) ? 'conv_transpose2d_grad' : 'conv2d_grad',
    tensors,
    scalars: { ...scalarsOf(g, options), accumulate: options.accumulate ? 1 : 0 },
  };
}

/** What forwardCase gives by the reference. */
export function forwardExpected(g: Geometry, c: OpCase, sums: Sums = Float64Array): Record<string, Float64Array> {
  const v = (name: string): Numbers | undefined => c.tensors[name]?.values;
  return { y: forwardReference(g, v('x')!, v('w')!, v('bias'), v('residual'), c.scalars!['activation'] === 'relu', sums) };
}

/** What gradientCase gives by the reference. */
export function gradientExpected(g: Geometry, c: OpCase, sums: Sums = Float64Array): Record<string, Float64Array> {
  const v = (name: string): Numbers | undefined => c.tensors[name]?.values;
  const out: Record<string, Float64Array> = gradientReference(g, v('x')!, v('w')!, v('dy')!, v('y'), sums);
  const kept = (values: Numbers): Float64Array => Float64Array.from(sums.from(values));
  if (c.scalars!['accumulate'] === 1) for (const name of ['dw', 'dbias']) out[name] = kept(out[name]!.map((d, n) => d + v(name)![n]!));
  return out;
}

/** [A,C,H,W] -> [A,H,W,C]: what oihw weights and nchw maps are to the engine. */
export function channelsLast(values: Numbers, [a, c, h, w]: readonly number[]): Float64Array {
  const out = new Float64Array(values.length);
  let from = 0;
  for (let n = 0; n < a!; n++)
    for (let j = 0; j < c!; j++)
      for (let y = 0; y < h!; y++) for (let x = 0; x < w!; x++) out[((n * h! + y) * w! + x) * c! + j] = values[from++]!;
  return out;
}

/** [I,O,kh,kw] of a transposed convolution -> [O,kh,kw,I]. */
function iohwToEngine(values: Numbers, [i, o, kh, kw]: readonly number[]): Float64Array {
  const out = new Float64Array(values.length);
  let from = 0;
  for (let a = 0; a < i!; a++)
    for (let b = 0; b < o!; b++) for (let t = 0; t < kh! * kw!; t++) out[(b * kh! * kw! + t) * i! + a] = values[from++]!;
  return out;
}

/** What a golden case is run with. */
export type Run = readonly [dtype: 'float32' | 'float64', where: Where];
const CPU_RUNS: readonly Run[] = [...INSTRUCTION_SETS.map((set) => ['float32', { set }] as const), ['float64', { set: 'plain' }]];

/** Runs forward and gradient of one case of ops_conv.safetensors, on every instruction set by default, and compares with PyTorch's values. */
export function checkGolden(
  name: string,
  parameters: Pick<Geometry, 'stride' | 'padding' | 'outputPadding'>,
  runs: readonly Run[] = CPU_RUNS,
): void {
  const path = requireGolden('ops_conv.safetensors', name);
  if (path === undefined) return;
  const described = manifest()!.files['ops_conv.safetensors']!.tensors;
  using file = SafetensorsFile.open(path);
  const read = (key: string): { values: Float32Array; shape: number[] } => ({
    values: file.float32(`${name}/${key}`),
    shape: file.info(`${name}/${key}`).shape,
  });
  const map = (key: string): Float64Array => channelsLast(read(key).values, read(key).shape);
  const weights = (key: string): Float64Array =>
    parameters.outputPadding === undefined ? map(key) : iohwToEngine(read(key).values, read(key).shape);
  const [b, i, h, w] = read('in/x').shape;
  const kernel = read('in/w').shape;
  const g: Geometry = { ...parameters, b: b!, h: h!, w: w!, i: i!, o: read('in/b').shape[0]!, k: [kernel[2]!, kernel[3]!] };
  const s = shapesOf(g);
  const inputs = { x: { shape: s.x, values: map('in/x') }, w: { shape: s.w, values: weights('in/w') } };
  const bias = { shape: [g.o], values: read('in/b').values };
  const forward: OpCase = { ...forwardCase(g, randomValues), tensors: { ...inputs, bias, y: { shape: s.y } } };
  const gradient: OpCase = {
    ...gradientCase(g, randomValues),
    tensors: { ...inputs, dy: { shape: s.y, values: map('dout/y') }, dx: { shape: s.x }, dw: { shape: s.w }, dbias: { shape: [g.o] } },
  };
  const close = (got: Numbers, want: Numbers, key: string, least: number, label: string): void => {
    const limit = Math.max(20 * described[`${name}/${key}`]!.f32_rel_err!, least);
    const error = relativeError(got, want);
    assert.ok(error <= limit, `${name} ${key} ${label}: relative error ${error} is above ${limit}`);
  };
  for (const [dtype, where] of runs) {
    const label = `${where.device ?? where.set} ${dtype}`;
    close(runCase(forward, dtype, where)['y']!, map('out/y'), 'out/y', 1e-5, label);
    const got = runCase(gradient, dtype, where);
    close(got['dx']!, map('din/x'), 'din/x', 2e-5, label);
    close(got['dw']!, weights('din/w'), 'din/w', 2e-5, label);
    close(got['dbias']!, read('din/b').values, 'din/b', 2e-5, label);
  }
}
