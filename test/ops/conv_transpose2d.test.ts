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

// The translators' four (14 -> 16, 16 -> 16, 16 -> 31, 31 -> 64, the last two at small size), then others: a window as wide as the stride,
// strides wider than the window (outputs that no tap reaches), windows that are not square, wide padding, more taps than one product takes.
const GEOMETRIES: Geometry[] = [
  { b: 1, h: 1, w: 1, i: 1, o: 1, k: 1, stride: 1, padding: 0, outputPadding: 0 },
  { b: 2, h: 14, w: 14, i: 7, o: 40, k: 3, stride: 1, padding: 0, outputPadding: 0 },
  { b: 2, h: 7, w: 6, i: 33, o: 5, k: 3, stride: 1, padding: 1, outputPadding: 0 },
  { b: 2, h: 8, w: 8, i: 20, o: 33, k: 3, stride: 2, padding: 1, outputPadding: 0 },
  { b: 1, h: 16, w: 16, i: 3, o: 17, k: 3, stride: 2, padding: 1, outputPadding: 0 },
  { b: 2, h: 7, w: 9, i: 33, o: 3, k: 3, stride: 2, padding: 0, outputPadding: 1 },
  { b: 2, h: 5, w: 4, i: 9, o: 65, k: 1, stride: 1, padding: 0, outputPadding: 0 },
  { b: 1, h: 4, w: 5, i: 3, o: 33, k: 4, stride: 4, padding: 0, outputPadding: 0 },
  { b: 1, h: 5, w: 6, i: 4, o: 6, k: 4, stride: 2, padding: 1, outputPadding: 0 },
  { b: 2, h: 4, w: 3, i: 3, o: 5, k: 1, stride: 3, padding: 0, outputPadding: 2 },
  { b: 1, h: 4, w: 3, i: 3, o: 5, k: [2, 1], stride: 3, padding: 1, outputPadding: 2 },
  { b: 1, h: 6, w: 7, i: 2, o: 3, k: [2, 3], stride: 2, padding: 1, outputPadding: 1 },
  { b: 1, h: 9, w: 8, i: 2, o: 3, k: 2, stride: 1, padding: 3, outputPadding: 0 },
  { b: 1, h: 4, w: 5, i: 3, o: 4, k: 8, stride: 1, padding: 2, outputPadding: 0 },
  { b: 1, h: 3, w: 5, i: 2, o: 3, k: 16, stride: 2, padding: 4, outputPadding: 1 },
];

