import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tape } from '../../src/autograd/tape.js';
import { maxPool2d } from '../../src/ops/max_pool2d.js';
import { Tensor, countOf, dispatch, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import {
  INSTRUCTION_SETS,
  checkDeterminism,
  checkExact,
  gradcheck,
  randomValues,
  runCase,
  same,
  smallIntegers,
  withInstructionSet,
} from '../support/op-case.js';
import { POOLS, expectedGradient, forwardCase, gradientCase, nameOf, outShape, winners } from '../support/pool-case.js';
import type { Pool } from '../support/pool-case.js';

for (const p of POOLS)
  test(`takes the maximum and gives its gradient to the first one: ${nameOf(p)}`, () => {
    // Whole numbers in -2 .. 2: most windows have several maxima.
    const x = smallIntegers(p.b * p.h * p.w * p.c, 1, 2);
    const dy = smallIntegers(countOf(outShape(p)), 2);
    checkExact(forwardCase(p, x), { y: winners(p, x).map((at) => x[at]!) });
    checkExact(gradientCase(p, x, dy), { dx: expectedGradient(p, x, dy) });
  });

test('NaN wins, the last one takes the gradient; minus infinity is a value like any other', () => {
  const p: Pool = { b: 1, h: 4, w: 4, c: 18, kernel: 3, stride: 1, padding: 1 };
  const x = smallIntegers(4 * 4 * 18, 3);
  x[(1 * 4 + 1) * 18 + 2] = NaN;
  x[(1 * 4 + 2) * 18 + 2] = NaN;
  for (let i = 0; i < 16; i++) x[i * 18 + 17] = -Infinity;
  x[(3 * 4 + 3) * 18] = Infinity;
  const dy = smallIntegers(4 * 4 * 18, 4);
  checkExact(forwardCase(p, x), { y: winners(p, x).map((at) => x[at]!) });
  checkExact(gradientCase(p, x, dy), { dx: expectedGradient(p, x, dy) });
});

test('gives the same bits on any number of threads', () => {
  const p: Pool = { b: 2, h: 15, w: 14, c: 70, kernel: 3, stride: 2, padding: 1 };
  const x = randomValues(p.b * p.h * p.w * p.c, 1);
  checkDeterminism(forwardCase(p, x));
  checkDeterminism(gradientCase(p, x, randomValues(countOf(outShape(p)), 2)));
});

test('the gradient agrees with finite differences', () => {
  const p: Pool = { b: 2, h: 6, w: 5, c: 3, kernel: 3, stride: 2, padding: 1 };
  const x = randomValues(p.b * p.h * p.w * p.c, 1);
  const dy = randomValues(countOf(outShape(p)), 2);
  gradcheck(forwardCase(p, x), { y: dy }, { x: runCase(gradientCase(p, x, dy), 'float64')['dx']! });
});

test('reads and writes strided maps', () => {
  const p: Pool = { b: 2, h: 6, w: 6, c: 20, kernel: 3, stride: 2, padding: 1 };
  const x = Float32Array.from(smallIntegers(p.b * 36 * 20, 1));
  const want = Float32Array.from(winners(p, x), (at) => x[at]!);
  const dy = Float32Array.from(smallIntegers(want.length, 2));
  for (const set of INSTRUCTION_SETS)
    withInstructionSet(set, () =>
      tidy(() => {
        // Maps of 24 channels of which 20 take part, one row longer than needed.
        const wide = (rows: number, fill: ArrayLike<number> | undefined): { whole: Tensor; map: Tensor } => {
          const strides = [(rows + 1) * rows * 24, rows * 24, 24, 1];
          const data = new Float32Array(2 * strides[0]!).fill(-77);
          if (fill)
            for (let n = 0; n < fill.length; n++) {
              const q = Math.floor(n / 20);
              data[Math.floor(q / (rows * rows)) * strides[0]! + (q % (rows * rows)) * 24 + (n % 20)] = fill[n]!;
            }
          const whole = Tensor.from(data);
          return { whole, map: whole.strided([2, rows, rows, 20], strides) };
        };
        const y = wide(3, undefined);
        const dx = wide(6, undefined);
        const input = wide(6, x).map;
        dispatch('max_pool2d', { x: input, y: y.map, kernel: 3, stride: 2, padding: 1 });
        same(y.whole.float32(), wide(3, want).whole.float32(), `${set} y`);
        dispatch('max_pool2d_grad', { x: input, dy: wide(3, dy).map, dx: dx.map, kernel: 3, stride: 2, padding: 1 });
        same(dx.whole.float32(), wide(6, expectedGradient(p, x, dy)).whole.float32(), `${set} dx`);
      }),
    );
});

test('the op on the tape gives the gradient back', () => {
  const p: Pool = { b: 2, h: 7, w: 8, c: 5, kernel: 3, stride: 2, padding: 1 };
  const values = Float32Array.from(smallIntegers(p.b * p.h * p.w * p.c, 1));
  const dy = Float32Array.from(smallIntegers(countOf(outShape(p)), 2));
  tidy(() => {
    const tape = new Tape();
    const x = Tensor.from(values, [p.b, p.h, p.w, p.c]);
    tape.watch(x);
    const y = tape.run(() => maxPool2d(x, p));
    assert.equal(y.shape, outShape(p));
    const [dx] = tape.backward([[y, Tensor.from(dy, y.shape)]], [x]);
    same(dx!.float32(), expectedGradient(p, values, dy));
    assert.equal(maxPool2d(x, { kernel: 2 }).shape, [2, 3, 4, 5]);
    throwsCode(() => maxPool2d(x, { kernel: 0 }), 'ERR_ARGS', "'kernel'");
    throwsCode(() => maxPool2d(x, { kernel: 2, stride: 0 }), 'ERR_ARGS', "'stride'");
    throwsCode(() => maxPool2d(x, { kernel: 9 }), 'ERR_SHAPE', "'x'");
  });
});

test('errors name the op, the field and the numbers', () => {
  tidy(() => {
    const x = Tensor.zeros([1, 6, 6, 4]);
    const y = Tensor.zeros([1, 3, 3, 4]);
    const base = { x, y, kernel: 3, stride: 2, padding: 1 };
    throwsCode(() => dispatch('max_pool2d', { ...base, kernel: 0 }), 'ERR_ARGS', "max_pool2d: expected 'kernel'");
    throwsCode(() => dispatch('max_pool2d', { ...base, stride: 0 }), 'ERR_ARGS', "'stride'");
    throwsCode(() => dispatch('max_pool2d', { ...base, padding: 2 }), 'ERR_ARGS', "'padding' in 0 to 1", 'got 2');
    throwsCode(() => dispatch('max_pool2d', { ...base, kernel: 9, padding: 0 }), 'ERR_SHAPE', "'x'", 'size 9');
    throwsCode(() => dispatch('max_pool2d', { ...base, y: Tensor.zeros([1, 3, 3, 5]) }), 'ERR_SHAPE', "'y'", '[1,3,3,4]');
    throwsCode(() => dispatch('max_pool2d', { ...base, y: Tensor.zeros([1, 3, 3, 4], 'float64') }), 'ERR_DTYPE', "'y'");
    throwsCode(() => dispatch('max_pool2d', { ...base, x: Tensor.zeros([1, 0, 6, 4]) }), 'ERR_SHAPE', "'x'");
    throwsCode(() => dispatch('max_pool2d', { ...base, x: x.strided([1, 6, 6, 4], [0, 6, 1, 36]) }), 'ERR_SHAPE', "'x' packed");
    const grad = { x, dy: y, dx: Tensor.zeros([1, 6, 6, 5]), kernel: 3, stride: 2, padding: 1 };
    throwsCode(() => dispatch('max_pool2d_grad', grad), 'ERR_SHAPE', "max_pool2d_grad: expected 'dx'", '[1,6,6,4]');
  });
});

test.run();
