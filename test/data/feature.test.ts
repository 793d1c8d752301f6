import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeFeature, encodeFeature, firstNonFinite, toChannelLast } from '../../src/data/feature.js';
import { bf16ToF32, f32ToBf16, f32ToF16 } from '../../src/formats/half.js';
import { encodeSafetensors } from '../../src/formats/safetensors.js';
import { rejects } from './fixtures.js';

const values = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => (i % 61) - 30);

test('a feature comes back as stored, in each dtype, with and without cls_token', () => {
  for (const dtype of ['BF16', 'F16', 'F32'] as const) {
    const feature = decodeFeature(encodeFeature(values(24), [2, 3, 4], { dtype, cls: values(5) }), 'f');
    assert.is(feature.dtype, dtype);
    assert.equal(feature.shape, [2, 3, 4]);
    const expected = dtype === 'F32' ? values(24) : dtype === 'BF16' ? f32ToBf16(values(24)) : f32ToF16(values(24));
    assert.equal(feature.data, expected);
    assert.is(feature.cls?.dtype, dtype);
    assert.is(feature.cls?.data.length, 5);
    assert.is(decodeFeature(encodeFeature(values(24), [2, 3, 4], { dtype }), 'f').cls, null);
  }
});

test('cls_token [1, C] as the original stores it', () => {
  const bytes = encodeSafetensors([
    { name: 'embedding', dtype: 'BF16', shape: [1, 1, 2], data: f32ToBf16(values(2)) },
    { name: 'cls_token', dtype: 'BF16', shape: [1, 3], data: f32ToBf16(values(3)) },
  ]);
  assert.equal(bf16ToF32(decodeFeature(bytes, 'f').cls!.data as Uint16Array), values(3));
});

test('what is no feature file is an error', async () => {
  const file = (name: string, dtype: 'F32' | 'F64', shape: number[], extra: Parameters<typeof encodeSafetensors>[0] = []): Uint8Array => {
    const count = shape.reduce((a, b) => a * b, 1);
    return encodeSafetensors([{ name, dtype, shape, data: dtype === 'F32' ? new Float32Array(count) : new Float64Array(count) }, ...extra]);
  };
  await rejects(() => decodeFeature(file('other', 'F32', [1, 1, 1]), 'k'), 'ERR_CORRUPT', /^k: .*embedding/);
  await rejects(() => decodeFeature(file('embedding', 'F64', [1, 1, 1]), 'k'), 'ERR_DTYPE', /^k: .*F64/);
  await rejects(() => decodeFeature(file('embedding', 'F32', [4, 1]), 'k'), 'ERR_SHAPE', /^k: .*\[4, 1\]/);
  await rejects(() => decodeFeature(file('embedding', 'F32', [0, 1, 1]), 'k'), 'ERR_SHAPE', /\[0, 1, 1\]/);
  const badToken = [{ name: 'cls_token', dtype: 'F32' as const, shape: [2, 2], data: new Float32Array(4) }];
  await rejects(() => decodeFeature(file('embedding', 'F32', [1, 1, 1], badToken), 'k'), 'ERR_SHAPE', /cls_token .*\[2, 2\]/);
  await rejects(() => decodeFeature(new Uint8Array(5), 'k'), 'ERR_CORRUPT', /^k/);
});

test('values that are not finite are found in every dtype', () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    const data = values(100);
    data[37] = bad;
    assert.is(firstNonFinite(data, 'F32'), 37);
    assert.is(firstNonFinite(f32ToBf16(data), 'BF16'), 37);
    assert.is(firstNonFinite(f32ToF16(data), 'F16'), 37);
  }
  // Every place of an odd and an even number of values, and arrays that start between two words.
  for (const length of [1, 2, 7, 8]) {
    for (let i = 0; i < length; i++) {
      const bits = new Uint16Array(length + 1).fill(0xff7f); // the largest finite bfloat16, negative
      bits[i + 1] = i % 2 === 0 ? 0xff80 : 0x7fc1;
      assert.is(firstNonFinite(bits.subarray(1), 'BF16'), i);
      assert.is(firstNonFinite(bits.slice(1), 'BF16'), i);
      bits.fill(0xfbff);
      bits[i + 1] = 0x7c00;
      assert.is(firstNonFinite(bits.slice(1), 'F16'), i);
      bits[i + 1] = 0x7bff;
      assert.is(firstNonFinite(bits.slice(1), 'F16'), -1);
    }
  }
  const large = Float32Array.of(3.3e38, -3.3e38, 0, 1e-45);
  assert.is(firstNonFinite(large, 'F32'), -1);
  assert.is(firstNonFinite(f32ToBf16(large), 'BF16'), -1);
  assert.is(firstNonFinite(f32ToF16(Float32Array.of(65504, -65504, 0)), 'F16'), -1);
});

test('channel-last for odd and even sizes, in place behind an offset', async () => {
  for (const [c, h, w] of [
    [1, 1, 1],
    [3, 1, 7],
    [33, 5, 13],
    [64, 16, 16],
    [100, 3, 3],
    [31, 8, 8],
    [70, 9, 6],
    [2, 1, 2],
  ]) {
    const data = Uint16Array.from({ length: c * h * w }, (_, i) => i % 65521);
    const out = toChannelLast(data, [c, h, w]);
    assert.instance(out, Uint16Array);
    for (let p = 0; p < h * w; p++)
      for (let k = 0; k < c; k++) if (out[p * c + k] !== data[k * h * w + p]) assert.unreachable(`${c} ${h} ${w}`);
    const room = new Uint16Array(data.length + 5).fill(9);
    for (const at of [3, 2]) {
      room.fill(9);
      toChannelLast(data, [c, h, w], room, at);
      assert.equal(room.subarray(at, at + data.length), out);
      assert.ok(room.every((value, i) => (i >= at && i < at + data.length) || value === 9));
    }
  }
  assert.instance(toChannelLast(values(6), [2, 1, 3]), Float32Array);
  assert.equal(toChannelLast(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 1, 3]), Float32Array.of(1, 4, 2, 5, 3, 6));
  await rejects(() => toChannelLast(values(6), [2, 2, 2]), 'ERR_SHAPE', /needs 8 values/);
  await rejects(() => toChannelLast(values(8), [2, 2, 2], new Float32Array(8), 1), 'ERR_SHAPE', /do not fit/);
});

test.run();
