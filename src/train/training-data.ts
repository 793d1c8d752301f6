import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { blockBytes } from '../data/block.js';
import { openDataset } from '../data/dataset.js';
import type { Dataset } from '../data/dataset.js';
import type { Feature } from '../data/feature.js';
import { Loader } from '../data/loader.js';
import type { Batch } from '../data/loader.js';
import { DAMAGE } from '../data/batch.js';
import type { TeacherTarget } from '../data/batch.js';
import { Stream } from '../data/order.js';
import type { Sample } from '../data/sample.js';
import { loadStatistics } from '../data/statistics.js';
import { clsTarget, isClsTarget, suggestTeacher, teacherOf } from '../teachers/names.js';
import type { TrainConfig } from './config.js';
import type { StepBatch, TargetBatch, TargetStatistics } from './step.js';

const DTYPES = { BF16: 'bfloat16', F16: 'float16', F32: 'float32' } as const;

/** Everything a run reads: datasets of both splits, the sample stream, what is distilled and how it is normalised. */
export interface TrainingData {
  datasets: readonly Dataset[];
  weights: readonly number[];
  stream: Stream;
  /** empty where there is no such split */
  evaluation: readonly Dataset[];
  /** of the datasets in `evaluation` */
  evaluationWeights: readonly number[];
  /** target name -> [C,H,W], or [C] for a `_cls` target, in the model's order */
  targets: ReadonlyMap<string, number[]>;
  statistics: ReadonlyMap<string, TargetStatistics>;
  /** bytes that each of a batch's feature arrays takes for a sample; those of a sample whose features are stored in another dtype differ */
  featureBytes: readonly number[];
  close(): void;
}

/** The dataset folders and their weights: `data.mix`, or the only folder under the root that holds images. */
function mixOf(config: TrainConfig): [string, number][] {
  const { root, mix } = config.data;
  const named = Object.entries(mix);
  if (named.length > 0) return named;
  let folders: string[];
  try {
    folders = readdirSync(root, { withFileTypes: true })
      .filter((e) => e.isDirectory() && existsSync(join(root, e.name, 'images')))
      .map((e) => e.name);
  } catch (error) {
    throw fileError(error, root, 'data.root: listing');
  }
  if (folders.length === 1) return [[folders[0]!, 1]];
  throw new TheiaError(
    'ERR_CONFIG',
    `data.mix: expected dataset folders and weights, as ${root} holds ${folders.length === 0 ? 'no dataset' : `several: ${folders.sort().join(', ')}`}`,
    {
      hint:
        folders.length === 0
          ? 'theia features --images DIR --teacher NAME=KIND:PATH --out ROOT makes one'
          : `--set 'data.mix={${folders[0]}=1.0}'`,
    },
  );
}

async function open(config: TrainConfig, name: string, split: string, bases: readonly string[]): Promise<Dataset> {
  try {
    return await openDataset(config.data.root, name, split, bases);
  } catch (error) {
    if (error instanceof TheiaError && error.code === 'ERR_FILE') {
      const near = bases.map(suggestTeacher).find((n) => n !== undefined);
      throw new TheiaError(error.code, error.message, {
        cause: error,
        hint: error.hint ?? (near === undefined ? undefined : `known teachers include ${near}`),
      });
    }
    throw error;
  }
}

/**
 * Opens what the configuration names and reads the teachers' sizes off the data.
 * @throws ERR_FILE, ERR_CORRUPT, ERR_CONFIG as the readers do
 */
