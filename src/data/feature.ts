import { TheiaError } from '../errors.js';
import { f32ToBf16, f32ToF16 } from '../formats/half.js';
import { encodeSafetensors, parseSafetensors, type Safetensors, type TensorToWrite } from '../formats/safetensors.js';

/** The element types features are stored in. */
export type FeatureDtype = 'BF16' | 'F16' | 'F32';

/** Stored values; the 16-bit types are kept as bits. */
export type FeatureData = Uint16Array | Float32Array;

/** One teacher's features of one sample, as stored. */
export interface Feature {
  dtype: FeatureDtype;
  /** [C, H, W]; `data` is row-major in it. */
  shape: [number, number, number];
  data: FeatureData;
  /** The teacher's CLS token [C], where the file holds one. */
  cls: { dtype: FeatureDtype; data: FeatureData } | null;
}

/** Features above this are not believed: 64 times the largest published teacher (SAM, 256 x 64 x 64). */
const MAX_ELEMENTS = 1 << 26;

/**
 * Reads a feature file: `embedding` [C, H, W] and optionally `cls_token` [C] or [1, C], BF16, F16 or F32, without converting.
 * @throws ERR_CORRUPT, ERR_DTYPE or ERR_SHAPE naming the label
 */
export function decodeFeature(bytes: Uint8Array, label: string): Feature {
  const file = parseSafetensors(bytes, label);
  const embedding = tensor(file, 'embedding', label);
  const { shape } = embedding;
  const elements = shape.reduce((product, side) => product * side, 1);
  if (shape.length !== 3 || elements === 0 || elements > MAX_ELEMENTS) {
    throw new TheiaError('ERR_SHAPE', `${label}: expected embedding [C, H, W], got [${shape.join(', ')}]`);
  }
  let cls: Feature['cls'] = null;
  if (file.has('cls_token')) {
    const token = tensor(file, 'cls_token', label);
    const rank = token.shape.length;
    if (token.data.length === 0 || rank < 1 || rank > 2 || (rank === 2 && token.shape[0] !== 1)) {
      throw new TheiaError('ERR_SHAPE', `${label}: expected cls_token [C] or [1, C], got [${token.shape.join(', ')}]`);
    }
    cls = { dtype: token.dtype, data: token.data };
  }
  return { dtype: embedding.dtype, shape: [shape[0], shape[1], shape[2]], data: embedding.data, cls };
}

function tensor(file: Safetensors, name: string, label: string): { dtype: FeatureDtype; shape: readonly number[]; data: FeatureData } {
  const { dtype, shape } = file.info(name);
  if (dtype !== 'BF16' && dtype !== 'F16' && dtype !== 'F32') {
    throw new TheiaError('ERR_DTYPE', `${label}: expected ${name} in BF16, F16 or F32, got ${dtype}`);
  }
  const bytes = file.bytes(name);
  const data =
    dtype === 'F32'
      ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
      : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  return { dtype, shape, data };
}

/**
 * Makes a feature file's bytes from float32 values.
 * @param embedding [C, H, W] row-major
 * @param cls [C], stored as `cls_token`
 */
export function encodeFeature(
  embedding: Float32Array,
  shape: readonly [number, number, number],
  options: { cls?: Float32Array; dtype?: FeatureDtype } = {},
): Uint8Array {
  const { cls, dtype = 'BF16' } = options;
  const store = (values: Float32Array): FeatureData => (dtype === 'F32' ? values : dtype === 'F16' ? f32ToF16(values) : f32ToBf16(values));
  const tensors: TensorToWrite[] = [{ name: 'embedding', dtype, shape, data: store(embedding) }];
  if (cls !== undefined) tensors.push({ name: 'cls_token', dtype, shape: [cls.length], data: store(cls) });
  return encodeSafetensors(tensors);
}

