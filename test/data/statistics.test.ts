import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../src/data/dataset.js';
import { encodeFeature, decodeFeature } from '../../src/data/feature.js';
import {
  constantChannels,
  datasetFeatures,
  featureStatistics,
  loadStatistics,
  statisticsPaths,
  writeStatistics,
  type NamedFeature,
} from '../../src/data/statistics.js';
import { readNpy, writeNpy } from '../../src/formats/npy.js';
import { featureValue, rejects, temporaryFolder, writeTinyDataset } from './fixtures.js';

async function* samples(maps: readonly number[][], shape: readonly [number, number, number]): AsyncGenerator<NamedFeature> {
  for (const [i, values] of maps.entries()) {
    yield { key: `k${i}`, feature: decodeFeature(encodeFeature(Float32Array.from(values), shape, { dtype: 'F32' }), 'x') };
  }
}

test('mean and n - 1 deviation over all positions of a dataset, in every dtype', async () => {
  for (const dtype of ['BF16', 'F16', 'F32'] as const) {
    const root = temporaryFolder();
    const teacher = 'a/b';
    await writeTinyDataset({ root, samples: 9, teachers: new Map([[teacher, { shape: [3, 2, 5], dtype }]]) });
    const dataset = await openDataset(root, 'tiny', 'train', [teacher]);
    const stats = await featureStatistics(() => datasetFeatures(dataset, teacher), teacher);
    assert.is(stats.count, 90);
    for (let c = 0; c < 3; c++) {
      const all: number[] = [];
      for (let i = 0; i < 9; i++) for (let p = 0; p < 10; p++) all.push(featureValue(i, c, p));
      const mean = all.reduce((a, b) => a + b) / 90;
      const std = Math.sqrt(all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 89);
      assert.ok(Math.abs(stats.mean[c] - mean) < 1e-12);
      assert.ok(Math.abs(stats.std[c] - std) < 1e-12);
    }
    writeStatistics(root, teacher, stats);
    assert.equal(statisticsPaths(root, teacher), { mean: join(root, 'imagenet_mean_a_b.npy'), std: join(root, 'imagenet_var_a_b.npy') });
    const raw = readNpy(join(root, 'imagenet_var_a_b.npy'));
    assert.equal([raw.dtype, raw.shape], ['<f4', [3]]);
    assert.equal(loadStatistics(root, teacher, 3), { mean: Float32Array.from(stats.mean), std: Float32Array.from(stats.std) });
    await rejects(() => datasetFeatures(dataset, 'c').next(), 'ERR_ARGS', /without the teacher c/);
  }
});

test('a large mean does not swallow a small deviation', async () => {
  const maps = [
    [10000, 10001],
    [10002, 10003],
  ];
  const { mean, std } = await featureStatistics(() => samples(maps, [1, 1, 2]), 't');
  assert.is(mean[0], 10001.5);
  assert.ok(Math.abs(std[0] - Math.sqrt(5 / 3)) < 1e-12);
});

test('what gives no statistics', async () => {
  await rejects(() => featureStatistics(() => samples([], [1, 1, 1]), 't'), 'ERR_CORRUPT', /t: .*there are 0/);
  await rejects(() => featureStatistics(() => samples([[1]], [1, 1, 1]), 't'), 'ERR_CORRUPT', /there are 1/);
  const mixed = async function* (): AsyncGenerator<NamedFeature> {
    yield* samples([[1, 2]], [2, 1, 1]);
    yield* samples([[1, 2]], [1, 1, 2]);
  };
  await rejects(() => featureStatistics(mixed, 't'), 'ERR_SHAPE', /1 channels, those before it 2/);
  let pass = 0;
  const shrinking = (): AsyncIterable<NamedFeature> => samples(pass++ === 0 ? [[1], [2], [3]] : [[1], [2]], [1, 1, 1]);
  await rejects(() => featureStatistics(shrinking, 't'), 'ERR_CORRUPT', /first pass saw 3 positions, the second 2/);
});

test('constant channels are found, and refused on loading', async () => {
  const root = temporaryFolder();
  const stats = await featureStatistics(
    () =>
      samples(
        [
          [1, 5],
          [2, 5],
        ],
        [2, 1, 1],
      ),
    't',
  );
  assert.equal(constantChannels(stats), [1]);
  writeStatistics(root, 't', stats);
  await rejects(() => loadStatistics(root, 't'), 'ERR_CORRUPT', /imagenet_var_t\.npy: .*channel 1 has 0/);
});

test('statistics that cannot be used', async () => {
  const root = temporaryFolder();
  const { mean, std } = statisticsPaths(root, 't');
  await rejects(() => loadStatistics(root, 't'), 'ERR_FILE', /imagenet_mean_t\.npy/);
  const put = (m: number[], s: number[]): void => {
    writeNpy(mean, Float32Array.from(m), [m.length]);
    writeNpy(std, Float32Array.from(s), [s.length]);
  };
  put([1, 2], [1, 1, 1]);
  await rejects(() => loadStatistics(root, 't'), 'ERR_SHAPE', /imagenet_var_t\.npy: expected \[2\], got \[3\]/);
  put([1, 2], [1, 1]);
  await rejects(() => loadStatistics(root, 't', 4), 'ERR_SHAPE', /expected \[4\], got \[2\]/);
  put([1, NaN], [1, 1]);
  await rejects(() => loadStatistics(root, 't'), 'ERR_CORRUPT', /mean of channel 1 is NaN/);
  for (const bad of [0, -1, NaN, Infinity]) {
    put([1, 2], [bad, 1]);
    await rejects(() => loadStatistics(root, 't'), 'ERR_CORRUPT', /channel 0 has/);
  }
  writeNpy(mean, Int32Array.of(1, 2), [2]);
  await rejects(() => loadStatistics(root, 't'), 'ERR_DTYPE', /float32/);
  writeNpy(mean, Float64Array.of(1, 2), [2]);
  writeNpy(std, Float64Array.of(1, 2), [2]);
  assert.equal(loadStatistics(root, 't').std, Float32Array.of(1, 2));
});

test.run();
