import { TheiaError } from '../errors.js';

/** Element types in the order of kernels/core/dtype.h: the position is the number the addon knows the type by. */
export const DTYPES = ['float32', 'float64', 'bfloat16', 'float16', 'uint8', 'int32', 'int64'] as const;
export type DType = (typeof DTYPES)[number];

const BYTES = [4, 8, 2, 2, 1, 4, 8];

/** Bytes of one element. */
export function bytesOf(dtype: DType): number {
  return BYTES[dtypeNumber(dtype)]!;
}

export function dtypeNumber(dtype: DType): number {
  const i = DTYPES.indexOf(dtype);
  if (i < 0) throw new TheiaError('ERR_DTYPE', `expected a dtype of ${DTYPES.join(', ')}, got ${String(dtype)}`);
  return i;
}

/** The type of sums, statistics and gradients of parameters beside activations of a type: never narrower than float32. */
export function sumsOf(dtype: DType): DType {
  return dtype === 'bfloat16' || dtype === 'float16' ? 'float32' : dtype;
}

/** What a tensor's values look like in JavaScript. bfloat16 and float16 appear as their bits. */
export type TypedArray = Float32Array | Float64Array | Uint16Array | Uint8Array | Int32Array | BigInt64Array;

export function typedArrayFor(dtype: DType, length: number): TypedArray {
  return typedArrayOver(dtype, new ArrayBuffer(length * bytesOf(dtype)), length);
}

/** The first `length` elements of a buffer. */
export function typedArrayOver(dtype: DType, buffer: ArrayBuffer, length: number): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, 0, length);
    case 'float64':
      return new Float64Array(buffer, 0, length);
    case 'bfloat16':
    case 'float16':
      return new Uint16Array(buffer, 0, length);
    case 'uint8':
      return new Uint8Array(buffer, 0, length);
    case 'int32':
      return new Int32Array(buffer, 0, length);
    case 'int64':
      return new BigInt64Array(buffer, 0, length);
  }
}

/** The dtype a typed array has unless told otherwise; undefined if there is none (a Uint16Array may be bfloat16 or float16). */
export function dtypeOf(data: ArrayBufferView): DType | undefined {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  return undefined;
}
