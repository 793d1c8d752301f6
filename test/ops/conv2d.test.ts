import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, costOf, dispatch, tidy } from '../../src/tensor/index.js';
import {
  checkGolden,
  forwardCase,
  forwardExpected,
  forwardReference,
  gradientCase,
  gradientExpected,
  nameOf,
  shapesOf,
} from '../support/conv-case.js';
import type { Geometry } from '../support/conv-case.js';
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
  withInstructionSet,
} from '../support/op-case.js';

// Every kernel the models have (1, 3, 4, 7), stride, padding; then what none of them has: windows that are not square, padding wider than the
// window, strides that skip input (so that dx has rows without taps), more taps than one product takes (49).
const GEOMETRIES: Geometry[] = [
  { b: 1, h: 1, w: 1, i: 1, o: 1, k: 1, stride: 1, padding: 0 },
  { b: 2, h: 5, w: 4, i: 33, o: 65, k: 1, stride: 1, padding: 0 },
  { b: 2, h: 7, w: 6, i: 3, o: 33, k: 1, stride: 2, padding: 0 },
  { b: 1, h: 4, w: 5, i: 3, o: 2, k: 1, stride: 1, padding: 1 },
  { b: 2, h: 16, w: 16, i: 7, o: 40, k: 3, stride: 1, padding: 1 },
  { b: 1, h: 14, w: 13, i: 33, o: 5, k: 3, stride: 1, padding: 0 },
  { b: 3, h: 9, w: 8, i: 20, o: 33, k: 3, stride: 2, padding: 1 },
  { b: 2, h: 7, w: 7, i: 3, o: 17, k: 3, stride: 2, padding: 0 },
  { b: 2, h: 14, w: 14, i: 5, o: 33, k: 4, stride: 2, padding: 1 },
  { b: 1, h: 20, w: 21, i: 3, o: 64, k: 7, stride: 2, padding: 3 },
  { b: 1, h: 6, w: 5, i: 2, o: 3, k: [2, 3], stride: 1, padding: 2 },
  { b: 1, h: 4, w: 3, i: 2, o: 3, k: [1, 3], stride: 1, padding: 4 },
  { b: 2, h: 11, w: 10, i: 3, o: 4, k: 2, stride: 3, padding: 0 },
  { b: 1, h: 2, w: 9, i: 4, o: 3, k: [2, 1], stride: 5, padding: 1 },
  { b: 1, h: 10, w: 9, i: 3, o: 5, k: 8, stride: 1, padding: 1 },
  { b: 1, h: 9, w: 60, i: 1, o: 2, k: [2, 55], stride: 1, padding: 0 },
  { b: 1, h: 24, w: 20, i: 2, o: 3, k: 16, stride: 2, padding: 3 },
];

for (const g of GEOMETRIES) {
  test(`forward is exact on integers: ${nameOf(g)}`, () => {
    for (const options of [
      {},
      { packed: true },
      { bias: true, relu: true },
      { packed: true, bias: true, residual: true, relu: true },
      { residual: true },
    ]) {
      const c = forwardCase(g, smallIntegers, options);
      checkExact(c, forwardExpected(g, c));
    }
  });

  test(`gradient is exact on integers: ${nameOf(g)}`, () => {
    for (const options of [{}, { packed: true, accumulate: true }, { relu: true }, { packed: true, relu: true, accumulate: true }]) {
      const c = gradientCase(g, smallIntegers, options);
      checkExact(c, gradientExpected(g, c));
    }
  });
}

const WIDE: Geometry = { b: 2, h: 16, w: 16, i: 96, o: 80, k: 3, stride: 1, padding: 1 };

test('is as accurate as the plain loop', () => {
  checkAccuracy(forwardCase(WIDE, randomValues, { packed: true, bias: true, residual: true, relu: true }));
  checkAccuracy(gradientCase(WIDE, randomValues, { packed: true, relu: true, accumulate: true }));
  checkAccuracy(gradientCase({ ...WIDE, i: 32, o: 24, stride: 2 }, randomValues));
});

test('gives the same bits on any number of threads', () => {
  const g = { ...WIDE, b: 3, i: 40, o: 72 };
  checkDeterminism(forwardCase(g, randomValues, { packed: true, bias: true, relu: true }));
  checkDeterminism(gradientCase(g, randomValues, { relu: true, accumulate: true }));
});

test('gradients agree with finite differences', () => {
  for (const g of [
    { b: 2, h: 5, w: 4, i: 3, o: 4, k: 3, stride: 1, padding: 1 },
    { b: 1, h: 7, w: 8, i: 2, o: 3, k: 4, stride: 2, padding: 1 },
  ])
    for (const relu of [false, true]) {
      const forward = forwardCase(g, randomValues, { bias: true, relu });
      const dy = randomValues(forwardExpected(g, forward)['y']!.length, 9);
      const y = runCase(forward, 'float64')['y']!;
      const back = gradientCase(g, randomValues, { relu });
      back.tensors['dy'] = { ...back.tensors['dy']!, values: dy };
      if (relu) back.tensors['y'] = { shape: shapesOf(g).y, values: y };
      const got = runCase(back, 'float64');
      gradcheck(forward, { y: dy }, { x: got['dx']!, w: got['dw']!, bias: got['dbias']! });
    }
});

