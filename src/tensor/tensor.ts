import { TheiaError } from '../errors.js';
import { addon } from '../native/load.js';
import { canonicalDevice, deviceNumber } from './device.js';
import type { Device } from './device.js';
import { bytesOf, dtypeOf, typedArrayFor } from './dtype.js';
import type { DType, TypedArray } from './dtype.js';
import { track } from './scope.js';

/** A native buffer, shared by the tensors that view it. Freed when the last of them is disposed of. */
class Storage {
  refs = 0;
  constructor(
    readonly handle: number,
    readonly device: Device,
  ) {}

  release(): void {
    this.refs -= 1;
    if (this.refs === 0) addon().release(this.handle);
  }
}

/**
 * A strided view of native memory: [rows, columns], [batch, tokens, channels], [batch, height, width, channels].
 *
 * Memory is freed by scope, not by the garbage collector: create tensors inside `tidy`, or call `dispose()`, or use `using`.
 * Touching a tensor that was disposed of throws ERR_DISPOSED.
 */
export class Tensor {
  /** Tells tensors apart on the tape; views have ids of their own. */
  readonly id = nextId++;
  /** Where the memory is. Known of a tensor that was disposed of too: backward asks for it. */
  readonly device: Device;
  private storage: Storage | undefined;

  private constructor(
    storage: Storage,
    readonly dtype: DType,
    readonly shape: readonly number[],
    /** in elements */
    readonly strides: readonly number[],
    /** of the first element in the buffer, in elements */
    readonly offset: number,
    tracked: boolean,
  ) {
    this.storage = storage;
    this.device = storage.device;
    storage.refs += 1;
    if (tracked) track(this);
  }

  /** New memory; the values are whatever was there. */
  static empty(shape: readonly number[], dtype: DType = 'float32', device: Device = 'cpu'): Tensor {
    checkShape(shape);
    const handle = addon().allocate(countOf(shape) * bytesOf(dtype), deviceNumber(device));
    return new Tensor(new Storage(handle, canonicalDevice(device)), dtype, [...shape], packedStrides(shape), 0, true);
  }

  static zeros(shape: readonly number[], dtype: DType = 'float32', device: Device = 'cpu'): Tensor {
    const t = Tensor.empty(shape, dtype, device);
    try {
      addon().clear(t.handle, 0, t.size * bytesOf(dtype));
    } catch (error) {
      t.dispose();
      throw error;
    }
    return t;
  }

  /**
   * A tensor with the values of a typed array or of numbers.
   * @param dtype needed for a Uint16Array (bfloat16 or float16 bits); else the array's own, float32 for plain numbers
   * @throws ERR_SHAPE if the count differs, ERR_DTYPE if the array's type is not that of the dtype
   */
  static from(data: TypedArray | readonly number[], shape?: readonly number[], dtype?: DType, device: Device = 'cpu'): Tensor {
    const view = ArrayBuffer.isView(data);
    const type = dtype ?? (view ? dtypeOf(data) : 'float32');
    if (type === undefined) throw new TheiaError('ERR_DTYPE', 'expected a dtype for a Uint16Array: bfloat16 or float16');
    const t = Tensor.empty(shape ?? [data.length], type, device);
    try {
      t.write(view ? data : (typedArrayFor(type, data.length) as Float32Array).map((_, i) => data[i] as number));
    } catch (error) {
      t.dispose();
      throw error;
    }
    return t;
  }

  /** Number of elements. */
  get size(): number {
    return countOf(this.shape);
  }

  get rank(): number {
    return this.shape.length;
  }

  get disposed(): boolean {
    return this.storage === undefined;
  }

  /** The native buffer's handle. For dispatch only. */
  get handle(): number {
    return this.live().handle;
  }

  /** True if the elements lie packed in row-major order. */
  get packed(): boolean {
    const want = packedStrides(this.shape);
    return this.strides.every((s, i) => this.shape[i] === 1 || s === want[i]);
  }

  /** Copies values in; the tensor must be packed, the count equal. */
  write(data: TypedArray): void {
    this.checkHostCopy(data, 'write');
    addon().write(this.handle, this.offset * bytesOf(this.dtype), data);
  }

  /** Copies values out into an array of the same type; the tensor must be packed. */
  readInto(data: TypedArray): void {
    this.checkHostCopy(data, 'read');
    addon().read(this.handle, this.offset * bytesOf(this.dtype), data);
  }

  /**
   * The values on another device (or once more on the same one); the tensor must be packed.
   * @throws ERR_PLAN while a plan is recorded
   */
  to(device: Device): Tensor {
    if (!this.packed) throw new TheiaError('ERR_SHAPE', `to: expected a packed tensor, got strides [${this.strides.join(',')}]`);
    const copy = Tensor.empty(this.shape, this.dtype, device);
    try {
      const bytes = bytesOf(this.dtype);
      addon().transfer(this.handle, this.offset * bytes, copy.handle, 0, this.size * bytes);
    } catch (error) {
      copy.dispose();
      throw error;
    }
    return copy;
  }

