import { TheiaError } from '../errors.js';
import type { Theia } from '../models/theia.js';
import { addon } from '../native/load.js';
import { AdamW } from '../optim/adamw.js';
import type { AdamWOptions } from '../optim/adamw.js';
import type { Transfer } from '../tensor/index.js';
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

/** A step that was given to the device. */
export interface PendingStep {
  /** 1-based */
  readonly step: number;
  /** Copies of the batches to the device, done by the time result() has returned. Until then nobody may change arrays of pinned memory. */
  readonly uploads: readonly Transfer[];
  /**
   * What came out; waits for the step where it is still under way.
   * @throws ERR_NONFINITE for a loss or gradient norm that is not finite; no weight was changed by this step then
   */
  result(): StepResult;
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
    return this.submit(batches, teachers).result();
  }

  /**
   * Like step(), but does not wait for what comes out. On a GPU the next step can so be prepared while this one runs; on the CPU it is done.
   * @throws on the CPU as step() does; elsewhere result() does
   */
  submit(batches: readonly StepBatch[], teachers: readonly string[] = this.model.teachers): PendingStep {
    const images = batches.reduce((n, b) => n + b.size, 0);
    if (images === 0) throw new TheiaError('ERR_ARGS', 'expected at least one sample in a step');
    this.stepper.begin();
    const parts = batches
      .filter((b) => b.size > 0)
      .map((b) => ({ terms: this.stepper.accumulate(b, teachers, b.size / images), weight: b.size }));
    const step = this.taken + 1;
    const losses = (): Losses =>
      finiteLosses(step, combineLosses(averageTerms(parts.map(({ terms, weight }) => ({ terms: terms(), weight }))), this.loss));
    // On the CPU the values are there, and a bad loss stops the step before the update. Elsewhere the update is under way by the time they
    // are: it leaves every weight as it is if the gradient norm is not finite, which a bad loss makes it.
    if (this.model.device === 'cpu') losses();
    const lr = this.schedule.lr(this.taken);
    const norm = named(step, () => this.stepper.update(lr, this.clip(this.taken)));
    this.taken = step;
    return { step, uploads: this.stepper.uploads, result: () => ({ ...losses(), step, lr, gradNorm: named(step, norm), images }) };
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

function finiteLosses(step: number, losses: Losses): Losses {
  const bad = [...losses.teachers].find(([, t]) => ![t.cos, t.l1, t.mse].every(Number.isFinite));
  if (bad || !Number.isFinite(losses.loss))
    throw new TheiaError(
      'ERR_NONFINITE',
      `step ${step}: expected a finite loss, got ${losses.loss}${bad ? `, first in teacher ${bad[0]}` : ''}; no weight was changed`,
    );
  return losses;
}

/** Runs fn; a message about values that are not finite names the step. */
function named<T>(step: number, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    if (error instanceof TheiaError && error.code === 'ERR_NONFINITE') throw new TheiaError(error.code, `step ${step}: ${error.message}`);
    throw error;
  }
}
