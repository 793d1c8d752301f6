import { ERROR_CODES, TheiaError, type ErrorCode } from '../errors.js';
import { bf16ToF32, f16ToF32 } from '../formats/half.js';
import { BatchArrays } from './block.js';
import { toChannelLast, type Feature, type FeatureData, type FeatureDtype } from './feature.js';
import type { Image } from './image.js';
import { prepareImage, type PrepareOptions } from './prepare.js';
import { sampleFeature, sampleImage, type SampleLocation, type ShardFiles, type Span } from './sample.js';
import { checkMemberSize } from './shard-index.js';

/** What of a teacher goes into a batch. */
export interface TeacherTarget {
  name: string;
  /** The [C, H, W] that every sample must have; default that of the batch's first good sample. */
  shape?: readonly [number, number, number];
  /** Also deliver `cls_token`; a sample without one is then damaged. */
  cls?: boolean;
}

/** One batch to build; plain data, for a worker. */
export interface BatchJob {
  samples: SampleLocation[];
  teachers: readonly TeacherTarget[];
  /** null delivers the images at their own sizes. */
  prepare: PrepareOptions | null;
  /** Shared memory for the batch's arrays; default ordinary arrays. */
  block?: Uint8Array | null;
}

/** A teacher's features of a whole batch, contiguous and channel-last. */
export interface BatchFeature {
  /** As stored; F32 where the samples of the batch differ. */
  dtype: FeatureDtype;
  /** [b, H*W, C] */
  shape: [number, number, number];
  /** H and W of the map. */
  grid: [number, number];
  data: FeatureData;
  /** [b, C], if it was asked for. */
  cls: { dtype: FeatureDtype; shape: [number, number]; data: FeatureData } | null;
}

/** A built batch; plain data that a worker can hand over without copying: each array has an ArrayBuffer of its own or lies in the job's block. */
export interface BatchParts {
  /** Which of the job's samples are in it, in order. */
  kept: number[];
  /** All images one behind the other, each [height, width, 3]. */
  pixels: Uint8Array;
  sizes: { width: number; height: number }[];
  features: [string, BatchFeature][];
  /** The others, by their place in the job. */
  damaged: { place: number; reason: string }[];
}

/** So many images of a batch are decoded at a time: a batch of large photos must not be in memory whole before it is resized. */
const DECODING = 8;

/** Errors of these codes come from what a sample holds, and condemn the sample; any other stops the loader. */
export const DAMAGE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ERR_CORRUPT', 'ERR_FILE', 'ERR_SHAPE', 'ERR_DTYPE']);

type Outcome<T> = { value: T; reason: null } | { value: null; reason: string };

/** Runs what only a sample's content can make fail; where it did, the reason. */
async function attempt<T>(work: () => T | Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work(), reason: null };
  } catch (error) {
    if (error instanceof TheiaError && DAMAGE.has(error.code)) return { value: null, reason: error.message };
    throw error;
  }
}

/**
 * Reads, decodes and stacks the samples of a job. The result is a function of the job and the files alone. A damaged sample is left out
 * and named; an error in reading a shard (missing, shortened since it was indexed, failing disk) is thrown, since it is no sample's fault.
 */
export async function buildBatch(job: BatchJob, files: ShardFiles): Promise<BatchParts> {
  const { samples, teachers, prepare, block = null } = job;
  const arrays = new BatchArrays(block);
  const stacks = teachers.map((teacher) => new FeatureStack(teacher, samples.length, arrays));
  const parts: BatchParts = { kept: [], pixels: new Uint8Array(0), sizes: [], features: [], damaged: [] };
  const images: Image[] = [];

  const startImage = (place: number): Promise<Outcome<Image>> => {
    const { key, image } = samples[place];
    const decoding = attempt(() => sampleImage(readSpan(files, image, key, 'image'), key)).then(async (decoded) => {
      if (decoded.reason !== null || prepare === null) return decoded;
      return { value: await prepareImage(decoded.value, prepare), reason: null };
    });
    decoding.catch(() => undefined); // awaited later; meanwhile another one may have failed first
    return decoding;
  };
  const readFeatures = (place: number): Feature[] =>
    teachers.map((teacher, t) => {
      const { key, features } = samples[place];
      const span = features.find((feature) => feature.teacher === teacher.name)?.span;
      if (span === undefined) throw new TheiaError('ERR_INTERNAL', `sample ${key} was located without the teacher ${teacher.name}`);
      const feature = sampleFeature(readSpan(files, span, key, `features of ${teacher.name}`), key, teacher.name);
      stacks[t].check(feature, key);
      return feature;
    });

  const decoding: Promise<Outcome<Image>>[] = [];
  for (let place = 0; place < samples.length; place++) {
    while (decoding.length < Math.min(samples.length, place + DECODING)) decoding.push(startImage(decoding.length));
    // Features are unpacked on this thread while libvips' threads decode images.
    const features = await attempt(() => readFeatures(place));
    const image = await decoding[place];
    delete decoding[place];
    if (image.reason !== null || features.reason !== null) {
      parts.damaged.push({ place, reason: image.reason ?? features.reason! });
      continue;
    }
    images.push(image.value);
    parts.kept.push(place);
    stacks.forEach((stack, t) => stack.push(features.value[t]));
  }

  parts.sizes = images.map(({ width, height }) => ({ width, height }));
  parts.pixels = arrays.take(
    Uint8Array,
    images.reduce((sum, { data }) => sum + data.length, 0),
  );
  let at = 0;
  for (const { data } of images) {
    parts.pixels.set(data, at);
    at += data.length;
  }
  parts.features = stacks.filter((stack) => stack.count > 0).map((stack) => [stack.name, stack.finish()]);
  return parts;
}

