import type { Device } from './device.js';
import { openDevices } from './device.js';
import type { DType } from './dtype.js';
import { Tensor } from './tensor.js';

const zeros = new Map<string, Tensor>();

/**
 * A zero of one element, kept for the life of the environment; repeated by strides of 0 it is a source of zeros that a plan can record.
 * Made before a recording starts (Plan.record calls prepareZeros), since the host may not write during one.
 */
export function zero(dtype: DType, device: Device = 'cpu'): Tensor {
  const key = `${dtype} ${device}`;
  let t = zeros.get(key);
  if (!t) {
    t = Tensor.zeros([1], dtype, device).retainOnly();
    zeros.set(key, t);
  }
  return t;
}

/** Makes the zeros that a recording may ask for. */
export function prepareZeros(): void {
  for (const dtype of ['float32', 'float64'] as const) zero(dtype);
  for (const device of openDevices()) if (device !== 'cpu') for (const dtype of ['float32', 'bfloat16'] as const) zero(dtype, device);
}
