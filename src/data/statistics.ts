import { join } from 'node:path';
import { TheiaError } from '../errors.js';
import { bf16ToF32, f16ToF32 } from '../formats/half.js';
import { npyFloat32, readNpy, writeNpy } from '../formats/npy.js';
import { sampleFeature, ShardFiles } from './sample.js';
import type { Dataset } from './dataset.js';
import type { Feature } from './feature.js';
import { checkMemberSize } from './shard-index.js';
import { teacherColumn } from './shards.js';

/** Per channel over all positions of all samples, in float64. */
export interface FeatureStatistics {
  mean: Float64Array;
  /** Standard deviation, with n - 1. */
  std: Float64Array;
  /** Positions, n. */
  count: number;
}

/** Mean and standard deviation by which a teacher's features are normalised. */
export interface LoadedStatistics {
  mean: Float32Array;
  std: Float32Array;
}

/** The features of one sample, named for messages. */
export interface NamedFeature {
  key: string;
  feature: Feature;
}

/**
 * Mean and (n - 1) standard deviation per channel, in two passes: the second sums squares of differences from the first's mean, so
 * nothing cancels.
 * @param samples starts a pass; each must give the same samples
 * @throws ERR_SHAPE if the samples differ in channels; ERR_CORRUPT if there are fewer than two positions
 */
export async function featureStatistics(samples: () => AsyncIterable<NamedFeature>, label: string): Promise<FeatureStatistics> {
  let mean = new Float64Array(0);
  let count = 0;
  for await (const { key, feature } of samples()) {
    const [channels, height, width] = feature.shape;
    if (count === 0) mean = new Float64Array(channels);
    checkChannels(channels, mean.length, key, label);
    addSums(floats(feature), height * width, mean, (value) => value);
    count += height * width;
  }
  if (count < 2) throw new TheiaError('ERR_CORRUPT', `${label}: statistics need at least two positions, there are ${count}`);
  for (let c = 0; c < mean.length; c++) mean[c] /= count;

  const std = new Float64Array(mean.length);
  let again = 0;
  for await (const { key, feature } of samples()) {
    const [channels, height, width] = feature.shape;
    checkChannels(channels, mean.length, key, label);
    addSums(floats(feature), height * width, std, (value, c) => (value - mean[c]) ** 2);
    again += height * width;
  }
  if (again !== count) throw new TheiaError('ERR_CORRUPT', `${label}: the first pass saw ${count} positions, the second ${again}`);
  for (let c = 0; c < std.length; c++) std[c] = Math.sqrt(std[c] / (count - 1));
  return { mean, std, count };
}

function checkChannels(channels: number, expected: number, key: string, label: string): void {
  if (channels === expected) return;
  throw new TheiaError('ERR_SHAPE', `${label}: sample ${key} has ${channels} channels, those before it ${expected}`);
}

/** Adds `term` of every value to its channel; summed per sample first, which keeps the error of long sums small. */
function addSums(values: Float32Array, positions: number, sums: Float64Array, term: (value: number, channel: number) => number): void {
  for (let c = 0, i = 0; c < sums.length; c++) {
    let sum = 0;
    for (const end = i + positions; i < end; i++) sum += term(values[i], c);
    sums[c] += sum;
  }
}

function floats({ dtype, data }: Feature): Float32Array {
  if (data instanceof Float32Array) return data;
  return dtype === 'BF16' ? bf16ToF32(data) : f16ToF32(data);
}

/** The features of one teacher in a dataset, in order, without decoding images. A sample that is damaged throws, see {@link sampleFeature}. */
export async function* datasetFeatures(dataset: Dataset, teacher: string): AsyncGenerator<NamedFeature> {
  const which = dataset.teachers.indexOf(teacher);
  if (which < 0) throw new TheiaError('ERR_ARGS', `dataset ${dataset.name} was opened without the teacher ${teacher}`);
  const files = new ShardFiles();
  try {
    for (let i = 0; i < dataset.length; i++) {
      const { key, features } = dataset.locate(i);
      const what = `features of sample ${key}`;
      checkMemberSize(features[which].span.size, what);
      yield { key, feature: sampleFeature(files.read(features[which].span, what), key, teacher) };
    }
  } finally {
    files.close();
  }
}

/** The two files of a teacher's statistics. The names are the published ones; "var" holds the standard deviation. */
export function statisticsPaths(folder: string, teacher: string): { mean: string; std: string } {
  const column = teacherColumn(teacher);
  return { mean: join(folder, `imagenet_mean_${column}.npy`), std: join(folder, `imagenet_var_${column}.npy`) };
}

/** Writes both files as float32 [C]. @throws ERR_DISK, ERR_FILE */
export function writeStatistics(folder: string, teacher: string, { mean, std }: Pick<FeatureStatistics, 'mean' | 'std'>): void {
  const paths = statisticsPaths(folder, teacher);
  writeNpy(paths.mean, Float32Array.from(mean), [mean.length]);
  writeNpy(paths.std, Float32Array.from(std), [std.length]);
}

/** Channels whose features never change: training with them would divide by zero, and {@link loadStatistics} refuses them. */
export function constantChannels({ std }: Pick<FeatureStatistics, 'std'>): number[] {
  return Array.from(std.keys()).filter((c) => !(Math.fround(std[c]) > 0));
}

/**
 * Reads a teacher's statistics.
 * @param channels how many there must be; default whatever the files hold
 * @throws ERR_FILE if missing; ERR_SHAPE if not [C]; ERR_DTYPE if not float; ERR_CORRUPT naming the channel whose mean is not finite or
 * whose deviation is not above zero
 */
export function loadStatistics(folder: string, teacher: string, channels?: number): LoadedStatistics {
  const paths = statisticsPaths(folder, teacher);
  const mean = readVector(paths.mean, channels);
  const std = readVector(paths.std, channels ?? mean.length);
  const badMean = mean.findIndex((value) => !Number.isFinite(value));
  if (badMean >= 0) throw new TheiaError('ERR_CORRUPT', `${paths.mean}: the mean of channel ${badMean} is ${mean[badMean]}`);
  const badStd = std.findIndex((value) => !(value > 0 && value < Infinity));
  if (badStd >= 0) {
    throw new TheiaError('ERR_CORRUPT', `${paths.std}: expected standard deviations above 0, channel ${badStd} has ${std[badStd]}`);
  }
  return { mean, std };
}

function readVector(path: string, channels: number | undefined): Float32Array {
  const array = readNpy(path);
  if (array.dtype !== '<f4' && array.dtype !== '<f8' && array.dtype !== '<f2') {
    throw new TheiaError('ERR_DTYPE', `${path}: expected float32, got ${array.dtype}`);
  }
  const { shape } = array;
  if (shape.length !== 1 || shape[0] === 0 || (channels !== undefined && shape[0] !== channels)) {
    throw new TheiaError('ERR_SHAPE', `${path}: expected [${channels ?? 'C'}], got [${shape.join(', ')}]`);
  }
  return npyFloat32(array);
}