export async function openTrainingData(config: TrainConfig): Promise<TrainingData> {
  const wanted = config.data.teachers;
  const bases = [...new Set(wanted.map(teacherOf))];
  const mix = mixOf(config);
  const datasets: Dataset[] = [];
  const evaluation: Dataset[] = [];
  const evaluationWeights: number[] = [];
  const close = (): void => [...datasets, ...evaluation].forEach((d) => d.close());
  try {
    for (const [name] of mix) datasets.push(await open(config, name, config.data.split, bases));
    for (const [name, weight] of mix) {
      const found = await open(config, name, config.eval.split, bases).catch((error: unknown) => {
        // A dataset without the evaluation's split trains all the same; a broken one does not.
        if (error instanceof TheiaError && error.code === 'ERR_FILE') return undefined;
        throw error;
      });
      if (!found) continue;
      evaluation.push(found);
      evaluationWeights.push(weight);
    }
    const sample = await firstWholeSample(datasets[0]!);
    const feature = (base: string): Feature => sample.features.get(base)!;
    const targets = new Map<string, number[]>();
    const addCls = (base: string): void => {
      const { cls } = feature(base);
      if (!cls)
        throw new TheiaError(
          'ERR_CORRUPT',
          `sample ${sample.key}: the features of ${base} hold no cls_token, which ${clsTarget(base)} needs`,
        );
      targets.set(clsTarget(base), [cls.data.length]);
    };
    for (const name of wanted) {
      if (isClsTarget(name)) addCls(teacherOf(name));
      else targets.set(name, [...feature(name).shape]);
    }
    if (config.train.distill_cls) for (const name of wanted) if (!isClsTarget(name) && feature(name).cls) addCls(name);

    const statistics = new Map<string, TargetStatistics>();
    if (config.data.normalize) {
      const folder = config.data.stats === '' ? config.data.root : config.data.stats;
      for (const [name, size] of targets) statistics.set(name, targetStatistics(folder, name, size[0]!));
    }
    const weights = mix.map(([, w]) => w);
    const stream = new Stream({
      seed: config.seed,
      sizes: datasets.map((d) => d.length),
      weights,
      shuffle: config.data.shuffle,
      buffer: config.data.shuffle_buffer,
    });
    const featureBytes = loaderTeachers(targets).flatMap(({ name, cls }) => {
      const { data, cls: token } = feature(name);
      return cls ? [data.byteLength, token!.data.byteLength] : [data.byteLength];
    });
    return { datasets, weights, stream, evaluation, evaluationWeights, targets, statistics, featureBytes, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The sizes of the features are read off a sample; a damaged one says nothing about the rest, and the loader counts it. */
async function firstWholeSample(dataset: Dataset): Promise<Sample> {
  let first: unknown;
  for (let i = 0; i < dataset.length; i++) {
    try {
      return await dataset.read(i);
    } catch (error) {
      if (!(error instanceof TheiaError) || !DAMAGE.has(error.code)) throw error;
      first ??= error;
    }
  }
  throw first;
}

/** Statistics of a target; a `_cls` target takes its teacher's unless it has its own. */
function targetStatistics(folder: string, name: string, channels: number): TargetStatistics {
  if (isClsTarget(name)) {
    try {
      return loadStatistics(folder, name, channels);
    } catch (error) {
      if (!(error instanceof TheiaError) || error.code !== 'ERR_FILE') throw error;
    }
  }
  return loadStatistics(folder, teacherOf(name), channels);
}

/** What the loader is to deliver for these targets. */
export function loaderTeachers(targets: ReadonlyMap<string, number[]>): TeacherTarget[] {
  const bases = new Map<string, TeacherTarget>();
  for (const [name, size] of targets) {
    const base = teacherOf(name);
    const t = bases.get(base) ?? { name: base };
    if (isClsTarget(name)) t.cls = true;
    else t.shape = [size[0]!, size[1]!, size[2]!];
    bases.set(base, t);
  }
  return [...bases.values()];
}

/** Bytes of the block that a batch of the training stream is built in. */
export function blockSize({ preprocess: { size }, train: { batch } }: TrainConfig, { featureBytes }: TrainingData): number {
  return blockBytes([size * size * 3, ...featureBytes].map((bytes) => batch * bytes));
}

/** A loader over the training stream or, without shuffling, over the evaluation's datasets. */
export function makeLoader(
  config: TrainConfig,
  data: TrainingData,
  what: {
    datasets: readonly Dataset[];
    stream: Stream;
    from?: number;
    to?: number;
    cross?: boolean;
    workers?: number;
    lend?: () => Uint8Array | null;
  },
): Loader {
  const { size, filter, resize, crop } = config.preprocess;
  return new Loader({
    batch: config.train.batch,
    workers: config.data.workers,
    teachers: loaderTeachers(data.targets),
    prepare: { size, filter, resize, crop },
    maxBad: config.data.max_bad,
    ...what,
  });
}

/** A loaded batch as a micro-step takes it. */
export function stepBatch(batch: Batch, targets: Iterable<string>): StepBatch {
  const out = new Map<string, TargetBatch>();
  for (const name of targets) {
    const feature = batch.features.get(teacherOf(name))!;
    if (!isClsTarget(name)) out.set(name, { data: feature.data, dtype: DTYPES[feature.dtype], shape: feature.shape });
    else {
      const cls = feature.cls!;
      out.set(name, { data: cls.data, dtype: DTYPES[cls.dtype], shape: [cls.shape[0], 1, cls.shape[1]] });
    }
  }
  return { images: batch.pixels, size: batch.keys.length, targets: out };
}
