import { TheiaError } from '../errors.js';
import { permutation } from '../random.js';

export interface StreamOptions {
  seed: number;
  /** Samples in each dataset. */
  sizes: readonly number[];
  /** Mixing weight of each dataset; default all 1. Only their ratios count. */
  weights?: readonly number[];
  shuffle: boolean;
  /** `data.shuffle_buffer`, from 1. */
  buffer?: number;
}

/** Which sample a number of the stream stands for. */
export interface StreamSample {
  epoch: number;
  dataset: number;
  index: number;
}

/**
 * The endless sequence of samples that training sees, as a pure function of its options: `at(n)` needs no history, so a resumed run
 * continues by asking for the next number, and workers and timing cannot change the order.
 *
 * **Epoch.** As many samples as all datasets of positive weight hold together. Dataset d supplies its part, weight x length over the sum
 * of weight x length, as an exact quota instead of by drawing lots; so with equal weights every sample comes once an epoch. A dataset
 * whose quota is not a multiple of its length goes on in the next epoch where it stopped: between two passes over it each of its samples
 * comes exactly once, whatever the epochs.
 *
 * **shuffle = false**: each dataset in shard order, several of them interleaved evenly. **shuffle = true**: a fresh permutation of the
 * whole epoch, as mixed as an infinite buffer would give, since shards are read by position and nothing has to be held back. `buffer`
 * (1,024 in the original, which streams) is one of the numbers that key the permutation: another value gives another order of the same
 * quality.
 */
export class Stream {
  /** Samples in an epoch. */
  readonly epochLength: number;
  readonly #seed: number;
  readonly #shuffle: boolean;
  readonly #buffer: number;
  readonly #sizes: readonly number[];
  readonly #quotas: number[];
  /** Where each dataset's slots begin: slot s of an epoch is draw s - starts[d] of dataset d. */
  readonly #starts: number[];
  readonly #evenly: Uint32Array | null;
  readonly #cache = new Map<string, Uint32Array>();
  #cached = 0;
  /** In entries. Enough for two epochs with all the passes they touch: a batch may lie across the end of both. */
  readonly #cacheLimit: number;

  /** @throws ERR_CONFIG if no dataset supplies samples, or a number is out of range */
  constructor({ seed, sizes, weights = sizes.map(() => 1), shuffle, buffer = 1024 }: StreamOptions) {
    if (!Number.isSafeInteger(seed) || seed < 0) throw new TheiaError('ERR_CONFIG', `seed must be a whole number from 0, got ${seed}`);
    if (!Number.isSafeInteger(buffer) || buffer < 1)
      throw new TheiaError('ERR_CONFIG', `data.shuffle_buffer must be a whole number from 1, got ${buffer}`);
    if (weights.length !== sizes.length)
      throw new TheiaError('ERR_CONFIG', `${sizes.length} datasets but ${weights.length} mixing weights`);
    sizes.forEach((size, d) => {
      if (!Number.isSafeInteger(size) || size < 0)
        throw new TheiaError('ERR_CONFIG', `dataset ${d}: size must be a whole number from 0, got ${size}`);
      const weight = weights[d];
      if (!(weight >= 0 && weight < Infinity))
        throw new TheiaError('ERR_CONFIG', `data.mix: weight ${d} must be a number from 0, got ${weight}`);
    });
    this.#seed = seed;
    this.#shuffle = shuffle;
    this.#buffer = buffer;
    this.#sizes = sizes;
    this.#quotas = quotas(sizes, weights);
    this.epochLength = this.#quotas.reduce((sum, quota) => sum + quota, 0);
    if (this.epochLength === 0) throw new TheiaError('ERR_CONFIG', 'data.mix: the datasets of positive weight hold no samples');
    if (this.epochLength > 2 ** 32 - 1) throw new TheiaError('ERR_CONFIG', `an epoch of ${this.epochLength} samples is more than 2^32 - 1`);
    this.#cacheLimit = 4 * (this.epochLength + sizes.reduce((sum, size) => sum + size, 0));
    let start = 0;
    this.#starts = this.#quotas.map((quota) => (start += quota) - quota);
    const several = this.#quotas.filter((quota) => quota > 0).length > 1;
    this.#evenly = !shuffle && several ? interleave(this.#quotas, this.#starts) : null;
  }

