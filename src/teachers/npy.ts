import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { toChannelLast } from '../data/feature.js';
import { TheiaError, fileError } from '../errors.js';
import { npyFloat32, readNpy } from '../formats/npy.js';
import type { Teacher, TeacherSample } from './teacher.js';

/** Features that somebody computed elsewhere: a folder of `KEY.npy`, each [C,H,W] or [H*W,C] with H = W. */
export class NpyTeacher implements Teacher {
  readonly shape: readonly [number, number, number];
  readonly input = null;
  readonly identity: string;
  readonly #folder: string;

  /** @throws ERR_FILE if there is no such folder or no .npy in it; ERR_SHAPE, ERR_DTYPE, ERR_CORRUPT for the first file */
  constructor(
    readonly name: string,
    folder: string,
  ) {
    this.#folder = folder;
    let files: string[];
    try {
      files = readdirSync(folder).filter((file) => file.endsWith('.npy'));
    } catch (error) {
      throw fileError(error, folder, `teacher ${name}: listing`);
    }
    const first = files.sort()[0];
    if (first === undefined) throw new TheiaError('ERR_FILE', `teacher ${name}: expected files KEY.npy in ${folder}, there are none`);
    this.shape = readFeatures(join(folder, first)).shape;
    // The files' own stamps stand for their contents: hashing gigabytes to find out that nothing changed would cost as much as reading them.
    const stamps = files.map((file) => {
      const { size, mtimeMs } = statSync(join(folder, file));
      return `${file} ${size} ${mtimeMs}`;
    });
    this.identity = `npy ${stamps.join('; ')}`;
  }

  #path(key: string): string {
    return join(this.#folder, `${key}.npy`);
  }

  missing(key: string): string | undefined {
    return statSync(this.#path(key), { throwIfNoEntry: false })?.isFile() ? undefined : `teacher ${this.name} has no file ${key}.npy`;
  }

  features(samples: readonly TeacherSample[]): Promise<Float32Array> {
    const [channels, height, width] = this.shape;
    const size = channels * height * width;
    const out = new Float32Array(samples.length * size);
    samples.forEach(({ key }, i) => {
      const path = this.#path(key);
      const { shape, values, channelLast } = readFeatures(path);
      if (shape.join() !== this.shape.join())
        throw new TheiaError(
          'ERR_SHAPE',
          `${path}: expected features [${this.shape.join(',')}] as the others have, got [${shape.join(',')}]`,
        );
      if (channelLast) out.set(values, i * size);
      else toChannelLast(values, shape, out, i * size);
    });
    return Promise.resolve(out);
  }

  dispose(): void {}
}

interface NpyFeatures {
  shape: readonly [number, number, number];
  values: Float32Array;
  channelLast: boolean;
}

function readFeatures(path: string): NpyFeatures {
  const array = readNpy(path);
  if (array.dtype !== '<f4' && array.dtype !== '<f8' && array.dtype !== '<f2')
    throw new TheiaError('ERR_DTYPE', `${path}: expected float16, float32 or float64 features, got ${array.dtype}`);
  const { shape } = array;
  const side = shape.length === 2 ? Math.round(Math.sqrt(shape[0])) : 0;
  const square = shape.length === 2 && side * side === shape[0];
  if ((shape.length !== 3 && !square) || shape.includes(0))
    throw new TheiaError('ERR_SHAPE', `${path}: expected features [C,H,W], or [H*W,C] of a square map, got [${shape.join(',')}]`);
  const values = npyFloat32(array);
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw new TheiaError('ERR_CORRUPT', `${path}: value ${at} is ${values[at]}, expected finite features`);
  if (shape.length === 2) return { shape: [shape[1], side, side], values, channelLast: true };
  return { shape: [shape[0], shape[1], shape[2]], values, channelLast: false };
}