for (const [name, stride, padding] of [
  ['conv2d_s1p1k3', 1, 1],
  ['conv2d_s2p1k3_even', 2, 1],
  ['conv2d_s2p1k3_odd', 2, 1],
  ['conv2d_s2p1k4', 2, 1],
  ['conv2d_s1p1k3_16', 1, 1],
  ['conv2d_s16p0k16', 16, 0],
] as const)
  test(`agrees with PyTorch: ${name}`, () => checkGolden(name, { stride, padding }));

/** Tokens [B,1 + h·w,C] without the first, as a map: a view whose images are not adjacent. */
function mapOfTokens(b: number, h: number, w: number, c: number, values: ArrayLike<number>): { tokens: Tensor; map: Tensor } {
  const data = new Float32Array(b * (1 + h * w) * c).fill(-77);
  for (let n = 0; n < b; n++) for (let i = 0; i < h * w * c; i++) data[(n * (1 + h * w) + 1) * c + i] = values[n * h * w * c + i] ?? 0;
  const tokens = Tensor.from(data, [b, 1 + h * w, c]);
  return { tokens, map: tokens.strided([b, h, w, c], [(1 + h * w) * c, w * c, c, 1], c) };
}

test('reads and writes strided maps, and adds the residual in place', () => {
  for (const k of [1, 3]) {
    const g: Geometry = { b: 2, h: 14, w: 14, i: 20, o: 36, k, stride: 1, padding: (k - 1) / 2 };
    const c = forwardCase(g, smallIntegers, { bias: true, residual: true, relu: true });
    const values = (name: string): Float32Array => Float32Array.from(c.tensors[name]!.values!);
    const want = forwardReference(g, values('x'), values('w'), values('bias'), values('residual'), true);
    for (const set of INSTRUCTION_SETS)
      withInstructionSet(set, () =>
        tidy(() => {
          const x = mapOfTokens(2, 14, 14, 20, values('x'));
          const y = mapOfTokens(2, 14, 14, 36, values('residual'));
          const w = Tensor.from(values('w'), [36, k, k, 20]);
          const scalars = { stride: 1, padding: g.padding, activation: 'relu' } as const;
          dispatch('conv2d', { x: x.map, w, bias: Tensor.from(values('bias')), residual: y.map, y: y.map, ...scalars });
          same(y.tokens.float32(), mapOfTokens(2, 14, 14, 36, want).tokens.float32(), `${set} y`);

          const dy = mapOfTokens(2, 14, 14, 36, smallIntegers(want.length, 5));
          const dx = mapOfTokens(2, 14, 14, 20, []);
          const dw = Tensor.empty([36, k, k, 20]);
          dispatch('conv2d_grad', { x: x.map, w, dy: dy.map, y: y.map, dx: dx.map, dw, accumulate: 0, ...scalars });
          const back = gradientCase(g, smallIntegers, { relu: true });
          back.tensors['y'] = { ...back.tensors['y']!, values: want };
          const expected = gradientExpected(g, back);
          same(dw.float32(), expected['dw']!, `${set} dw`);
          same(dx.tokens.float32(), mapOfTokens(2, 14, 14, 20, expected['dx']!).tokens.float32(), `${set} dx`);
        }),
      );
  }
});

test('writes only the gradients that are asked for', () => {
  const g: Geometry = { b: 1, h: 6, w: 6, i: 3, o: 5, k: 3, stride: 1, padding: 1 };
  const whole = gradientCase(g, smallIntegers);
  const expected = gradientExpected(g, whole);
  for (const name of ['dx', 'dw', 'dbias']) {
    const tensors = { ...whole.tensors };
    for (const other of ['dx', 'dw', 'dbias']) if (other !== name) delete tensors[other];
    checkExact({ ...whole, tensors }, { [name]: expected[name]! });
  }
});

test('a NaN reaches the windows that cover it and no other', () => {
  const g: Geometry = { b: 1, h: 6, w: 6, i: 33, o: 34, k: 3, stride: 1, padding: 1 };
  const c = forwardCase(g, smallIntegers, { packed: true, bias: true, relu: true });
  const expected = forwardExpected(g, c)['y']!;
  const x = Float64Array.from(c.tensors['x']!.values!);
  x[(2 * 6 + 3) * 33 + 5] = NaN;
  c.tensors['x']!.values = x;
  for (let y = 1; y <= 3; y++) for (let i = 2; i <= 4; i++) expected.fill(NaN, (y * 6 + i) * 34, (y * 6 + i + 1) * 34);
  checkExact(c, { y: expected });
});

test('huge values overflow to infinity, not beyond', () => {
  const g: Geometry = { b: 1, h: 3, w: 3, i: 1, o: 1, k: 3, stride: 1, padding: 1 };
  const c = forwardCase(g, (count) => new Float64Array(count).fill(1e30));
  for (const set of INSTRUCTION_SETS) same(runCase(c, 'float32', set)['y']!, new Float64Array(9).fill(Infinity), set);
});

