import { TheiaError } from '../errors.js';

/** What one learning-rate schedule needs. All steps count optimiser steps, 0-based. */
export type ScheduleOptions = {
  /** the rate after the warm-up (already scaled, see scaledLr) */
  lr: number;
  warmupSteps: number;
  /** fraction of `lr` at step 0 */
  warmupStart: number;
  kind: 'constant' | 'cosine';
  /** steps of one cosine period, after which it restarts; unused for constant */
  cycle: number;
  /** libm's cos: V8's Math.cos differs from it in the last bit for some arguments, and PyTorch uses libm */
  cos: (x: number) => number;
};

/**
 * The linear scaling rule of the original: `base_lr` belongs to 8 processes of batch 64.
 * @param world processes that train together
 */
export function scaledLr(baseLr: number, batch: number, accumulate = 1, world = 1): number {
  // Product first, as the original groups it: another grouping rounds differently.
  return baseLr * ((batch * accumulate * world) / (64 * 8));
}

/** Steps of the warm-up: given outright, or the floor of a share of all steps. */
export function warmupSteps(totalSteps: number, ratio: number, steps = 0): number {
  return steps > 0 ? steps : Math.floor(ratio * totalSteps);
}

/** Steps of one cosine period: given outright, or all that follow the warm-up (at least 1, when there are none). */
export function cosineCycle(totalSteps: number, warmup: number, cycle = 0): number {
  return cycle > 0 ? cycle : Math.max(1, totalSteps - warmup);
}

/**
 * Learning rate per optimiser step, bit for bit that of torch's LinearLR followed by a constant or a cosine with restarts
 * (golden/lr_schedules.json). `lr(step)` is a pure function: a resumed run asks for any step and gets what an unbroken run got.
 */
export class Schedule {
  readonly #o: ScheduleOptions;
  // torch multiplies the previous rate, so the warm-up is a recursion; its values are kept, which changes nothing but the time.
  readonly #warmup: number[];

  /** @throws ERR_CONFIG for numbers that make no schedule */
  constructor(options: ScheduleOptions) {
    const o = { ...options };
    const bad = (what: string, got: number): TheiaError =>
      new TheiaError('ERR_CONFIG', `learning rate schedule: expected ${what}, got ${got}`);
    if (!Number.isFinite(o.lr) || o.lr < 0) throw bad('a finite lr from 0 up', o.lr);
    if (!Number.isSafeInteger(o.warmupSteps) || o.warmupSteps < 0) throw bad('a whole number of warm-up steps', o.warmupSteps);
    if (!(o.warmupStart > 0 && o.warmupStart <= 1)) throw bad('a warm-up start above 0 and up to 1', o.warmupStart);
    if (o.kind === 'cosine' && (!Number.isSafeInteger(o.cycle) || o.cycle < 1)) throw bad('a cosine period of at least 1 step', o.cycle);
    this.#o = o;
    this.#warmup = [o.lr * o.warmupStart];
  }

  /**
   * The rate that optimiser step `step` uses.
   * @param step 0-based
   */
  lr(step: number): number {
    if (!Number.isSafeInteger(step) || step < 0) throw new TheiaError('ERR_ARGS', `lr: expected a step from 0 up, got ${step}`);
    const { lr, warmupSteps: warm, warmupStart: start, kind, cycle, cos } = this.#o;
    if (step < warm) {
      for (let s = this.#warmup.length; s <= step; s++) {
        this.#warmup.push(this.#warmup[s - 1] * (1.0 + (1.0 - start) / (warm * start + (s - 1) * (1.0 - start))));
      }
      return this.#warmup[step];
    }
    if (kind === 'constant') return lr;
    return (lr * (1 + cos((Math.PI * ((step - warm) % cycle)) / cycle))) / 2;
  }
}
