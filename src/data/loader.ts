import { TheiaError } from '../errors.js';
import { batchError, buildBatch, type BatchFeature, type BatchJob, type BatchParts, type TeacherTarget } from './batch.js';
import type { DamagedSample, Dataset } from './dataset.js';
import type { Image } from './image.js';
import type { Stream, StreamSample } from './order.js';
import type { PrepareOptions } from './prepare.js';
import { ShardFiles } from './sample.js';
import { WorkerPool } from './worker-pool.js';

export interface LoaderOptions {
  /** In the order of the stream's sizes. */
  datasets: readonly Dataset[];
  stream: Stream;
  /** Samples in a batch. */
  batch: number;
  /** Number of the stream's first sample to deliver; default 0. */
  from?: number;
  /** Number of the first one not to deliver; default none. */
  to?: number;
  /** Batches go on across the end of an epoch (`train.steps` > 0); else the last one of each epoch may be smaller. Default false. */
  cross?: boolean;
  /** Threads; 0 builds batches on the calling thread. */
  workers?: number;
  /** Batches being built or waiting, at most; default workers + 2. */
  lookAhead?: number;
  teachers: readonly TeacherTarget[];
  /** How images are brought to the model's size; null (default) leaves them as they are. */
  prepare?: PrepareOptions | null;
  /** Share of each dataset that may be damaged; default 0.001. */
  maxBad?: number;
  /** Lends shared memory for the arrays of a batch, or null for ordinary arrays, as what does not fit gets. Default always null. */
  lend?: () => Uint8Array | null;
}

/** Samples in the order of the stream; damaged ones are missing, so there may be fewer than planned, even none. */
export interface Batch {
  /** Stream number of the first planned sample. */
  firstSample: number;
  /** Stream numbers this batch stands for, damaged samples included. The next batch starts at firstSample + planned. */
  planned: number;
  /** Of the first planned sample. */
  epoch: number;
  keys: string[];
  /** Where each sample comes from. */
  sources: StreamSample[];
  /** Views of `pixels`. */
  images: Image[];
  /** All images one behind the other; uint8 [b, height, width, 3] if `uniform`. */
  pixels: Uint8Array;
  /** Whether all images have one size. */
  uniform: boolean;
  /** By teacher; empty if no sample is left. */
  features: Map<string, BatchFeature>;
  /** What was left out of this batch. */
  damaged: (DamagedSample & { dataset: string })[];
  /** What was lent for it, to be taken back by whoever lent it when the batch is not read any more. */
  block: Uint8Array | null;
}

interface Planned {
  firstSample: number;
  sources: StreamSample[];
  block: Uint8Array | null;
  parts: Promise<BatchParts>;
}

/**
 * Delivers the stream's samples in batches, built ahead of use. What comes is a function of the options and the files: workers and
 * timing change nothing. A damaged sample is left out of its batch and the numbers of those behind it stay, so a run that is resumed at
 * a number sees the same batches.
 *
 * A damaged sample counts once, however often the stream comes back to it; with those found by openDataset they may make up `maxBad` of
 * their dataset, more is ERR_CORRUPT. JPEG decoding runs on the process's libuv threads (four unless UV_THREADPOOL_SIZE says more),
 * everything else on the workers. `close` must be called: the threads keep the process alive.
 */
export class Loader {
  readonly #options: Required<LoaderOptions>;
  readonly #pool: WorkerPool | null;
  readonly #files = new ShardFiles();
  readonly #queue: Planned[] = [];
  readonly #found: Map<number, DamagedSample>[];
  #next: number;
  /** Settles when the call of `next` before has been served. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** @throws ERR_ARGS for impossible options; ERR_CORRUPT if a dataset has too many damaged samples already */
  constructor(options: LoaderOptions) {
    // Defaults by destructuring: an option that is passed as undefined gets its default too.
    const {
      datasets,
      stream,
      batch,
      teachers,
      from = 0,
      to = Infinity,
      cross = false,
      workers = 0,
      prepare = null,
      maxBad = 0.001,
      lend = () => null,
    } = options;
    const { lookAhead = workers + 2 } = options;
    this.#options = { datasets, stream, batch, teachers, from, to, cross, workers, prepare, maxBad, lookAhead, lend };
    const whole = (name: string, value: number, least: number): void => {
      if (!Number.isSafeInteger(value) || value < least) {
        throw new TheiaError('ERR_ARGS', `loader: ${name} must be a whole number from ${least}, got ${value}`);
      }
    };
    whole('batch', batch, 1);
    whole('from', from, 0);
    whole('workers', workers, 0);
    whole('lookAhead', lookAhead, 1);
    if (to !== Infinity) whole('to', to, 0);
    for (const dataset of datasets) dataset.checkDamaged(maxBad);
    this.#next = from;
    this.#found = datasets.map(() => new Map<number, DamagedSample>());
    this.#pool = workers > 0 ? new WorkerPool(workers) : null;
  }