/** Index of the first value that is infinite or not a number, or -1. */
export function firstNonFinite(data: FeatureData, dtype: FeatureDtype): number {
  // A value is not finite when all bits of its exponent are set; looking at the bits needs no conversion.
  const mask = dtype === 'BF16' ? 0x7f80 : dtype === 'F16' ? 0x7c00 : 0x7f800000;
  const single = data instanceof Float32Array;
  if (data.byteOffset % 4 === 0 && !anyFull(data, single ? mask : mask * 0x10001, single ? 0x80000000 : 0x80008000)) return -1;
  const bits = single ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
  for (let i = 0; i < bits.length; i++) if ((bits[i] & mask) === mask) return i;
  return -1;
}

/**
 * Whether some exponent is full, two 16-bit values or one float a step: adding the exponent's lowest bit carries into the (cleared) sign
 * only then. True as well where the last value of an odd number would have to be looked at alone.
 */
function anyFull(data: FeatureData, exponents: number, signs: number): boolean {
  const words = new Int32Array(data.buffer, data.byteOffset, data.byteLength >> 2);
  const lowest = (signs - exponents) | 0;
  let sum = 0;
  for (let i = 0; i < words.length; i++) sum |= (words[i] & exponents) + lowest;
  return data.byteLength % 4 !== 0 || (sum & signs) !== 0;
}

const TILE = 32;

/**
 * [C, H, W] to [H*W, C], the order the engine computes in. Works in tiles, so that both the reads and the writes stay in cache.
 * @param out where to write, from element `at`; default a new array
 */
export function toChannelLast<T extends FeatureData>(data: T, shape: readonly [number, number, number], out?: T, at = 0): T {
  const [channels, height, width] = shape;
  const positions = height * width;
  const size = channels * positions;
  if (data.length !== size) {
    throw new TheiaError('ERR_SHAPE', `[${shape.join(', ')}] needs ${size} values, the array has ${data.length}`);
  }
  const result = out ?? (new (data.constructor as new (length: number) => T)(size) as T);
  if (result.length < at + size) throw new TheiaError('ERR_SHAPE', `${size} values from ${at} do not fit into ${result.length}`);
  const start = result.byteOffset + at * data.BYTES_PER_ELEMENT;
  const aligned = data.byteOffset % 4 === 0 && start % 4 === 0;
  if (data instanceof Uint16Array && aligned && channels % 2 === 0 && positions % 2 === 0) {
    const words = new Uint32Array(data.buffer, data.byteOffset, size / 2);
    transposePairs(words, new Uint32Array(result.buffer, start, size / 2), channels, positions);
  } else transpose(data, result, at, channels, positions);
  return result;
}

function transpose(data: FeatureData, out: FeatureData, at: number, channels: number, positions: number): void {
  for (let c0 = 0; c0 < channels; c0 += TILE) {
    const c1 = Math.min(channels, c0 + TILE);
    for (let p0 = 0; p0 < positions; p0 += TILE) {
      const p1 = Math.min(positions, p0 + TILE);
      for (let p = p0; p < p1; p++) {
        let to = at + p * channels + c0;
        for (let c = c0, from = c0 * positions + p; c < c1; c++, from += positions) out[to++] = data[from];
      }
    }
  }
}

/** The same for 16-bit values, in blocks of two by two: half as many reads and writes. Little-endian: the low half comes first. */
function transposePairs(words: Uint32Array, out: Uint32Array, channels: number, positions: number): void {
  const row = positions / 2;
  const step = channels / 2;
  for (let c0 = 0; c0 < channels; c0 += TILE) {
    const c1 = Math.min(channels, c0 + TILE);
    for (let p0 = 0; p0 < row; p0 += TILE / 2) {
      const p1 = Math.min(row, p0 + TILE / 2);
      for (let p = p0; p < p1; p++) {
        let to = 2 * p * step + c0 / 2;
        for (let c = c0, from = c0 * row + p; c < c1; c += 2, from += 2 * row, to++) {
          const a = words[from];
          const b = words[from + row];
          out[to] = (a & 0xffff) | (b << 16);
          out[to + step] = (a >>> 16) | (b & 0xffff0000);
        }
      }
    }
  }
}
