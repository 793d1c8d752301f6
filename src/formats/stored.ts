import { TheiaError } from '../errors.js';
import { bf16ToF32, f16ToF32 } from './half.js';

/** The element types of stored tensors, spelt as in a safetensors header. */
export type StoredDtype = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL';

/** Bytes of one element. */
export const STORED_SIZE: ReadonlyMap<string, number> = new Map<StoredDtype, number>([
  ['F64', 8],
  ['F32', 4],
  ['F16', 2],
  ['BF16', 2],
  ['I64', 8],
  ['I32', 4],
  ['I16', 2],
  ['I8', 1],
  ['U8', 1],
  ['BOOL', 1],
]);

export function isStoredDtype(name: string): name is StoredDtype {
  return STORED_SIZE.has(name);
}

/**
 * The product of `dims`, or undefined if a dimension is not a non-negative integer or the product is beyond 2^53 (where JavaScript's numbers
 * stop being exact, and an overflowed product could match a wrong length).
 */
export function elementCount(dims: readonly unknown[]): number | undefined {
  let count = 1;
  for (const dim of dims) {
    if (typeof dim !== 'number' || !Number.isSafeInteger(dim) || dim < 0) return undefined;
    count *= dim;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

/**
 * One 64-bit integer as the nearest float32. Going through a float64 alone would round twice; above 2^53 the low bits are first folded into one
 * sticky bit, which keeps the float64 exact and tells the second rounding on which side of a tie it is.
 */
function int64ToNumber(value: bigint): number {
  const magnitude = value < 0n ? -value : value;
  if (magnitude <= 0x1fffffffffffffn) return Number(value);
  const kept = (magnitude >> 11n) << 11n;
  const sticky = Number(kept === magnitude ? kept : kept | 0x800n);
  return value < 0n ? -sticky : sticky;
}

/** 64-bit integers as float32, each rounded once, to nearest. */
export function int64ToF32(values: BigInt64Array | BigUint64Array): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = int64ToNumber(values[i]);
  return out;
}

/**
 * Stored bytes as float32: exact where float32 can hold the value, else rounded to nearest. BOOL gives 0 and 1.
 * Little-endian, as stored and as every machine this package runs on. F32 is not copied: the result shares the memory of `bytes`.
 * @param bytes own memory whose offset is a multiple of the element size
 */
export function storedToF32(bytes: Uint8Array, dtype: StoredDtype): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes;
  switch (dtype) {
    case 'F64':
      return new Float32Array(new Float64Array(buffer, byteOffset, byteLength / 8));
    case 'F32':
      return new Float32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4);
    case 'F16':
      return f16ToF32(new Uint16Array(buffer, byteOffset, byteLength / 2));
    case 'BF16':
      return bf16ToF32(new Uint16Array(buffer, byteOffset, byteLength / 2));
    case 'I64':
      return int64ToF32(new BigInt64Array(buffer, byteOffset, byteLength / 8));
    case 'I32':
      return new Float32Array(new Int32Array(buffer, byteOffset, byteLength / 4));
    case 'I16':
      return new Float32Array(new Int16Array(buffer, byteOffset, byteLength / 2));
    case 'I8':
      return new Float32Array(new Int8Array(buffer, byteOffset, byteLength));
    case 'U8':
      return new Float32Array(bytes);
    case 'BOOL':
      return Float32Array.from(bytes, (b) => (b === 0 ? 0 : 1));
    default:
      throw new TheiaError('ERR_DTYPE', `expected a stored dtype, came ${String(dtype)}`);
  }
}
