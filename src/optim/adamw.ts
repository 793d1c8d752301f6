import type { Arena, Segment } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import { addon } from '../native/load.js';
import { Tensor, dispatch, valuesLater, writeLater } from '../tensor/index.js';

export interface AdamWOptions {
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
}

/** Numbers of one step for all segments that share learning rate and step count: a row of the kernel's slot table. */
const SLOT = 4;

/**
 * AdamW with decoupled decay over the arena, with gradient norm and clipping (kernels/adamw, kernels/grad_norm).
 * A segment that got no gradient in a step (frozen, its teacher not drawn) is skipped whole: its step count stays, as PyTorch skips
 * parameters whose gradient is None.
 */
export class AdamW {
  readonly expAvg: Tensor;
  readonly expAvgSq: Tensor;
  private readonly segments: Tensor;
  private readonly slots: Tensor;
  private readonly slotValues: Float32Array;
  private readonly limit: Tensor;
  private readonly norm: Tensor;
  private readonly clipFactor: Tensor;
  /** steps each segment has taken, in arena order */
  private readonly taken: Int32Array;
  private readonly betas: readonly [number, number];
  private readonly eps: number;
  private readonly weightDecay: number;

  constructor(
    private readonly arena: Arena,
    options: AdamWOptions = {},
  ) {
    if (!arena.gradients) throw new TheiaError('ERR_AUTOGRAD', 'AdamW needs a model that was built for training');
    this.betas = options.betas ?? [0.9, 0.999];
    this.eps = options.eps ?? 1e-8;
    this.weightDecay = options.weightDecay ?? 0.01;
    const count = arena.segments.length;
    const total = arena.values.size;
    const { device } = arena.values;
    this.expAvg = Tensor.zeros([total], 'float32', device).retainOnly();
    this.expAvgSq = Tensor.zeros([total], 'float32', device).retainOnly();
    // One slot a segment: learning rate scales and step counts may differ from segment to segment.
    const rows = arena.segments.flatMap((s, i) => [s.offset, s.length, s.decay ? 1 : 0, i]);
    this.segments = Tensor.from(BigInt64Array.from(rows, BigInt), [count, 4], 'int64', device).retainOnly();
    this.slotValues = new Float32Array(count * SLOT);
    this.slots = Tensor.from(this.slotValues, [count, SLOT], 'float32', device).retainOnly();
    this.limit = Tensor.zeros([1], 'float32', device).retainOnly();
    this.norm = Tensor.zeros([1], 'float64', device).retainOnly();
    this.clipFactor = Tensor.zeros([1], 'float32', device).retainOnly();
    this.taken = new Int32Array(count);
  }

  /**
   * Writes the numbers of the coming step where the kernels (and a recorded plan) read them. All of them are computed in double, with
   * libm's pow.
   * @param enabled which segments got a gradient
   * @param clip largest gradient norm, 0 = no clipping
   */
  prepare(lr: number, enabled: (s: Segment) => boolean, clip = 0): void {
    const [beta1, beta2] = this.betas;
    const { power } = addon();
    this.arena.segments.forEach((s, i) => {
      const on = enabled(s);
      const rate = lr * (s.lrScale ?? 1);
      const t = this.taken[i]! + 1;
      const row = i * SLOT;
      this.slotValues[row] = 1 - rate * this.weightDecay;
      this.slotValues[row + 1] = rate / (1 - power(beta1, t));
      this.slotValues[row + 2] = Math.sqrt(1 - power(beta2, t));
      this.slotValues[row + 3] = on ? 1 : 0;
    });
    writeLater(this.slots, this.slotValues); // an ordinary array: copied at once
    writeLater(this.limit, Float32Array.of(clip));
  }

  /** The kernels of a step; may be recorded. Nothing is updated if the gradient norm is not finite. */
  run(): void {
    const { arena, segments, slots, limit, norm, clipFactor } = this;
    const grad = arena.gradients!;
    dispatch('grad_norm', { grad, segments, slots, limit, norm, clip_factor: clipFactor });
    dispatch('adamw', {
      param: arena.values,
      weights: arena.weights,
      grad,
      exp_avg: this.expAvg,
      exp_avg_sq: this.expAvgSq,
      segments,
      slots,
      clip_factor: clipFactor,
      beta1: this.betas[0],
      beta2: this.betas[1],
      eps: this.eps,
    });
  }

  /**
   * Ends a step behind run() or its replay.
   * @returns gives the gradient norm before clipping, and throws ERR_NONFINITE if it is not finite; no weight was touched then. On the
   *   CPU such a step is thrown here and not counted; elsewhere it is found out when the norm is asked for
   */
  finish(): () => number {
    const read = valuesLater(this.norm);
    const finite = (): number => {
      const norm = (read() as Float64Array)[0]!;
      if (!Number.isFinite(norm))
        throw new TheiaError('ERR_NONFINITE', `expected a finite gradient norm, got ${norm}; no weight was changed`);
      return norm;
    };
    if (this.norm.device === 'cpu') finite();
    for (let i = 0; i < this.taken.length; i++) if (this.slotValues[i * SLOT + 3] !== 0) this.taken[i]! += 1;
    this.arena.stepped();
    return finite;
  }

  /** Steps that a segment has taken. */
  stepsOf(s: Segment): number {
    return this.taken[this.arena.segments.indexOf(s)]!;
  }

  /** Step counts by checkpoint key, for state.json. */
  stepCounts(): Map<string, number> {
    return new Map(this.arena.segments.map((s, i) => [s.key, this.taken[i]!]));
  }

  /** Takes over step counts and moments of a checkpoint (values in the file's layout). */
  restore(counts: ReadonlyMap<string, number>, moment: (name: 'exp_avg' | 'exp_avg_sq', key: string) => Float32Array): void {
    this.arena.segments.forEach((s, i) => {
      this.taken[i] = counts.get(s.key) ?? 0;
      this.arena.import(s.key, this.expAvg, moment('exp_avg', s.key));
      this.arena.import(s.key, this.expAvgSq, moment('exp_avg_sq', s.key));
    });
  }

  dispose(): void {
    for (const t of [this.expAvg, this.expAvgSq, this.segments, this.slots, this.limit, this.norm, this.clipFactor]) t.dispose();
  }
}
