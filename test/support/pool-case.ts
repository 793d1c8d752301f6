// Cases of max_pool2d and its gradient, for the tests on every device, and what is right by its definition.
import type { OpCase } from './op-case.js';

export interface Pool {
  b: number;
  h: number;
  w: number;
  c: number;
  kernel: number;
  stride: number;
  padding: number;
}

export const POOLS: Pool[] = [
  { b: 1, h: 1, w: 1, c: 1, kernel: 1, stride: 1, padding: 0 },
  { b: 2, h: 16, w: 15, c: 64, kernel: 3, stride: 2, padding: 1 },
  { b: 2, h: 8, w: 9, c: 33, kernel: 2, stride: 2, padding: 0 },
  { b: 3, h: 7, w: 5, c: 3, kernel: 3, stride: 1, padding: 1 },
  { b: 1, h: 9, w: 9, c: 17, kernel: 2, stride: 3, padding: 1 },
  { b: 1, h: 11, w: 12, c: 197, kernel: 5, stride: 2, padding: 2 },
];
export const nameOf = (p: Pool): string => `${p.b}x${p.h}x${p.w}x${p.c}, kernel ${p.kernel}, stride ${p.stride}, padding ${p.padding}`;

export function outShape(p: Pool): number[] {
  const out = (size: number): number => Math.floor((size + 2 * p.padding - p.kernel) / p.stride) + 1;
  return [p.b, out(p.h), out(p.w), p.c];
}

/** For every output the flat index of the input that wins: the first maximum, or the last NaN. */
export function winners(p: Pool, x: ArrayLike<number>): number[] {
  const [, oh, ow] = outShape(p) as [number, number, number, number];
  const out: number[] = [];
  for (let b = 0; b < p.b; b++)
    for (let oy = 0; oy < oh; oy++)
      for (let ox = 0; ox < ow; ox++)
        for (let c = 0; c < p.c; c++) {
          let best = -1;
          for (let ky = 0; ky < p.kernel; ky++)
            for (let kx = 0; kx < p.kernel; kx++) {
              const y = oy * p.stride - p.padding + ky;
              const i = ox * p.stride - p.padding + kx;
              if (y < 0 || i < 0 || y >= p.h || i >= p.w) continue;
              const at = ((b * p.h + y) * p.w + i) * p.c + c;
              if (best < 0 || x[at]! > x[best]! || Number.isNaN(x[at]!)) best = at;
            }
          out.push(best);
        }
  return out;
}

const scalars = (p: Pool): Record<string, number> => ({ kernel: p.kernel, stride: p.stride, padding: p.padding });

export function forwardCase(p: Pool, values: ArrayLike<number>): OpCase {
  return {
    op: 'max_pool2d',
    tensors: { x: { shape: [p.b, p.h, p.w, p.c], values }, y: { shape: outShape(p) } },
    scalars: scalars(p),
  };
}

export function gradientCase(p: Pool, values: ArrayLike<number>, dy: ArrayLike<number>): OpCase {
  const x = [p.b, p.h, p.w, p.c];
  return {
    op: 'max_pool2d_grad',
    tensors: { x: { shape: x, values }, dy: { shape: outShape(p), values: dy }, dx: { shape: x } },
    scalars: scalars(p),
  };
}

export function expectedGradient(p: Pool, values: ArrayLike<number>, dy: ArrayLike<number>): Float64Array {
  const dx = new Float64Array(values.length);
  winners(p, values).forEach((at, n) => (dx[at]! += dy[n]!));
  return dx;
}
