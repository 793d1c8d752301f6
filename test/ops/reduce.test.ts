import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tape } from '../../src/autograd/index.js';
import { reduce } from '../../src/ops/reduce.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  gradcheck,
  randomValues,
  runCase,
  same,
  smallIntegers,
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';

const KINDS = ['mean', 'max', 'sum'] as const;
type Kind = (typeof KINDS)[number];
type Make = (count: number, seed: number) => Float64Array;

function forward(kind: Kind, batch: number, tokens: number, width: number, values: Make = randomValues): OpCase {
  return {
    op: 'reduce',
    tensors: { x: { shape: [batch, tokens, width], values: values(batch * tokens * width, 1) }, y: { shape: [batch, width] } },
    scalars: { kind },
  };
}

function backward(f: OpCase, values: Make = randomValues): OpCase {
  const [batch, , width] = f.tensors['x']!.shape as [number, number, number];
  const max = f.scalars!['kind'] === 'max';
  return {
    op: 'reduce_grad',
    tensors: {
      ...(max ? { x: f.tensors['x']!, y: { shape: [batch, width], values: runCase(f, 'float64')['y']! } } : {}),
      dy: { shape: [batch, width], values: values(batch * width, 5) },
      dx: { shape: f.tensors['x']!.shape },
    },
    scalars: { kind: f.scalars!['kind']! },
  };
}

/** What the op means, element by element. */
function expected(f: OpCase): Float64Array {
  const [batch, tokens, width] = f.tensors['x']!.shape as [number, number, number];
  const x = f.tensors['x']!.values!;
  return Float64Array.from({ length: batch * width }, (_, i) => {
    const column = Array.from({ length: tokens }, (_, n) => x[(Math.floor(i / width) * tokens + n) * width + (i % width)]!);
    if (f.scalars!['kind'] === 'max') return column.reduce((a, b) => (b > a ? b : a));
    return column.reduce((a, b) => a + b);
  });
}

test('exact on integers at odd sizes', () => {
  for (const tokens of [1, 3, 7, 8, 9, 33, 196, 197, 256, 257, 600])
    for (const width of tokens > 33 ? [3, 33] : [1, 3, 33, 197, 257]) {
      for (const kind of ['max', 'sum'] as const) {
        const f = forward(kind, 2, tokens, width, (n, seed) => smallIntegers(n, seed).map((v) => v + 0));
        checkExact(f, { y: expected(f) });
      }
    }
  for (const tokens of [1, 4, 256]) {
    const f = forward('mean', 3, tokens, 65, (n, seed) => smallIntegers(n, seed).map((v) => v * 256 + 0));
    checkExact(f, { y: expected(f).map((v) => v / tokens) });
  }
});

test('as accurate as the plain loop', () => {
  for (const [tokens, width] of [
    [196, 65],
    [257, 33],
    [4097, 7],
  ] as const)
    for (const kind of ['mean', 'sum'] as const) {
      checkAccuracy(forward(kind, 2, tokens, width), kind);
      checkAccuracy(backward(forward(kind, 2, tokens, width)), kind);
    }
});

test('of equal maxima the first gets the gradient', () => {
  for (const [tokens, width] of [
    [1, 5],
    [3, 33],
    [197, 65],
  ] as const) {
    const f = forward('max', 2, tokens, width, (n, seed) => smallIntegers(n, seed, 2).map((v) => v + 0));
    const b = backward(f, (n, seed) => smallIntegers(n, seed).map((v) => v || 1));
    const [x, y, dy] = ['x', 'y', 'dy'].map((n) => b.tensors[n]!.values!) as [Float64Array, Float64Array, Float64Array];
    const dx = new Float64Array(x.length);
    for (let s = 0; s < 2; s++)
      for (let d = 0; d < width; d++)
        for (let n = 0; n < tokens; n++) {
          const i = (s * tokens + n) * width + d;
          if (x[i] !== y[s * width + d]) continue;
          dx[i] = dy[s * width + d]!;
          break;
        }
    checkExact(b, { dx });
  }
});

test('gradients agree with finite differences', () => {
  for (const kind of KINDS) {
    const f = forward(kind, 2, 5, 7);
    const b = backward(f);
    gradcheck(f, { y: b.tensors['dy']!.values! }, { x: runCase(b, 'float64')['dx']! }, 70);
  }
});

