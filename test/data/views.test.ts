import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyView, imageView } from '../../src/data/views.js';
import { noiseImage, rejects } from './fixtures.js';

test('view 0 is the whole image', () => {
  assert.equal(imageView('abc', 0, 640, 480), { x: 0, y: 0, width: 640, height: 480, flip: false });
});

test('views depend on content and number alone, and keep area and aspect', () => {
  let flips = 0;
  const seen = new Set<string>();
  for (let i = 0; i < 400; i++) {
    const view = imageView(`hash${i % 40}`, 1 + Math.floor(i / 40), 640, 480);
    assert.equal(view, imageView(`hash${i % 40}`, 1 + Math.floor(i / 40), 640, 480));
    const area = (view.width * view.height) / (640 * 480);
    const aspect = view.width / view.height;
    assert.ok(area > 0.395 && area <= 1, `area ${area}`);
    assert.ok(aspect > 0.745 && aspect < 1.34, `aspect ${aspect}`);
    assert.ok(view.x >= 0 && view.y >= 0 && view.x + view.width <= 640 && view.y + view.height <= 480);
    flips += Number(view.flip);
    seen.add(JSON.stringify(view));
  }
  assert.is(seen.size, 400);
  assert.ok(flips > 140 && flips < 260, `${flips} of 400 are mirrored`);
});

test('these views never change', () => {
  assert.equal(imageView('hash', 1, 640, 480), { x: 64, y: 25, width: 528, height: 454, flip: false });
});

test('extreme shapes still give a view', () => {
  for (const [width, height] of [
    [1, 1],
    [2000, 10],
    [10, 2000],
    [3, 1],
  ]) {
    const view = imageView('x', 3, width, height);
    assert.ok(view.width >= 1 && view.height >= 1 && view.x + view.width <= width && view.y + view.height <= height);
  }
  const wide = imageView('x', 3, 2000, 30);
  assert.equal([wide.width, wide.height], [40, 30]);
});

test('applyView cuts and mirrors', () => {
  const image = noiseImage(7, 5);
  assert.is(applyView(image, imageView('x', 0, 7, 5)), image);
  const pixel = (x: number, y: number): number[] => [...image.data.subarray((y * 7 + x) * 3, (y * 7 + x) * 3 + 3)];
  const cut = applyView(image, { x: 2, y: 1, width: 3, height: 2, flip: false });
  assert.equal([...cut.data], [pixel(2, 1), pixel(3, 1), pixel(4, 1), pixel(2, 2), pixel(3, 2), pixel(4, 2)].flat());
  const mirrored = applyView(image, { x: 2, y: 1, width: 3, height: 2, flip: true });
  assert.equal([...mirrored.data], [pixel(4, 1), pixel(3, 1), pixel(2, 1), pixel(4, 2), pixel(3, 2), pixel(2, 2)].flat());
});

test('errors', async () => {
  const image = noiseImage(7, 5);
  await rejects(() => applyView(image, { x: 5, y: 0, width: 3, height: 1, flip: false }), 'ERR_SHAPE', /3 x 1 at \(5, 0\)/);
  await rejects(() => applyView(image, { x: 0, y: 0, width: 1.5, height: 1, flip: false }), 'ERR_SHAPE', /1\.5/);
  await rejects(() => imageView('x', -1, 5, 5), 'ERR_ARGS', /-1/);
});

test.run();
