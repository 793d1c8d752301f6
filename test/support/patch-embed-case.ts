// Cases of patch_embed and patch_embed_grad, shared by the tests of the CPU and of devices.
import { packedLength } from '../../src/autograd/parameter.js';
import { countOf } from '../../src/tensor/index.js';
import { randomValues } from './op-case.js';
import type { CaseTensor, OpCase } from './op-case.js';

export type Make = (count: number, seed: number) => Float64Array;

export interface Geometry {
  batch: number;
  height: number;
  width: number;
  channels: number;
  patch: number;
  /** of a token */
  d: number;
  cls?: boolean;
  registers?: number;
  /** y and dy stay float32 where activations are bfloat16 */
  wide?: boolean;
}

export const patchesOf = (g: Geometry): number => (g.height / g.patch) * (g.width / g.patch);
export const tokensOf = (g: Geometry): number => patchesOf(g) + (g.cls ? 1 : 0) + (g.registers ?? 0);

export function bytes(g: Geometry): Uint8Array {
  const count = g.batch * g.height * g.width * g.channels;
  return Uint8Array.from(randomValues(count, 9), (v) => Math.floor((v + 1) * 128));
}

/** The parameters in the order of the op's fields, with the seed of their values. */
export function parameters(g: Geometry): [name: string, shape: number[]][] {
  const registers = g.registers ?? 0;
  return [
    ['w', [g.d, g.patch, g.patch, g.channels]],
    ['bias', [g.d]],
    ['positions', [1 + patchesOf(g), g.d]],
    ...(g.cls ? [['cls', [g.d]] as [string, number[]]] : []),
    ...(registers > 0
      ? [['registers', [registers, g.d]] as [string, number[]], ['register_positions', [registers, g.d]] as [string, number[]]]
      : []),
  ];
}

function common(g: Geometry, make: Make): Record<string, CaseTensor> {
  return {
    images: { shape: [g.batch, g.height, g.width, g.channels], values: bytes(g), dtype: 'uint8' },
    table: { shape: [g.channels * 256], values: make(g.channels * 256, 20), full: true },
  };
}

export function forward(g: Geometry, make: Make = randomValues, packed = false): OpCase {
  const tensors = common(g, make);
  parameters(g).forEach(([name, shape], i) => (tensors[name] = { shape, values: make(countOf(shape), i + 1), full: name !== 'w' }));
  if (packed) {
    const depth = g.patch * g.patch * g.channels;
    const out = new Float64Array(packedLength([g.d, depth], 'forward'));
    const w = tensors['w']!.values!;
    for (let n = 0; n < g.d; n++) for (let k = 0; k < depth; k++) out[(Math.floor(n / 32) * depth + k) * 32 + (n % 32)] = w[n * depth + k]!;
    tensors['packed'] = { shape: [out.length], values: out };
  }
  tensors['y'] = { shape: [g.batch, tokensOf(g), g.d], full: g.wide ?? false };
  return { op: 'patch_embed', tensors };
}

export function backward(g: Geometry, make: Make = randomValues, accumulate = false): OpCase {
  const tensors = common(g, make);
  tensors['dy'] = { shape: [g.batch, tokensOf(g), g.d], values: make(g.batch * tokensOf(g) * g.d, 10), full: g.wide ?? false };
  parameters(g).forEach(([name, shape], i) => {
    tensors[`d${name}`] = accumulate ? { shape, values: make(countOf(shape), i + 11), full: true } : { shape, full: true };
  });
  return { op: 'patch_embed_grad', tensors, scalars: { accumulate: accumulate ? 1 : 0 } };
}

/** Calls meet(token row of [B·T], patch index, flat index of the pixel value, index into a filter) for each value of each patch. */
export function meetings(g: Geometry, meet: (row: number, patch: number, pixel: number, k: number) => void): void {
  const across = g.width / g.patch;
  const first = g.cls ? 1 : 0;
  for (let b = 0; b < g.batch; b++)
    for (let y = 0; y < g.height; y++)
      for (let x = 0; x < g.width; x++) {
        const patch = Math.floor(y / g.patch) * across + Math.floor(x / g.patch);
        for (let c = 0; c < g.channels; c++)
          meet(
            b * tokensOf(g) + first + patch,
            patch,
            ((b * g.height + y) * g.width + x) * g.channels + c,
            ((y % g.patch) * g.patch + (x % g.patch)) * g.channels + c,
          );
      }
}

export function expectedForward(g: Geometry, f: OpCase): Float64Array {
  const v = (name: string): ArrayLike<number> => f.tensors[name]!.values!;
  const y = new Float64Array(g.batch * tokensOf(g) * g.d);
  const depth = g.patch * g.patch * g.channels;
  meetings(g, (row, _, pixel, k) => {
    const value = v('table')[(pixel % g.channels) * 256 + v('images')[pixel]!]!;
    for (let d = 0; d < g.d; d++) y[row * g.d + d]! += value * v('w')[d * depth + k]!;
  });
  return y.map((sum, e) => {
    const [token, d] = [Math.floor(e / g.d) % tokensOf(g), e % g.d];
    const patch = token - (g.cls ? 1 : 0);
    if (patch < 0) return v('cls')[d]! + v('positions')[d]!;
    if (patch < patchesOf(g)) return sum + v('bias')[d]! + v('positions')[(1 + patch) * g.d + d]!;
    const r = (patch - patchesOf(g)) * g.d + d;
    return v('registers')[r]! + v('register_positions')[r]!;
  });
}

export function expectedBackward(g: Geometry, c: OpCase): Record<string, Float64Array> {
  const v = (name: string): ArrayLike<number> => c.tensors[name]!.values!;
  const depth = g.patch * g.patch * g.channels;
  const add = c.scalars!['accumulate'] === 1;
  const out = Object.fromEntries(
    parameters(g).map(([name, shape]) => [`d${name}`, add ? Float64Array.from(v(`d${name}`)) : new Float64Array(countOf(shape))]),
  );
  const dy = v('dy');
  meetings(g, (row, _, pixel, k) => {
    const value = v('table')[(pixel % g.channels) * 256 + v('images')[pixel]!]!;
    for (let d = 0; d < g.d; d++) out['dw']![d * depth + k]! += dy[row * g.d + d]! * value;
  });
  Float64Array.from(dy).forEach((value, e) => {
    const [token, d] = [Math.floor(e / g.d) % tokensOf(g), e % g.d];
    const patch = token - (g.cls ? 1 : 0);
    if (patch >= patchesOf(g)) {
      for (const name of ['dregisters', 'dregister_positions']) out[name]![(patch - patchesOf(g)) * g.d + d]! += value;
      return;
    }
    out['dpositions']![(1 + patch) * g.d + d]! += value;
    out[patch < 0 ? 'dcls' : 'dbias']![d]! += value;
  });
  return Object.fromEntries(Object.entries(out).map(([name, values]) => [name, values.map((s) => s + 0)]));
}
