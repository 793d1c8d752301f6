import { readFile } from 'node:fs/promises';
import { TheiaError, fileError } from '../errors.js';
import { parseNpy } from '../formats/npy.js';

/** An RGB image: `data` is uint8 [height, width, 3], interleaved, without row padding. */
export interface Image {
  data: Uint8Array;
  width: number;
  height: number;
  channels: 3;
}

/** Larger images are refused: a small file can claim any size. */
export const MAX_PIXELS = 64_000_000;

/** The formats we decode; everything else is named and refused, whatever its file name says. */
export type ImageFormat = 'jpeg' | 'png' | 'webp';

const FOREIGN: readonly [string, string][] = [
  ['GIF8', 'GIF'],
  ['BM', 'BMP'],
  ['II*\0', 'TIFF'],
  ['MM\0*', 'TIFF'],
  ['%PDF', 'PDF'],
  ['<?xml', 'XML or SVG'],
  ['<svg', 'SVG'],
  ['\x93NUMPY', 'npy'],
  ['\xff\x0a', 'JPEG XL'],
];

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  if (bytes.length < at + text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** The format by the first bytes (12 are enough), or null if it is none that we decode. */
export function imageFormat(bytes: Uint8Array): ImageFormat | null {
  if (startsWith(bytes, '\xff\xd8\xff')) return 'jpeg';
  if (startsWith(bytes, '\x89PNG\r\n\x1a\n')) return 'png';
  if (startsWith(bytes, 'RIFF') && startsWith(bytes, 'WEBP', 8)) return 'webp';
  return null;
}

/** What the bytes look like, for messages: a format's name, or the first bytes in hex. */
export function describeBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'an empty file';
  const format = imageFormat(bytes);
  if (format) return format.toUpperCase();
  if (startsWith(bytes, 'ftyp', 4)) return 'HEIF, AVIF or MP4';
  for (const [magic, name] of FOREIGN) if (startsWith(bytes, magic)) return name;
  return `bytes ${Buffer.from(bytes.subarray(0, 8)).toString('hex')}`;
}

type Sharp = typeof import('sharp').default;
let loading: Promise<Sharp> | undefined;

/** sharp is loaded on first use, so that programs which decode nothing do not need its binaries. */
function loadSharp(): Promise<Sharp> {
  loading ??= import('sharp').then(
    (module) => {
      // Many images are decoded side by side; threads inside one decode and a cache of decoded images only cost memory.
      module.default.concurrency(1);
      module.default.cache(false);
      return module.default;
    },
    (error: unknown) => {
      loading = undefined;
      throw new TheiaError('ERR_UNSUPPORTED', `images need the package sharp, which does not load: ${(error as Error).message}`, {
        hint: 'npm install sharp',
        cause: error,
      });
    },
  );
  return loading;
}

/**
 * Decodes a JPEG, PNG or WebP to RGB uint8 [H, W, 3].
 * EXIF orientation is applied and embedded ICC profiles are ignored. Grey is replicated, alpha is dropped without blending, 16-bit
 * samples lose their low byte, CMYK goes through libvips' built-in conversion, of an animation the first frame is taken.
 * @param source the file's bytes, or its path
 * @param label what messages call it; default the path
 * @throws ERR_FILE if it cannot be read or is of another format; ERR_CORRUPT if it is truncated, damaged or above {@link MAX_PIXELS}
 */
export async function decodeImage(source: Uint8Array | string, label?: string): Promise<Image> {
  const name = label ?? (typeof source === 'string' ? source : 'image');
  const bytes = typeof source === 'string' ? await readBytes(source) : source;
  if (imageFormat(bytes) === null) throw new TheiaError('ERR_FILE', `${name}: expected JPEG, PNG or WebP, got ${describeBytes(bytes)}`);
  if (imageFormat(bytes) === 'png' && !endsAsPng(bytes)) {
    throw new TheiaError('ERR_CORRUPT', `${name}: damaged or truncated: the PNG's end chunk is missing`);
  }
  const sharp = await loadSharp();
  let decoded: { data: Buffer; info: { width: number; height: number; channels: number } };
  try {
    decoded = await sharp(bytes, { failOn: 'error', limitInputPixels: MAX_PIXELS, ignoreIcc: true })
      .autoOrient()
      .toColourspace('srgb')
      .removeAlpha()
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
  } catch (error) {
    const reason = (error as Error).message;
    const text = /pixel limit/.test(reason) ? `more than ${MAX_PIXELS / 1e6} megapixels` : `damaged or truncated: ${firstLine(reason)}`;
    throw new TheiaError('ERR_CORRUPT', `${name}: ${text}`, { cause: error });
  }
  const { data, info } = decoded;
  return toRgb(new Uint8Array(data.buffer, data.byteOffset, data.length), info.height, info.width, info.channels, name);
}