  /**
   * Sample number n of the stream, from 0.
   * @throws ERR_ARGS if n is not a whole number from 0
   */
  at(n: number): StreamSample {
    if (!Number.isSafeInteger(n) || n < 0) throw new TheiaError('ERR_ARGS', `the number of a sample must be whole and from 0, got ${n}`);
    const place = n % this.epochLength;
    const epoch = (n - place) / this.epochLength;
    let slot = place;
    if (this.#shuffle) slot = this.#permuted(this.epochLength, `order/${this.#buffer}/${epoch}`)[place];
    else if (this.#evenly) slot = this.#evenly[place];
    let dataset = this.#starts.length - 1;
    while (this.#starts[dataset] > slot || this.#quotas[dataset] === 0) dataset--;
    return { epoch, dataset, index: this.#draw(dataset, epoch, slot - this.#starts[dataset]) };
  }

  /** Draw i of an epoch from a dataset. */
  #draw(dataset: number, epoch: number, i: number): number {
    const size = this.#sizes[dataset];
    const quota = this.#quotas[dataset];
    if (!this.#shuffle || quota % size === 0) return quota % size === 0 ? i % size : (epoch * quota + i) % size;
    // A part of a pass must be a random part, so each pass over the dataset has a permutation of its own.
    const draw = epoch * quota + i;
    const pass = Math.floor(draw / size);
    return this.#permuted(size, `pass/${this.#buffer}/${dataset}/${pass}`)[draw % size];
  }

  #permuted(size: number, purpose: string): Uint32Array {
    const known = this.#cache.get(purpose);
    if (known !== undefined) return known;
    const order = permutation(size, this.#seed, purpose);
    this.#cache.set(purpose, order);
    this.#cached += size;
    for (const [oldest, { length }] of this.#cache) {
      if (this.#cached <= this.#cacheLimit || oldest === purpose) break;
      this.#cache.delete(oldest);
      this.#cached -= length;
    }
    return order;
  }
}

/** Parts of an epoch in whole samples: largest remainder, so that they add up to the epoch; a positive weight gets at least one. */
function quotas(sizes: readonly number[], weights: readonly number[]): number[] {
  const active = sizes.map((size, d) => (weights[d] > 0 ? size : 0));
  const total = active.reduce((sum, size) => sum + size, 0);
  // Divided by the largest weight first: the sum of huge weights must not become infinite.
  const largest = Math.max(...weights, 0);
  const shares = active.map((size, d) => (size === 0 ? 0 : size * (weights[d] / largest)));
  const sum = shares.reduce((a, b) => a + b, 0);
  const exact = shares.map((share) => (sum === 0 ? 0 : (total * share) / sum));
  const result = exact.map((value, d) => (active[d] > 0 ? Math.max(1, Math.floor(value)) : 0));
  const order = exact.map((_, d) => d).filter((d) => active[d] > 0);
  order.sort((a, b) => exact[b] - Math.floor(exact[b]) - (exact[a] - Math.floor(exact[a])) || a - b);
  let rest = total - result.reduce((a, b) => a + b, 0);
  for (let i = 0; rest > 0; i++, rest--) result[order[i % order.length]]++;
  // The minimum of one may have given out too many: the largest parts give them back.
  for (; rest < 0; rest++) result[result.indexOf(Math.max(...result))]--;
  return result;
}

/** Slots of an epoch such that after any number of places each dataset has had its part to within one or two. */
function interleave(quota: readonly number[], starts: readonly number[]): Uint32Array {
  const total = quota.reduce((sum, q) => sum + q, 0);
  const slots = new Uint32Array(total);
  const taken = quota.map(() => 0);
  for (let place = 0; place < total; place++) {
    let next = -1;
    for (let d = 0; d < quota.length; d++) {
      // The one whose next draw is due first, draws of d being due at (i + 1/2) / quota.
      if (taken[d] < quota[d] && (next < 0 || (taken[d] + 0.5) * quota[next] < (taken[next] + 0.5) * quota[d])) next = d;
    }
    slots[place] = starts[next] + taken[next]++;
  }
  return slots;
}
