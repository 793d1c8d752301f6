import { createHash } from 'node:crypto';
import { TheiaError } from '../errors.js';
import { openTfjsWeights } from '../formats/tfjs.js';
import { ResNet50 } from '../models/resnet.js';
import type { Teacher, TeacherSample } from './teacher.js';

/** Keras' ResNet-50: the last 14x14 map, [1024,14,14]. */
export class Resnet50Teacher implements Teacher {
  readonly shape: readonly [number, number, number];
  readonly input: { readonly size: number; readonly filter: 'bilinear' };
  readonly identity: string;
  readonly #model: ResNet50;

  /** @param folder with model.json. @throws as ResNet50.load */
  constructor(
    readonly name: string,
    folder: string,
  ) {
    this.#model = ResNet50.load(folder);
    this.shape = this.#model.featureShape;
    this.input = { size: this.#model.size, filter: 'bilinear' };
    this.identity = `resnet50 ${weightsHash(folder)}`;
  }

  missing(): undefined {
    return undefined;
  }

  features(samples: readonly TeacherSample[]): Promise<Float32Array> {
    const { size } = this.input;
    const bytes = new Uint8Array(samples.length * size * size * 3);
    samples.forEach(({ key, image }, i) => {
      if (image === undefined || image.width !== size || image.height !== size)
        throw new TheiaError('ERR_INTERNAL', `teacher ${this.name}: sample ${key} comes without an image of ${size} x ${size}`);
      bytes.set(image.data, i * size * size * 3);
    });
    const map = this.#model.features(bytes);
    try {
      return Promise.resolve(map.float32());
    } finally {
      map.dispose();
    }
  }

  dispose(): void {
    this.#model.dispose();
  }
}

/** SHA-256 of all weights: another training of the same network gives other features. */
function weightsHash(folder: string): string {
  const file = openTfjsWeights(folder);
  const hash = createHash('sha256');
  for (const name of file.names().sort()) hash.update(name).update(file.float32(name));
  return hash.digest('hex');
}
