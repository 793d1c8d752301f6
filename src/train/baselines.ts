import { TheiaError } from '../errors.js';
import { bf16ToF32, f16ToF32 } from '../formats/half.js';
import type { Batch } from '../data/loader.js';
import type { Theia } from '../models/theia.js';
import { Tensor, tidy } from '../tensor/index.js';
import type { TargetStatistics } from './step.js';

/** How well predictions agree with a teacher's normalised features. */
export interface Fit {
  /** mean over the images of the cosine between the flattened maps */
  cosine: number;
  /** share of the teacher's variance that is explained: 1 − Σ(p − t)² / Σt² over all images, positions and channels */
  explained: number;
  images: number;
}

/** Sums a {@link Fit} up, image by image, in float64. */
export class FitMeter {
  private squares = 0;
  private errors = 0;
  private cosines = 0;
  private images = 0;

  /**
   * Counts one image.
   * @param prediction [H*W*C]
   * @param target the teacher's normalised features, [H*W*C]
   * @returns the fit of this image alone
   * @throws ERR_SHAPE if they differ in length; ERR_NONFINITE
   */
  add(prediction: Float32Array, target: Float32Array): Fit {
    if (prediction.length !== target.length || target.length === 0)
      throw new TheiaError('ERR_SHAPE', `expected a prediction of ${target.length} values as the target has, got ${prediction.length}`);
    let [pp, tt, pt, errors] = [0, 0, 0, 0];
    for (let i = 0; i < target.length; i++) {
      const p = prediction[i]!;
      const t = target[i]!;
      pp += p * p;
      tt += t * t;
      pt += p * t;
      errors += (p - t) * (p - t);
    }
    if (!Number.isFinite(errors) || !Number.isFinite(tt))
      throw new TheiaError('ERR_NONFINITE', 'expected a finite prediction and target, got values that are not');
    // A prediction of nothing but zeros points nowhere: its cosine counts as 0.
    const cosine = pp > 0 && tt > 0 ? pt / Math.sqrt(pp * tt) : 0;
    this.squares += tt;
    this.errors += errors;
    this.cosines += cosine;
    this.images += 1;
    return { cosine, explained: share(errors, tt), images: 1 };
  }

  /** @throws ERR_ARGS if nothing was counted */
  fit(): Fit {
    if (this.images === 0) throw new TheiaError('ERR_ARGS', 'expected at least one image to measure a fit on');
    return { cosine: this.cosines / this.images, explained: share(this.errors, this.squares), images: this.images };
  }
}

function share(errors: number, squares: number): number {
  if (squares > 0) return 1 - errors / squares;
  return errors === 0 ? 1 : -Infinity;
}

/**
 * A teacher's features of a batch, normalised: one [H*W*C] array an image. The arithmetic is the loss kernel's, (x − mean) / std in float32.
 * @param statistics of the training split; undefined takes the features as they are
 * @throws ERR_ARGS if the batch lacks the teacher; ERR_SHAPE if the statistics are of other channels
 */
export function normalisedTargets(batch: Batch, teacher: string, statistics: TargetStatistics | undefined): Float32Array[] {
  const feature = batch.features.get(teacher);
  if (feature === undefined) throw new TheiaError('ERR_ARGS', `expected features of ${teacher} in the batch, got none`);
  const { data, dtype, shape } = feature;
  const [images, positions, channels] = shape;
  if (statistics && statistics.mean.length !== channels)
    throw new TheiaError('ERR_SHAPE', `${teacher}: expected statistics of ${channels} channels, got ${statistics.mean.length}`);
  const all = data instanceof Float32Array ? data.slice() : dtype === 'BF16' ? bf16ToF32(data) : f16ToF32(data);
  if (statistics) {
    const { mean, std } = statistics;
    for (let row = 0; row < all.length; row += channels)
      for (let c = 0; c < channels; c++) all[row + c] = Math.fround(all[row + c]! - mean[c]!) / std[c]!;
  }
  const size = positions * channels;
  return Array.from({ length: images }, (_, i) => all.subarray(i * size, (i + 1) * size));
}

