import { TheiaError } from '../errors.js';

/** The order of the bytes of a pixel. */
export const FRAME_FORMATS = ['rgb', 'bgr', 'rgba', 'grey'] as const;
export type FrameFormat = (typeof FRAME_FORMATS)[number];

/** A picture as cameras give it: rows of interleaved bytes. */
export interface Frame {
  data: Uint8Array;
  /** pixels */
  width: number;
  height: number;
  /** default rgb; alpha is dropped, grey is replicated */
  format?: FrameFormat;
  /** bytes from one row to the next; default width times the bytes of a pixel */
  stride?: number;
}

/** Larger frames are refused, as larger image files are. */
const MAX_PIXELS = 64_000_000;
const CHANNELS: ReadonlyMap<string, number> = new Map([
  ['rgb', 3],
  ['bgr', 3],
  ['rgba', 4],
  ['grey', 1],
]);

function whole(value: unknown, least: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least;
}

/**
 * Checks a frame. What comes from a caller is read again at every call: the buffer may have been detached or shrunk since.
 * @throws ERR_ARGS for what is no frame, ERR_SHAPE when the sizes do not fit the bytes
 */
export function checkFrame(frame: Frame, label: string): { channels: number; stride: number } {
  if (typeof frame !== 'object' || frame === null || !(frame.data instanceof Uint8Array))
    throw new TheiaError('ERR_ARGS', `${label}: expected {data: Uint8Array, width, height}, got ${describe(frame)}`);
  const { data, width, height } = frame;
  const format = frame.format ?? 'rgb';
  const channels = CHANNELS.get(format);
  if (channels === undefined)
    throw new TheiaError('ERR_ARGS', `${label}: expected a format of ${FRAME_FORMATS.join(', ')}, got ${JSON.stringify(format)}`);
  if (!whole(width, 1) || !whole(height, 1))
    throw new TheiaError('ERR_SHAPE', `${label}: expected width and height as whole numbers from 1 up, got ${width} x ${height}`);
  if (width * height > MAX_PIXELS)
    throw new TheiaError('ERR_SHAPE', `${label}: expected at most ${MAX_PIXELS / 1e6} megapixels, got ${width} x ${height}`);
  const row = width * channels;
  const stride = frame.stride ?? row;
  if (!whole(stride, row))
    throw new TheiaError(
      'ERR_SHAPE',
      `${label}: expected a stride of at least ${row} bytes for ${width} pixels of ${format}, got ${stride}`,
    );
  const needed = stride * (height - 1) + row;
  if (data.length < needed)
    throw new TheiaError('ERR_SHAPE', `${label}: expected ${needed} bytes for ${width} x ${height} ${format}, got ${data.length}`);
  return { channels, stride };
}

function describe(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  return `an object with ${Object.keys(value).slice(0, 8).join(', ') || 'no keys'}`;
}

/** Bytes that lie as RGB already, without padding between rows, need no conversion. */
export function isPlain(frame: Frame, stride: number): boolean {
  return (frame.format ?? 'rgb') === 'rgb' && stride === frame.width * 3;
}

/**
 * Writes a checked frame as RGB, rows packed.
 * @param out at least width · height · 3 bytes
 */
export function toRgb(frame: Frame, stride: number, out: Uint8Array): void {
  const { data, width, height } = frame;
  const format = frame.format ?? 'rgb';
  if (isPlain(frame, stride)) {
    out.set(data.subarray(0, width * height * 3));
    return;
  }
  for (let y = 0, to = 0; y < height; y++) {
    let from = y * stride;
    switch (format) {
      case 'rgb':
        out.set(data.subarray(from, from + width * 3), to);
        to += width * 3;
        break;
      case 'bgr':
        for (let x = 0; x < width; x++, from += 3, to += 3) {
          out[to] = data[from + 2]!;
          out[to + 1] = data[from + 1]!;
          out[to + 2] = data[from]!;
        }
        break;
      case 'rgba':
        for (let x = 0; x < width; x++, from += 4, to += 3) {
          out[to] = data[from]!;
          out[to + 1] = data[from + 1]!;
          out[to + 2] = data[from + 2]!;
        }
        break;
      case 'grey':
        for (let x = 0; x < width; x++, from += 1, to += 3) {
          const v = data[from]!;
          out[to] = v;
          out[to + 1] = v;
          out[to + 2] = v;
        }
        break;
    }
  }
}
