import { TheiaError } from '../errors.js';
import type { Theia } from '../models/theia.js';
import { addon } from '../native/load.js';
import { AdamW } from '../optim/adamw.js';
import type { AdamWOptions } from '../optim/adamw.js';
import { averageTerms, combineLosses } from './loss.js';
import type { LossOptions, Losses } from './loss.js';
import { Schedule } from './schedule.js';
import { TrainStep } from './step.js';
import type { StepBatch, TargetStatistics } from './step.js';

export interface TrainerOptions extends AdamWOptions {
  /** learning rate behind the warm-up */
  lr: number;
  /** steps of the linear warm-up, default 0 */
  warmupSteps?: number;
  /** share of lr that the warm-up starts from, default 0.01 */
  warmupStart?: number;
  /** default constant */
  schedule?: 'constant' | 'cosine';
  /** steps of a cosine period */
  cycle?: number;
  loss?: Partial<LossOptions>;
  /** per-channel statistics by teacher; targets of the others are taken as they are */
  statistics?: ReadonlyMap<string, TargetStatistics>;
  /** largest gradient norm, 0 = no clipping; gets the 0-based step */
  clip?: number | ((step: number) => number);
}

export interface StepResult extends Losses {
  /** 1-based */
  step: number;
  lr: number;
  /** before clipping */
  gradNorm: number;
  images: number;
}

/**
 * Distils teachers into a model, batch by batch; no files needed:
 *
 *     const trainer = new Trainer(model, { lr: 5e-4, statistics });
 *     for await (const { step, loss } of trainer.train(batches)) console.log(step, loss);
 */
export class Trainer {
  readonly optimizer: AdamW;
  private readonly stepper: TrainStep;
  private readonly schedule: Schedule;
  private readonly loss: LossOptions;
  private readonly clip: (step: number) => number;
  private taken = 0;

  constructor(
    readonly model: Theia,
    options: TrainerOptions,
  ) {
    this.loss = { kind: 'cos_l1', cosWeight: 0.9, teacherWeights: new Map(), ...options.loss };
    this.schedule = new Schedule({
      lr: options.lr,
      warmupSteps: options.warmupSteps ?? 0,
      warmupStart: options.warmupStart ?? 1e-2,
      kind: options.schedule ?? 'constant',
      cycle: options.cycle ?? 1,
      cos: addon().cosine,
    });
    const { clip } = options;
    this.clip = typeof clip === 'function' ? clip : () => clip ?? 0;
    this.optimizer = new AdamW(model.arena, options);
    this.stepper = new TrainStep(model, this.optimizer, this.loss, options.statistics);
  }

  /** Optimiser steps taken so far. */
  get steps(): number {
    return this.taken;
  }

  /** Continues a run: the step count decides the learning rate. */
  set steps(n: number) {
    if (!Number.isSafeInteger(n) || n < 0) throw new TheiaError('ERR_ARGS', `expected steps as a whole number from 0 up, got ${n}`);
    this.taken = n;
  }

  /**
   * One optimiser step over one or several micro-batches; the gradient is the mean over all samples.
   * @param teachers trained in this step; default all of the model
   * @throws ERR_NONFINITE for a loss or gradient norm that is not finite; no weight was changed then
   */
  step(batches: readonly StepBatch[], teachers: readonly string[] = this.model.teachers): StepResult {
    const images = batches.reduce((n, b) => n + b.size, 0);
    if (images === 0) throw new TheiaError('ERR_ARGS', 'expected at least one sample in a step');
    this.stepper.begin();
    const parts = batches
      .filter((b) => b.size > 0)
      .map((b) => ({ terms: this.stepper.accumulate(b, teachers, b.size / images), weight: b.size }));
    const losses = combineLosses(averageTerms(parts), this.loss);
    const bad = [...losses.teachers].find(([, t]) => ![t.cos, t.l1, t.mse].every(Number.isFinite));
    if (bad || !Number.isFinite(losses.loss))
      throw new TheiaError(
        'ERR_NONFINITE',
        `step ${this.taken + 1}: expected a finite loss, got ${losses.loss}${bad ? `, first in teacher ${bad[0]}` : ''}; no weight was changed`,
      );
    const lr = this.schedule.lr(this.taken);
    let gradNorm: number;
    try {
      gradNorm = this.stepper.update(lr, this.clip(this.taken));
    } catch (error) {
      if (error instanceof TheiaError && error.code === 'ERR_NONFINITE')
        throw new TheiaError(error.code, `step ${this.taken + 1}: ${error.message}`);
      throw error;
    }
    this.taken += 1;
    return { ...losses, step: this.taken, lr, gradNorm, images };
  }

  /**
   * Trains on a dataset, one optimiser step a batch, as far as it is asked for results.
   * @param batches an (async) iterable: an array, a generator that reads a camera, a loader
   * @throws as step() does
   */
  async *train(batches: AsyncIterable<StepBatch> | Iterable<StepBatch>): AsyncGenerator<StepResult, void, void> {
    for await (const batch of batches) yield this.step([batch]);
  }

  /** Losses of batches without training, averaged over their samples. */
  evaluate(batches: Iterable<StepBatch>, teachers: readonly string[] = this.model.teachers): Losses {
    const parts = [...batches].filter((b) => b.size > 0).map((b) => ({ terms: this.stepper.evaluate(b, teachers), weight: b.size }));
    return combineLosses(averageTerms(parts), this.loss);
  }

  dispose(): void {
    this.stepper.dispose();
    this.optimizer.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