/** A read that fails is not the sample's damage, so its error is one that {@link attempt} lets through. */
function readSpan(files: ShardFiles, span: Span, key: string, what: string): Uint8Array {
  checkMemberSize(span.size, `sample ${key}, ${what}`);
  try {
    return files.read(span, `${what} of sample ${key}`);
  } catch (error) {
    throw new ShardError(error as TheiaError);
  }
}

/** Wraps the error of a shard on its way past {@link attempt}. */
class ShardError extends Error {
  constructor(override readonly cause: TheiaError) {
    super(cause.message);
  }
}

/** The error a caller should see for what {@link buildBatch} threw. */
export function batchError(error: unknown): TheiaError {
  if (error instanceof ShardError) return error.cause;
  if (error instanceof TheiaError) return error;
  const known = error as { code?: unknown; message?: string };
  const code = ERROR_CODES.find((name) => name === known?.code) ?? 'ERR_INTERNAL';
  return new TheiaError(code, `building a batch: ${known?.message ?? String(error)}`, { cause: error });
}

type Shape = readonly [number, number, number];

/** Collects one teacher's features of a batch into one array. */
class FeatureStack {
  readonly name: string;
  count = 0;
  readonly #cls: boolean;
  readonly #capacity: number;
  readonly #arrays: BatchArrays;
  #shape: Shape | null;
  #map: Growing | null = null;
  #tokens: Growing | null = null;
  #clsLength = 0;

  constructor({ name, shape, cls = false }: TeacherTarget, capacity: number, arrays: BatchArrays) {
    this.name = name;
    this.#shape = shape ?? null;
    this.#cls = cls;
    this.#capacity = capacity;
    this.#arrays = arrays;
  }

  /** @throws ERR_SHAPE or ERR_CORRUPT if the features do not fit the others' */
  check({ shape, cls }: Feature, key: string): void {
    const label = `sample ${key}, teacher ${this.name}`;
    if (this.#shape !== null && !shape.every((side, i) => side === this.#shape![i])) {
      throw new TheiaError('ERR_SHAPE', `${label}: expected features [${this.#shape.join(', ')}], got [${shape.join(', ')}]`);
    }
    if (!this.#cls) return;
    if (cls === null) throw new TheiaError('ERR_CORRUPT', `${label}: has no cls_token`);
    if (this.#clsLength !== 0 && cls.data.length !== this.#clsLength) {
      throw new TheiaError('ERR_SHAPE', `${label}: expected a cls_token of ${this.#clsLength}, got ${cls.data.length}`);
    }
  }

  push({ dtype, shape, data, cls }: Feature): void {
    this.#shape ??= shape;
    this.#map ??= new Growing(dtype, data.length, this.#capacity, this.#arrays);
    this.#map.push(dtype, data, (values, out, at) => toChannelLast(values, shape, out, at));
    if (this.#cls && cls !== null) {
      this.#clsLength = cls.data.length;
      this.#tokens ??= new Growing(cls.dtype, cls.data.length, this.#capacity, this.#arrays);
      this.#tokens.push(cls.dtype, cls.data, (values, out, at) => out.set(values, at));
    }
    this.count++;
  }

  finish(): BatchFeature {
    const [channels, height, width] = this.#shape!;
    const tokens = this.#tokens;
    return {
      ...this.#map!.finish(),
      shape: [this.count, height * width, channels],
      grid: [height, width],
      cls: tokens === null ? null : { ...tokens.finish(), shape: [this.count, this.#clsLength] },
    };
  }
}

/** An array of equal rows in the dtype of the first, or in float32 from the moment one of another dtype comes. */
class Growing {
  #dtype: FeatureDtype;
  #data: FeatureData;
  readonly #row: number;
  #rows = 0;

  constructor(dtype: FeatureDtype, row: number, capacity: number, arrays: BatchArrays) {
    this.#dtype = dtype;
    this.#row = row;
    this.#data = arrays.take<FeatureData>(dtype === 'F32' ? Float32Array : Uint16Array, row * capacity);
  }

  push(dtype: FeatureDtype, values: FeatureData, copy: <T extends FeatureData>(values: T, out: T, at: number) => void): void {
    if (dtype !== this.#dtype) {
      this.#data = toFloat32(this.#data, this.#dtype);
      this.#dtype = 'F32';
    }
    const row = this.#dtype === 'F32' ? toFloat32(values, dtype) : values;
    copy<FeatureData>(row, this.#data, this.#row * this.#rows++);
  }

  finish(): { dtype: FeatureDtype; data: FeatureData } {
    return { dtype: this.#dtype, data: this.#data.subarray(0, this.#row * this.#rows) };
  }
}

function toFloat32(data: FeatureData, dtype: FeatureDtype): Float32Array {
  if (data instanceof Float32Array) return data;
  return dtype === 'BF16' ? bf16ToF32(data) : f16ToF32(data);
}
