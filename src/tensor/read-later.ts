import type { TypedArray } from './dtype.js';
import type { Tensor } from './tensor.js';

/**
 * The values that a tensor has now, for a reader who can wait: what is dispatched behind this call may overwrite them.
 * On the CPU they are copied at once.
 * @returns gives the values
 */
export function readLater(t: Tensor): () => TypedArray {
  const values = t.data();
  return () => values;
}
