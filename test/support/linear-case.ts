// Cases of linear and linear_grad, shared by the tests of the CPU and of devices.
import { packedLength } from '../../src/autograd/parameter.js';
import type { PackUse } from '../../src/autograd/parameter.js';
import { randomValues, runCase, toBf16 } from './op-case.js';
import type { CaseTensor, OpCase } from './op-case.js';

export type Make = (count: number, seed: number) => Float64Array;
export type Numbers = ArrayLike<number>;
export type Size = readonly [m: number, n: number, k: number];

export interface Options {
  activation?: 'none' | 'relu' | 'gelu';
  bias?: boolean;
  residual?: boolean;
  packed?: boolean;
  accumulate?: boolean;
  /** of y with residual, dy and dx: those that stay float32 where activations are bfloat16 */
  full?: readonly ('y' | 'dy' | 'dx')[];
}

/** Panels of 32 columns as the op `pack` makes them, in plain loops: test/ops/pack.test.ts holds `pack` itself to its description. */
function panels(w: Numbers, n: number, k: number, use: PackUse): CaseTensor {
  const out = new Float64Array(packedLength([n, k], use));
  const [columns, depth] = use === 'forward' ? [n, k] : [k, n];
  for (let c = 0; c < columns; c++)
    for (let d = 0; d < depth; d++)
      out[(Math.floor(c / 32) * depth + d) * 32 + (c % 32)] = use === 'forward' ? w[c * k + d]! : w[d * k + c]!;
  return { shape: [out.length], values: out };
}

export function forward([m, n, k]: Size, make: Make = randomValues, options: Options = {}): OpCase {
  const w = make(n * k, 2);
  const wide = options.full?.includes('y') ?? false;
  const activation = options.activation ?? 'none';
  return {
    op: 'linear',
    tensors: {
      x: { shape: [m, k], values: make(m * k, 1) },
      w: { shape: [n, k], values: w },
      ...(options.packed ? { packed: panels(w, n, k, 'forward') } : {}),
      ...(options.bias ? { bias: { shape: [n], values: make(n, 3), full: true } } : {}),
      ...(options.residual ? { residual: { shape: [m, n], values: make(m * n, 4), full: wide } } : {}),
      y: { shape: [m, n], full: wide },
      ...(activation === 'gelu' ? { slope: { shape: [m, n] } } : {}),
    },
    scalars: { activation },
  };
}

/** Backward of a forward case; y or slope come from the float64 kernel, for a residual has no part in them. */
export function backward(f: OpCase, options: Options = {}, make: Make = randomValues): OpCase {
  const [m, k] = f.tensors['x']!.shape as [number, number];
  const n = f.tensors['w']!.shape[0]!;
  const activation = f.scalars!['activation'] as string;
  const { residual: _, ...inputs } = f.tensors;
  const saved = activation === 'gelu' ? 'slope' : 'y';
  const values = activation === 'none' ? undefined : runCase({ ...f, tensors: inputs }, 'float64')[saved]!;
  const out = (shape: number[], seed: number): CaseTensor =>
    options.accumulate ? { shape, values: make(shape[0]! * (shape[1] ?? 1), seed), full: true } : { shape, full: true };
  return {
    op: 'linear_grad',
    tensors: {
      x: f.tensors['x']!,
      w: f.tensors['w']!,
      ...(options.packed ? { packed: panels(f.tensors['w']!.values!, n, k, 'backward') } : {}),
      dy: { shape: [m, n], values: make(m * n, 5), full: options.full?.includes('dy') ?? false },
      ...(values ? { [saved]: { shape: [m, n], values } } : {}),
      dx: { shape: [m, k], full: options.full?.includes('dx') ?? false },
      dw: out([n, k], 6),
      dbias: out([n], 7),
    },
    scalars: { activation, accumulate: options.accumulate ? 1 : 0 },
  };
}

/** dx and dw each alone, as products of m and n and a few over `depth` of k: M, N and K of the layer are placed so. */
export function gradientsOver(depth: number, m: number, n: number, make: Make, options: Options = {}): ['dx' | 'dw', OpCase][] {
  const forDx = backward(forward([m + 9, depth, n + 8], make), { full: ['dx'] }, make);
  const forDw = backward(forward([depth, m + 16, n + 8], make), options, make);
  return (
    [
      ['dx', forDx],
      ['dw', forDw],
    ] as const
  ).map(([name, b]) => {
    const { dx, dw, dbias: _, ...inputs } = b.tensors;
    return [name, { ...b, tensors: { ...inputs, [name]: name === 'dx' ? dx! : dw! } }];
  });
}

