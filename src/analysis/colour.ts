import { TheiaError } from '../errors.js';

/** A picture to be shown: RGB, three bytes a pixel, row after row. */
export interface Picture {
  data: Uint8Array;
  width: number;
  height: number;
}

/** Smallest and largest value, by component. */
export interface Range {
  low: number[];
  high: number[];
}

/**
 * Smallest and largest value of each component over all rows, but for a share `trim` at either end: one outlier would leave everything
 * else in the middle of the scale.
 * @param projected arrays of [n, components]
 */
export function componentRange(projected: Iterable<Float64Array>, components: number, trim = 0): Range {
  const all = [...projected];
  const low: number[] = [];
  const high: number[] = [];
  for (let c = 0; c < components; c++) {
    const values = Float64Array.from(all.flatMap((rows) => [...rows].filter((_, i) => i % components === c))).sort();
    const cut = Math.floor(trim * (values.length - 1));
    low.push(values[cut] ?? 0);
    high.push(values[values.length - 1 - cut] ?? 0);
  }
  return { low, high };
}

/** 0 to 255; a range without extent gives the middle. */
function level(value: number, low: number, high: number): number {
  if (!(high > low)) return 128;
  return Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
}

/**
 * Three components as red, green and blue, each scaled from its range; what lies outside is clipped.
 * @param projected [width*height, 3]
 */
export function componentColours(projected: Float64Array, width: number, height: number, range: Range): Picture {
  if (projected.length !== width * height * 3)
    throw new TheiaError('ERR_SHAPE', `colours: expected ${width} x ${height} x 3 values, got ${projected.length}`);
  return { data: Uint8Array.from(projected, (v, i) => level(v, range.low[i % 3]!, range.high[i % 3]!)), width, height };
}

/** From dark blue over violet and orange to light yellow, even in lightness. */
const RAMP = [
  [13, 8, 65],
  [75, 3, 161],
  [125, 3, 168],
  [168, 34, 150],
  [203, 70, 121],
  [229, 107, 93],
  [248, 148, 65],
  [253, 195, 40],
  [240, 249, 130],
];

/** Colour of a share from 0 to 1; beyond them the ends. */
export function heat(share: number): [number, number, number] {
  const at = Math.max(0, Math.min(1, Number.isNaN(share) ? 0 : share)) * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(at));
  const mix = (c: number): number => Math.round(RAMP[i]![c]! + (at - i) * (RAMP[i + 1]![c]! - RAMP[i]![c]!));
  return [mix(0), mix(1), mix(2)];
}

/** Values as colours of the ramp. @param values [width*height] */
export function heatPicture(values: ArrayLike<number>, width: number, height: number, low: number, high: number): Picture {
  if (values.length !== width * height)
    throw new TheiaError('ERR_SHAPE', `colours: expected ${width} x ${height} values, got ${values.length}`);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < values.length; i++) data.set(heat(high > low ? (values[i]! - low) / (high - low) : 0.5), i * 3);
  return { data, width, height };
}

/** A map in the size of the photo beside it: every cell becomes a block, nothing is smoothed. */
export function enlarge({ data, width, height }: Picture, toWidth: number, toHeight: number): Picture {
  const out = new Uint8Array(toWidth * toHeight * 3);
  for (let y = 0, at = 0; y < toHeight; y++) {
    const row = Math.floor((y * height) / toHeight) * width;
    for (let x = 0; x < toWidth; x++, at += 3) {
      const from = 3 * (row + Math.floor((x * width) / toWidth));
      out[at] = data[from]!;
      out[at + 1] = data[from + 1]!;
      out[at + 2] = data[from + 2]!;
    }
  }
  return { data: out, width: toWidth, height: toHeight };
}

/** Pictures of one height in a row, with a gap between them. */
export function beside(pictures: readonly Picture[], gap: number, background: readonly [number, number, number]): Picture {
  const height = Math.max(...pictures.map((p) => p.height));
  const width = pictures.reduce((sum, p) => sum + p.width, gap * (pictures.length - 1));
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = background[i % 3]!;
  let left = 0;
  for (const p of pictures) {
    for (let y = 0; y < p.height; y++) data.set(p.data.subarray(y * p.width * 3, (y + 1) * p.width * 3), (y * width + left) * 3);
    left += p.width + gap;
  }
  return { data, width, height };
}

/** Pictures of one width below each other, with a gap between them. */
export function stacked(pictures: readonly Picture[], gap: number, background: readonly [number, number, number]): Picture {
  const width = Math.max(...pictures.map((p) => p.width));
  const height = pictures.reduce((sum, p) => sum + p.height, gap * (pictures.length - 1));
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = background[i % 3]!;
  let top = 0;
  for (const p of pictures) {
    for (let y = 0; y < p.height; y++) data.set(p.data.subarray(y * p.width * 3, (y + 1) * p.width * 3), (top + y) * width * 3);
    top += p.height + gap;
  }
  return { data, width, height };
}
