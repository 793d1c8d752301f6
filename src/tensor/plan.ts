import { TheiaError } from '../errors.js';
import { addon } from '../native/load.js';
import { prepareZeros } from './constants.js';
import type { TypedArray } from './dtype.js';
import type { Tensor } from './tensor.js';
import { pinnedArray, readLater } from './transfer.js';
import type { Transfer } from './transfer.js';

let recordings = 0;

/**
 * A tensor whose values are fetched after every replay of a plan, while the next one runs. The device is not waited for: what one reads
 * without waiting is the value of the replay before the last.
 */
export class Fetch {
  private readonly slots: [Transfer | undefined, Transfer | undefined] = [undefined, undefined];
  private readonly arrays: [TypedArray, TypedArray];
  private count = 0;

  /** Made by Plan.fetchLater. */
  constructor(private readonly tensor: Tensor) {
    const make = (): TypedArray => pinnedArray(tensor.dtype, tensor.size, tensor.device);
    this.arrays = [make(), make()];
  }

  /** Starts the copy behind a replay. Called by the plan. */
  start(): void {
    const slot = this.count % 2;
    this.slots[slot]?.done();
    this.slots[slot] = readLater(this.tensor, this.arrays[slot]!);
    this.count += 1;
  }

  /** Values of the replay before the last one; undefined if there was none. The array is written again by the replay after the next. */
  previous(): TypedArray | undefined {
    return this.count < 2 ? undefined : this.wait(this.count % 2);
  }

  /** Values of the last replay; waits for it. Undefined before the first. */
  latest(): TypedArray | undefined {
    return this.count < 1 ? undefined : this.wait((this.count + 1) % 2);
  }

  /** Waits for copies under way and lets go of the tensor. Called by the plan. */
  dispose(): void {
    for (const transfer of this.slots) transfer?.done();
    this.tensor.dispose();
  }

  private wait(slot: number): TypedArray {
    this.slots[slot]!.done();
    return this.arrays[slot]!;
  }
}

/**
 * Work that was run once under recording and can be run again by one call: the same kernels over the same memory.
 * What changes from run to run is written into input tensors before `replay()`; what it computes is read from the tensors that the
 * recorded function returned. Reading or writing values on the host while recording is ERR_PLAN.
 */
export class Plan<T> {
  private readonly fetches: Fetch[] = [];

  private constructor(
    private number: number | undefined,
    /** what the recorded function returned */
    readonly result: T,
  ) {}

  /** Runs fn now, and records every op it dispatches. If fn throws, nothing is kept. */
  static record<T>(fn: () => T): Plan<T> {
    prepareZeros();
    addon().beginRecording();
    recordings += 1;
    let result: T;
    try {
      result = fn();
    } catch (error) {
      addon().dropRecording();
      throw error;
    }
    return new Plan(addon().endRecording(), result);
  }

  /** Runs the recorded calls again. */
  replay(): void {
    addon().replay(this.live());
    for (const fetch of this.fetches) fetch.start();
  }

  /**
   * Fetches a result after every replay from now on, one step late: a training step's loss, read without stopping the device.
   * The plan holds the tensor until it is disposed of.
   */
  fetchLater(tensor: Tensor): Fetch {
    this.live();
    const fetch = new Fetch(tensor.retain());
    this.fetches.push(fetch);
    return fetch;
  }

  /** Number of recorded calls. */
  get calls(): number {
    return addon().planCalls(this.live());
  }

  /** Lets go of the plan's memory (tensors returned by the recorded function keep theirs until they are disposed of). */
  dispose(): void {
    for (const fetch of this.fetches.splice(0)) fetch.dispose();
    if (this.number !== undefined) addon().releasePlan(this.number);
    this.number = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private live(): number {
    if (this.number === undefined) throw new TheiaError('ERR_DISPOSED', 'expected a live plan, got one that was disposed of');
    return this.number;
  }
}

/** How many recordings were begun: caches that a recording must fill anew compare it. */
export function recordingCount(): number {
  return recordings;
}
