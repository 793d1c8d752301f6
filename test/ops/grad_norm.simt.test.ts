// The GPU's grad_norm (kernels/grad_norm/grad_norm.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { arenaOf, placed } from '../support/arena.js';
import { checkDeviceExact, checkDeviceFloat32, checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';

const CHUNK = 1 << 14; // of the kernel: three of them and a part
const LENGTHS = [1, 3, 33, 196, 20000, 257, 5, 31000, 17];
/** Every fourth segment uses slot 1, which is not enabled. */
const isOff = (segment: number): boolean => segment % 4 === 2;
const ARENA = arenaOf(LENGTHS.map((length, i) => ({ length, decay: false, slot: Number(isOff(i)) })));
assert.ok(ARENA.total > 3 * CHUNK && ARENA.total % CHUNK !== 0);

/** Padding and segments that are not enabled hold NaN: nobody may look at them. */
function normCase(values: (count: number, segment: number) => ArrayLike<number>, limit = 0): OpCase<'grad_norm'> {
  const segments = LENGTHS.map((n, i) => (isOff(i) ? new Float64Array(n).fill(NaN) : values(n, i)));
  return {
    op: 'grad_norm',
    tensors: {
      grad: { shape: [ARENA.total], values: placed(ARENA, segments, NaN) },
      segments: ARENA.table,
      slots: { shape: [2, 4], values: [0, 0, 0, 1, 0, 0, 0, 0] },
      limit: { shape: [1], values: [limit] },
      norm: { shape: [1], dtype: 'float64' },
      clip_factor: { shape: [1] },
    },
  };
}

deviceTest('exact on small integers, over enabled segments alone', (device) => {
  const c = normCase(smallIntegers);
  let sum = 0;
  for (const v of Array.from(c.tensors['grad']!.values!)) if (!Number.isNaN(v)) sum += v * v;
  checkDeviceExact(device, c, { norm: [Math.sqrt(sum)], clip_factor: [1] }, ['float32']);
});

deviceTest('as accurate as the plain loop, the same on any number of multiprocessors and under every schedule', (device) => {
  const c = normCase(randomValues, 1);
  checkDeviceFloat32(device, c);
  checkSchedules(device, c, ['float32']);
  if (device !== 'simt') return;
  const want = runCase(c, 'float32', { device });
  // Few enough for blocks to take several chunks; the sums are those of the chunks all the same.
  const got = withEmulated({ multiprocessors: 1 }, () => runCase({ ...c }, 'float32', { device }));
  same(got['norm']!, want['norm']!);
});

deviceTest('more chunks than blocks', (device) => {
  const count = 9 * CHUNK + 5; // eight blocks on one multiprocessor
  const grad = new Float64Array(count).fill(0);
  for (let i = 0; i < count; i += 999) grad[i] = 1;
  const c: OpCase<'grad_norm'> = {
    op: 'grad_norm',
    tensors: {
      ...normCase(smallIntegers).tensors,
      grad: { shape: [count], values: grad },
      segments: { shape: [1, 4], values: [0, count, 0, 0], dtype: 'int64' },
    },
  };
  const run = (): void => same(runCase(c, 'float32', { device })['norm']!, [Math.sqrt(Math.ceil(count / 999))]);
  if (device === 'simt') withEmulated({ multiprocessors: 1 }, run);
  else run();
});

deviceTest('clips to min(1, limit / (norm + 1e-6)); 0, less than 0 and infinity clip nothing', (device) => {
  const factor = (norm: number, limit: number): number => {
    const c = normCase((n, i) => new Float64Array(n).fill(i === 0 ? norm : 0), limit);
    const out = runCase(c, 'float32', { device });
    assert.is(out['norm']![0], norm);
    return out['clip_factor']![0]!;
  };
  assert.is(factor(8, 2), Math.fround(2 / (8 + 1e-6)));
  assert.is(factor(8, 8), Math.fround(8 / (8 + 1e-6)));
  assert.is(factor(0, 1), 1);
  for (const none of [0, -1, Infinity]) assert.is(factor(8, none), 1);
  assert.ok(Number.isNaN(factor(8, NaN)));
});

deviceTest('neither overflows nor vanishes; what is not finite turns the factor into NaN', (device) => {
  for (const v of [2 ** 127, 2 ** -149]) {
    const c = normCase((n, i) => new Float64Array(n).fill(0).fill(v, 0, i === 4 ? 256 : 0));
    same(runCase(c, 'float32', { device })['norm']!, [v * 16]);
  }
  for (const bad of [NaN, Infinity, -Infinity]) {
    const last = LENGTHS.length - 1;
    const out = runCase(
      normCase((n, i) => Float64Array.from({ length: n }, (_, k) => (i === last && k === n - 1 ? bad : 1)), 1),
      'float32',
      { device },
    );
    assert.is(Number.isFinite(out['norm']![0]), false);
    same(out['clip_factor']!, [NaN]);
  }
});

deviceTest('an empty arena has norm 0; rows that fit nowhere count as none', (device) => {
  const run = (count: number, rows: number[]): Record<string, Float64Array> =>
    runCase(
      {
        op: 'grad_norm',
        tensors: {
          ...normCase(smallIntegers).tensors,
          grad: { shape: [count], values: new Float64Array(count).fill(2) },
          segments: { shape: [rows.length / 4, 4], values: rows, dtype: 'int64' },
        },
      },
      'float32',
      { device },
    );
  same(run(0, [])['norm']!, [0]);
  same(run(0, [])['clip_factor']!, [1]);
  same(run(64, [-3, 9, 0, 0, 4, 4, 0, 0, 8, 57, 0, 0, 9, 3, 0, 2, 60, 2 ** 60, 0, 0])['norm']!, [4]);
});

test.run();
