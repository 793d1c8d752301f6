import { TheiaError } from '../errors.js';
import { preprocess } from '../ops/preprocess.js';
import type { ResizeFilter } from '../ops/preprocess.js';
import { Tensor, tidy } from '../tensor/index.js';
import type { Image } from './image.js';

/** The `[preprocess]` keys that change an image's size. */
export interface PrepareOptions {
  /** The model's input side in pixels. */
  size: number;
  filter: ResizeFilter;
  /** Both sides are resized to this, the aspect is not kept. */
  resize: number;
  /** Side of the centre crop behind the resize, 0 = none. */
  crop: number;
}

/**
 * Brings an image to the model's size: resize of both sides to `resize`, then the centre crop. Runs in the data workers.
 * @throws ERR_CONFIG if what comes out is not size x size
 */
export function prepareImage(image: Image, options: PrepareOptions): Image {
  const { size, filter, resize, crop } = options;
  const side = crop > 0 ? crop : resize;
  if (side !== size || crop > resize) {
    throw new TheiaError('ERR_CONFIG', `preprocess: resize ${resize} and crop ${crop} do not give the model's size ${size}`);
  }
  const resized = resizeImage(image, resize, resize, filter);
  return crop > 0 && crop < resize ? centreCrop(resized, crop) : resized;
}

/** Pillow's resize; an image that has the size already passes unchanged. */
export function resizeImage(image: Image, width: number, height: number, filter: ResizeFilter): Image {
  if (image.width === width && image.height === height) return image;
  const data = tidy(() => {
    const source = Tensor.from(image.data, [1, image.height, image.width, 3], 'uint8');
    return preprocess(source, height, width, filter).data() as Uint8Array;
  });
  return { ...image, data, width, height };
}

/**
 * The centre square of the DeiT processor. Where the image is smaller it is pasted onto black first, at the floor of half the difference;
 * as in the original, an odd difference then costs one row or column.
 */
export function centreCrop(image: Image, side: number): Image {
  const span = (size: number): { from: number; to: number; pad: number } => {
    const whole = Math.max(size, side);
    const pad = Math.floor((whole - size) / 2);
    const start = Math.floor((size - side) / 2) + pad;
    return { from: Math.max(0, start), to: Math.min(whole, start + side), pad };
  };
  const x = span(image.width);
  const y = span(image.height);
  const width = x.to - x.from;
  const height = y.to - y.from;
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = row + y.from - y.pad;
    if (from < 0 || from >= image.height) continue;
    const left = Math.max(0, x.from - x.pad);
    const right = Math.min(image.width, x.to - x.pad);
    data.set(
      image.data.subarray((from * image.width + left) * 3, (from * image.width + right) * 3),
      (row * width + left + x.pad - x.from) * 3,
    );
  }
  return { ...image, data, width, height };
}