test('NaN wins, its gradient goes to the first NaN; -inf is a value', () => {
  const x = new Float64Array(2 * 9 * 3).fill(-Infinity);
  x[3 * 3] = NaN; // sample 0, token 3, column 0
  x[5 * 3] = NaN;
  x[6 * 3 + 1] = 4; // column 1
  for (const set of INSTRUCTION_SETS) {
    const f = forward('max', 2, 9, 3, () => x);
    const y = runCase(f, 'float32', set)['y']!;
    same(y, [NaN, 4, -Infinity, -Infinity, -Infinity, -Infinity], set);
    const dx = runCase(
      backward(f, (n) => new Float64Array(n).fill(1)),
      'float32',
      set,
    )['dx']!;
    const want = new Float64Array(x.length);
    for (const i of [3 * 3, 6 * 3 + 1, 2, 27, 28, 29]) want[i] = 1;
    same(dx, want, set);
    const sum = runCase({ ...f, scalars: { kind: 'sum' } }, 'float32', set)['y']!;
    assert.ok(Number.isNaN(sum[0]));
    assert.is(sum[5], -Infinity);
  }
});

test('strided samples and rows: the tokens behind the class token', () => {
  const spread = (c: OpCase): OpCase => ({
    ...c,
    tensors: Object.fromEntries(
      Object.entries(c.tensors).map(([n, t]) => [n, { ...t, strides: t.shape.length === 3 ? [40 * 50, 40, 1] : [37, 1] }]),
    ),
  });
  for (const kind of KINDS) {
    const f = forward(kind, 3, 20, 35);
    for (const set of INSTRUCTION_SETS) {
      same(runCase(spread(f), 'float32', set)['y']!, runCase(f, 'float32', set)['y']!, `${kind} ${set}`);
      const b = backward(f);
      same(runCase(spread(b), 'float32', set)['dx']!, runCase(b, 'float32', set)['dx']!, `${kind} gradient ${set}`);
    }
  }
});

test('the same bits twice and on any number of threads; nothing to do is nothing done', () => {
  for (const kind of KINDS) {
    const f = forward(kind, 3, 40, 520);
    checkDeterminism(f);
    checkDeterminism(backward(f));
    for (const set of INSTRUCTION_SETS) {
      assert.is(runCase(forward(kind, 0, 4, 5), 'float32', set)['y']!.length, 0);
      assert.is(runCase(forward(kind, 2, 4, 0), 'float32', set)['y']!.length, 0);
    }
  }
});

test('names what is wrong', () => {
  tidy(() => {
    const x = Tensor.zeros([2, 4, 3]);
    const y = Tensor.zeros([2, 3]);
    throwsCode(() => dispatch('reduce', { x, y: Tensor.zeros([2, 4]), kind: 'sum' }), 'ERR_SHAPE', 'reduce', "'y'", '[2,3]', '[2,4]');
    throwsCode(() => dispatch('reduce', { x: Tensor.zeros([2, 0, 3]), y, kind: 'sum' }), 'ERR_SHAPE', "'x'", 'at least 1');
    throwsCode(() => dispatch('reduce', { x: x.strided([2, 4, 3], [12, 1, 4]), y, kind: 'sum' }), 'ERR_SHAPE', "'x'", 'packed');
    throwsCode(() => dispatch('reduce', { x, y: y.strided([2, 3], [0, 1]), kind: 'sum' }), 'ERR_SHAPE', "'y'", 'overlap');
    throwsCode(() => dispatch('reduce', { x, y, kind: 'median' as 'sum' }), 'ERR_ARGS', "'kind'");
    throwsCode(() => dispatch('reduce', { x, y: Tensor.zeros([2, 3], 'float64'), kind: 'sum' }), 'ERR_DTYPE', "'y'");
    throwsCode(() => dispatch('reduce_grad', { dy: y, dx: x, kind: 'max' }), 'ERR_ARGS', "'x'");
    throwsCode(() => dispatch('reduce_grad', { dy: Tensor.zeros([3, 3]), dx: x, kind: 'sum' }), 'ERR_SHAPE', "'dy'");
  });
});

test('on the tape: gradients reach the tokens', () => {
  const f = forward('max', 2, 9, 5);
  for (const kind of KINDS)
    tidy(() => {
      const c = { ...f, scalars: { kind } };
      const b = backward(c);
      const x = Tensor.from(Float32Array.from(f.tensors['x']!.values!), [2, 9, 5]);
      const dy = Tensor.from(Float32Array.from(b.tensors['dy']!.values!), [2, 5]);
      const tape = new Tape();
      tape.watch(x);
      const y = tape.run(() => reduce(x, kind));
      const [dx] = tape.backward([[y, dy]], [x]);
      same(y.float32(), runCase(c)['y']!);
      if (kind === 'max') b.tensors['y']!.values = y.float32();
      same(dx!.float32(), runCase(b)['dx']!);
      dx!.dispose();
    });
  tidy(() => throwsCode(() => reduce(Tensor.zeros([2, 3]), 'sum'), 'ERR_SHAPE', '[B,N,D]'));
});

test.run();