for (const g of GEOMETRIES) {
  test(`forward is exact on integers: ${nameOf(g)}`, () => {
    for (const options of [{}, { packed: true }, { bias: true, relu: true }, { packed: true, bias: true, relu: true }]) {
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

const WIDE: Geometry = { b: 2, h: 10, w: 10, i: 96, o: 80, k: 3, stride: 2, padding: 1, outputPadding: 0 };

test('is as accurate as the plain loop', () => {
  checkAccuracy(forwardCase(WIDE, randomValues, { packed: true, bias: true, relu: true }));
  checkAccuracy(gradientCase(WIDE, randomValues, { packed: true, relu: true, accumulate: true }));
  checkAccuracy(forwardCase({ ...WIDE, stride: 1, padding: 0 }, randomValues, { bias: true }));
  checkAccuracy(gradientCase({ ...WIDE, i: 32, o: 24, stride: 1, padding: 0 }, randomValues));
});

test('gives the same bits on any number of threads', () => {
  const g = { ...WIDE, b: 3, i: 40, o: 72 };
  checkDeterminism(forwardCase(g, randomValues, { packed: true, bias: true, relu: true }));
  checkDeterminism(gradientCase(g, randomValues, { relu: true, accumulate: true }));
});

test('gradients agree with finite differences', () => {
  for (const g of [
    { b: 2, h: 4, w: 3, i: 3, o: 4, k: 3, stride: 1, padding: 0, outputPadding: 0 },
    { b: 1, h: 4, w: 5, i: 2, o: 3, k: 3, stride: 2, padding: 0, outputPadding: 1 },
  ])
    for (const relu of [false, true]) {
      const forward = forwardCase(g, randomValues, { bias: true, relu });
      const dy = randomValues(forwardExpected(g, forward)['y']!.length, 9);
      const back = gradientCase(g, randomValues, { relu });
      back.tensors['dy'] = { ...back.tensors['dy']!, values: dy };
      if (relu) back.tensors['y'] = { shape: shapesOf(g).y, values: runCase(forward, 'float64')['y']! };
      const got = runCase(back, 'float64');
      gradcheck(forward, { y: dy }, { x: got['dx']!, w: got['dw']!, bias: got['dbias']! });
    }
});

for (const [name, stride, padding, outputPadding] of [
  ['conv_transpose2d_k3_s1p0', 1, 0, 0],
  ['conv_transpose2d_k3_s1p0_small', 1, 0, 0],
  ['conv_transpose2d_k3_s2p1', 2, 1, 0],
  ['conv_transpose2d_k3_s2p1_small', 2, 1, 0],
  ['conv_transpose2d_k3_s2p0op1', 2, 0, 1],
  ['conv_transpose2d_k3_s2p0op1_small', 2, 0, 1],
  ['conv_transpose2d_k3_s1p1', 1, 1, 0],
] as const)
  test(`agrees with PyTorch: ${name}`, () => checkGolden(name, { stride, padding, outputPadding }));

test('reads tokens without CLS as a map, and writes into a wider one', () => {
  const g: Geometry = { b: 2, h: 14, w: 14, i: 20, o: 36, k: 3, stride: 2, padding: 1, outputPadding: 0 };
  const c = forwardCase(g, smallIntegers, { bias: true, relu: true });
  const values = (name: string): Float32Array => Float32Array.from(c.tensors[name]!.values!);
  const want = forwardReference(g, values('x'), values('w'), values('bias'), undefined, true);
  const size = shapesOf(g).y[1]!;
  for (const set of INSTRUCTION_SETS)
    withInstructionSet(set, () =>
      tidy(() => {
        const tokens = new Float32Array(2 * 197 * 20);
        for (let n = 0; n < 2; n++) tokens.set(values('x').subarray(n * 196 * 20, (n + 1) * 196 * 20), (n * 197 + 1) * 20);
        const x = Tensor.from(tokens, [2, 197, 20]).strided([2, 14, 14, 20], [197 * 20, 14 * 20, 20, 1], 20);
        // y lies in the middle of maps that are a pixel and 4 channels larger; their rest must stay as it is.
        const [row, channels] = [size + 1, 40];
        const whole = Tensor.from(new Float32Array(2 * row * row * channels).fill(-77), [2, row, row, channels]);
        const strides = [row * row * channels, row * channels, channels, 1];
        const y = whole.strided([2, size, size, 36], strides, 2);
        dispatch('conv_transpose2d', {
          x,
          w: Tensor.from(values('w'), [36, 3, 3, 20]),
          bias: Tensor.from(values('bias')),
          y,
          stride: 2,
          padding: 1,
          output_padding: 0,
          activation: 'relu',
        });
        const expected = new Float32Array(whole.size).fill(-77);
        for (let n = 0; n < want.length; n++) {
          const [o, p] = [n % 36, Math.floor(n / 36)];
          const [b, i, j] = [Math.floor(p / (size * size)), Math.floor(p / size) % size, p % size];
          expected[2 + b * strides[0]! + i * strides[1]! + j * strides[2]! + o] = want[n]!;
        }
        same(whole.float32(), expected, set);
      }),
    );
});

test('a NaN reaches the outputs of its position and no other', () => {
  const g: Geometry = { b: 1, h: 5, w: 5, i: 33, o: 34, k: 3, stride: 2, padding: 1, outputPadding: 0 };
  const c = forwardCase(g, smallIntegers, { packed: true, bias: true, relu: true });
  const expected = forwardExpected(g, c)['y']!;
  const x = Float64Array.from(c.tensors['x']!.values!);
  x[(2 * 5 + 3) * 33 + 5] = NaN;
  c.tensors['x']!.values = x;
  for (let y = 3; y <= 5; y++) for (let i = 5; i <= 7; i++) expected.fill(NaN, (y * 9 + i) * 34, (y * 9 + i + 1) * 34);
  checkExact(c, { y: expected });
});

test('counts multiply-adds of all taps and stays within 256 KB a thread', () => {
  tidy(() => {
    const args = { x: Tensor.empty([2, 31, 31, 192]), w: Tensor.empty([192, 3, 3, 192]), stride: 2, padding: 0, output_padding: 1 };
    const y = Tensor.empty([2, 64, 64, 192]);
    const cost = costOf('conv_transpose2d', { ...args, y, activation: 'relu' });
    assert.is(cost.flops, 2 * 2 * 31 * 31 * 192 * 9 * 192);
    const grads = { dx: Tensor.empty([2, 31, 31, 192]), dw: Tensor.empty([192, 3, 3, 192]) };
    const back = costOf('conv_transpose2d_grad', { ...args, y, dy: y, ...grads, activation: 'relu', accumulate: 1 });
    assert.is(back.flops, 2 * cost.flops);
    for (const { workspace } of [cost, back]) assert.ok(workspace <= 256 * 1024 * 64 && workspace > 0);
  });
});

test('errors name the op, the field and the numbers', () => {
  const base = { stride: 2, padding: 1, output_padding: 0, activation: 'none' } as const;
  tidy(() => {
    const x = Tensor.zeros([1, 4, 4, 4]);
    const w = Tensor.zeros([8, 3, 3, 4]);
    const y = Tensor.zeros([1, 7, 7, 8]);
    const op = 'conv_transpose2d';
    const grad = { x, w, dy: y, accumulate: 0, ...base };
    throwsCode(
      () => dispatch(op, { x, w, y: Tensor.zeros([1, 8, 7, 8]), ...base }),
      'ERR_SHAPE',
      "conv_transpose2d: expected 'y'",
      '[1,7,7,8]',
    );
    throwsCode(() => dispatch(op, { x, w: Tensor.zeros([4, 3, 3, 8]), y, ...base }), 'ERR_SHAPE', "'w'", '[4,3,3,4]');
    throwsCode(() => dispatch(op, { x, w, y, ...base, output_padding: 2 }), 'ERR_ARGS', "'output_padding'", 'below the stride', 'got 2');
    throwsCode(() => dispatch(op, { x, w, y, ...base, stride: 0 }), 'ERR_ARGS', "'stride'");
    throwsCode(() => dispatch(op, { x, w, y, ...base, padding: 2 ** 40 }), 'ERR_ARGS', "'padding'");
    throwsCode(() => dispatch(op, { x, w, y, ...base, padding: 5 }), 'ERR_SHAPE', "'y'");
    throwsCode(() => dispatch(op, { x, w, y, bias: Tensor.zeros([4]), ...base }), 'ERR_SHAPE', "'bias'", '[8]');
    throwsCode(() => dispatch(op, { x, w, y, packed: Tensor.zeros([1]), ...base }), 'ERR_SHAPE', "'packed'", '[1152]');
    throwsCode(() => dispatch(op, { x, w, y: Tensor.zeros([1, 7, 7, 8], 'float64'), ...base }), 'ERR_DTYPE', "'y'", 'float32');
    throwsCode(() => dispatch('conv_transpose2d_grad', { ...grad, activation: 'relu' }), 'ERR_ARGS', "as 'y'");
    throwsCode(() => dispatch('conv_transpose2d_grad', { ...grad, dx: Tensor.zeros([1, 4, 4, 8]) }), 'ERR_SHAPE', "'dx'");
    throwsCode(() => dispatch('conv_transpose2d_grad', { ...grad, dw: Tensor.zeros([4, 3, 3, 8]) }), 'ERR_SHAPE', "'dw'");
    throwsCode(() => dispatch('conv_transpose2d_grad', { ...grad, dbias: Tensor.zeros([4]) }), 'ERR_SHAPE', "'dbias'");
  });
});

test.run();
