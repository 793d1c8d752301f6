import { join } from 'node:path';
import { TheiaError } from '../errors.js';
import { FileSource, allocate } from './file.js';
import { decodeUtf8, parseJson, type Json } from './json.js';
import { elementCount, storedToF32 } from './stored.js';

export type TfjsDtype = 'float32' | 'int32';

export interface TfjsTensor {
  name: string;
  dtype: TfjsDtype;
  shape: number[];
}

/** The weights and topology of a TensorFlow.js layers model. Shards are opened for each read: there is nothing to close. */
export interface TfjsWeights {
  names(): string[];
  has(name: string): boolean;
  /** @throws ERR_CORRUPT when the model has no such weight */
  info(name: string): TfjsTensor;
  /** Values in own memory, row-major; int32 is rounded to nearest where float32 cannot hold it. */
  float32(name: string): Float32Array;
  /** `modelTopology` of model.json, as it stands there. Keys come from a file: read them as own properties only. */
  readonly topology: unknown;
}

/** Far above real ones (ResNet-50: 100 KB). */
const MAX_MODEL_JSON = 64 << 20;

interface Shard {
  path: string;
  /** where it starts in its group's bytes */
  begin: number;
  size: number;
}

interface Placed extends TfjsTensor {
  shards: readonly Shard[];
  begin: number;
  length: number;
}

function corrupt(label: string, message: string): TheiaError {
  return new TheiaError('ERR_CORRUPT', `${label}: ${message}`);
}

/** A shard lies in the model's folder or below it, whatever model.json says. */
function shardPath(folder: string, value: Json, label: string): string {
  const shown = JSON.stringify(value);
  if (typeof value !== 'string' || value === '') throw corrupt(label, `a shard path is ${shown.slice(0, 80)}, expected a file name`);
  if (/^[/\\]|^[A-Za-z][A-Za-z0-9+.-]*:/.test(value) || value.includes('\0'))
    throw corrupt(label, `shard ${shown} is not a path inside the folder`);
  if (value.split(/[/\\]/).includes('..')) throw corrupt(label, `shard ${shown} leaves the folder with ".."`);
  return join(folder, value);
}

function sizeOf(path: string): number {
  const file = new FileSource(path);
  file.close();
  return file.size;
}

function readWeight(value: Json, label: string): TfjsTensor {
  const name = value instanceof Map ? value.get('name') : undefined;
  if (!(value instanceof Map) || typeof name !== 'string') throw corrupt(label, 'weightsManifest has a weight without a name');
  const what = `weight ${JSON.stringify(name)}`;
  if (value.has('quantization')) {
    const quantization = value.get('quantization');
    const dtype = quantization instanceof Map ? String(quantization.get('dtype')) : String(quantization);
    throw new TheiaError('ERR_UNSUPPORTED', `${label}: ${what} is quantized (${dtype}), only plain float32 and int32 are read`);
  }
  const dtype = value.get('dtype');
  if (typeof dtype !== 'string') throw corrupt(label, `${what} has no dtype`);
  if (dtype !== 'float32' && dtype !== 'int32') {
    throw new TheiaError('ERR_UNSUPPORTED', `${label}: ${what} has dtype ${JSON.stringify(dtype)}, only float32 and int32 are read`);
  }
  const shape = value.get('shape');
  const count = Array.isArray(shape) ? elementCount(shape) : undefined;
  if (count === undefined || !Number.isSafeInteger(count * 4))
    throw corrupt(label, `${what} has an impossible shape ${JSON.stringify(shape)?.slice(0, 80)}`);
  return { name, dtype, shape: (shape as number[]).slice() };
}

function readGroup(folder: string, group: Json, label: string, tensors: Map<string, Placed>): void {
  const paths = group instanceof Map ? group.get('paths') : undefined;
  const weights = group instanceof Map ? group.get('weights') : undefined;
  if (!Array.isArray(paths) || !Array.isArray(weights))
    throw corrupt(label, 'a group of weightsManifest has no lists "paths" and "weights"');
  const shards: Shard[] = [];
  let total = 0;
  for (const value of paths) {
    const path = shardPath(folder, value, label);
    const size = sizeOf(path);
    shards.push({ path, begin: total, size });
    total += size;
  }
  let at = 0;
  let last = '';
  for (const value of weights) {
    const tensor = readWeight(value, label);
    if (tensors.has(tensor.name)) throw corrupt(label, `weight ${JSON.stringify(tensor.name)} comes twice`);
    const length = elementCount(tensor.shape)! * 4;
    if (length > total - at) {
      throw corrupt(
        label,
        `weight ${JSON.stringify(tensor.name)} needs ${length} bytes at ${at}, its ${shards.length} shards have ${total}`,
      );
    }
    tensors.set(tensor.name, { ...tensor, shards, begin: at, length });
    at += length;
    last = tensor.name;
  }
  if (at !== total)
    throw corrupt(label, `the shards ${JSON.stringify(paths)} have ${total} bytes, the weights up to ${JSON.stringify(last)} need ${at}`);
}

/** A weight may begin in one shard and end in another: shards are cut at a fixed size. */
function readBytes({ name, shards, begin, length }: Placed, label: string): Uint8Array {
  const what = `weight ${JSON.stringify(name)}`;
  const out = allocate(length, label, what);
  for (const shard of shards) {
    const from = Math.max(begin, shard.begin);
    const to = Math.min(begin + length, shard.begin + shard.size);
    if (from >= to) continue;
    const file = new FileSource(shard.path);
    try {
      out.set(file.read(from - shard.begin, to - from, what), from - begin);
    } finally {
      file.close();
    }
  }
  return out;
}

/**
 * Opens a TensorFlow.js layers model: a folder with model.json (`weightsManifest`, groups of weights over shards) and its shards.
 * @throws ERR_FILE when model.json or a shard is missing; ERR_CORRUPT naming file and weight when sizes, names or paths do not hold;
 *   ERR_UNSUPPORTED for quantized weights and dtypes other than float32 and int32
 */
export function openTfjsWeights(folder: string): TfjsWeights {
  const label = join(folder, 'model.json');
  const file = new FileSource(label);
  let text: string;
  try {
    if (file.size > MAX_MODEL_JSON) throw corrupt(label, `has ${file.size} bytes, at most ${MAX_MODEL_JSON} are read`);
    text = decodeUtf8(file.read(0, file.size, 'model.json'), label, 'the file');
  } finally {
    file.close();
  }
  const model = parseJson(text, label);
  if (!(model instanceof Map)) throw corrupt(label, 'is not a JSON object');
  const manifest = model.get('weightsManifest');
  if (!Array.isArray(manifest)) throw corrupt(label, 'has no list "weightsManifest"');
  const tensors = new Map<string, Placed>();
  for (const group of manifest) readGroup(folder, group, label, tensors);

  // parseJson has judged the text; the topology is handed out as plain JSON. JSON.parse makes even __proto__ an own property.
  const topology = (JSON.parse(text) as { modelTopology?: unknown }).modelTopology;
  const find = (name: string): Placed => {
    const found = tensors.get(name);
    if (found === undefined) throw corrupt(label, `has no weight ${JSON.stringify(name)}`);
    return found;
  };
  return {
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    info: (name) => {
      const { dtype, shape } = find(name);
      return { name, dtype, shape: shape.slice() };
    },
    float32: (name) => storedToF32(readBytes(find(name), label), find(name).dtype === 'float32' ? 'F32' : 'I32'),
    topology,
  };
}