/** Every element of rows x columns. */
function table(rows: number, columns: number, at: (i: number, j: number) => number): Float64Array {
  return Float64Array.from({ length: rows * columns }, (_, e) => at(Math.floor(e / columns), e % columns));
}

/** Σ over d < depth of term(d), from +0 on, as every kernel sums: the result is never -0. */
function sum(depth: number, term: (d: number) => number): number {
  let s = 0;
  for (let d = 0; d < depth; d++) s += term(d);
  return s;
}

/** y of a forward case without GELU. */
export function expectedForward(f: OpCase): Float64Array {
  const v = (name: string): Numbers | undefined => f.tensors[name]?.values;
  const [[m, k], n] = [f.tensors['x']!.shape as [number, number], f.tensors['w']!.shape[0]!];
  const [x, w] = [v('x')!, v('w')!];
  return table(m, n, (i, j) => {
    const before = sum(k, (d) => x[i * k + d]! * w[j * k + d]!) + (v('bias')?.[j] ?? 0);
    return (f.scalars!['activation'] === 'relu' && before < 0 ? 0 : before) + (v('residual')?.[i * n + j] ?? 0);
  });
}

/** What a gradient case gives, without GELU. */
export function expectedBackward(b: OpCase): Record<string, Float64Array> {
  const v = (name: string): Numbers | undefined => b.tensors[name]?.values;
  const [[m, k], n] = [b.tensors['x']!.shape as [number, number], b.tensors['w']!.shape[0]!];
  const [x, w] = [v('x')!, v('w')!];
  const d = Float64Array.from(v('dy')!, (g, e) => (v('y') && !(v('y')![e]! > 0) ? 0 : g));
  const add = (name: string, values: Float64Array): Float64Array => values.map((s, e) => s + (v(name)?.[e] ?? 0));
  return {
    dx: table(m, k, (i, c) => sum(n, (j) => d[i * n + j]! * w[j * k + c]!)),
    dw: add(
      'dw',
      table(n, k, (j, c) => sum(m, (i) => d[i * n + j]! * x[i * k + c]!)),
    ),
    dbias: add(
      'dbias',
      table(1, n, (_, j) => sum(m, (i) => d[i * n + j]!)),
    ),
  };
}

/** Σ in float32, the order of k, as a plain loop has it. */
export function dot(depth: number, term: (d: number) => number): number {
  let s = 0;
  for (let d = 0; d < depth; d++) s = Math.fround(s + term(d));
  return s;
}

/** linear with float32 sums, rounded where the kernel stores. */
export function plainForward(c: OpCase): Record<string, ArrayLike<number>> {
  const v = (name: string): ArrayLike<number> | undefined => c.tensors[name]?.values;
  const [m, k] = c.tensors['x']!.shape as [number, number];
  const n = c.tensors['w']!.shape[0]!;
  const [x, w, gelu] = [v('x')!, v('w')!, c.scalars!['activation'] === 'gelu'];
  const y = new Float64Array(m * n);
  const slope = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let s = Math.fround(dot(k, (d) => x[i * k + d]! * w[j * k + d]!) + (v('bias')?.[j] ?? 0));
      if (gelu) {
        const phi = 0.5 * (1 + erf(s * Math.SQRT1_2));
        slope[i * n + j] = toBf16(phi + s * Math.exp(-0.5 * s * s) * 0.3989422804014327);
        s = Math.fround(s * phi);
      } else if (c.scalars!['activation'] === 'relu' && s < 0) s = 0;
      s = Math.fround(s + (v('residual')?.[i * n + j] ?? 0));
      y[i * n + j] = c.tensors['y']!.full ? s : toBf16(s);
    }
  return gelu ? { y, slope } : { y };
}

/** Abramowitz and Stegun would do for 8 bits; this is the series and the fraction, exact enough to be no part of the error. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let i = 1; i < 60; i++) {
      term *= (-a * a) / i;
      sum += term / (2 * i + 1);
    }
    return (Math.sign(x) * sum * 2) / Math.sqrt(Math.PI);
  }
  let f = 0;
  for (let i = 60; i > 0; i--) f = i / 2 / (a + f);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + f) * Math.sqrt(Math.PI)));
}
