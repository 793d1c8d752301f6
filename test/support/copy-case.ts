// Cases of the op copy.
import { packedStrides } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import type { OpCase } from './op-case.js';

export interface Side {
  strides?: number[];
  dtype?: DType;
  values?: ArrayLike<number>;
}

export function copyCase(shape: number[], src: Side, dst: Side, accumulate = 0): OpCase {
  return { op: 'copy', tensors: { src: { shape, ...src }, dst: { shape, ...dst } }, scalars: { accumulate } };
}

export const count = (shape: number[]): number => shape.reduce((a, b) => a * b, 1);

/** Strides of a packed tensor whose dimensions were permuted: dimension i of the view is dimension order[i] of the tensor. */
export function permuted(shape: number[], order: number[]): number[] {
  const whole = new Array<number>(shape.length);
  order.forEach((from, i) => (whole[from] = shape[i]!));
  const strides = packedStrides(whole);
  return order.map((from) => strides[from]!);
}
