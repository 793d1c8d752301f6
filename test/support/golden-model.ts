import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../src/formats/index.js';
import { initialisers } from '../../src/models/init.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { parseModelConfig } from '../../src/models/config.js';
import type { ModelConfig } from '../../src/models/config.js';
import { translatorParameters } from '../../src/models/translators.js';
import { vitParameters } from '../../src/models/vit.js';
import type { GoldenEntry } from './golden.js';
import { image, parameter, teacherTarget } from './procedural.js';

/*
 * The inputs that a golden file was computed from, as its manifest entry describes them: weights, images and targets are procedural.
 */

export interface GoldenInputs {
  config: ModelConfig;
  /** checkpoint key -> shape */
  shapes: Map<string, readonly number[]>;
  weights(key: string): Float32Array;
  images: { data: Uint8Array; shape: [number, number, number, number] };
  /** by teacher, normalised */
  target(teacher: string): { shape: number[]; values: Float32Array };
}

function number(config: Record<string, unknown>, key: string): number {
  const value = config[key];
  if (typeof value !== 'number') throw new Error(`the manifest's config has no number ${key}`);
  return value;
}

export function goldenInputs(entry: GoldenEntry): GoldenInputs {
  const json = entry.config;
  const config = newModelConfig(parseModelConfig(json));
  const seed = number(json, 'seed');
  const samples = Array.isArray(json.samples) ? (json.samples as number[]) : [number(json, 'feature_sample')];
  // Batch sample i of the mini models uses image i; the full-size ones say which.
  const indices = Array.isArray(json.samples) ? samples.map((_, i) => i) : [number(json, 'image_index')];
  const side = config.image;
  const data = new Uint8Array(indices.length * side * side * 3);
  indices.forEach((n, i) => data.set(image(n, side, side, 3, number(json, 'image_seed')), i * side * side * 3));
  const init = initialisers(0);
  const specs = [...vitParameters(config, init), ...translatorParameters(config, init)];
  const shapes = new Map(specs.flatMap((s) => s.segments.map((segment) => [segment.key, segment.fileShape] as const)));
  return {
    config,
    shapes,
    weights: (key) => parameter(key, shapes.get(key)!, seed),
    images: { data, shape: [indices.length, side, side, 3] },
    target: (teacher) => {
      const size = config.teachers.get(teacher)!;
      const positions = size.length === 1 ? 1 : size[1]! * size[2]!;
      const values = new Float32Array(samples.length * positions * size[0]!);
      samples.forEach((sample, i) =>
        values.set(teacherTarget(teacher, positions, size[0]!, sample, number(json, 'feature_seed')), i * positions * size[0]!),
      );
      return { shape: size.length === 1 ? [samples.length, size[0]!] : [samples.length, positions, size[0]!], values };
    },
  };
}

export interface GoldenModelFiles {
  /** folder with model.safetensors and config.json */
  model: string;
  images: string;
  targets: string;
}

/** Writes everything that `theia parity` needs beside the golden file. Weights are made one at a time. */
export function writeGoldenModel(folder: string, entry: GoldenEntry): GoldenModelFiles {
  const inputs = goldenInputs(entry);
  writeSafetensors(
    join(folder, 'model.safetensors'),
    [...inputs.shapes].map(([name, shape]) => ({ name, dtype: 'F32' as const, shape, data: () => inputs.weights(name) })),
    { format: 'pt' },
  );
  writeFileSync(join(folder, 'config.json'), JSON.stringify(entry.config));
  const images = join(folder, 'images.safetensors');
  writeSafetensors(images, [{ name: 'images', dtype: 'U8', ...inputs.images }]);
  return { model: folder, images, targets: writeGoldenTargets(folder, entry) };
}

/** Writes targets.safetensors alone, for the mini models, whose weights and images are files. */
export function writeGoldenTargets(folder: string, entry: GoldenEntry): string {
  const inputs = goldenInputs(entry);
  const path = join(folder, 'targets.safetensors');
  writeSafetensors(
    path,
    [...inputs.config.teachers.keys()].map((name) => {
      const { shape, values } = inputs.target(name);
      return { name, dtype: 'F32' as const, shape, data: values };
    }),
  );
  return path;
}
