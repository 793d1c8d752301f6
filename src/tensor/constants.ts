import type { DType } from './dtype.js';
import { Tensor } from './tensor.js';

const zeros = new Map<DType, Tensor>();

/**
 * A zero of one element, kept for the life of the environment; repeated by strides of 0 it is a source of zeros that a plan can record.
 * Made before a recording starts (Plan.record sees to it), since the host may not write during one.
 */
export function zero(dtype: DType): Tensor {
  let t = zeros.get(dtype);
  if (!t) {
    t = Tensor.zeros([1], dtype).retainOnly();
    zeros.set(dtype, t);
  }
  return t;
}
