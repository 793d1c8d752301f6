/**
 * How a tensor's axes lie in a checkpoint, against the engine's channel-last layout:
 * - `same`: no difference
 * - `oihw`: convolution [O,I,kh,kw], here [O,kh,kw,I]
 * - `iohw`: transposed convolution [I,O,kh,kw], here [O,kh,kw,I]
 * - `chw`: a map [C,H,W], here [H,W,C]
 */
export type FileLayout = 'same' | 'oihw' | 'iohw' | 'chw';

/** For each axis of the engine's tensor the axis of the file's. */
const AXES: Record<FileLayout, readonly number[] | undefined> = {
  same: undefined,
  oihw: [0, 2, 3, 1],
  iohw: [1, 2, 3, 0],
  chw: [1, 2, 0],
};

/** The engine's shape of a tensor with this shape in the file. */
export function engineShape(fileShape: readonly number[], layout: FileLayout): number[] {
  const axes = AXES[layout];
  return axes ? axes.map((a) => fileShape[a]!) : [...fileShape];
}

/** Values from the file's layout to the engine's. */
export function fromFile(values: Float32Array, fileShape: readonly number[], layout: FileLayout): Float32Array {
  const axes = AXES[layout];
  return axes ? permute(values, fileShape, axes) : values;
}

/** Values from the engine's layout to the file's. */
export function toFile(values: Float32Array, fileShape: readonly number[], layout: FileLayout): Float32Array {
  const axes = AXES[layout];
  if (!axes) return values;
  const inverse = axes.map((_, i) => axes.indexOf(i));
  return permute(values, engineShape(fileShape, layout), inverse);
}

/** out[i0,i1,...] = values[...] where axis j of the result is axis axes[j] of the source. */
function permute(values: Float32Array, shape: readonly number[], axes: readonly number[]): Float32Array {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  const rank = axes.length;
  // Pad to four axes so that one loop nest serves maps and kernels.
  const size = [1, 1, 1, 1];
  const step = [0, 0, 0, 0];
  axes.forEach((a, i) => {
    size[4 - rank + i] = shape[a]!;
    step[4 - rank + i] = strides[a]!;
  });
  const out = new Float32Array(values.length);
  let at = 0;
  for (let a = 0; a < size[0]!; a++)
    for (let b = 0; b < size[1]!; b++)
      for (let c = 0; c < size[2]!; c++) {
        const from = a * step[0]! + b * step[1]! + c * step[2]!;
        for (let d = 0; d < size[3]!; d++) out[at++] = values[from + d * step[3]!]!;
      }
  return out;
}
