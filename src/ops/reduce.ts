import { Tensor, dispatch } from '../tensor/index.js';

/**
 * Tokens to one vector: over axis 1 of [B,N,D] (kernels/reduce).
 * @returns [B,D]
 */
export function reduce(x: Tensor, method: 'mean' | 'max' | 'sum'): Tensor {
  const y = Tensor.empty([x.shape[0]!, x.shape[2]!], x.dtype);
  dispatch('reduce', { x, y, kind: method });
  return y;
}
