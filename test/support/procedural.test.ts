import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/safetensors.js';
import { fnv1a64 } from '../../src/mix64.js';
import { goldenFile, manifest, relativeError, requireGolden, sampleIndices } from './golden.js';
import { image, parameter, parameterKind, teacherFeature, teacherStats, teacherTarget } from './procedural.js';

const vectors = manifest()?.generator_vectors;
const golden = (name: string, body: (v: NonNullable<typeof vectors>) => void): void => {
  test(name, () => {
    if (requireGolden('manifest.json', name) !== undefined) body(vectors!);
  });
};
const sum = (values: Iterable<number>): number => {
  let s = 0;
  for (const v of values) s += v;
  return s;
};

// The vectors of the golden README itself, so that a clone without golden data still proves the generator.
test('vectors: parameters', () => {
  const first = (name: string, shape: number[]): number[] => [...parameter(name, shape, 1).subarray(0, 5)];
  const name = 'backbone.model.embeddings.cls_token';
  assert.equal(fnv1a64(name), { hi: 0x3c7aab2f, lo: 0x5d651c0d });
  assert.equal(
    first(name, [1, 1, 192]),
    [-0.18109244108200073, -0.09921953082084656, -0.12732377648353577, 0.04276123642921448, -0.13362985849380493],
  );
  assert.equal(
    first('backbone.model.layernorm.weight', [192]),
    [1.0265889167785645, 1.0159122943878174, 1.0323045253753662, 0.9769625663757324, 0.8755254745483398],
  );
  assert.equal(
    first('backbone.model.encoder.layer.11.output.dense.bias', [192]),
    [0.03220687806606293, -0.046414896845817566, -0.019315794110298157, 0.042409151792526245, -0.016373321413993835],
  );
  assert.equal(
    first('translator.translator_heads.facebook/dinov2-large.adapter.4.weight', [192, 192, 3, 3]),
    [0.016428157687187195, 0.00979679450392723, -0.016003068536520004, 0.012298613786697388, -0.0071241408586502075],
  );
  assert.throws(() => parameter('neck.scale', [3], 1), /no rule/);
});

test('vectors: images and features', () => {
  const a = image(0, 224, 224, 3, 1);
  assert.equal([...a.subarray(0, 12)], [121, 80, 140, 137, 93, 168, 150, 90, 161, 136, 102, 170]);
  assert.equal([...a.subarray(-6)], [128, 223, 67, 128, 221, 84]);
  assert.is(sum(a), 19930866);
  const b = image(3, 77, 100, 3, 1);
  assert.equal([...b.subarray(0, 6)], [94, 80, 88, 94, 81, 116]);
  assert.is(sum(b), 3259007);
  const raw = teacherFeature('facebook/dinov2-large', 256, 1024, 2, 1);
  assert.equal(
    [...raw.subarray(0, 5)],
    [-1.0204153060913086, 0.5845088958740234, -0.4008256196975708, 1.026735544204712, -0.9779607057571411],
  );
  const { mean, std } = teacherStats('facebook/dinov2-large', 1024, 1);
  assert.equal([mean[0], mean[1], std[0], std[1]], [-0.24875956773757935, -0.09150916337966919, 1.0867738723754883, 1.1986980438232422]);
  const target = teacherTarget('facebook/dinov2-large', 256, 1024, 2, 1);
  assert.is(target[1025], Math.fround((raw[1025] - mean[1]) / std[1]));
});

golden('all hashes and parameters of the manifest', (v) => {
  for (const [name, hash] of Object.entries(v.fnv1a64)) {
    const { hi, lo } = fnv1a64(name);
    assert.is(`0x${((BigInt(hi) << 32n) | BigInt(lo)).toString(16)}`, hash);
  }
  for (const [name, p] of Object.entries(v.parameters)) {
    const values = parameter(name, p.shape, p.seed);
    assert.is(parameterKind(name, p.shape), p.kind);
    assert.equal([...values.subarray(0, 5)], p.first5, name);
    assert.is(values.at(-1), p.last, name);
    // values are multiples of a power of two: their float64 sum is exact in any order
    assert.is(sum(values), p.sum, name);
  }
});

golden('all images of the manifest', (v) => {
  const channels = { grey: 1, rgb: 3, rgba: 4 } as const;
  for (const [name, want] of Object.entries(v.images)) {
    const [, n, height, width, kind] = /^(\d+)_(\d+)x(\d+)_(\w+)$/.exec(name)!;
    const bytes = image(Number(n), Number(height), Number(width), channels[kind as keyof typeof channels], want.seed);
    assert.equal([...bytes.subarray(0, 12)], want.first12, name);
    assert.equal([...bytes.subarray(-6)], want.last6, name);
    assert.is(sum(bytes), want.sum, name);
    assert.is(
      bytes.reduce((s, b, i) => s + b * (i % 251), 0),
      want.weighted,
      name,
    );
  }
});

golden('all features of the manifest', (v) => {
  for (const [teacher, want] of Object.entries(v.features)) {
    const raw = teacherFeature(teacher, want.tokens, want.channels, want.sample, want.seed);
    const { mean, std } = teacherStats(teacher, want.channels, want.seed);
    assert.equal([...raw.subarray(0, 5)], want.first5);
    assert.is(raw.at(-1), want.last);
    assert.is(sum(raw), want.sum);
    assert.equal([...mean.subarray(0, 5)], want.mean5);
    assert.equal([...std.subarray(0, 5)], want.std5);
  }
});

test('the mini checkpoints and their images are the generator', () => {
  for (const kase of ['lconv_cls', 'lconv_nocls', 'lconv_reg', 'conv_cls', 'mlp_cls', 'transformer_cls']) {
    const path = goldenFile(`mini_${kase}.weights.safetensors`);
    if (path === undefined) {
      requireGolden(`mini_${kase}.weights.safetensors`, 'mini checkpoints');
      continue;
    }
    const file = SafetensorsFile.open(path);
    for (const name of file.names()) {
      const values = parameter(name, file.info(name).shape, 1);
      if (Buffer.compare(Buffer.from(values.buffer), file.bytes(name)) !== 0) assert.unreachable(`${kase}: ${name}`);
    }
    file.close();
  }
  const path = requireGolden('mini_lconv_cls.golden.safetensors', 'mini images');
  if (path === undefined) return;
  const file = SafetensorsFile.open(path);
  const [count, height, width] = file.info('images').shape;
  const stored = file.bytes('images');
  const size = height * width * 3;
  for (let n = 0; n < count; n++) {
    assert.is(Buffer.compare(image(n, height, width, 3, 11), stored.subarray(n * size, (n + 1) * size)), 0, `image ${n}`);
  }
  file.close();
});

test('relative errors', () => {
  assert.is(relativeError([3, 4], [3, 4]), 0);
  assert.is(relativeError([3, 4.5], [3, 4]), 0.1);
  assert.is(relativeError([0], [0]), 0);
  assert.is(relativeError([1], [0]), Infinity);
  assert.ok(Number.isNaN(relativeError([NaN], [1])));
  assert.throws(() => relativeError([1], [1, 2]));
});

test('sampling rule', () => {
  assert.equal(sampleIndices(10, 4), [0, 2, 5, 7]);
  assert.equal(sampleIndices(3, 100), [0, 1, 2]);
  const numel = 1024 * 768 * 257;
  sampleIndices(numel, 4096).forEach((index, k) => assert.is(BigInt(index), (BigInt(k) * BigInt(numel)) / 4096n));
});

test.run();
