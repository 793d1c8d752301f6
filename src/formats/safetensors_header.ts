import { TheiaError } from '../errors.js';
import type { ByteSource } from './file.js';
import { decodeUtf8, parseJson, type Json } from './json.js';
import { STORED_SIZE, elementCount, isStoredDtype, type StoredDtype } from './stored.js';

/** One tensor of a file. `begin` and `end` are byte offsets from the start of the data, behind the header. */
export interface StoredTensor {
  name: string;
  dtype: StoredDtype;
  shape: number[];
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  tensors: Map<string, StoredTensor>;
  metadata: Map<string, string>;
  /** where the data starts in the file */
  dataStart: number;
}

/** The limit of the format's own reader. */
export const MAX_HEADER = 100_000_000;

/** Dtypes of the format that we do not read; anything else is not a dtype at all. */
const UNSUPPORTED = ['U16', 'U32', 'U64', 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F4', 'F6_E2M3', 'F6_E3M2', 'C64'];

const FIELDS = ['dtype', 'shape', 'data_offsets'];

function corrupt(label: string, message: string): TheiaError {
  return new TheiaError('ERR_CORRUPT', `${label}: ${message}`);
}

function readMetadata(value: Json, label: string): Map<string, string> {
  const metadata = new Map<string, string>();
  if (!(value instanceof Map)) throw corrupt(label, '__metadata__ is not an object');
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw corrupt(label, `__metadata__ ${JSON.stringify(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function readTensor(name: string, value: Json, dataSize: number, label: string): StoredTensor {
  const where = `tensor ${JSON.stringify(name)}`;
  if (!(value instanceof Map)) throw corrupt(label, `${where} is not described by an object`);
  for (const key of value.keys()) if (!FIELDS.includes(key)) throw corrupt(label, `${where} has the unknown field ${JSON.stringify(key)}`);

  const dtype = value.get('dtype');
  if (typeof dtype !== 'string') throw corrupt(label, `${where} has no dtype`);
  if (!isStoredDtype(dtype)) {
    if (UNSUPPORTED.includes(dtype)) throw new TheiaError('ERR_UNSUPPORTED', `${label}: ${where} has dtype ${dtype}, which is not read`);
    throw corrupt(label, `${where} has the unknown dtype ${JSON.stringify(dtype)}, expected one of ${[...STORED_SIZE.keys()].join(', ')}`);
  }

  const dims = value.get('shape');
  if (!Array.isArray(dims)) throw corrupt(label, `${where} has no shape`);
  const count = elementCount(dims);
  const length = count === undefined ? NaN : count * STORED_SIZE.get(dtype)!;
  if (!Number.isSafeInteger(length)) throw corrupt(label, `${where} has an impossible shape ${JSON.stringify(dims).slice(0, 200)}`);

  const offsets = value.get('data_offsets');
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [];
  if (typeof begin !== 'number' || typeof end !== 'number' || !Number.isSafeInteger(begin) || !Number.isSafeInteger(end)) {
    throw corrupt(label, `${where} has no data_offsets of two integers`);
  }
  if (begin < 0 || end < begin || end > dataSize) {
    throw corrupt(label, `${where} has data_offsets [${begin}, ${end}], outside the ${dataSize} bytes of data`);
  }
  if (end - begin !== length) {
    throw corrupt(
      label,
      `${where} is ${dtype} [${dims.join(', ')}] = ${length} bytes, its data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { name, dtype, shape: (dims as number[]).slice(), begin, end };
}

/** Every byte belongs to exactly one tensor: overlaps alias, and holes or a tail can carry a second file. The format forbids them all. */
function checkCover(tensors: Iterable<StoredTensor>, dataSize: number, label: string): void {
  const order = [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  let before = '';
  for (const { name, begin, end } of order) {
    if (begin < at)
      throw corrupt(label, `tensor ${JSON.stringify(name)} overlaps ${JSON.stringify(before)}: it begins at ${begin}, that ends at ${at}`);
    if (begin > at) throw corrupt(label, `${begin - at} bytes before tensor ${JSON.stringify(name)} belong to no tensor`);
    at = end;
    before = name;
  }
  if (at !== dataSize) throw corrupt(label, `the tensors end at ${at}, the data has ${dataSize} bytes`);
}

/**
 * Reads and checks the header of a safetensors file: an 8-byte little-endian length, JSON, then the data.
 * @throws ERR_CORRUPT naming the file and the tensor; ERR_UNSUPPORTED for a real dtype that is not read
 */
export function readHeader(source: ByteSource): SafetensorsHeader {
  const { label, size } = source;
  if (size < 8) throw corrupt(label, `a safetensors file has at least 8 bytes, this has ${size}`);
  const length = new DataView(source.read(0, 8, 'the header length').buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) throw corrupt(label, `the header says it has ${length} bytes, at most ${MAX_HEADER} are read`);
  const dataStart = 8 + Number(length);
  if (dataStart > size) throw corrupt(label, `the header says it has ${length} bytes, the whole file has ${size}`);

  const text = decodeUtf8(source.read(8, Number(length), 'the header'), label, 'the header');
  if (text[0] !== '{') throw corrupt(label, 'the header does not start with "{"');
  const json = parseJson(text, `${label}: header`);
  if (!(json instanceof Map)) throw corrupt(label, 'the header is not an object');

  let metadata = new Map<string, string>();
  const tensors = new Map<string, StoredTensor>();
  const dataSize = size - dataStart;
  for (const [name, value] of json) {
    if (name === '__metadata__') metadata = readMetadata(value, label);
    else tensors.set(name, readTensor(name, value, dataSize, label));
  }
  checkCover(tensors.values(), dataSize, label);
  return { tensors, metadata, dataStart };
}
