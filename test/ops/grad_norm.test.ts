import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { arenaOf, placed } from '../support/arena.js';
import { throwsCode } from '../support/errors.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  randomValues,
  runCase,
  same,
  smallIntegers,
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';

const LENGTHS = [1, 3, 33, 196, 197, 256, 257, 70000, 5, 31, 33000, 17];
/** Every fourth segment uses slot 1, which is not enabled. */
const isOff = (segment: number): boolean => segment % 4 === 2;
const SLOTS = [0, 0, 0, 1, 0, 0, 0, 0];
const ARENA = arenaOf(LENGTHS.map((length, i) => ({ length, decay: false, slot: Number(isOff(i)) })));

/** Padding and segments that are not enabled hold NaN: nobody may look at them. */
function normCase(values: (count: number, segment: number) => ArrayLike<number>, limit = 0): OpCase<'grad_norm'> {
  const grad = placed(
    ARENA,
    LENGTHS.map((n, i) => (isOff(i) ? new Float64Array(n).fill(NaN) : values(n, i))),
    NaN,
  );
  return {
    op: 'grad_norm',
    tensors: {
      grad: { shape: [ARENA.total], values: grad },
      segments: ARENA.table,
      slots: { shape: [2, 4], values: SLOTS },
      limit: { shape: [1], values: [limit] },
      norm: { shape: [1], dtype: 'float64' },
      clip_factor: { shape: [1] },
    },
  };
}

test('is exact on small integers, over enabled segments alone', () => {
  const c = normCase(smallIntegers);
  let sum = 0;
  for (const v of Array.from(c.tensors['grad']!.values!)) if (!Number.isNaN(v)) sum += v * v;
  checkExact(c, { norm: [Math.sqrt(sum)], clip_factor: [1] });
});

test('is as accurate as the plain loop, and deterministic', () => {
  checkAccuracy(normCase(randomValues, 1));
  checkDeterminism(normCase(randomValues, 1));
});

test('clips to min(1, limit / (norm + 1e-6)); 0, less than 0 and infinity clip nothing', () => {
  const only =
    (v: number) =>
    (n: number, i: number): Float64Array =>
      new Float64Array(n).fill(i === 0 ? v : 0);
  const factor = (norm: number, limit: number, set: string): number => {
    const out = runCase(normCase(only(norm), limit), 'float32', set);
    assert.is(out['norm']![0], norm);
    return out['clip_factor']![0]!;
  };
  for (const set of INSTRUCTION_SETS) {
    assert.is(factor(8, 2, set), Math.fround(2 / (8 + 1e-6)));
    assert.is(factor(8, 8, set), Math.fround(8 / (8 + 1e-6)));
    assert.is(factor(8, 8.5, set), 1);
    assert.is(factor(0, 1, set), 1);
    for (const none of [0, -1, Infinity]) assert.is(factor(8, none, set), 1);
    assert.ok(Number.isNaN(factor(8, NaN, set)));
  }
});

test('gradients near the ends of float32 neither overflow nor vanish', () => {
  for (const set of INSTRUCTION_SETS)
    for (const v of [2 ** 127, 2 ** -149]) {
      const out = runCase(
        normCase((n, i) => new Float64Array(n).fill(i === 5 ? v : 0)),
        'float32',
        set,
      );
      same(out['norm']!, [v * 16], set); // 256 of them
    }
});

test('a norm that is not finite is seen, and turns the factor into NaN', () => {
  for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const])
    for (const bad of [NaN, Infinity, -Infinity])
      for (const limit of [0, 1]) {
        const last = LENGTHS.length - 1;
        const c = normCase((n, i) => Float64Array.from({ length: n }, (_, k) => (i === last && k === n - 1 ? bad : 1)), limit);
        const out = runCase(c, dtype, set);
        assert.is(Number.isFinite(out['norm']![0]), false, `${bad} on ${set}`);
        same(out['clip_factor']!, [NaN], `${bad} on ${set}`);
      }
});

test('an empty arena has norm 0', () => {
  tidy(() => {
    const norm = Tensor.zeros([1], 'float64');
    const clip_factor = Tensor.zeros([1]);
    dispatch('grad_norm', {
      grad: Tensor.zeros([0]),
      segments: Tensor.zeros([0, 4], 'int64'),
      slots: Tensor.zeros([0, 4]),
      limit: Tensor.from([1]),
      norm,
      clip_factor,
    });
    same(norm.data() as Float64Array, [0]);
    same(clip_factor.float32(), [1]);
  });
});

test('names field or row, expected and given', () => {
  tidy(() => {
    const good = {
      grad: Tensor.zeros([32]),
      segments: Tensor.from(BigInt64Array.of(0n, 32n, 0n, 0n), [1, 4]),
      slots: Tensor.zeros([1, 4]),
      limit: Tensor.zeros([1]),
      norm: Tensor.zeros([1], 'float64'),
      clip_factor: Tensor.zeros([1]),
    };
    const fails = (change: object, code: 'ERR_SHAPE' | 'ERR_DTYPE' | 'ERR_ARGS', ...parts: string[]): void => {
      throwsCode(() => dispatch('grad_norm', { ...good, ...change }), code, 'grad_norm', ...parts);
    };
    fails({ norm: Tensor.zeros([1]) }, 'ERR_DTYPE', "'norm'", 'float64', 'float32');
    fails({ norm: Tensor.zeros([2], 'float64') }, 'ERR_SHAPE', "'norm'", '[1]', '[2]');
    fails({ limit: Tensor.zeros([2]) }, 'ERR_SHAPE', "'limit'");
    fails({ clip_factor: Tensor.zeros([1], 'float64') }, 'ERR_DTYPE', "'clip_factor'");
    fails({ slots: Tensor.zeros([1, 4], 'float64') }, 'ERR_DTYPE', "'slots'");
    fails({ grad: Tensor.zeros([64]).strided([32], [2]) }, 'ERR_SHAPE', "'grad'");
    fails({ grad: Tensor.zeros([31]) }, 'ERR_ARGS', 'row 0', '31 elements', 'length 32');
  });
});

test.run();
