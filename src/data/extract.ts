import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { TheiaError } from '../errors.js';
import { encodeNpy } from '../formats/npy.js';
import type { ResizeFilter } from '../ops/preprocess.js';
import type { Teacher } from '../teachers/teacher.js';
import { openDataset } from './dataset.js';
import { isDatasetFolder, planFromDataset } from './extract-dataset.js';
import { checkAborted, planExtraction, type ExtractPlan, type PlannedSample } from './extract-plan.js';
import { encodeFeature, firstNonFinite, toChannelLast } from './feature.js';
import type { Image } from './image.js';
import { writeKeys } from './keys.js';
import { resizeImage } from './prepare.js';
import {
  IMAGES,
  datasetFolder,
  isSealed,
  planShards,
  removeShardsFrom,
  shardPath,
  teacherColumn,
  writeShard,
  writeSplits,
  type ShardSample,
} from './shards.js';
import type { SplitShare } from './split.js';
import { constantChannels, datasetFeatures, featureStatistics, writeStatistics } from './statistics.js';

export interface ExtractOptions {
  /** folder of photos; or of a dataset, whose stored images are then taken with their keys and splits (shares and views do not count) */
  images: string;
  teachers: readonly Teacher[];
  root: string;
  dataset: string;
  shares: readonly SplitShare[];
  /** Views of each photo; 1 is the whole photo alone. */
  views: number;
  /** The splits whose photos are stored in all views, those of others whole and once; default all splits. */
  viewSplits?: readonly string[];
  /** Take over finished shards that still hold what would be written, and leave photos in the splits they have. */
  resume: boolean;
  /** Side of the stored images. */
  size: number;
  filter: ResizeFilter;
  /** Images a teacher gets at a time; default 4. */
  batch?: number;
  /** The split whose features the statistics are of; default `train`. */
  statisticsSplit?: string;
  onProgress?: (progress: ExtractProgress) => void;
  /** Calls the work off between two batches; finished shards stay for a resume. */
  signal?: AbortSignal;
}

export interface ExtractProgress {
  /** `photos` while they are looked through, `images`, a teacher's name, or `statistics` */
  phase: string;
  done: number;
  total: number;
}

export interface ExtractSummary extends Pick<ExtractPlan, 'photos' | 'skipped' | 'duplicates'> {
  splits: Map<string, number>;
  /** Shards by column. */
  shards: Map<string, { written: number; reused: number }>;
  teachers: Map<string, { shape: readonly [number, number, number]; constantChannels: number[] | null }>;
}

/**
 * Makes a dataset of a folder of photos, or adds teachers to one: image shards, feature shards of every teacher, keys.jsonl, splits.json and the statistics of the
 * training split. Every view is cut from the photo as decoded and then resized, for the store and for each teacher by itself.
 * @throws ERR_ABORTED if it was called off; ERR_NONFINITE naming sample and teacher; ERR_CONFIG for names that are no folder names; and
 * whatever decoding, teachers and the disk say
 */
export async function extractFeatures(options: ExtractOptions): Promise<ExtractSummary> {
  const { root, dataset, teachers, onProgress } = options;
  const columns = teachers.map(({ name }) => teacherColumn(name));
  columns.forEach((column, i) => {
    if (columns.some((other, j) => j < i && other.toLowerCase() === column.toLowerCase()))
      throw new TheiaError('ERR_ARGS', `two teachers would share the folder ${column}`);
  });
  const missing = (key: string): string | undefined =>
    teachers.map((teacher) => teacher.missing(key)).find((reason) => reason !== undefined);
  const onPhoto = (done: number, total: number): void => onProgress?.({ phase: 'photos', done, total });
  const plan = isDatasetFolder(options.images)
    ? await planFromDataset(options.images, datasetFolder(root, dataset), missing)
    : await planExtraction({ ...options, keepSplits: options.resume, missing, onPhoto });
  try {
    return await writeDataset(plan, columns, options);
  } finally {
    plan.close();
  }
}

async function writeDataset(plan: ExtractPlan, columns: readonly string[], options: ExtractOptions): Promise<ExtractSummary> {
  const { root, dataset, teachers, statisticsSplit = 'train', onProgress, signal } = options;
  const shards: ExtractSummary['shards'] = new Map();
  const works: Work[] = [
    ...(plan.inPlace ? [] : [{ column: IMAGES, phase: 'images', source: sourceLine(options, 'image'), make: storedImages }]),
    ...teachers.map((teacher, i): Work => ({
      column: columns[i],
      phase: teacher.name,
      source: sourceLine(options, teacher.identity),
      make: (...shard) => teacherFeatures(teacher, ...shard),
    })),
  ];
  const total = [...plan.splits.values()].reduce((sum, samples) => sum + samples.length, 0);
  for (const { column, phase, source, make } of works) {
    const count = { written: 0, reused: 0 };
    let done = 0;
    const tick = (by = 1): void => onProgress?.({ phase, done: (done += by), total });
    for (const [split, samples] of plan.splits) {
      const groups = planShards(samples.map(({ key }) => key));
      let at = 0;
      for (const [index, keys] of groups.entries()) {
        checkAborted(signal);
        const path = shardPath(root, dataset, column, split, index);
        const part = samples.slice(at, (at += keys.length));
        const from = shardSource(source, part);
        if (options.resume && (await isSealed(path, keys, from))) {
          count.reused++;
          tick(part.length);
        } else {
          await writeShard(path, column, make(part, plan, options, tick), from);
          count.written++;
        }
      }
      await removeShardsFrom(root, dataset, column, split, groups.length);
    }
    shards.set(column, count);
  }
  const counts = new Map([...plan.splits].map(([split, samples]) => [split, samples.length]));
  if (!plan.inPlace) {
    await writeKeys(join(datasetFolder(root, dataset), 'keys.jsonl'), plan.records);
    writeSplits(root, dataset, counts);
  }

  const results: ExtractSummary['teachers'] = new Map();
  for (const [i, teacher] of teachers.entries()) {
    onProgress?.({ phase: 'statistics', done: i, total: teachers.length });
    const constant = (counts.get(statisticsSplit) ?? 0) > 0 ? await statisticsOf(options, teacher, statisticsSplit) : null;
    results.set(teacher.name, { shape: teacher.shape, constantChannels: constant });
  }
  const { photos, skipped, duplicates } = plan;
  return { photos, skipped, duplicates, splits: counts, shards, teachers: results };
}

