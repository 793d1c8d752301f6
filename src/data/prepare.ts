import { TheiaError } from '../errors.js';
import type { Image } from './image.js';
import { applyView } from './views.js';

/** The `[preprocess]` keys that change an image's size. */
export interface PrepareOptions {
  /** The model's input side in pixels. */
  size: number;
  filter: 'bilinear' | 'bicubic';
  /** Both sides are resized to this, the aspect is not kept. */
  resize: number;
  /** Side of the centre crop behind the resize, 0 = none. */
  crop: number;
}

/**
 * Brings an image to the model's size: resize of both sides to `resize`, then the centre crop. Runs in the data workers.
 * An image that has the size of the resize already is not resampled.
 * @throws ERR_CONFIG if what comes out is not size x size; ERR_UNSUPPORTED for an image of another size
 */
export function prepareImage(image: Image, options: PrepareOptions): Image {
  const { size, resize, crop } = options;
  const side = crop > 0 ? crop : resize;
  if (side !== size || crop > resize) {
    throw new TheiaError('ERR_CONFIG', `preprocess: resize ${resize} and crop ${crop} do not give the model's size ${size}`);
  }
  if (image.width !== resize || image.height !== resize) {
    throw new TheiaError(
      'ERR_UNSUPPORTED',
      `resizing an image of ${image.width} x ${image.height} to ${resize} x ${resize} is not built yet`,
      {
        hint: 'store the images in the size of preprocess.resize',
      },
    );
  }
  const edge = Math.round((resize - side) / 2);
  return applyView(image, { x: edge, y: edge, width: side, height: side, flip: false });
}
