import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Batch } from '../../src/data/loader.js';
import { FitMeter, meanMap, measureFits, normalisedTargets, predictBatch } from '../../src/train/baselines.js';
import { CONTESTANTS, judge, spreadText, type Contestant } from '../../src/train/compare.js';
import { Theia } from '../../src/models/theia.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { memory } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { rejects } from '../data/fixtures.js';

function batch(maps: readonly (readonly number[])[], channels: number): Batch {
  const positions = maps[0]!.length / channels;
  return {
    firstSample: 0,
    planned: maps.length,
    epoch: 0,
    keys: maps.map((_, i) => `k${i}`),
    sources: [],
    images: [],
    pixels: new Uint8Array(0),
    uniform: true,
    features: new Map([
      [
        't',
        { dtype: 'F32', shape: [maps.length, positions, channels], grid: [1, positions], data: Float32Array.from(maps.flat()), cls: null },
      ],
    ]),
    damaged: [],
    block: null,
  };
}

test('cosine and share of variance, over all and of one image', () => {
  const meter = new FitMeter();
  const own = meter.add(Float32Array.of(1, 0), Float32Array.of(1, 1));
  assert.ok(Math.abs(own.cosine - Math.SQRT1_2) < 1e-15);
  assert.is(own.explained, 0.5);
  meter.add(Float32Array.of(0, 0), Float32Array.of(3, 1));
  const all = meter.fit();
  // 1 − (1 + 10) / (2 + 10): sums over all, not a mean of shares; a prediction of zeros has cosine 0.
  assert.ok(Math.abs(all.explained - 1 / 12) < 1e-15);
  assert.ok(Math.abs(all.cosine - Math.SQRT1_2 / 2) < 1e-15);
  assert.is(all.images, 2);
  assert.is(new FitMeter().add(Float32Array.of(2), Float32Array.of(2)).explained, 1);
  throwsCode(() => new FitMeter().fit(), 'ERR_ARGS');
  throwsCode(() => meter.add(new Float32Array(3), new Float32Array(2)), 'ERR_SHAPE', '2', '3');
  throwsCode(() => meter.add(Float32Array.of(NaN), Float32Array.of(1)), 'ERR_NONFINITE');
});

test('targets are normalised by channel; the stored features stay as they are', () => {
  const b = batch(
    [
      [1, 10, 3, 30],
      [5, 50, 7, 70],
    ],
    2,
  );
  const statistics = { mean: Float32Array.of(1, 10), std: Float32Array.of(2, 20) };
  const [first, second] = normalisedTargets(b, 't', statistics);
  assert.equal([...first!], [0, 0, 1, 1]);
  assert.equal([...second!], [2, 2, 3, 3]);
  assert.is(b.features.get('t')!.data[0], 1);
  assert.equal([...normalisedTargets(b, 't', undefined)[0]!], [1, 10, 3, 30]);
  throwsCode(() => normalisedTargets(b, 'other', statistics), 'ERR_ARGS', 'other');
  throwsCode(() => normalisedTargets(b, 't', { mean: new Float32Array(3), std: new Float32Array(3) }), 'ERR_SHAPE');
});

test('the mean map, and that it explains what all images share', async () => {
  const maps = [Float32Array.of(1, 2), Float32Array.of(3, -2)];
  const mean = await meanMap(maps);
  assert.equal([...mean], [2, 0]);
  const b = batch(
    maps.map((m) => [...m]),
    1,
  );
  const fits = await measureFits([b, { ...b, keys: [] }], 't', undefined, new Map([['mean', () => [mean, mean]]]));
  // Σt² = 18, Σ(p − t)² = 10
  assert.ok(Math.abs(fits.get('mean')!.explained - 8 / 18) < 1e-15);
  assert.equal([...fits.get('mean')!.byKey.keys()], ['k0', 'k1']);
  await rejects(() => meanMap([]), 'ERR_ARGS', /at least one/);
  await rejects(() => meanMap([new Float32Array(2), new Float32Array(3)]), 'ERR_SHAPE', /2 values/);
});

test('a student’s predictions come image by image and leave no memory behind', () => {
  const teachers = new Map([['t', [5, 14, 14]]]);
  const model = new Theia({ ...newModelConfig({ hidden: 32, depth: 1, heads: 2, mlp: 64, image: 56, patch: 4 }), teachers }, { seed: 3 });
  const pixels = Uint8Array.from({ length: 2 * 56 * 56 * 3 }, (_, i) => (i * 37) % 251);
  const both = predictBatch(model, pixels, 2, ['t']);
  const before = memory().live;
  const second = predictBatch(model, pixels.slice(56 * 56 * 3), 1, ['t']);
  assert.is(memory().live, before);
  assert.is(both.features.get('t')![1]!.length, 196 * 5);
  assert.is(both.tokens[1]!.length, 196 * 32);
  assert.equal(both.features.get('t')![1], second.features.get('t')![0]);
  assert.equal(both.tokens[1], second.tokens[0]);
  throwsCode(() => predictBatch(model, pixels, 3, ['t']), 'ERR_SHAPE');
  model.dispose();
});

test('success is to beat all three; the spread of margins in words', () => {
  const fits = (values: number[]): Map<Contestant, { explained: number }> =>
    new Map(CONTESTANTS.map((name, i) => [name, { explained: values[i]! }]));
  assert.equal(judge(fits([0.5, 0.25, 0.1, -1])), { beatsAll: true, margin: 0.25, lostTo: [] });
  assert.equal(judge(fits([0.25, 0.25, 0.3, -1])).lostTo, ['random encoder', 'mean map']);
  assert.not.ok(judge(fits([NaN, 0, 0, 0])).beatsAll);
  assert.match(spreadText(new Map([[0, 0.02]])), /one seed only/);
  assert.is(
    spreadText(
      new Map([
        [1, 0.03],
        [0, 0.02],
      ]),
    ),
    'mean 0.0250, from 0.0200 to 0.0300 over seeds 0, 1',
  );
});

test.run();
