import { TheiaError } from '../errors.js';
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

/** A multiple of the page of every machine. */
const PAGE = 1 << 16;
/** In use by a device, so the garbage collector may not take it. */
const shared = new Set<Uint8Array>();

/**
 * The same in memory that worker threads can write to as well: views of it that are posted stay what they are. Of its values typed arrays
 * may be made for `writeLater`. It lasts until `unpin`.
 * @throws ERR_OOM if it cannot be had or not be pinned; ERR_CUDA
 */
export function pinShared(bytes: number, device: Device): Uint8Array {
  let room: Uint8Array;
  try {
    room = new Uint8Array(new SharedArrayBuffer(bytes + 2 * PAGE));
  } catch (error) {
    throw new TheiaError('ERR_OOM', `out of memory: ${bytes} shared bytes could not be had`, { cause: error });
  }
  const start = addon().lock(room, deviceNumber(device));
  const block = room.subarray(start, start + bytes);
  shared.add(block);
  return block;
}

/** Makes ordinary memory of what `pinShared` gave, when the copies from it are over. */
export function unpin(block: Uint8Array): void {
  addon().unlock(block);
  shared.delete(block);
}

/**
 * Copies values into a tensor while host and device go on with other work; what is dispatched or replayed later sees them.
 * @param data of `pinnedArray` or `pinShared` (any other array is copied at once); may not be changed before done()
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
