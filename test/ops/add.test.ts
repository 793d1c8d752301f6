import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  randomValues,
  same,
  smallIntegers,
  withInstructionSet,
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';

function addCase(count: number, values: (count: number, seed: number) => Float64Array): OpCase {
  return {
    op: 'add',
    tensors: { a: { shape: [count], values: values(count, 1) }, b: { shape: [count], values: values(count, 2) }, y: { shape: [count] } },
  };
}

for (const count of [1, 3, 33, 197, 70000]) {
  test(`adds ${count} elements exactly`, () => {
    const c = addCase(count, smallIntegers);
    checkExact(c, { y: Float64Array.from(c.tensors['a']!.values!, (a, i) => a + c.tensors['b']!.values![i]!) });
  });
}

test('is as accurate as the plain loop, and deterministic', () => {
  checkAccuracy(addCase(70001, randomValues));
  checkDeterminism(addCase(100000, randomValues));
});

test('works in place and passes NaN and infinity on', () => {
  for (const set of INSTRUCTION_SETS)
    withInstructionSet(set, () =>
      tidy(() => {
        const a = Tensor.from([1, NaN, Infinity, -Infinity]);
        dispatch('add', { a, b: Tensor.from([1, 1, 1, Infinity]), y: a });
        same(a.float32(), [2, NaN, Infinity, NaN]);
      }),
    );
});

test('names the field, the expected and the given shape or dtype', () => {
  tidy(() => {
    const a = Tensor.zeros([2, 3]);
    const code = (y: Tensor): string => {
      try {
        dispatch('add', { a, b: a, y });
      } catch (error) {
        assert.instance(error, TheiaError);
        assert.match((error as Error).message, /add: expected 'y'/);
        return (error as TheiaError).code;
      }
      return 'none';
    };
    assert.is(code(Tensor.zeros([3, 2])), 'ERR_SHAPE');
    assert.is(code(Tensor.zeros([2, 3], 'float64')), 'ERR_DTYPE');
    assert.is(code(Tensor.zeros([3, 3]).strided([2, 3], [3, 2])), 'ERR_SHAPE');
  });
});

test.run();
