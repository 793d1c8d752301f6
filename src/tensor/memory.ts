import { addon } from '../native/load.js';
import type { MemoryUse } from '../native/addon.js';
import { deviceNumber } from './device.js';
import type { Device } from './device.js';

/** Native memory of this environment on a device, in bytes and counts. */
export function memory(device: Device = 'cpu'): MemoryUse {
  return addon().memory(deviceNumber(device));
}

/** Waits until a device has done everything that it was told. Reading a tensor does so by itself; time measurements need this. */
export function synchronize(device: Device): void {
  addon().synchronize(deviceNumber(device));
}

/** Starts a new measurement of `memory(device).peak` on every device. */
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
