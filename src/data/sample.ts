import { FileSource } from '../formats/file.js';
import { TheiaError } from '../errors.js';
import { decodeFeature, firstNonFinite, type Feature } from './feature.js';
import { decodeSampleImage, type Image } from './image.js';
import { checkMemberSize } from './shard-index.js';

/** Bytes [offset, offset + size) of a shard. */
export interface Span {
  path: string;
  offset: number;
  size: number;
}

/** Where the parts of one sample lie. */
export interface SampleLocation {
  dataset: string;
  key: string;
  image: Span;
  features: { teacher: string; span: Span }[];
}

/** One sample, decoded; features by teacher, as stored. */
export interface Sample {
  key: string;
  image: Image;
  features: Map<string, Feature>;
}

/** Open shards. A dataset may have thousands, a process only so many open files: the longest unused are closed. */
export class ShardFiles {
  readonly #open = new Map<string, FileSource>();
  readonly #limit: number;

  constructor(limit = 64) {
    this.#limit = limit;
  }

  /** Reads a span into own memory. @throws ERR_FILE, ERR_DISK, or ERR_CORRUPT if the shard has become shorter */
  read({ path, offset, size }: Span, what: string): Uint8Array {
    let file = this.#open.get(path);
    if (file === undefined) {
      file = new FileSource(path);
      if (this.#open.size >= this.#limit) this.#close(this.#open.keys().next().value!);
    } else this.#open.delete(path);
    this.#open.set(path, file);
    return file.read(offset, size, what);
  }

  #close(path: string): void {
    this.#open.get(path)?.close();
    this.#open.delete(path);
  }

  close(): void {
    for (const path of [...this.#open.keys()]) this.#close(path);
  }
}

/**
 * Decodes one teacher's features of a sample and checks that every value is finite.
 * @throws ERR_CORRUPT, ERR_DTYPE, ERR_SHAPE naming sample and teacher
 */
export function sampleFeature(bytes: Uint8Array, key: string, teacher: string): Feature {
  const label = `sample ${key}, teacher ${teacher}`;
  const feature = decodeFeature(bytes, label);
  const at = firstNonFinite(feature.data, feature.dtype);
  if (at >= 0) {
    const [, height, width] = feature.shape;
    const channel = Math.floor(at / (height * width));
    throw new TheiaError('ERR_CORRUPT', `${label}: a value that is not finite, channel ${channel}, position ${at % (height * width)}`);
  }
  if (feature.cls !== null && firstNonFinite(feature.cls.data, feature.cls.dtype) >= 0) {
    throw new TheiaError('ERR_CORRUPT', `${label}: cls_token has a value that is not finite`);
  }
  return feature;
}

/** Decodes the image of a sample. @throws as {@link decodeSampleImage}, naming the sample */
export function sampleImage(bytes: Uint8Array, key: string): Promise<Image> {
  return decodeSampleImage(bytes, `sample ${key}, image`);
}

/** Reads and decodes a whole sample. @throws the first error met, naming the sample */
export async function readSample(location: SampleLocation, files: ShardFiles): Promise<Sample> {
  const { key } = location;
  const bytes = (span: Span, what: string): Uint8Array => {
    checkMemberSize(span.size, `sample ${key}, ${what}`);
    return files.read(span, `${what} of sample ${key}`);
  };
  const image = await sampleImage(bytes(location.image, 'image'), key);
  const features = new Map<string, Feature>();
  for (const { teacher, span } of location.features) {
    features.set(teacher, sampleFeature(bytes(span, `features of ${teacher}`), key, teacher));
  }
  return { key, image, features };
}
