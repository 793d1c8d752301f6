import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { add64, drawAt, fillHigh, fnv1a64, fromInteger, mix64, mul64, streamBase, u64 } from '../src/mix64.js';
import { portableCosTurn, portableLog, portableSinTurn } from '../src/portable_math.js';
import { normal, permutation, truncatedNormalFill, uniform } from '../src/random.js';
import { throwsCode } from './support/errors.js';

const MASK = (1n << 64n) - 1n;
const G = 0x9e3779b97f4a7c15n;
const big = ({ hi, lo }: { hi: number; lo: number }): bigint => (BigInt(hi) << 32n) | BigInt(lo);
const halves = (v: bigint): { hi: number; lo: number } => u64(Number(v >> 32n), Number(v & 0xffffffffn));

/** mix64 as its definition reads. */
function mixBig(value: bigint): bigint {
  let z = value & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

test('64-bit arithmetic on halves equals BigInt', () => {
  const values = [0n, 1n, 0xffffffffn, 0x100000000n, 0x8000000000000000n, MASK, G, 0x7fffffff80000001n];
  for (let i = 0n; i < 200n; i++) values.push(mixBig(i));
  for (const a of values) {
    assert.is(big(mix64(halves(a))), mixBig(a));
    for (const b of values.slice(0, 40)) {
      assert.is(big(mul64(halves(a), halves(b))), (a * b) & MASK);
      assert.is(big(add64(halves(a), halves(b))), (a + b) & MASK);
    }
  }
  for (const n of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) assert.is(big(fromInteger(n)), BigInt(n));
});

test('published vectors of FNV-1a and SplitMix64', () => {
  assert.is(big(fnv1a64('')), 0xcbf29ce484222325n);
  assert.is(big(fnv1a64('a')), 0xaf63dc4c8601ec8cn);
  assert.is(big(fnv1a64('foobar')), 0x85944171f73967e8n);
  // SplitMix64 seeded with 0: its first outputs
  assert.equal(
    [0, 1, 2].map((i) => big(drawAt(u64(0, 0), i))),
    [0xe220a8397b1dcdafn, 0x6e789e6aa1b965f4n, 0x06c45d188009454fn],
  );
});

test('the bulk loop equals single draws, at any place of the stream', () => {
  for (const first of [0, 7, 2 ** 32 - 500, 2 ** 50]) {
    const base = streamBase('bulk', first);
    const out = new Uint32Array(1000);
    fillHigh(out, base, first);
    out.forEach((word, i) => assert.is(word, drawAt(base, first + i).hi));
  }
});

test('uniform: definition, range, moments, independent purposes', () => {
  const z = mixBig((big(fnv1a64('order')) ^ ((7n * G) & MASK)) + 6n * G);
  assert.is(uniform(7, 'order', 5), Number(z >> 11n) / 2 ** 53);
  let mean = 0;
  let cross = 0;
  const n = 20000;
  for (let i = 0; i < n; i++) {
    const u = uniform(1, 'a', i);
    assert.ok(u >= 0 && u < 1);
    mean += u / n;
    cross += ((u - 0.5) * (uniform(1, 'b', i) - 0.5) * 12) / n;
  }
  assert.ok(Math.abs(mean - 0.5) < 0.01 && Math.abs(cross) < 0.03, `${mean} ${cross}`);
  assert.is.not(uniform(1, 'a', 0), uniform(2, 'a', 0));
  for (const seed of [-1, 0.5, NaN, 2 ** 53]) throwsCode(() => uniform(seed, 'a', 0), 'ERR_ARGS', String(seed));
});

test('ln, sin and cos from + - * / alone are right to the last bits', () => {
  let worst = 0;
  for (let i = 0; i < 20000; i++) {
    const u = uniform(3, 'math', i);
    for (const x of [1 - u, u * 2 ** -40 + 2 ** -53, 1 + u * 2 ** -20]) {
      const log = Math.log(x);
      if (log !== 0) worst = Math.max(worst, Math.abs(portableLog(x) - log) / Math.abs(log));
    }
    worst = Math.max(
      worst,
      Math.abs(portableCosTurn(u) - Math.cos(2 * Math.PI * u)) / 4,
      Math.abs(portableSinTurn(u) - Math.sin(2 * Math.PI * u)) / 4,
    );
  }
  assert.ok(worst < 4e-16, String(worst));
  assert.is(portableLog(1), 0);
  assert.equal([0, 0.25, 0.5, 0.75].map(portableCosTurn), [1, -0, -1, 0]);
  assert.equal([0, 0.25, 0.5, 0.75].map(portableSinTurn), [0, 1, -0, -1]);
});

test('normal: moments, and the bits pinned', () => {
  const n = 40000;
  const moments = [0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const x = normal(1, 'normal', i);
    const r = Math.sqrt(-2 * Math.log(1 - uniform(1, 'normal', i - (i % 2))));
    const angle = 2 * Math.PI * uniform(1, 'normal', i - (i % 2) + 1);
    assert.ok(Math.abs(x - r * (i % 2 ? Math.sin(angle) : Math.cos(angle))) < 1e-13);
    for (let p = 0; p < 4; p++) moments[p] += x ** (p + 1) / n;
  }
  const [m1, m2, m3, m4] = moments;
  assert.ok(Math.abs(m1) < 0.02 && Math.abs(m2 - 1) < 0.03 && Math.abs(m3) < 0.06 && Math.abs(m4 - 3) < 0.15, moments.join(' '));
  assert.equal(
    [0, 1, 2, 3].map((i) => normal(1, 'pinned', i)),
    PINNED_NORMAL,
  );
});

test('truncated normal: bounds, spread, a function of the index', () => {
  const out = new Float32Array(30001);
  truncatedNormalFill(out, 5, 'w', 0.02);
  let square = 0;
  let redrawn = 0;
  out.forEach((v, i) => {
    assert.ok(Math.abs(v) <= Math.fround(0.04));
    square += v * v;
    const plain = normal(5, 'w', i);
    if (Math.abs(plain) <= 2) assert.is(v, Math.fround(0.02 * plain));
    else redrawn++;
  });
  // standard deviation of a normal cut at two: 0.8796; 4.55 % lie outside
  assert.ok(Math.abs(Math.sqrt(square / out.length) / 0.02 - 0.8796) < 0.01);
  assert.ok(Math.abs(redrawn / out.length - 0.0455) < 0.006);
  const shorter = new Float32Array(101);
  truncatedNormalFill(shorter, 5, 'w', 0.02);
  assert.equal(shorter, out.slice(0, 101));
  const tight = new Float32Array(9);
  truncatedNormalFill(tight, 5, 'w', 1, 1e-6);
  assert.ok(tight.every((v) => Math.abs(v) <= 1e-6));
  throwsCode(() => truncatedNormalFill(tight, 5, 'w', 1, 0), 'ERR_ARGS');
});

test('permutation: every number once, every place alike, pure', () => {
  for (const n of [0, 1, 2, 1000])
    assert.equal(
      [...permutation(n, 1, 'p')].sort((a, b) => a - b),
      Array.from({ length: n }, (_, i) => i),
    );
  assert.equal(permutation(50, 1, 'p'), permutation(50, 1, 'p'));
  assert.not.equal(permutation(50, 1, 'p'), permutation(50, 2, 'p'));
  const counts = new Map<string, number>();
  for (let seed = 0; seed < 6000; seed++) {
    const key = permutation(3, seed, 'three').join('');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  assert.is(counts.size, 6);
  for (const count of counts.values()) assert.ok(Math.abs(count - 1000) < 150, String(count));
  for (const n of [-1, 1.5, 2 ** 32, NaN]) throwsCode(() => permutation(n, 1, 'p'), 'ERR_ARGS', String(n));
});

/** Only exact operations lead here, so every runtime must give these bits: a change would change every run. */
const PINNED_NORMAL = [0.45228829401641546, 1.1236832993889911, -1.39547854532439, -0.24641571145482227];

test.run();
