// Cases of distill_loss and its gradient, for the tests on every device.
import { f32ToF16 } from '../../src/formats/half.js';
import { randomValues, roundInputs, runCase } from './op-case.js';
import type { CaseTensor, OpCase } from './op-case.js';

export type Shape = [samples: number, positions: number, channels: number];
export type Half = 'bfloat16' | 'float16';

export interface Point {
  shape: Shape;
  p: ArrayLike<number>;
  t: ArrayLike<number>;
  mean?: ArrayLike<number>;
  std?: ArrayLike<number>;
  /** store the target in two bytes */
  half?: Half;
}

export function inputs({ shape, p, t, mean, std, half }: Point): Record<string, CaseTensor> {
  const stored = half === 'float16' ? f32ToF16(Float32Array.from(t)) : t; // cases hold float16 as bits
  const target: CaseTensor = half ? { shape, values: stored, dtype: half } : { shape, values: t, full: true };
  const channels = [shape[2]];
  return {
    p: { shape, values: p },
    t: target,
    ...(mean && std ? { mean: { shape: channels, values: mean, full: true }, std: { shape: channels, values: std, full: true } } : {}),
  };
}

export function lossCase(point: Point): OpCase<'distill_loss'> {
  const stats: CaseTensor = { shape: [point.shape[0], 3], dtype: 'float64' };
  return { op: 'distill_loss', tensors: { ...inputs(point), terms: { shape: [3], full: true }, stats } };
}

/** The gradient op at a point, its stats taken from the float64 forward op. */
export function gradCase(point: Point, weights: number[]): OpCase<'distill_loss_grad'> {
  const { stats } = runCase(roundInputs(lossCase(point)), 'float64');
  return {
    op: 'distill_loss_grad',
    tensors: {
      ...inputs(point),
      stats: { shape: [point.shape[0], 3], values: stats!, dtype: 'float64' },
      weights: { shape: [3], values: weights, full: true },
      dp: { shape: point.shape },
    },
  };
}

/** Random numbers of the sizes that features have. */
export function randomPoint(shape: Shape, seed: number, half?: Half, normalised = true): Point {
  const count = shape[0] * shape[1] * shape[2];
  const p = randomValues(count, seed).map((v) => v * 3);
  const t = randomValues(count, seed + 1).map((v) => v * 4 + 1);
  if (!normalised) return { shape, p, t, half };
  const mean = randomValues(shape[2], seed + 2);
  return { shape, p, t, half, mean, std: randomValues(shape[2], seed + 3).map((v) => 1.5 + v) };
}
