import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import type { Batch } from '../data/loader.js';
import { Stream } from '../data/order.js';
import { loadInitialWeights } from '../models/checkpoint.js';
import { Theia } from '../models/theia.js';
import { permutation } from '../random.js';
import { resolveDevice, threads } from '../tensor/index.js';
import type { Transfer } from '../tensor/index.js';
import { averageTerms, combineLosses } from './loss.js';
import type { LossOptions, Losses } from './loss.js';
import { restoreCheckpoint, saveCheckpoint } from './checkpoint.js';
import { cleanStale, discardCheckpointsAfter, writeCheckpoint } from './checkpoint-dir.js';
import { modelOf, resolvedToml } from './config.js';
import type { TrainConfig } from './config.js';
import { lockRun } from './lock.js';
import { openMetrics } from './metrics.js';
import type { MetricsRow, MetricsWriter } from './metrics.js';
import { cosineCycle, scaledLr, warmupSteps } from './schedule.js';
import type { StepBatch } from './step.js';
import { PinnedBlocks } from './pinned-blocks.js';
import { blockSize, makeLoader, openTrainingData, stepBatch } from './training-data.js';
import type { TrainingData } from './training-data.js';
import { Trainer } from './trainer.js';
import type { PendingStep } from './trainer.js';

export interface RunEvents {
  /** a training or evaluation line was written */
  onRow?: (row: MetricsRow, total: number) => void;
  onCheckpoint?: (path: string) => void;
  /** something the user should know: damaged samples, a missing evaluation split */
  onNotice?: (text: string) => void;
  /** asked after every step; true ends the run behind a checkpoint */
  stop?: () => boolean;
}

export interface RunResult {
  runDir: string;
  steps: number;
  stopped: boolean;
  last: MetricsRow | undefined;
}

/** How long a run is, in the terms its schedules need. */
export interface RunLength {
  /** optimiser steps of the whole run */
  total: number;
  warmup: number;
  lr: number;
  cycle: number;
}

/** Total, warm-up and learning rate of a run over epochs of so many samples (contract.md, train). */
export function runLength(config: TrainConfig, epochLength: number): RunLength {
  const t = config.train;
  const total = t.steps > 0 ? t.steps : t.epochs * Math.ceil(epochLength / (t.batch * t.accumulate));
  const warmup = warmupSteps(total, t.warmup_ratio, t.warmup_steps);
  return { total, warmup, lr: scaledLr(t.base_lr, t.batch, t.accumulate), cycle: cosineCycle(total, warmup, t.cosine_cycle) };
}

export function lossOptions(config: TrainConfig): LossOptions {
  const { loss, cos_weight, teacher_weights } = config.train;
  return { kind: loss, cosWeight: cos_weight, teacherWeights: new Map(Object.entries(teacher_weights)) };
}

