// Cases of adamw, for the tests on every device.
import * as assert from 'uvu/assert';
import { arenaOf, placed, slotRow } from './arena.js';
import type { StepNumbers, TestArena } from './arena.js';
import { randomValues } from './op-case.js';
import type { OpCase, Values } from './op-case.js';

export const BETAS = { beta1: 0.9, beta2: 0.999 };
export const RUN = { ...BETAS, eps: 1e-8 };
export const PADDING = 7.25; // stands in every gap and must still stand there afterwards

export interface State {
  param: ArrayLike<number>;
  exp_avg: ArrayLike<number>;
  exp_avg_sq: ArrayLike<number>;
}

export function stepCase(arena: TestArena, state: State, grad: ArrayLike<number>, slots: number[][], clip = 1, run = RUN): OpCase<'adamw'> {
  const shape = [arena.total];
  return {
    op: 'adamw',
    tensors: {
      param: { shape, values: state.param },
      grad: { shape, values: grad },
      exp_avg: { shape, values: state.exp_avg },
      exp_avg_sq: { shape, values: state.exp_avg_sq },
      segments: arena.table,
      slots: { shape: [slots.length, 4], values: slots.flat() },
      clip_factor: { shape: [1], values: [clip] },
    },
    scalars: run,
  };
}

export function checkPadding(arena: TestArena, lengths: number[], out: Record<string, Values>): void {
  const gap = new Uint8Array(arena.total).fill(1);
  for (const [i, n] of lengths.entries()) gap.fill(0, arena.offsets[i]!, arena.offsets[i]! + n);
  for (const name of ['param', 'exp_avg', 'exp_avg_sq'])
    for (let i = 0; i < arena.total; i++) if (gap[i] && out[name]![i] !== PADDING) assert.unreachable(`${name}[${i}] is padding`);
}

/** Segments of odd lengths over several chunks; slot 2 stands still. */
export const LENGTHS = [1, 3, 33, 196, 197, 256, 257, 40000, 5, 16, 17000, 31];
export const ARENA = arenaOf(LENGTHS.map((length, i) => ({ length, decay: i < 6, slot: i % 3 })));
export const NUMBERS: StepNumbers = { lr: 3e-4, weightDecay: 0.05, ...BETAS, step: 7 };
export const SLOTS = [slotRow(NUMBERS), slotRow({ ...NUMBERS, lr: 1e-3, step: 2 }), slotRow({ ...NUMBERS, enabled: false })];

export function randomState(seed: number): { state: State; grad: Values } {
  const each = (k: number, scale: number, positive = false): Values =>
    placed(
      ARENA,
      LENGTHS.map((n, i) => randomValues(n, seed + 100 * k + i).map((v) => Math.fround((positive ? Math.abs(v) : v) * scale))),
      PADDING,
    );
  return { state: { param: each(1, 1), exp_avg: each(2, 0.1), exp_avg_sq: each(3, 0.01, true) }, grad: each(4, 0.3) };
}
