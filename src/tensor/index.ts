export { Tensor, countOf, packedStrides } from './tensor.js';
export { DTYPES, bytesOf } from './dtype.js';
export type { DType, TypedArray } from './dtype.js';
export { resolveDevice } from './device.js';
export type { Device } from './device.js';
export { tidy, keep } from './scope.js';
export { dispatch, costOf } from './dispatch.js';
export { Plan } from './plan.js';
export { memory, resetPeakMemory, trimMemory, threads } from './memory.js';
