import { TheiaError } from '../errors.js';
import { addon } from '../native/load.js';
import { prepareZeros } from './constants.js';

let recordings = 0;

/**
 * Work that was run once under recording and can be run again by one call: the same kernels over the same memory.
 * What changes from run to run is written into input tensors before `replay()`; what it computes is read from the tensors that the
 * recorded function returned. Reading or writing values on the host while recording is ERR_PLAN.
 */
export class Plan<T> {
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
  }

  /** Number of recorded calls. */
  get calls(): number {
    return addon().planCalls(this.live());
  }

  /** Lets go of the plan's memory (tensors returned by the recorded function keep theirs until they are disposed of). */
  dispose(): void {
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
