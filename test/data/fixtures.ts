import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { encodeFeature, type FeatureDtype } from '../../src/data/feature.js';
import type { Image } from '../../src/data/image.js';
import { IMAGES, planShards, shardPath, teacherColumn, writeShard } from '../../src/data/shards.js';
import { encodeNpy } from '../../src/formats/npy.js';

const folders: string[] = [];

/** A fresh folder, removed at the end of the process. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  folders.push(folder);
  return folder;
}

process.on('exit', () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** Deterministic bytes without pattern. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state >>> 11;
  }
  return bytes;
}

export function noiseImage(width: number, height: number, seed = 1): Image {
  return { data: noise(width * height * 3, seed), width, height, channels: 3 };
}

/** A smooth picture that survives resizing and recompression: a few waves chosen by the seed. */
export function smoothImage(width: number, height: number, seed: number): Image {
  const waves = Array.from(noise(24, seed * 7919 + 13), (byte) => byte / 255);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let value = 128;
      for (let w = 0; w < 6; w++) {
        const phase = (waves[w * 4] * 4 * x) / width + (waves[w * 4 + 1] * 4 * y) / height + waves[w * 4 + 2];
        value += 40 * (waves[w * 4 + 3] + 0.3) * Math.sin(2 * Math.PI * phase);
      }
      for (let c = 0; c < 3; c++) data[at++] = Math.max(0, Math.min(255, Math.round(value)));
    }
  }
  return { data, width, height, channels: 3 };
}

/** Feature value of a sample: small integers, exact in every dtype. */
export function featureValue(sample: number, channel: number, position: number): number {
  return ((sample * 5 + channel * 3 + position) % 31) - 15;
}

export function feature(sample: number, shape: readonly [number, number, number], cls?: number, dtype: FeatureDtype = 'BF16'): Uint8Array {
  const [channels, height, width] = shape;
  const values = new Float32Array(channels * height * width);
  for (let i = 0; i < values.length; i++) values[i] = featureValue(sample, Math.floor(i / (height * width)), i % (height * width));
  const token = cls === undefined ? undefined : Float32Array.from({ length: cls }, (_, c) => featureValue(sample, c, 7));
  return encodeFeature(values, shape, { cls: token, dtype });
}

export interface TinyDataset {
  root: string;
  name?: string;
  split?: string;
  samples: number;
  perShard?: number;
  /** Image side; each image is noise with the sample's number as seed. */
  side?: number;
  teachers?: ReadonlyMap<string, { shape: readonly [number, number, number]; cls?: number; dtype?: FeatureDtype }>;
  /** Replaces or (null) drops one member. */
  change?: (column: string, sample: number, bytes: Uint8Array) => Uint8Array | null;
}

export const sampleKey = (i: number): string => `s${String(i).padStart(4, '0')}`;

/** Writes a dataset in the shape our own `features` writes. */
export async function writeTinyDataset(options: TinyDataset): Promise<void> {
  const { root, name = 'tiny', split = 'train', samples, perShard = 4, side = 6, teachers = new Map(), change } = options;
  const keys = Array.from({ length: samples }, (_, i) => sampleKey(i));
  const columns: [string, (i: number) => Uint8Array][] = [
    [IMAGES, (i) => encodeNpy(noise(side * side * 3, i + 1), [side, side, 3])],
    ...[...teachers].map(([teacher, { shape, cls, dtype }]): [string, (i: number) => Uint8Array] => [
      teacherColumn(teacher),
      (i) => feature(i, shape, cls, dtype),
    ]),
  ];
  for (const [column, make] of columns) {
    for (const [index, shard] of planShards(keys, perShard).entries()) {
      const members = shard.flatMap((key) => {
        const i = keys.indexOf(key);
        const bytes = make(i);
        const changed = change ? change(column, i, bytes) : bytes;
        return changed === null ? [] : [{ key, bytes: changed }];
      });
      await writeShard(shardPath(root, name, column, split, index), column, members);
    }
  }
}

/** Asserts that work fails with a code and a message that matches. */
export async function rejects(work: () => unknown, code: string, message: RegExp): Promise<void> {
  let error: unknown = null;
  try {
    await work();
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, TheiaError, `expected ${code}, nothing of the kind was thrown: ${String(error)}`);
  assert.is((error as TheiaError).code, code, (error as TheiaError).message);
  assert.match((error as TheiaError).message, message);
}
