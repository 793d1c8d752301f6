import { TheiaError } from '../errors.js';
import { FileSource, MemorySource, writeFileWhole, allocate, type ByteSource } from './file.js';
import { readHeader, type SafetensorsHeader, type StoredTensor } from './safetensors_header.js';
import { STORED_SIZE, elementCount, isStoredDtype, storedToF32, type StoredDtype } from './stored.js';

export type { StoredTensor } from './safetensors_header.js';
export type { StoredDtype } from './stored.js';

/** The tensors of a safetensors file or of one in memory. The header is checked whole before anything is read. */
export class Safetensors {
  /** the `__metadata__` of the file */
  readonly metadata: ReadonlyMap<string, string>;
  readonly #source: ByteSource;
  readonly #header: SafetensorsHeader;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#header = readHeader(source);
    this.metadata = this.#header.metadata;
  }

  /** What messages call it: the path, or the label given to parseSafetensors. */
  get label(): string {
    return this.#source.label;
  }

  /** All names, in the order of the header. */
  names(): string[] {
    return [...this.#header.tensors.keys()];
  }

  has(name: string): boolean {
    return this.#header.tensors.has(name);
  }

  /** @throws ERR_CORRUPT when the file has no such tensor */
  info(name: string): StoredTensor {
    const info = this.#header.tensors.get(name);
    if (info === undefined) {
      const names = this.names();
      const hint = `it has ${names.length}: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', ...' : ''}`;
      throw new TheiaError('ERR_CORRUPT', `${this.label}: has no tensor ${JSON.stringify(name)}`, { hint });
    }
    return info;
  }

  /** The tensor's bytes as stored (little-endian, row-major) in own memory, aligned for every dtype. */
  bytes(name: string): Uint8Array {
    const { begin, end } = this.info(name);
    return this.#source.read(this.#header.dataStart + begin, end - begin, `tensor ${JSON.stringify(name)}`);
  }

  /** The tensor as float32 in own memory, row-major: exact, or rounded to nearest where float32 cannot hold the value. */
  float32(name: string): Float32Array {
    return storedToF32(this.bytes(name), this.info(name).dtype);
  }
}

/** A safetensors file on disk. It stays open until `close` (or the end of a `using` scope) and is read by position. */
export class SafetensorsFile extends Safetensors {
  readonly path: string;
  readonly #file: FileSource;

  private constructor(file: FileSource) {
    super(file);
    this.#file = file;
    this.path = file.label;
  }

  /** @throws ERR_FILE when it cannot be opened, ERR_CORRUPT when it is not a sound safetensors file */
  static open(path: string): SafetensorsFile {
    const file = new FileSource(path);
    try {
      return new SafetensorsFile(file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** May be called twice. Reading afterwards is ERR_DISPOSED. */
  close(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Reads safetensors from memory, such as a member of a tar file. `label` stands in messages; the buffer must stay as it is. */
export function parseSafetensors(buffer: Uint8Array, label: string): Safetensors {
  return new Safetensors(new MemorySource(buffer, label));
}

/** A tensor of a file that is to be written. */
export interface TensorToLay {
  name: string;
  dtype: StoredDtype;
  shape: readonly number[];
}

/** A tensor to write. Data that is made only when its turn comes (a function) keeps a large file from being in memory twice. */
export interface TensorToWrite extends TensorToLay {
  data: ArrayBufferView | (() => ArrayBufferView);
}

export type Metadata = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

export interface Layout<T extends TensorToLay> {
  /** in the order of the file; `length` in bytes */
  order: { tensor: T; length: number }[];
  header: Uint8Array;
  size: number;
}

/**
 * Lays a file out: larger element types first, else the order given, so that with a header padded to 8 bytes every tensor lies at a multiple of its
 * element size (as the format's own writer does).
 */
export function layOut<T extends TensorToLay>(tensors: Iterable<T>, metadata: Metadata | undefined, label: string): Layout<T> {
  const seen = new Set<string>(['__metadata__']);
  const order: Layout<T>['order'] = [];
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (seen.has(name)) throw new TheiaError('ERR_ARGS', `${label}: tensor ${JSON.stringify(name)} comes twice or has a reserved name`);
    seen.add(name);
    if (!isStoredDtype(dtype))
      throw new TheiaError('ERR_DTYPE', `${label}: tensor ${JSON.stringify(name)} has the unknown dtype ${String(dtype)}`);
    const count = elementCount(shape);
    if (count === undefined)
      throw new TheiaError('ERR_SHAPE', `${label}: tensor ${JSON.stringify(name)} has an impossible shape [${shape.join(', ')}]`);
    order.push({ tensor, length: count * STORED_SIZE.get(dtype)! });
  }
  order.sort((a, b) => STORED_SIZE.get(b.tensor.dtype)! - STORED_SIZE.get(a.tensor.dtype)!);

  // Text is put together by hand: a name such as __proto__ is lost when it is assigned to an object.
  const entries: string[] = [];
  const pairs = metadata instanceof Map ? [...metadata] : Object.entries(metadata ?? {});
  if (pairs.length > 0)
    entries.push(`"__metadata__":{${pairs.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(String(v))}`).join(',')}}`);
  let at = 0;
  for (const { tensor, length } of order) {
    const offsets = `[${at},${at + length}]`;
    entries.push(
      `${JSON.stringify(tensor.name)}:{"dtype":"${tensor.dtype}","shape":${JSON.stringify(tensor.shape)},"data_offsets":${offsets}}`,
    );
    at += length;
  }
  const text = Buffer.from(`{${entries.join(',')}}`, 'utf8');
  const header = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(text, 8);
  return { order, header, size: header.length + at };
}

function dataOf({ tensor, length }: Layout<TensorToWrite>['order'][number], label: string): Uint8Array {
  const data = typeof tensor.data === 'function' ? tensor.data() : tensor.data;
  if (data.byteLength !== length) {
    const need = `${tensor.dtype} [${tensor.shape.join(', ')}] needs ${length} bytes`;
    throw new TheiaError('ERR_SHAPE', `${label}: tensor ${JSON.stringify(tensor.name)} ${need}, its data has ${data.byteLength}`);
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Writes a safetensors file, whole or not at all (temporary file, then rename). The same input gives the same bytes.
 * @param options.fsync wait until it is on the disk
 * @throws ERR_DISK on a full or failing disk, ERR_FILE when the path cannot be written, ERR_SHAPE when data and shape differ, ERR_ARGS on a doubled name
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata?: Metadata,
  options: { fsync?: boolean } = {},
): void {
  const layout = layOut(tensors, metadata, path);
  const body = (write: (data: ArrayBufferView) => void): void => {
    write(layout.header);
    for (const entry of layout.order) write(dataOf(entry, path));
  };
  writeFileWhole(path, body, options);
}

/** The bytes writeSafetensors would write. */
export function encodeSafetensors(tensors: Iterable<TensorToWrite>, metadata?: Metadata): Uint8Array {
  const label = 'safetensors';
  const layout = layOut(tensors, metadata, label);
  const out = allocate(layout.size, label, 'the file');
  out.set(layout.header);
  let at = layout.header.length;
  for (const entry of layout.order) {
    const data = dataOf(entry, label);
    out.set(data, at);
    at += data.length;
  }
  return out;
}
