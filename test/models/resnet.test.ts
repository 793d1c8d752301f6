import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ResNet50, Resnet, softmaxRows } from '../../src/models/resnet.js';
import { Tensor, memory } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { TINY, evaluate, tinyResnet, writeModel, type TinyModel } from '../support/tiny-resnet.js';

const folder = mkdtempSync(join(tmpdir(), 'theia-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Images with edges in every corner, so that a wrong padding or channel order shows. */
function images(count: number): Uint8Array {
  const { size } = TINY;
  return Uint8Array.from({ length: count * size * size * 3 }, (_, i) => (Math.imul(i + 7, 2654435761) >>> 11) & 255);
}

function reference(model: TinyModel, rgb: Uint8Array): Map<string, { data: Float64Array }> {
  const mean = [103.939, 116.779, 123.68];
  const data = Float64Array.from(rgb, (_, i) => rgb[i - (i % 3) + 2 - (i % 3)] - mean[i % 3]);
  return evaluate(model, { h: TINY.size, w: TINY.size, c: 3, data });
}

function relative(a: Float32Array, b: Float64Array): number {
  assert.is(a.length, b.length);
  const norm = Math.sqrt(b.reduce((sum, v) => sum + v * v, 0));
  return Math.sqrt(b.reduce((sum, v, i) => sum + (v - a[i]) ** 2, 0)) / norm;
}

test('features and scores of a small network equal Keras arithmetic in double, layer by layer', () => {
  const model = tinyResnet();
  writeModel(folder, model);
  const before = memory().live;
  {
    using net = Resnet.load(folder);
    assert.equal(net.featureShape, [9, 5, 5]);
    assert.is(net.size, TINY.size);
    assert.is(net.classes, TINY.classes);
    const batch = images(2);
    const features = net.features(batch);
    const scores = net.scores(batch);
    assert.equal(features.shape, [2, 5, 5, 9]);
    assert.equal(scores.shape, [2, TINY.classes]);
    for (const b of [0, 1]) {
      const expected = reference(model, batch.slice((b * batch.length) / 2, ((b + 1) * batch.length) / 2));
      const last = model.layers.filter((l) => l.class_name === 'Activation').at(-4)!.name; // three more follow, in the last stage
      assert.ok(relative(features.float32().slice(b * 225, (b + 1) * 225), expected.get(last)!.data) < 1e-6, 'features');
      const probabilities = scores.float32().slice(b * TINY.classes, (b + 1) * TINY.classes);
      assert.ok(relative(probabilities, expected.get('fc1000')!.data) < 1e-6, 'scores');
    }
    const tensor = Tensor.from(batch, [2, TINY.size, TINY.size, 3], 'uint8');
    const again = net.features(tensor);
    assert.equal(again.float32(), features.float32(), 'a tensor gives the same bits');
    for (const t of [features, scores, tensor, again]) t.dispose();
  }
  assert.is(memory().live, before, 'nothing is left behind');
});

test('the count of operations', () => {
  const net = Resnet.load(folder);
  // Stem 18 x 18, pool 9 x 9, stages of 9, 5 and 3.
  const stem = 18 * 18 * 5 * 49 * 3;
  const stage2 = 81 * (5 * 4 + 9 * 16 + 4 * 7 + 5 * 7) + 81 * (7 * 4 + 9 * 16 + 4 * 7);
  const stage3 = 25 * (7 * 6 + 9 * 36 + 6 * 9 + 7 * 9);
  const stage4 = 9 * (9 * 3 + 9 * 9 + 3 * 11 + 9 * 11);
  assert.is(net.flops.features, 2 * (stem + stage2 + stage3));
  assert.is(net.flops.scores, 2 * (stem + stage2 + stage3 + stage4 + 11 * TINY.classes));
  net.dispose();
});

test('images of another shape or type', () => {
  using net = Resnet.load(folder);
  throwsCode(() => net.features(new Uint8Array(100)), 'ERR_SHAPE', '100 bytes');
  throwsCode(() => net.features(new Uint8Array(0)), 'ERR_SHAPE', '0 bytes');
  const wrong = Tensor.zeros([1, TINY.size, TINY.size + 1, 3], 'uint8');
  throwsCode(() => net.scores(wrong), 'ERR_SHAPE', '[1,36,37,3]');
  const float = Tensor.zeros([1, TINY.size, TINY.size, 3]);
  throwsCode(() => net.scores(float), 'ERR_DTYPE', 'float32');
  wrong.dispose();
  float.dispose();
  net.dispose();
  throwsCode(() => net.features(images(1)), 'ERR_DISPOSED');
});

test('ResNet50 wants fifty layers', () => {
  throwsCode(() => ResNet50.load(folder), 'ERR_CORRUPT', 'expected ResNet-50', '36: 5; 2 of 4-7/1, 1 of 6-9/2, 1 of 3-11/2; 13');
  throwsCode(() => ResNet50.load(join(folder, 'nowhere')), 'ERR_FILE', 'model.json');
});

const other = join(folder, 'changed');

function refused(change: (model: TinyModel, layer: (name: string) => TinyModel['layers'][number]) => void, ...parts: string[]): void {
  const model = tinyResnet();
  change(model, (name) => model.layers.find((l) => l.name === name)!);
  writeModel(other, model);
  const before = memory().live;
  throwsCode(() => Resnet.load(other).dispose(), 'ERR_CORRUPT', 'model.json', ...parts);
  assert.is(memory().live, before, 'a failed load leaves nothing behind');
}

test('another topology is refused, naming the layer', () => {
  refused((_, layer) => (layer('conv1_pad').config.padding = [[2, 3], [3, 3]]), 'conv1_pad', 'padding'); // prettier-ignore
  refused((_, layer) => (layer('conv1').config.strides = [1, 1]), 'conv1', 'stride 2');
  refused((_, layer) => (layer('pool').config.pool_size = [2, 2]), 'pool', 'pool_size');
  refused((_, layer) => (layer('activation_3').config.activation = 'elu'), 'activation_3', '"elu"');
  refused((_, layer) => (layer('res2a_branch2b').config.strides = [2, 2]), 'res2a_branch2b', 'stride 1');
  refused((_, layer) => (layer('res2a_branch2b').config.padding = 'valid'), 'res2a_branch2b', '"valid"');
  refused((_, layer) => (layer('res2a_branch2b').config.dilation_rate = [2, 2]), 'res2a_branch2b', 'dilation_rate');
  refused((_, layer) => (layer('res2b_branch2a').config.strides = [2, 2]), '2b', 'stride');
  refused((_, layer) => (layer('res3a_branch1').config.strides = [1, 1]), '3a', 'another stride');
  refused((_, layer) => (layer('bn2a_branch2a').config.epsilon = 0), 'bn2a_branch2a', 'epsilon');
  refused((_, layer) => (layer('bn2a_branch2a').config.axis = [1]), 'bn2a_branch2a', 'axis');
  refused((_, layer) => (layer('fc1000').config.activation = 'linear'), 'fc1000', 'softmax');
  refused((_, layer) => (layer('res2a_branch2a').config.filters = 1e9), 'res2a_branch2a', 'filters');
  refused((_, layer) => (layer('input_1').config.batch_input_shape = [null, 36, 40, 3]), 'input');
  refused((_, layer) => (layer('input_1').config.batch_input_shape = [null, 1e7, 1e7, 3]), 'input');
  refused((_, layer) => layer('add_2b').inbound_nodes[0].pop(), 'add_2b');
  refused((_, layer) => (layer('add_2b').inbound_nodes[0][1][0] = 'nowhere'), 'add_2b', '"nowhere"');
  refused((_, layer) => (layer('add_2b').inbound_nodes[0][1][0] = 'pool'), 'add_2b');
  refused((_, layer) => (layer('add_2b').name = 'pool'), 'same name');
  refused(
    (model) => model.layers.push({ name: 'more', class_name: 'Dense', config: {}, inbound_nodes: [[['input_1', 0, 0, {}]]] }),
    'layers',
  );
  refused((model) => (model.layers = []), 'list of layers');
  refused((model) => (model.layers = [null as never]), 'layer without name');
  refused((model) => (model.layers = JSON.parse('{"__proto__": [], "length": 3}') as never), 'list of layers');
  refused((_, layer) => (layer('avg_pool').class_name = 'Flatten'), 'behind');
});

test('other weights are refused, naming the weight', () => {
  refused(({ weights }) => weights.delete('bn3a_branch2b/beta'), 'bn3a_branch2b/beta');
  refused(({ weights }) => weights.set('extra', { shape: [1], values: new Float32Array(1) }), '"extra"');
  refused(({ weights }) => (weights.get('res3a_branch2b/kernel')!.shape = [6, 6, 3, 3]), 'res3a_branch2b/kernel', '[3,3,6,6]', '[6,6,3,3]');
  refused(({ weights }) => (weights.get('bn3a_branch2b/moving_variance')!.values[2] = -1), 'moving_variance', 'channel 2');
  refused(({ weights }) => (weights.get('bn3a_branch2b/moving_mean')!.values[1] = Infinity), 'bn3a_branch2b', 'finite');
  refused(({ weights }) => (weights.get('res3a_branch2b/kernel')!.values[9] = NaN), 'res3a_branch2b/kernel', 'finite');
  refused(({ weights }) => (weights.get('fc1000/kernel')!.values[3] = -Infinity), 'fc1000', 'finite');
  writeFileSync(join(other, 'model.json'), '[]');
  throwsCode(() => Resnet.load(other), 'ERR_CORRUPT', 'not a JSON object');
});

test('softmax of rows that would overflow', () => {
  const rows = softmaxRows(Float32Array.of(1000, 1000, -1000, 0, Math.fround(Math.log(2)), -80), 3);
  assert.equal([...rows.slice(0, 3)], [0.5, 0.5, 0]);
  assert.ok(Math.abs(rows[4] - 2 / 3) < 1e-6 && rows[5] > 0 && rows[5] < 1e-34);
});

test.run();