/** RGB pixels as the bytes of a PNG file. */
export async function encodePng({ data, width, height }: Pick<Image, 'data' | 'width' | 'height'>): Promise<Uint8Array> {
  if (data.length !== width * height * 3)
    throw new TheiaError('ERR_SHAPE', `PNG: expected ${width} x ${height} x 3 bytes, got ${data.length}`);
  const sharp = await loadSharp();
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 9 })
    .toBuffer();
}

/** Whether the chunks of a PNG lead to a whole IEND. libvips stops reading behind the last pixel and does not miss it. */
function endsAsPng(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (startsWith(bytes, 'IEND', at + 4)) return true;
  }
  return false;
}

/**
 * Reads a `.npy` of uint8 images: [H, W, 3] gives one, [B, H, W, 3] gives B (views of one buffer).
 * @throws ERR_DTYPE, ERR_SHAPE or ERR_CORRUPT naming the label
 */
export function npyImages(bytes: Uint8Array, label: string): Image[] {
  const array = parseNpy(bytes, label);
  const { shape } = array;
  if (array.dtype !== '|u1') throw new TheiaError('ERR_DTYPE', `${label}: expected uint8 images, got ${array.dtype}`);
  if ((shape.length !== 3 && shape.length !== 4) || shape[shape.length - 1] !== 3 || shape.includes(0)) {
    throw new TheiaError('ERR_SHAPE', `${label}: expected uint8 [H, W, 3] or [B, H, W, 3], got [${shape.join(', ')}]`);
  }
  const [height, width] = shape.slice(-3) as [number, number];
  checkPixels(height, width, label);
  const size = height * width * 3;
  const count = shape.length === 4 ? shape[0] : 1;
  const data = array.data as Uint8Array;
  return Array.from({ length: count }, (_, b) => ({ data: data.subarray(b * size, (b + 1) * size), width, height, channels: 3 }));
}

/**
 * Decodes the image of one sample in a shard: npy uint8 of [H, W, 3] or of grey ([H, W], [H, W, 1]) or RGBA ([H, W, 4]), which are
 * converted, else JPEG, PNG or WebP; told apart by the first bytes.
 * @throws as {@link decodeImage} and {@link npyImages}
 */
export async function decodeSampleImage(bytes: Uint8Array, label: string): Promise<Image> {
  if (!startsWith(bytes, '\x93NUMPY')) return decodeImage(bytes, label);
  const { data, dtype, shape } = parseNpy(bytes, label);
  if (dtype !== '|u1') throw new TheiaError('ERR_DTYPE', `${label}: expected a uint8 image, got ${dtype}`);
  const channels = shape.length === 2 ? 1 : shape[2];
  if (shape.length < 2 || shape.length > 3 || ![1, 3, 4].includes(channels) || shape.includes(0)) {
    throw new TheiaError('ERR_SHAPE', `${label}: expected an image [H, W, 3], grey or RGBA, got [${shape.join(', ')}]`);
  }
  checkPixels(shape[0], shape[1], label);
  return toRgb(data as Uint8Array, shape[0], shape[1], channels, label);
}

/**
 * Reads every image of one file: a JPEG, PNG or WebP, or a `.npy` as {@link npyImages}, by its first bytes.
 * @throws ERR_FILE, ERR_CORRUPT, ERR_DTYPE, ERR_SHAPE
 */
export async function readImages(path: string): Promise<Image[]> {
  const bytes = await readBytes(path);
  return startsWith(bytes, '\x93NUMPY') ? npyImages(bytes, path) : [await decodeImage(bytes, path)];
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw fileError(error, path, 'reading');
  }
}

function checkPixels(height: number, width: number, label: string): void {
  if (height * width <= MAX_PIXELS) return;
  throw new TheiaError('ERR_CORRUPT', `${label}: ${width} x ${height} is more than ${MAX_PIXELS / 1e6} megapixels`);
}

function toRgb(data: Uint8Array, height: number, width: number, channels: number, label: string): Image {
  const pixels = height * width;
  if (data.length !== pixels * channels) {
    throw new TheiaError('ERR_INTERNAL', `${label}: ${width} x ${height} x ${channels} decoded to ${data.length} bytes`);
  }
  if (channels === 3) return { data, width, height, channels: 3 };
  const rgb = new Uint8Array(pixels * 3);
  const grey = channels < 3;
  for (let i = 0, from = 0, to = 0; i < pixels; i++, from += channels, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[grey ? from : from + 1];
    rgb[to + 2] = data[grey ? from : from + 2];
  }
  return { data: rgb, width, height, channels: 3 };
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0];
}