/**
 * The mean of the normalised feature maps, position by position: what can be said about a photo without looking at it.
 * @returns [H*W*C]
 * @throws ERR_ARGS if there are none; ERR_SHAPE if they differ in length
 */
export async function meanMap(targets: AsyncIterable<Float32Array> | Iterable<Float32Array>): Promise<Float32Array> {
  let sums: Float64Array | undefined;
  let count = 0;
  for await (const target of targets) {
    sums ??= new Float64Array(target.length);
    if (target.length !== sums.length)
      throw new TheiaError('ERR_SHAPE', `mean map: expected maps of ${sums.length} values, got one of ${target.length}`);
    for (let i = 0; i < target.length; i++) sums[i]! += target[i]!;
    count += 1;
  }
  if (sums === undefined) throw new TheiaError('ERR_ARGS', 'mean map: expected at least one feature map, got none');
  return Float32Array.from(sums, (sum) => sum / count);
}

/** What a student says about images. */
export interface Prediction {
  /** by teacher, one [H*W*C] array an image; no `_cls` targets */
  features: Map<string, Float32Array[]>;
  /** spatial tokens, one [N*D] array an image */
  tokens: Float32Array[];
}

/**
 * Runs a student on a batch.
 * @param pixels uint8 [b,H,W,3] of the model's size
 */
export function predictBatch(model: Theia, pixels: Uint8Array, images: number, teachers: readonly string[]): Prediction {
  const side = model.config.image;
  if (pixels.length !== images * side * side * 3)
    throw new TheiaError('ERR_SHAPE', `expected ${images} images of ${side} x ${side} x 3, got ${pixels.length} bytes`);
  return tidy(() => {
    const input = Tensor.empty([images, side, side, 3], 'uint8', model.device);
    input.write(pixels);
    const { tokens } = model.encode(input);
    const parts = (t: Tensor): Float32Array[] => {
      const all = t.float32();
      return Array.from({ length: images }, (_, i) => all.subarray((i * all.length) / images, ((i + 1) * all.length) / images));
    };
    const predicted = model.predict(tokens, teachers);
    return {
      features: new Map(teachers.map((name) => [name, parts(predicted.get(name)!)])),
      tokens: parts(model.represent(tokens, 'none')),
    };
  });
}

/** Something that predicts a teacher's normalised features of a batch, one [H*W*C] array an image. */
export type Predictor = (batch: Batch) => readonly Float32Array[];

/** The predictor of a student. */
export function studentPredictor(model: Theia, teacher: string): Predictor {
  return (batch) => predictBatch(model, batch.pixels, batch.keys.length, [teacher]).features.get(teacher)!;
}

/** Fit of a predictor, over all images and of each. */
export interface MeasuredFit extends Fit {
  byKey: Map<string, Fit>;
}

/**
 * Measures several predictors on the same batches, which are read once.
 * @returns in the order of the predictors
 * @throws ERR_ARGS if the batches hold no image
 */
export async function measureFits(
  batches: AsyncIterable<Batch> | Iterable<Batch>,
  teacher: string,
  statistics: TargetStatistics | undefined,
  predictors: ReadonlyMap<string, Predictor>,
): Promise<Map<string, MeasuredFit>> {
  const meters = new Map([...predictors.keys()].map((name) => [name, { meter: new FitMeter(), byKey: new Map<string, Fit>() }]));
  for await (const batch of batches) {
    if (batch.keys.length === 0) continue;
    const targets = normalisedTargets(batch, teacher, statistics);
    for (const [name, predict] of predictors) {
      const { meter, byKey } = meters.get(name)!;
      const predicted = predict(batch);
      targets.forEach((target, i) => byKey.set(batch.keys[i]!, meter.add(predicted[i]!, target)));
    }
  }
  return new Map([...meters].map(([name, { meter, byKey }]) => [name, { ...meter.fit(), byKey }]));
}