/** The model and trainer of a configuration over its data, freshly initialised. */
export function buildTrainer(config: TrainConfig, data: TrainingData): Trainer {
  const c = modelOf(config);
  const { mean, std } = config.preprocess;
  const model = new Theia(
    { ...c, teachers: new Map(data.targets) },
    { training: true, seed: config.seed, normalisation: { mean, std }, device: resolveDevice(config.device), compute: config.dtype },
  );
  try {
    if (config.model.init !== '') loadInitialWeights(model, config.model.init);
    const t = config.train;
    const { warmup, lr, cycle } = runLength(config, data.stream.epochLength);
    const clip = (step: number): number => (step < warmup && t.grad_clip_warmup > 0 ? t.grad_clip_warmup : t.grad_clip);
    return new Trainer(model, {
      lr,
      warmupSteps: warmup,
      warmupStart: t.warmup_start,
      schedule: t.schedule,
      cycle,
      betas: [t.betas[0], t.betas[1]],
      eps: t.eps,
      weightDecay: t.weight_decay,
      loss: lossOptions(config),
      statistics: data.statistics,
      clip,
    });
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** The teachers of a step: all, or `random_teachers` of them, drawn as a pure function of seed and step. */
function drawTeachers(config: TrainConfig, targets: readonly string[], step: number): readonly string[] {
  const count = config.train.random_teachers;
  if (count === 0 || count >= targets.length) return targets;
  const drawn = new Set([...permutation(targets.length, config.seed, `teachers:${step}`)].slice(0, count));
  return targets.filter((_, i) => drawn.has(i));
}

/** A training run over files: metrics, evaluation, checkpoints, resume. One object a run. */
class Run {
  private readonly length: RunLength;
  private readonly names: string[];
  private position = 0;
  private wallS = 0;
  private last: MetricsRow | undefined;
  private metrics!: MetricsWriter;
  /** the step whose result is not fetched yet (not on the CPU, where results are there at once) */
  private pending: { step: PendingStep; batches: readonly Batch[] } | undefined;
  /** when the last row was written: a step counts from there, or from its start if that is later */
  private clock = 0;
  /** what the training loader's batches lie in; null on the CPU, where ordinary arrays are as good */
  private readonly blocks: PinnedBlocks | null;

  constructor(
    private readonly config: TrainConfig,
    private readonly runDir: string,
    private readonly data: TrainingData,
    private readonly trainer: Trainer,
    private readonly events: RunEvents,
  ) {
    this.length = runLength(config, data.stream.epochLength);
    this.names = [...data.targets.keys()];
    const { device } = trainer.model;
    this.blocks = device === 'cpu' ? null : new PinnedBlocks(blockSize(config, data), device, (text) => this.events.onNotice?.(text));
  }

  /** Goes on from a checkpoint. */
  resume(path: string): void {
    const state = restoreCheckpoint(path, this.trainer);
    const sizes = this.data.datasets.map((d) => d.length);
    if (state.sizes.join() !== sizes.join())
      throw new TheiaError(
        'ERR_CONFIG',
        `--resume: the data changed: expected datasets of ${state.sizes.join(', ')} whole samples, got ${sizes.join(', ')}`,
      );
    this.position = state.position;
    this.wallS = state.wallS;
  }

  async train(): Promise<RunResult> {
    const { config, data, trainer, length } = this;
    this.metrics = openMetrics(join(this.runDir, 'metrics.jsonl'), trainer.steps);
    const loader = makeLoader(config, data, {
      datasets: data.datasets,
      stream: data.stream,
      from: this.position,
      cross: config.train.steps > 0,
      lend: () => this.blocks?.lend() ?? null,
    });
    let stopped = false;
    let saved = trainer.steps;
    try {
      if (data.evaluation.length === 0)
        this.events.onNotice?.(`no split ${config.eval.split} under ${config.data.root}: nothing is evaluated`);
      while (trainer.steps < length.total && !stopped) {
        const before = this.position;
        const batches = await this.gather(() => loader.next());
        this.freeze();
        this.step(batches);
        const epochEnds = Math.floor(this.position / data.stream.epochLength) > Math.floor(before / data.stream.epochLength);
        const due = (every: 'epoch' | number): boolean => (every === 'epoch' ? epochEnds : trainer.steps % every === 0);
        if (data.evaluation.length > 0 && (due(config.eval.every) || trainer.steps === length.total)) await this.evaluate();
        // Timers and signals get their turn even where the loader's batches were all waiting already.
        await new Promise((resolve) => setImmediate(resolve));
        stopped = trainer.steps < length.total && (this.events.stop?.() ?? false);
        if (due(config.checkpoint.every) || stopped || trainer.steps === length.total) {
          this.save();
          saved = trainer.steps;
        }
      }
      this.flush();
      if (saved !== trainer.steps) this.save();
      return { runDir: this.runDir, steps: trainer.steps, stopped, last: this.last };
    } finally {
      await loader.close();
      this.blocks?.dispose();
      this.metrics.close();
    }
  }

  /** The micro-batches of a step. An epoch's last step has as many as are left. */
  private async gather(next: () => Promise<Batch | null>): Promise<Batch[]> {
    const { train } = this.config;
    const batches: Batch[] = [];
    while (batches.length < train.accumulate) {
      const batch = await next();
      if (batch === null) break;
      batches.push(batch);
      this.position = batch.firstSample + batch.planned;
      for (const d of batch.damaged) this.events.onNotice?.(`skipped sample ${d.key} of ${d.dataset}: ${d.reason}`);
      if (train.steps === 0 && this.position % this.data.stream.epochLength === 0) break;
    }
    return batches;
  }

  /** From step floor(freeze_translator_at · total) on the translators learn no more. */
  private freeze(): void {
    const share = this.config.train.freeze_translator_at;
    const frozen = share > 0 && this.trainer.steps >= Math.floor(share * this.length.total);
    for (const p of this.trainer.model.translatorParameters()) p.trainable = !frozen;
  }

  private step(batches: readonly Batch[]): void {
    const start = performance.now();
    const { trainer } = this;
    const teachers = drawTeachers(this.config, this.names, trainer.steps + 1);
    const parts: StepBatch[] = batches.filter((b) => b.keys.length > 0).map((b) => stepBatch(b, teachers));
    if (parts.length === 0) {
      trainer.steps += 1; // every sample of the step was damaged: the schedule goes on, nothing is learned
      this.events.onNotice?.(`step ${trainer.steps}: no sample left, no update`);
      this.reuse(batches, []);
      return;
    }
    const before = this.pending;
    if (!before) this.clock = start;
    this.pending = { step: this.about(batches, () => trainer.submit(parts, teachers)), batches };
    if (before) this.fetch(before);
    if (trainer.model.device === 'cpu') this.flush();
  }

  /** Fetches the result of the step under way, if there is one. */
  private flush(): void {
    const { pending } = this;
    this.pending = undefined;
    if (pending) this.fetch(pending);
  }

  private fetch({ step, batches }: { step: PendingStep; batches: readonly Batch[] }): void {
    const result = this.about(batches, () => step.result());
    this.reuse(batches, step.uploads); // only here, one step late, since they are over by now: nothing is waited for
    const now = performance.now();
    const seconds = (now - this.clock) / 1000;
    this.clock = now;
    this.wallS += seconds;
    this.write({
      step: result.step,
      epoch: batches[0]!.epoch,
      lr: result.lr,
      ...terms(result),
      grad_norm: result.gradNorm,
      images_per_s: result.images / seconds,
      wall_s: this.wallS,
    });
  }

  private reuse(batches: readonly Batch[], uploads: readonly Transfer[]): void {
    this.blocks?.giveBack(
      batches.map(({ block }) => block),
      uploads,
    );
  }

  /** Runs fn; a message about values that are not finite names the samples. */
  private about<T>(batches: readonly Batch[], fn: () => T): T {
    try {
      return fn();
    } catch (error) {
      if (!(error instanceof TheiaError) || error.code !== 'ERR_NONFINITE') throw error;
      const keys = batches.flatMap((b) => b.keys);
      throw new TheiaError(
        error.code,
        `${error.message} (samples ${keys.slice(0, 8).join(', ')}${keys.length > 8 ? ` and ${keys.length - 8} more` : ''})`,
        {
          hint: 'the last checkpoint is whole; a smaller train.base_lr or train.grad_clip may help',
        },
      );
    }
  }

  private write(row: MetricsRow): void {
    this.metrics.append(row);
    this.last = row;
    this.events.onRow?.(row, this.length.total);
  }

  private async evaluate(): Promise<void> {
    this.flush();
    const { config, data, trainer } = this;
    const start = performance.now();
    const sizes = data.evaluation.map((d) => d.length);
    const stream = new Stream({ seed: config.seed, sizes, weights: data.evaluationWeights, shuffle: false });
    const to = Math.max(1, Math.ceil(config.eval.fraction * stream.epochLength));
    const loader = makeLoader(config, data, { datasets: data.evaluation, stream, to });
    const parts: { terms: Losses['teachers']; weight: number }[] = [];
    try {
      for await (const batch of loader) {
        if (batch.keys.length === 0) continue;
        parts.push({ terms: trainer.evaluate([stepBatch(batch, this.names)], this.names).teachers, weight: batch.keys.length });
      }
    } finally {
      await loader.close();
    }
    const images = parts.reduce((n, p) => n + p.weight, 0);
    if (images === 0)
      return this.events.onNotice?.(`step ${trainer.steps}: no sample of ${config.eval.split} is whole, nothing was evaluated`);
    const losses = combineLosses(averageTerms(parts), lossOptions(config));
    const seconds = (performance.now() - start) / 1000;
    this.write({
      step: trainer.steps,
      epoch: this.last?.epoch ?? 0,
      lr: this.last?.lr ?? 0,
      ...terms(losses),
      grad_norm: null,
      images_per_s: images / seconds,
      wall_s: this.wallS,
      split: config.eval.split,
    });
  }

  private save(): void {
    this.flush();
    const state = { step: this.trainer.steps, position: this.position, wallS: this.wallS, sizes: this.data.datasets.map((d) => d.length) };
    const path = writeCheckpoint(this.runDir, state.step, (folder) => saveCheckpoint(folder, this.trainer, state), {
      keep: this.config.checkpoint.keep,
    });
    this.events.onCheckpoint?.(path);
  }
}

function terms(l: Losses): Pick<MetricsRow, 'loss' | 'cos' | 'l1' | 'mse' | 'teachers'> {
  return { loss: l.loss, cos: l.cos, l1: l.l1, mse: l.mse, teachers: l.teachers };
}

/**
 * Trains as the configuration says, in a run folder of its own.
 * @param options.resume a checkpoint to go on from
 * @param options.freezeEncoder only the translators learn, e.g. to see what an encoder is worth as it stands
 * @throws ERR_CONFIG if the folder holds a run already, or another trainer works in it
 */
export async function runTraining(
  config: TrainConfig,
  options: { resume?: { path: string; step: number }; freezeEncoder?: boolean } & RunEvents = {},
): Promise<RunResult> {
  const runDir = config.output;
  try {
    mkdirSync(runDir, { recursive: true });
  } catch (error) {
    throw fileError(error, runDir, 'making the run folder');
  }
  const lock = lockRun(runDir);
  let data: TrainingData | undefined;
  let trainer: Trainer | undefined;
  try {
    if (!options.resume && holdsRun(runDir))
      throw new TheiaError('ERR_CONFIG', `output: ${runDir} already holds a run`, {
        hint: `theia-train --resume ${runDir} goes on with it; or choose another output`,
      });
    threads(config.threads);
    data = await openTrainingData(config);
    trainer = buildTrainer(config, data);
    if (options.freezeEncoder) for (const p of trainer.model.encoderParameters()) p.trainable = false;
    const run = new Run(config, runDir, data, trainer, options);
    if (options.resume) {
      run.resume(options.resume.path);
      discardCheckpointsAfter(runDir, options.resume.step);
    }
    cleanStale(runDir);
    try {
      writeFileSync(join(runDir, 'config.toml'), resolvedToml(config));
    } catch (error) {
      throw fileError(error, runDir, 'writing config.toml into');
    }
    return await run.train();
  } finally {
    trainer?.dispose();
    trainer?.model.dispose();
    data?.close();
    lock.release();
    removeIfEmpty(runDir);
  }
}

/** A run that failed before it wrote anything leaves no folder. */
function removeIfEmpty(runDir: string): void {
  try {
    if (readdirSync(runDir).length === 0) rmdirSync(runDir);
  } catch {
    // Something came into it, or it went, in the meantime; the error that is on its way says more.
  }
}

function holdsRun(runDir: string): boolean {
  const checkpoints = join(runDir, 'checkpoints');
  return (
    existsSync(join(runDir, 'metrics.jsonl')) ||
    existsSync(join(runDir, 'config.toml')) ||
    (existsSync(checkpoints) && readdirSync(checkpoints).length > 0)
  );
}