  /**
   * The next batch, or null behind `to`. Calls may overlap; they get their batches in the order of the calls.
   * @throws ERR_CORRUPT when too many samples are damaged, ERR_FILE or ERR_DISK when shards cannot be read, ERR_DISPOSED after `close`
   */
  async next(): Promise<Batch | null> {
    if (this.#closed) throw new TheiaError('ERR_DISPOSED', 'the loader was closed');
    this.#fill();
    const planned = this.#queue.shift();
    if (planned === undefined) return null;
    const before = this.#turn;
    const result = (async () => {
      await before;
      return this.#finish(planned, await planned.parts);
    })();
    this.#turn = result.catch(() => undefined);
    try {
      return await result;
    } catch (error) {
      throw batchError(error);
    } finally {
      if (!this.#closed) this.#fill();
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, void> {
    for (let batch = await this.next(); batch !== null; batch = await this.next()) yield batch;
  }

  /** Stops all work and ends the threads; resolves when they are gone. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool?.close();
    await Promise.allSettled([this.#turn, ...this.#queue.splice(0).map(({ parts }) => parts)]);
    this.#files.close();
  }

  #fill(): void {
    const { batch, to, cross, lookAhead, stream, datasets, teachers, prepare, lend } = this.#options;
    while (this.#queue.length < lookAhead && this.#next < to) {
      const firstSample = this.#next;
      const left = cross ? batch : stream.epochLength - (firstSample % stream.epochLength);
      const count = Math.min(batch, left, to - firstSample);
      const sources = Array.from({ length: count }, (_, i) => stream.at(firstSample + i));
      const block = lend();
      const job: BatchJob = {
        samples: sources.map(({ dataset, index }) => datasets[dataset].locate(index)),
        teachers,
        prepare,
        block,
      };
      const parts = this.#pool ? this.#pool.run(job) : buildBatch(job, this.#files);
      parts.catch(() => undefined); // reported when its turn comes
      this.#queue.push({ firstSample, sources, block, parts });
      this.#next += count;
    }
  }

  /** In the order of the stream, so what is counted when, and the sample that is one too many, are always the same. */
  #finish({ firstSample, sources, block }: Planned, parts: BatchParts): Batch {
    const { datasets, maxBad } = this.#options;
    const damaged = parts.damaged.map(({ place, reason }) => {
      const { dataset, index } = sources[place];
      const key = datasets[dataset].keys[index];
      const found = this.#found[dataset];
      if (!found.has(index)) {
        found.set(index, { key, reason });
        datasets[dataset].checkDamaged(maxBad, [...found.values()]);
      }
      return { dataset: datasets[dataset].name, key, reason };
    });
    let at = 0;
    const images = parts.sizes.map(({ width, height }): Image => {
      const data = parts.pixels.subarray(at, (at += width * height * 3));
      return { data, width, height, channels: 3 };
    });
    const kept = parts.kept.map((place) => sources[place]);
    return {
      firstSample,
      planned: sources.length,
      epoch: sources[0].epoch,
      keys: kept.map(({ dataset, index }) => datasets[dataset].keys[index]),
      sources: kept,
      images,
      pixels: parts.pixels,
      uniform: images.every(({ width, height }) => width === images[0].width && height === images[0].height),
      features: new Map(parts.features),
      damaged,
      block,
    };
  }
}
