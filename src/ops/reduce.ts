import { activeTape } from '../autograd/tape.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';

/**
 * Tokens to one vector: over axis 1 of [B,N,D] (kernels/reduce). Of equal maxima the first gets the gradient.
 * @param x [B,N,D], N at least 1; samples and rows may be strided
 * @returns [B,D]
 */
export function reduce(x: Tensor, method: 'mean' | 'max' | 'sum'): Tensor {
  if (x.rank !== 3) throw new TheiaError('ERR_SHAPE', `reduce: expected tokens [B,N,D], got [${x.shape.join(',')}]`);
  const y = Tensor.empty([x.shape[0]!, x.shape[2]!], x.dtype, x.device);
  dispatch('reduce', { x, y, kind: method });
  const tape = activeTape();
  if (!tape?.reaches(x)) return y;

  tape.record([y], method === 'max' ? [x, y] : [], (gradients, [x_, y_]) => {
    const dx = Tensor.empty(x.shape, x.dtype, x.device);
    dispatch('reduce_grad', { x: x_, y: y_, dy: gradients.of(y)!, dx, kind: method });
    gradients.add(x, dx);
  });
  return y;
}