test('counts multiply-adds of all taps and stays within 256 KB a thread', () => {
  tidy(() => {
    const args = {
      x: Tensor.empty([8, 16, 16, 192]),
      w: Tensor.empty([192, 3, 3, 192]),
      y: Tensor.empty([8, 16, 16, 192]),
      stride: 1,
      padding: 1,
      activation: 'relu',
    } as const;
    const cost = costOf('conv2d', args);
    assert.is(cost.flops, 2 * 8 * 256 * 192 * 9 * 192);
    const { y, ...rest } = args;
    const back = { ...rest, dy: y, y, dx: Tensor.empty([8, 16, 16, 192]), dw: Tensor.empty([192, 3, 3, 192]), accumulate: 1 };
    assert.is(costOf('conv2d_grad', back).flops, 2 * cost.flops);
    for (const { workspace } of [cost, costOf('conv2d_grad', back)]) assert.ok(workspace <= 256 * 1024 * 64 && workspace > 0);
  });
});

test('errors name the op, the field and the numbers', () => {
  const base = { stride: 1, padding: 1, activation: 'none' } as const;
  tidy(() => {
    const x = Tensor.zeros([1, 6, 6, 4]);
    const w = Tensor.zeros([8, 3, 3, 4]);
    const y = Tensor.zeros([1, 6, 6, 8]);
    const grad = { x, w, dy: y, accumulate: 0, ...base };
    throwsCode(
      () => dispatch('conv2d', { x, w, y: Tensor.zeros([1, 6, 5, 8]), ...base }),
      'ERR_SHAPE',
      "conv2d: expected 'y'",
      '[1,6,6,8]',
    );
    throwsCode(() => dispatch('conv2d', { x, w: Tensor.zeros([8, 3, 3, 5]), y, ...base }), 'ERR_SHAPE', "'w'", '[8,3,3,4]');
    throwsCode(() => dispatch('conv2d', { x, w: w.strided([8, 3, 3, 4], [36, 12, 4, 0]), y, ...base }), 'ERR_SHAPE', "'w' packed");
    throwsCode(() => dispatch('conv2d', { x: x.strided([1, 6, 6, 4], [0, 6, 1, 6]), w, y, ...base }), 'ERR_SHAPE', "'x' packed");
    throwsCode(() => dispatch('conv2d', { x, w, y, ...base, stride: 0 }), 'ERR_ARGS', "'stride'", 'got 0');
    throwsCode(() => dispatch('conv2d', { x, w, y, ...base, padding: -1 }), 'ERR_ARGS', "'padding'", 'got -1');
    throwsCode(() => dispatch('conv2d', { x, w, y, ...base, stride: 2 ** 40 }), 'ERR_ARGS', "'stride'");
    throwsCode(() => dispatch('conv2d', { x, w: Tensor.zeros([8, 9, 9, 4]), y, ...base }), 'ERR_SHAPE', 'window');
    throwsCode(() => dispatch('conv2d', { x, w, y, bias: Tensor.zeros([7]), ...base }), 'ERR_SHAPE', "'bias'", '[8]');
    throwsCode(() => dispatch('conv2d', { x, w, y, residual: Tensor.zeros([1, 6, 6, 7]), ...base }), 'ERR_SHAPE', "'residual'");
    throwsCode(() => dispatch('conv2d', { x, w, y, packed: Tensor.zeros([100]), ...base }), 'ERR_SHAPE', "'packed'", '[1152]');
    throwsCode(() => dispatch('conv2d', { x, w: Tensor.zeros([8, 3, 3, 4], 'float64'), y, ...base }), 'ERR_DTYPE', "'w'", 'float32');
    throwsCode(() => dispatch('conv2d', { x: Tensor.zeros([0, 6, 6, 4]), w, y: Tensor.zeros([0, 6, 6, 8]), ...base }), 'ERR_SHAPE', "'x'");
    throwsCode(() => dispatch('conv2d_grad', { ...grad, activation: 'relu' }), 'ERR_ARGS', "as 'y'");
    throwsCode(() => dispatch('conv2d_grad', { ...grad, dx: Tensor.zeros([1, 6, 6, 5]) }), 'ERR_SHAPE', "'dx'");
    throwsCode(() => dispatch('conv2d_grad', { ...grad, dw: Tensor.zeros([8, 4, 3, 3]) }), 'ERR_SHAPE', "'dw'");
    throwsCode(() => dispatch('conv2d_grad', { ...grad, dbias: Tensor.zeros([9]) }), 'ERR_SHAPE', "'dbias'");
    throwsCode(() => dispatch('conv2d_grad', { ...grad, packed: Tensor.zeros([2304 / 2]) }), 'ERR_SHAPE', "'packed'", '[2304]');
    const wide = Tensor.zeros([1, 6, 7, 8]).strided([1, 6, 6, 8], [336, 56, 8, 1]);
    throwsCode(() => dispatch('conv2d_grad', { ...grad, y: wide, activation: 'relu' }), 'ERR_SHAPE', "'y' with the strides of 'dy'");
  });
});

test.run();