  /** The values as a new typed array (bfloat16 and float16 as bits). */
  data(): TypedArray {
    const out = typedArrayFor(this.dtype, this.size);
    this.readInto(out);
    return out;
  }

  /** The values of a float32 or bfloat16 tensor as float32, which is exact. */
  float32(): Float32Array {
    if (this.dtype === 'bfloat16') return widen(this.data() as Uint16Array);
    if (this.dtype !== 'float32') throw new TheiaError('ERR_DTYPE', `expected a float32 tensor, got ${this.dtype}`);
    return this.data() as Float32Array;
  }

  /** A view with another shape over the same, packed elements. */
  reshape(shape: readonly number[]): Tensor {
    checkShape(shape);
    if (!this.packed) throw new TheiaError('ERR_SHAPE', `reshape: expected a packed tensor, got strides [${this.strides.join(',')}]`);
    if (countOf(shape) !== this.size)
      throw new TheiaError(
        'ERR_SHAPE',
        `reshape: expected ${this.size} elements as in [${this.shape.join(',')}], got [${shape.join(',')}]`,
      );
    return new Tensor(this.live(), this.dtype, [...shape], packedStrides(shape), this.offset, true);
  }

  /** A view of `length` entries of one axis from `start` on. */
  slice(axis: number, start: number, length: number): Tensor {
    const size = this.shape[axis];
    if (size === undefined || !Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 || start + length > size)
      throw new TheiaError(
        'ERR_SHAPE',
        `slice: expected a range of axis ${axis} of [${this.shape.join(',')}], got ${start} to ${start + length}`,
      );
    const shape = this.shape.map((s, i) => (i === axis ? length : s));
    return new Tensor(this.live(), this.dtype, shape, this.strides, this.offset + start * this.strides[axis]!, true);
  }

  /** A view of any strides inside the same buffer. The addon checks at every use that it stays inside. */
  strided(shape: readonly number[], strides: readonly number[], offset = this.offset): Tensor {
    checkShape(shape);
    return new Tensor(this.live(), this.dtype, [...shape], [...strides], offset, true);
  }

  /** The same memory under another owner: it lives until both are disposed of. Not tracked by the scope. */
  retain(): Tensor {
    return new Tensor(this.live(), this.dtype, this.shape, this.strides, this.offset, false);
  }

  /** Like retain(), but gives up this tensor: the memory's only owner is the result, which no scope disposes of. */
  retainOnly(): Tensor {
    const own = this.retain();
    this.dispose();
    return own;
  }

  /** True if no other tensor shares this memory. */
  get exclusive(): boolean {
    return this.live().refs === 1;
  }

  /** Frees the memory if this is its last tensor. A second call does nothing. */
  dispose(): void {
    const storage = this.storage;
    this.storage = undefined;
    storage?.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    const where = this.storage === undefined ? ', disposed' : this.storage.device === 'cpu' ? '' : `, ${this.storage.device}`;
    return `Tensor([${this.shape.join(',')}], ${this.dtype}${where})`;
  }

  private live(): Storage {
    if (!this.storage)
      throw new TheiaError('ERR_DISPOSED', `expected a live tensor, got one that was disposed of: [${this.shape.join(',')}] ${this.dtype}`);
    return this.storage;
  }

  /** Throws unless an array of the host has this tensor's count and type, and the tensor is packed. */
  checkHostCopy(data: TypedArray, verb: string): void {
    if (!this.packed) throw new TheiaError('ERR_SHAPE', `${verb}: expected a packed tensor, got strides [${this.strides.join(',')}]`);
    if (data.length !== this.size)
      throw new TheiaError('ERR_SHAPE', `${verb}: expected ${this.size} values for [${this.shape.join(',')}], got ${data.length}`);
    const same = typedArrayFor(this.dtype, 0).constructor === data.constructor || (this.dtype === 'uint8' && data instanceof Uint8Array);
    if (!same) throw new TheiaError('ERR_DTYPE', `${verb}: expected values of ${this.dtype}, got ${data.constructor.name}`);
  }
}

let nextId = 1;

/** The bits of bfloat16 as float32: its upper half. */
function widen(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer);
}

function checkShape(shape: readonly number[]): void {
  if (shape.length > 5 || shape.some((s) => !Number.isInteger(s) || s < 0) || countOf(shape) > 2 ** 44)
    throw new TheiaError('ERR_SHAPE', `expected at most 5 dimensions, whole and not negative, got [${shape.join(',')}]`);
}

/** Number of elements of a shape. */
export function countOf(shape: readonly number[]): number {
  return shape.reduce((n, s) => n * s, 1);
}

/** Row-major strides of a packed tensor, in elements. */
export function packedStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}
