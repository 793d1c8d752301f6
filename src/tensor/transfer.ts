import { addon } from '../native/load.js';
import { deviceNumber } from './device.js';
import type { Device } from './device.js';
import { bytesOf, typedArrayOver } from './dtype.js';
import type { DType, TypedArray } from './dtype.js';
import type { Tensor } from './tensor.js';

/** A copy that may still be going on. */
export class Transfer {
  private over: boolean;
  constructor(
    private readonly device: number,
    private readonly ticket: number,
    /** in use by the device until done(); held here, so that the garbage collector does not take it */
    readonly data: TypedArray,
  ) {
    this.over = ticket === 0;
  }

  /** Waits until the array may be read (readLater) or changed (writeLater). */
  done(): void {
    if (!this.over) addon().reach(this.device, this.ticket);
    this.over = true;
    underWay.delete(this);
  }

  /** Notes one that has just begun. Those that nobody waits for are waited for here, the oldest first, so that few are held. */
  static begun(transfer: Transfer): Transfer {
    if (!transfer.over) underWay.add(transfer);
    if (underWay.size > 64) for (const oldest of underWay) return (oldest.done(), transfer);
    return transfer;
  }
}

const underWay = new Set<Transfer>();

/**
 * An array in memory that a GPU reads and writes by itself: data that is decoded into it is on the way to the device without a copy on the
 * host. On the CPU and on simt an ordinary array.
 * @throws ERR_OOM
 */
export function pinnedArray(dtype: DType, length: number, device: Device): TypedArray {
  return typedArrayOver(dtype, addon().pinned(length * bytesOf(dtype), deviceNumber(device)), length);
}

/**
 * Copies values into a tensor while host and device go on with other work; what is dispatched or replayed later sees them.
 * @param data of `pinnedArray` (any other array is copied at once); may not be changed before done()
 */
export function writeLater(tensor: Tensor, data: TypedArray): Transfer {
  tensor.checkHostCopy(data, 'writeLater');
  const ticket = addon().writeLater(tensor.handle, tensor.offset * bytesOf(tensor.dtype), data);
  return Transfer.begun(new Transfer(deviceNumber(tensor.device), ticket, data));
}

/**
 * Copies the values that a tensor has after everything dispatched so far.
 * @param into of `pinnedArray` (any other array is waited for); its values are there after done()
 */
export function readLater(tensor: Tensor, into: TypedArray): Transfer {
  tensor.checkHostCopy(into, 'readLater');
  const ticket = addon().readLater(tensor.handle, tensor.offset * bytesOf(tensor.dtype), into);
  return Transfer.begun(new Transfer(deviceNumber(tensor.device), ticket, into));
}
