import { addon } from '../native/load.js';
import type { MemoryUse } from '../native/addon.js';

/** Native memory of this environment, in bytes and counts. */
export function memory(): MemoryUse {
  return addon().memory();
}

/** Starts a new measurement of `memory().peak`. */
export function resetPeakMemory(): void {
  addon().resetPeak();
}

/** Gives memory that is kept for reuse back to the system. */
export function trimMemory(): void {
  addon().trim();
}

/** Number of threads that ops may use; with an argument, sets it for the process (0 = what the machine gives). */
export function threads(n?: number): number {
  return n === undefined ? addon().threads() : addon().threads(n);
}
