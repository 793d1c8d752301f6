import { Tensor, dispatch } from '../tensor/index.js';

export type ResizeFilter = 'bilinear' | 'bicubic';

/** A part of the resized image, in pixels. */
export interface Crop {
  top: number;
  left: number;
  height: number;
  width: number;
}

/**
 * Pillow's 8-bit resize, byte for byte (kernels/preprocess).
 * @param image [B,H,W,C] uint8
 * @param crop what of the resized image is wanted; all of it where none is given. The rest is not computed
 * @returns [B,height,width,C] uint8, of the crop's size where there is one
 */
export function preprocess(image: Tensor, height: number, width: number, filter: ResizeFilter, crop?: Crop): Tensor {
  const window = crop ?? { top: 0, left: 0, height, width };
  const out = Tensor.empty([image.shape[0]!, window.height, window.width, image.shape[3]!], 'uint8', image.device);
  dispatch('preprocess', { image, out, filter, height, width, top: window.top, left: window.left });
  return out;
}

/**
 * What a byte of each channel becomes, by the arithmetic of the published processors: byte · (1/255) in double, rounded to float32, then
 * (f − mean) / std in float32.
 * @returns [channels · 256], channel by channel: `patch_embed` looks bytes up here
 */
export function byteTable(mean: readonly number[], std: readonly number[]): Float32Array {
  const table = new Float32Array(mean.length * 256);
  for (let c = 0; c < mean.length; c++)
    for (let byte = 0; byte < 256; byte++) {
      const shifted = Math.fround(Math.fround(byte * (1 / 255)) - Math.fround(mean[c]!));
      table[c * 256 + byte] = Math.fround(shifted / Math.fround(std[c]!));
    }
  return table;
}
