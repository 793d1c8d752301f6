import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Stream, type StreamOptions, type StreamSample } from '../../src/data/order.js';
import { rejects } from './fixtures.js';

const take = (stream: Stream, from: number, count: number): StreamSample[] => Array.from({ length: count }, (_, i) => stream.at(from + i));
const make = (options: Partial<StreamOptions>): Stream => new Stream({ seed: 0, sizes: [10], shuffle: true, ...options });

test('without shuffling one dataset comes in shard order, again and again', () => {
  const stream = make({ shuffle: false, sizes: [3] });
  assert.is(stream.epochLength, 3);
  assert.equal(
    take(stream, 0, 7).map(({ epoch, dataset, index }) => [epoch, dataset, index]),
    [0, 1, 2, 3, 4, 5, 6].map((n) => [Math.floor(n / 3), 0, n % 3]),
  );
});

test('shuffled epochs are permutations, each another, and a function of the seed', () => {
  const stream = make({ sizes: [1000] });
  const epochs = [0, 1, 2].map((epoch) => take(stream, epoch * 1000, 1000).map(({ index }) => index));
  for (const epoch of epochs) assert.equal(Uint32Array.from(epoch).sort(), Uint32Array.from(epoch.keys()));
  assert.not.equal(epochs[0], epochs[1]);
  assert.not.equal(epochs[1], epochs[2]);
  const again = make({ sizes: [1000] });
  assert.equal(
    take(again, 1000, 1000).map(({ index }) => index),
    epochs[1],
  );
  const order = (options: Partial<StreamOptions>): number[] => take(make({ sizes: [1000], ...options }), 0, 1000).map(({ index }) => index);
  assert.not.equal(order({ seed: 1 }), epochs[0]);
  assert.not.equal(order({ buffer: 7 }), epochs[0]);
  assert.equal(order({ buffer: 1024 }), epochs[0]);
});

test('the shuffle is good: no trace of the old order', () => {
  const n = 20000;
  const order = take(make({ sizes: [n], seed: 3 }), 0, n).map(({ index }) => index);
  // Correlation of place and index, mean distance of neighbours (n/3 for a random order), samples left in place (1 expected).
  const centre = (n - 1) / 2;
  const covariance = order.reduce((sum, index, place) => sum + (index - centre) * (place - centre), 0) / n;
  assert.ok(Math.abs(covariance / ((n * n) / 12)) < 0.03);
  const distance = order.slice(1).reduce((sum, index, i) => sum + Math.abs(index - order[i]), 0) / (n - 1);
  assert.ok(Math.abs(distance / (n / 3) - 1) < 0.03, `mean distance ${distance}`);
  assert.ok(order.filter((index, place) => index === place).length < 8);
});

test('random access gives what walking gives', () => {
  const options = { sizes: [30, 7, 12], weights: [1, 3, 0.5], seed: 5 };
  for (const shuffle of [true, false]) {
    const walked = take(make({ ...options, shuffle }), 0, 500);
    for (const n of [499, 3, 250, 49, 50, 0, 123]) assert.equal(make({ ...options, shuffle }).at(n), walked[n]);
  }
});

test('equal weights: every sample of every dataset once an epoch', () => {
  for (const shuffle of [true, false]) {
    const stream = make({ sizes: [30, 7, 12], shuffle });
    assert.is(stream.epochLength, 49);
    for (const epoch of [0, 1]) {
      const seen = new Set(take(stream, epoch * 49, 49).map(({ dataset, index }) => `${dataset}/${index}`));
      assert.is(seen.size, 49);
    }
  }
});

test('weights decide the parts: weight x length, normalised', () => {
  const stream = make({ sizes: [1000, 100], weights: [1, 10], seed: 2 });
  assert.is(stream.epochLength, 1100);
  const epoch = take(stream, 0, 1100);
  assert.is(epoch.filter(({ dataset }) => dataset === 0).length, 550);
  // Only the ratio of weights counts.
  assert.equal(take(make({ sizes: [1000, 100], weights: [0.1, 1], seed: 2 }), 0, 1100), epoch);
  // 550 of 1000 are different ones; over 20 epochs each of the 1000 comes 11 times.
  assert.is(new Set(epoch.filter(({ dataset }) => dataset === 0).map(({ index }) => index)).size, 550);
  const counts = new Map<string, number>();
  for (const { dataset, index } of take(stream, 0, 20 * 1100)) {
    const key = `${dataset}/${index}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  assert.is(counts.size, 1100);
  for (const [key, count] of counts) assert.is(count, key.startsWith('0') ? 11 : 110, key);
});

test('parts in whole samples add up, and a small weight is not lost', () => {
  for (const [sizes, weights] of [
    [
      [10, 10, 10],
      [1, 1, 1e-9],
    ],
    [
      [3, 5, 7],
      [0.3, 0.4, 0.7],
    ],
    [
      [1, 1, 1],
      [5, 1e-9, 1e-9],
    ],
    [
      [4, 9],
      [1e308, 1e308],
    ],
  ]) {
    const stream = make({ sizes, weights });
    assert.is(
      stream.epochLength,
      sizes.reduce((a, b) => a + b, 0),
    );
    const epoch = take(stream, 0, stream.epochLength);
    sizes.forEach((size, d) => {
      const part = epoch.filter(({ dataset }) => dataset === d);
      assert.ok(part.length >= 1);
      assert.ok(part.every(({ index }) => index < size));
    });
  }
});

test('a dataset of weight 0 or without samples takes no part', () => {
  const stream = make({ sizes: [5, 0, 6, 4], weights: [0, 1, 1, 0] });
  assert.is(stream.epochLength, 6);
  assert.ok(take(stream, 0, 60).every(({ dataset }) => dataset === 2));
});

test('without shuffling several datasets are interleaved evenly, each in its order', () => {
  const stream = make({ sizes: [60, 20], shuffle: false });
  const epoch = take(stream, 0, 80);
  for (let end = 4; end <= 80; end += 4) {
    const part = epoch.slice(0, end).filter(({ dataset }) => dataset === 1).length;
    assert.ok(Math.abs(part - end / 4) <= 1, `after ${end}: ${part}`);
  }
  for (const d of [0, 1]) {
    const indices = epoch.filter(({ dataset }) => dataset === d).map(({ index }) => index);
    assert.equal(indices, [...indices.keys()]);
  }
});

test('errors', async () => {
  await rejects(() => make({ sizes: [0] }), 'ERR_CONFIG', /no samples/);
  await rejects(() => make({ weights: [0] }), 'ERR_CONFIG', /no samples/);
  await rejects(() => make({ weights: [-1] }), 'ERR_CONFIG', /weight 0/);
  await rejects(() => make({ weights: [NaN] }), 'ERR_CONFIG', /NaN/);
  await rejects(() => make({ weights: [1, 2] }), 'ERR_CONFIG', /1 datasets but 2/);
  await rejects(() => make({ buffer: 0 }), 'ERR_CONFIG', /shuffle_buffer/);
  await rejects(() => make({ seed: -1 }), 'ERR_CONFIG', /seed/);
  await rejects(() => make({}).at(-1), 'ERR_ARGS', /-1/);
  await rejects(() => make({}).at(0.5), 'ERR_ARGS', /0\.5/);
});

test.run();
