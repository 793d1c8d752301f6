// A parameter arena for the tests of adamw and grad_norm: segments at 64-byte starts, padding between them that nobody may touch.
import type { CaseTensor } from './op-case.js';

export interface TestSegment {
  length: number;
  decay: boolean;
  slot: number;
}

export interface TestArena {
  total: number;
  /** first element of each segment */
  offsets: number[];
  /** the table as the ops take it */
  table: CaseTensor;
}

const ALIGN = 16;

export function arenaOf(segments: TestSegment[]): TestArena {
  const offsets: number[] = [];
  let next = 0;
  for (const s of segments) {
    offsets.push(next);
    next = Math.ceil((next + s.length) / ALIGN) * ALIGN;
  }
  const rows = segments.flatMap((s, i) => [offsets[i]!, s.length, Number(s.decay), s.slot]);
  return { total: next, offsets, table: { shape: [segments.length, 4], values: rows, dtype: 'int64' } };
}

/** An arena of `fill` with each segment's values in place. */
export function placed(arena: TestArena, values: ArrayLike<number>[], fill: number): Float64Array {
  const out = new Float64Array(arena.total).fill(fill);
  for (const [i, v] of values.entries()) out.set(v, arena.offsets[i]!);
  return out;
}

export interface StepNumbers {
  lr: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  step: number;
  enabled?: boolean;
}

/** A row of `slots`: what the host computes in double for one step. */
export function slotRow({ lr, weightDecay, beta1, beta2, step, enabled = true }: StepNumbers): number[] {
  return [1 - lr * weightDecay, lr / (1 - beta1 ** step), Math.sqrt(1 - beta2 ** step), Number(enabled)];
}
