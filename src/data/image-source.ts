import { open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { SafetensorsFile } from '../formats/index.js';
import { MAX_PIXELS, decodeImage, describeBytes, imageFormat, readImages } from './image.js';
import type { Image } from './image.js';
import { listImages } from './keys.js';

/** A number of images that are read one after the other. */
export interface ImageSource {
  readonly count: number;
  /** what messages and lists call image i */
  name(i: number): string;
  read(i: number): Promise<Image>;
  /** files of a folder that are none of ours, and why */
  readonly skipped: readonly { path: string; reason: string }[];
}

async function firstBytes(path: string): Promise<Uint8Array | 'folder'> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) return 'folder';
    if (!stats.isFile()) throw new TheiaError('ERR_FILE', `${path}: expected a regular file or a folder, it is a pipe or a device`);
    const file = await open(path, 'r');
    try {
      const bytes = new Uint8Array(16);
      return bytes.subarray(0, (await file.read(bytes, 0, 16, 0)).bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(error, path, 'reading images from');
  }
}

/** Images of one file; `loaded` are in memory. */
function loadedSource(path: string, loaded: readonly Image[]): ImageSource {
  const name = basename(path);
  return {
    count: loaded.length,
    name: (i) => (loaded.length === 1 ? name : `${name}[${i}]`),
    read: (i) => Promise.resolve(loaded[i]!),
    skipped: [],
  };
}

/**
 * The tensor `images` of a safetensors file.
 * @throws ERR_DTYPE or ERR_SHAPE unless it is uint8 [B,H,W,3]
 */
export function safetensorsImages(file: SafetensorsFile): { data: Uint8Array; shape: [number, number, number, number] } {
  const { dtype, shape } = file.info('images');
  if (dtype !== 'U8') throw new TheiaError('ERR_DTYPE', `${file.label}: images: expected uint8, got ${dtype}`);
  if (shape.length !== 4 || shape[3] !== 3 || shape.includes(0))
    throw new TheiaError('ERR_SHAPE', `${file.label}: images: expected uint8 [B,H,W,3], got [${shape.join(',')}]`);
  const [batch, height, width] = shape as [number, number, number, number];
  if (height * width > MAX_PIXELS)
    throw new TheiaError('ERR_CORRUPT', `${file.label}: images: ${width} x ${height} is more than ${MAX_PIXELS / 1e6} megapixels`);
  return { data: file.bytes('images'), shape: [batch, height, width, 3] };
}

function readSafetensors(path: string): Image[] {
  using file = SafetensorsFile.open(path);
  const { data, shape } = safetensorsImages(file);
  const [count, height, width] = shape;
  const size = height * width * 3;
  return Array.from({ length: count }, (_, i) => ({ data: data.subarray(i * size, (i + 1) * size), width, height, channels: 3 }));
}

/**
 * Opens what holds images, told apart by first bytes: an image file (JPEG, PNG, WebP), a folder of them (recursively, in the order of
 * their paths), a `.npy` of uint8 [H,W,3] or [B,H,W,3], or a safetensors file with `images` uint8 [B,H,W,3].
 * @throws ERR_FILE for anything else, for a folder without images, and for what cannot be read; what the decoders throw
 */
export async function openImages(path: string): Promise<ImageSource> {
  const start = await firstBytes(path);
  if (start === 'folder') {
    const { images, skipped } = await listImages(path);
    if (images.length === 0) throw new TheiaError('ERR_FILE', `${path}: expected JPEG, PNG or WebP files in the folder, got none`);
    return { count: images.length, name: (i) => images[i]!, read: (i) => decodeImage(join(path, images[i]!)), skipped };
  }
  if (imageFormat(start) !== null || (start[0] === 0x93 && start[1] === 0x4e)) return loadedSource(path, await readImages(path));
  // A safetensors file has no magic: eight bytes of header length, then the header, which is a JSON object.
  if (path.endsWith('.safetensors') || start[8] === 0x7b) return loadedSource(path, readSafetensors(path));
  throw new TheiaError('ERR_FILE', `${path}: expected JPEG, PNG, WebP, npy or safetensors, got ${describeBytes(start)}`);
}