async function statisticsOf({ root, dataset, signal }: ExtractOptions, teacher: Teacher, split: string): Promise<number[]> {
  const opened = await openDataset(root, dataset, split, [teacher.name]);
  try {
    const samples = async function* (): ReturnType<typeof datasetFeatures> {
      let since = 0;
      for await (const sample of datasetFeatures(opened, teacher.name)) {
        // Reading is synchronous; without a turn of the event loop no signal would arrive.
        if (++since % 64 === 0) await new Promise(setImmediate);
        checkAborted(signal);
        yield sample;
      }
    };
    const statistics = await featureStatistics(samples, `teacher ${teacher.name}`);
    writeStatistics(root, teacher.name, statistics);
    return constantChannels(statistics);
  } finally {
    opened.close();
  }
}

/** What a column's content depends on besides the photos. */
function sourceLine({ size, filter }: ExtractOptions, identity: string): string {
  return createHash('sha256').update(`1 ${size} ${filter} ${identity}`).digest('hex');
}

/** The same for one shard: with the photos and views in it. */
function shardSource(source: string, samples: readonly PlannedSample[]): string {
  const hash = createHash('sha256').update(source);
  for (const { key, sha256, view } of samples) hash.update(`\n${key} ${sha256} ${view}`);
  return hash.digest('hex');
}

/** A column of the dataset: what it is made from, and what makes the samples of one shard. */
interface Work {
  column: string;
  phase: string;
  source: string;
  make: (samples: readonly PlannedSample[], plan: ExtractPlan, options: ExtractOptions, tick: () => void) => AsyncGenerator<ShardSample>;
}

async function* storedImages(
  samples: readonly PlannedSample[],
  { load }: ExtractPlan,
  { size, filter, signal }: ExtractOptions,
  tick: () => void,
): AsyncGenerator<ShardSample> {
  for await (const batch of ahead(samples, 4, load)) {
    checkAborted(signal);
    for (const { sample, value } of batch) {
      const { data } = resizeImage(value, size, size, filter);
      yield { key: sample.key, bytes: encodeNpy(data, [size, size, 3]) };
      tick();
    }
  }
}

async function* teacherFeatures(
  teacher: Teacher,
  samples: readonly PlannedSample[],
  plan: ExtractPlan,
  { batch: batchSize = 4, signal }: ExtractOptions,
  tick: () => void,
): AsyncGenerator<ShardSample> {
  const { input, shape } = teacher;
  const [channels, height, width] = shape;
  const length = channels * height * width;
  const load = (sample: PlannedSample): Promise<Image | undefined> => (input === null ? Promise.resolve(undefined) : plan.load(sample));
  for await (const batch of ahead(samples, batchSize, load)) {
    // Teachers compute without a pause; this is where a signal can arrive.
    await new Promise(setImmediate);
    checkAborted(signal);
    const ready = batch.map(({ sample: { key }, value }) =>
      value === undefined || input === null ? { key } : { key, image: resizeImage(value, input.size, input.size, input.filter) },
    );
    const values = await teacher.features(ready);
    if (values.length !== length * batch.length)
      throw new TheiaError('ERR_INTERNAL', `teacher ${teacher.name}: expected ${length * batch.length} values, got ${values.length}`);
    for (const [i, { sample }] of batch.entries()) {
      const last = values.subarray(i * length, (i + 1) * length);
      const at = firstNonFinite(last, 'F32');
      if (at >= 0)
        throw new TheiaError(
          'ERR_NONFINITE',
          `teacher ${teacher.name}: sample ${sample.key}, position ${Math.floor(at / channels)}, channel ${at % channels}: ${last[at]}`,
        );
      // Seen as [positions, channels, 1], turning it channel-last is turning it channel-first.
      const first = toChannelLast(last, [height * width, channels, 1]);
      yield { key: sample.key, bytes: encodeFeature(first, shape) };
      tick();
    }
  }
}

/** Loads samples in batches, the next batch while the current one is worked on. */
async function* ahead<T>(
  samples: readonly PlannedSample[],
  size: number,
  load: (sample: PlannedSample) => Promise<T>,
): AsyncGenerator<{ sample: PlannedSample; value: T }[]> {
  const start = (from: number): Promise<{ sample: PlannedSample; value: T }[]> => {
    const loading = Promise.all(samples.slice(from, from + size).map(async (sample) => ({ sample, value: await load(sample) })));
    loading.catch(() => undefined); // reported when its turn comes
    return loading;
  };
  let next = start(0);
  for (let from = 0; from < samples.length; from += size) {
    const batch = await next;
    if (from + size < samples.length) next = start(from + size);
    yield batch;
  }
}
