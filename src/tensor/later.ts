import type { TypedArray } from './dtype.js';
import type { Tensor } from './tensor.js';
import { pinnedArray, readLater } from './transfer.js';

const spare = new Map<string, TypedArray[]>();

/**
 * The values that a small tensor has behind everything dispatched so far, for a reader who can wait: what comes behind may overwrite them
 * on the device. The copy goes on by itself; on the CPU it is done at once.
 * @returns gives the values, waiting for them only if they are not there yet
 */
export function valuesLater(t: Tensor): () => TypedArray {
  // Pinned memory is slow to get: arrays are used again.
  const key = `${t.dtype} ${t.size} ${t.device}`;
  const pool = spare.get(key) ?? [];
  spare.set(key, pool);
  const array = pool.pop() ?? pinnedArray(t.dtype, t.size, t.device);
  const transfer = readLater(t, array);
  let values: TypedArray | undefined;
  return () => {
    if (values === undefined) {
      transfer.done();
      values = array.slice();
      pool.push(array);
    }
    return values;
  };
}
