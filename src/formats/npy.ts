import { TheiaError } from '../errors.js';
import { FileSource, MemorySource, allocate, writeFileWhole, type ByteSource } from './file.js';
import { f16ToF32 } from './half.js';
import { readNpyHeader } from './npy_header.js';
import { elementCount, int64ToF32 } from './stored.js';

export type NpyData =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** The dtypes read, as numpy spells them in little-endian. `<f2` data are bits in a Uint16Array, `|b1` 0 and 1 in a Uint8Array. */
export type NpyDtype = '|b1' | '|u1' | '|i1' | '<u2' | '<i2' | '<f2' | '<u4' | '<i4' | '<f4' | '<u8' | '<i8' | '<f8';

/** An array in C order (row-major) and the machine's byte order, whatever the file had. */
export interface NpyArray {
  dtype: NpyDtype;
  shape: number[];
  data: NpyData;
}

type Make = (buffer: ArrayBufferLike) => NpyData;

const KINDS = new Map<string, { dtype: NpyDtype; size: number; make: Make }>([
  ['b1', { dtype: '|b1', size: 1, make: (b) => new Uint8Array(b) }],
  ['u1', { dtype: '|u1', size: 1, make: (b) => new Uint8Array(b) }],
  ['i1', { dtype: '|i1', size: 1, make: (b) => new Int8Array(b) }],
  ['u2', { dtype: '<u2', size: 2, make: (b) => new Uint16Array(b) }],
  ['i2', { dtype: '<i2', size: 2, make: (b) => new Int16Array(b) }],
  ['f2', { dtype: '<f2', size: 2, make: (b) => new Uint16Array(b) }],
  ['u4', { dtype: '<u4', size: 4, make: (b) => new Uint32Array(b) }],
  ['i4', { dtype: '<i4', size: 4, make: (b) => new Int32Array(b) }],
  ['f4', { dtype: '<f4', size: 4, make: (b) => new Float32Array(b) }],
  ['u8', { dtype: '<u8', size: 8, make: (b) => new BigUint64Array(b) }],
  ['i8', { dtype: '<i8', size: 8, make: (b) => new BigInt64Array(b) }],
  ['f8', { dtype: '<f8', size: 8, make: (b) => new Float64Array(b) }],
]);

/** What a descr such as `>f4` means. Object arrays are pickled programs and are refused as hostile; other kinds are merely not read. */
function kindOf(descr: string, label: string): { dtype: NpyDtype; size: number; make: Make; bigEndian: boolean } {
  const match = /^([<>=|])([a-zA-Z])([0-9]*)(.*)$/.exec(descr);
  if (match === null) throw new TheiaError('ERR_CORRUPT', `${label}: npy dtype ${JSON.stringify(descr)} is not a dtype`);
  const [, order, letter, digits, rest] = match;
  if (letter === 'O') throw new TheiaError('ERR_CORRUPT', `${label}: npy dtype ${JSON.stringify(descr)}: object arrays are never read`);
  const kind = rest === '' ? KINDS.get(letter + digits) : undefined;
  if (kind === undefined) {
    const read = [...KINDS.keys()].join(', ');
    throw new TheiaError('ERR_UNSUPPORTED', `${label}: npy dtype ${JSON.stringify(descr)} is not read, expected one of ${read}`);
  }
  return { ...kind, bigEndian: order === '>' };
}

function swapBytes(bytes: Uint8Array, size: number): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (size === 2) buffer.swap16();
  else if (size === 4) buffer.swap32();
  else if (size === 8) buffer.swap64();
}

