import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../../src/formats/half.js';

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);
const bits = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer);

/** The value of a float16 by its definition. */
function f16Value(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

test('every float16 has its defined value and comes back', () => {
  const values = f16ToF32(ALL);
  for (let h = 0; h < 65536; h++) if (!Object.is(values[h], f16Value(h))) assert.unreachable(`float16 ${h}: ${values[h]}`);
  const back = f32ToF16(values);
  for (let h = 0; h < 65536; h++) {
    if (Number.isNaN(values[h])) assert.ok(Number.isNaN(f16Value(back[h])));
    else assert.is(back[h], h);
  }
});

test('float32 to float16 rounds to nearest even between all neighbours', () => {
  const between: number[] = [];
  const expected: number[] = [];
  for (let h = 0; h < 0x7c00; h++) {
    const low = f16Value(h);
    const high = h === 0x7bff ? 65536 : f16Value(h + 1);
    const middle = (low + high) / 2;
    const gap = (high - low) / 1024;
    between.push(middle, middle - gap, middle + gap, -middle);
    const even = h & 1 ? h + 1 : h;
    expected.push(even, h, h + 1, even | 0x8000);
  }
  assert.equal(f32ToF16(Float32Array.from(between)), Uint16Array.from(expected));
});

test('float16 specials: infinities, overflow, signed zero, underflow', () => {
  const values = Float32Array.of(Infinity, -Infinity, 65519.99, 65520, 1e30, -0, 2 ** -25, 2 ** -25 * 1.001, -1e-40);
  assert.equal([...f32ToF16(values)], [0x7c00, 0xfc00, 0x7bff, 0x7c00, 0x7c00, 0x8000, 0, 1, 0x8000]);
});

test('every bfloat16 is the upper half of its float32 and comes back', () => {
  const values = bf16ToF32(ALL);
  const words = bits(values);
  for (let h = 0; h < 65536; h++) assert.is(words[h], (h << 16) >>> 0);
  const back = f32ToBf16(values);
  for (let h = 0; h < 65536; h++) {
    if (Number.isNaN(values[h])) assert.ok((back[h] & 0x7fff) > 0x7f80);
    else assert.is(back[h], h);
  }
});

test('float32 to bfloat16 rounds to nearest even, overflows to infinity, keeps NaN', () => {
  const words = Uint32Array.of(
    0x3f808000,
    0x3f818000,
    0x3f807fff,
    0x3f808001,
    0x7f7fffff,
    0x7fffffff,
    0x7f800001,
    0xffffffff,
    0x00008000,
    0x00018000,
  );
  const out = f32ToBf16(new Float32Array(words.buffer));
  assert.equal([...out], [0x3f80, 0x3f82, 0x3f80, 0x3f81, 0x7f80, 0x7fff, 0x7fc0, 0xffff, 0x0000, 0x0002]);
});

test('conversions write into the memory given, views included', () => {
  const out = new Float32Array(4).subarray(1, 3);
  assert.is(bf16ToF32(Uint16Array.of(0x3f80, 0x4000), out), out);
  assert.equal([...new Float32Array(out.buffer)], [0, 1, 2, 0]);
  assert.equal([...f32ToBf16(out)], [0x3f80, 0x4000]);
  assert.equal([...f32ToF16(out)], [0x3c00, 0x4000]);
});

test.run();
