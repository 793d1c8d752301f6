import { createHash } from 'node:crypto';
import { TheiaError } from '../errors.js';
import type { Image } from './image.js';

/** A rectangle of an image in pixels, mirrored left to right if `flip`. */
export interface View {
  x: number;
  y: number;
  width: number;
  height: number;
  flip: boolean;
}

const MIN_AREA = 0.4;
const MAX_ASPECT = 4 / 3;
const TRIES = 10;

/**
 * View k of an image: view 0 is the whole of it, the others are crops of 40 to 100 % of the area with width/height between 3/4 and
 * 4/3, half of them mirrored. A pure function of the content's hash, k and the size, so a resumed or repeated run cuts the same views
 * under whatever name the photo lies. An image too narrow for such a crop gives the largest one of the nearest allowed aspect.
 * Only + - * / and sqrt are used: they are exact everywhere, exp and log differ between JavaScript engines.
 * @param contentHash any string that stands for the content, such as its SHA-256
 */
export function imageView(contentHash: string, k: number, width: number, height: number): View {
  if (!Number.isInteger(k) || k < 0) throw new TheiaError('ERR_ARGS', `view number must be a whole number from 0, got ${k}`);
  if (k === 0) return { x: 0, y: 0, width, height, flip: false };
  const random = numbers(`${contentHash}/view/${k}`);
  const flip = random() < 0.5;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const area = width * height * (MIN_AREA + (1 - MIN_AREA) * random());
    const ratio = 1 + (MAX_ASPECT - 1) * random();
    const aspect = random() < 0.5 ? ratio : 1 / ratio;
    const w = Math.round(Math.sqrt(area * aspect));
    const h = Math.round(Math.sqrt(area / aspect));
    const [u, v] = [random(), random()];
    if (w >= 1 && h >= 1 && w <= width && h <= height) return place(w, h, width, height, u, v, flip);
  }
  const w = Math.min(width, Math.max(1, Math.round(height * MAX_ASPECT)));
  const h = Math.min(height, Math.max(1, Math.round(width * MAX_ASPECT)));
  return place(w, h, width, height, random(), random(), flip);
}

function place(w: number, h: number, width: number, height: number, u: number, v: number, flip: boolean): View {
  return { x: Math.floor(u * (width - w + 1)), y: Math.floor(v * (height - h + 1)), width: w, height: h, flip };
}

/** A stream of numbers in [0, 1) of 48 bits each, from SHA-256 in counter mode. */
function numbers(key: string): () => number {
  let block = Buffer.alloc(0);
  let at = 0;
  let count = 0;
  return () => {
    if (at + 6 > block.length) {
      block = createHash('sha256').update(`${key}/${count++}`).digest();
      at = 0;
    }
    const value = block.readUIntBE(at, 6) / 2 ** 48;
    at += 6;
    return value;
  };
}

/**
 * Cuts a view out of an image: bytes are copied, never resampled.
 * @throws ERR_SHAPE if the rectangle is empty, not whole or leaves the image
 */
export function applyView(image: Image, view: View): Image {
  const { x, y, width, height, flip } = view;
  const whole = [x, y, width, height].every(Number.isInteger);
  if (!whole || x < 0 || y < 0 || width < 1 || height < 1 || x + width > image.width || y + height > image.height) {
    throw new TheiaError(
      'ERR_SHAPE',
      `a view of ${width} x ${height} at (${x}, ${y}) does not lie inside an image of ${image.width} x ${image.height}`,
    );
  }
  if (!flip && width === image.width && height === image.height) return image;
  const out = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * image.width + x) * 3;
    const to = row * width * 3;
    if (!flip) {
      out.set(image.data.subarray(from, from + width * 3), to);
      continue;
    }
    for (let column = 0; column < width; column++) {
      const source = from + (width - 1 - column) * 3;
      const target = to + column * 3;
      out[target] = image.data[source];
      out[target + 1] = image.data[source + 1];
      out[target + 2] = image.data[source + 2];
    }
  }
  return { data: out, width, height, channels: 3 };
}