/** Column-major to row-major: walks the output in order with one counter an axis. */
function toRowMajor(bytes: Uint8Array, size: number, shape: readonly number[], label: string): Uint8Array {
  const out = allocate(bytes.length, label, 'the array in C order');
  const strides: number[] = [];
  shape.reduce((stride, dim) => (strides.push(stride), stride * dim), size);
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to += size) {
    for (let b = 0; b < size; b++) out[to + b] = bytes[from + b];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

function readArray(source: ByteSource): NpyArray {
  const { label } = source;
  const header = readNpyHeader(source);
  const { dtype, size, make, bigEndian } = kindOf(header.descr, label);
  const count = elementCount(header.shape);
  const length = count === undefined ? NaN : count * size;
  const present = source.size - header.dataStart;
  if (length !== present) {
    throw new TheiaError('ERR_CORRUPT', `${label}: npy ${dtype} [${header.shape.join(', ')}] needs ${length} bytes, there are ${present}`);
  }
  let bytes = source.read(header.dataStart, length, 'the array');
  if (bigEndian) swapBytes(bytes, size);
  if (header.fortranOrder && header.shape.length > 1) bytes = toRowMajor(bytes, size, header.shape, label);
  return { dtype, shape: header.shape, data: make(bytes.buffer) };
}

/**
 * Reads a .npy file (versions 1 to 3); Fortran order and big-endian are converted.
 * @throws ERR_FILE when it cannot be read, ERR_CORRUPT naming the file when it is malformed or holds objects, ERR_UNSUPPORTED for other dtypes
 */
export function readNpy(path: string): NpyArray {
  const file = new FileSource(path);
  try {
    return readArray(file);
  } finally {
    file.close();
  }
}

/** As readNpy, from memory; `label` stands in messages. The result does not share the memory of `bytes`. */
export function parseNpy(bytes: Uint8Array, label: string): NpyArray {
  return readArray(new MemorySource(bytes, label));
}

/** The values as float32: exact, or rounded to nearest. Float32 data are not copied. */
export function npyFloat32({ dtype, data }: NpyArray): Float32Array {
  if (data instanceof Float32Array) return data;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return int64ToF32(data);
  if (dtype === '<f2') return f16ToF32(data as Uint16Array);
  return new Float32Array(data);
}

function dtypeOf(data: NpyData): NpyDtype {
  if (data instanceof Uint8Array) return '|u1';
  if (data instanceof Int8Array) return '|i1';
  if (data instanceof Uint16Array) return '<u2';
  if (data instanceof Int16Array) return '<i2';
  if (data instanceof Uint32Array) return '<u4';
  if (data instanceof Int32Array) return '<i4';
  if (data instanceof BigUint64Array) return '<u8';
  if (data instanceof BigInt64Array) return '<i8';
  if (data instanceof Float32Array) return '<f4';
  if (data instanceof Float64Array) return '<f8';
  throw new TheiaError('ERR_DTYPE', `npy: expected a typed array, came ${Object.prototype.toString.call(data)}`);
}

/**
 * A version 1.0 .npy file, laid out as numpy does it (data at a multiple of 64).
 * @param shape row-major; its product must be the number of elements
 * @param dtype only needed for `<f2` (bits in a Uint16Array) and `|b1` (0 and 1 in a Uint8Array)
 * @throws ERR_SHAPE or ERR_DTYPE when shape, dtype and data do not fit
 */
export function encodeNpy(data: NpyData, shape: readonly number[], dtype: NpyDtype = dtypeOf(data)): Uint8Array {
  if (elementCount(shape) !== data.length) {
    throw new TheiaError(
      'ERR_SHAPE',
      `npy: shape [${shape.join(', ')}] needs ${elementCount(shape) ?? 'an impossible number of'} elements, came ${data.length}`,
    );
  }
  const plain = dtypeOf(data);
  if (dtype !== plain && !(dtype === '<f2' && plain === '<u2') && !(dtype === '|b1' && plain === '|u1')) {
    throw new TheiaError('ERR_DTYPE', `npy: dtype ${dtype} cannot be written from ${plain} data`);
  }
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': ${tuple}, }`;
  // The data start at a multiple of 64, as numpy has it, so that any reader finds them aligned.
  const start = Math.ceil((10 + text.length + 1) / 64) * 64;
  if (start - 10 > 0xffff) throw new TheiaError('ERR_SHAPE', `npy: ${shape.length} dimensions do not fit a header`);
  const out = allocate(start + data.byteLength, 'npy', 'the file');
  out.fill(0x20, 10, start - 1);
  out.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, (start - 10) & 255, (start - 10) >> 8]);
  out.set(Buffer.from(text, 'latin1'), 10);
  out[start - 1] = 0x0a;
  out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  return out;
}

/** Writes encodeNpy's bytes, whole or not at all. @throws ERR_DISK or ERR_FILE when the system says no */
export function writeNpy(path: string, data: NpyData, shape: readonly number[], dtype?: NpyDtype): void {
  const bytes = encodeNpy(data, shape, dtype);
  writeFileWhole(path, (write) => write(bytes));
}
