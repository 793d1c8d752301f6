import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../../src/formats/index.js';
import { Tensor, dispatch, packedStrides, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { INSTRUCTION_SETS, checkDeterminism, randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import { copyCase, count, permuted } from '../support/copy-case.js';

/** The elements must come out as they went in; the harness takes care of places and gaps. */
function moves(shape: number[], src: number[], dst: number[], dtype: DType = 'float32'): void {
  const values = smallIntegers(count(shape), 1, 100).map((v) => Math.abs(v));
  for (const set of INSTRUCTION_SETS) {
    const got = runCase(copyCase(shape, { strides: src, dtype, values }, { strides: dst, dtype }), 'float32', set);
    same(got['dst']!, values, `[${shape}] from [${src}] to [${dst}] ${dtype} on ${set}`);
  }
}

const SIZES = [1, 3, 33, 196, 197, 256, 257];

test('moves packed tensors of any size, of every type', () => {
  for (const n of [0, ...SIZES])
    for (const dtype of ['float32', 'float64', 'bfloat16', 'float16', 'uint8', 'int32'] as const) moves([n], [1], [1], dtype);
  for (const dtype of ['float32', 'uint8'] as const) moves([70001], [1], [1], dtype);
  moves([], [], []);
});

test('transposes matrices of odd sizes, of every width of element', () => {
  for (const rows of SIZES) for (const columns of [1, 8, 17, 257]) moves([rows, columns], [1, rows], [columns, 1]);
  for (const dtype of ['float64', 'bfloat16', 'uint8', 'int32'] as const) moves([67, 530], [1, 67], [530, 1], dtype);
  moves([67, 530], [1, 67], [536, 1]);
  moves([67, 530], [1, 80], [530, 1]);
  moves([9, 40], [2, 18], [80, 2]);
});

test('permutes up to five dimensions', () => {
  const shape = [3, 5, 2, 7, 9];
  for (const order of [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [0, 2, 1, 4, 3],
    [1, 0, 3, 2, 4],
    [0, 3, 4, 1, 2],
    [2, 4, 0, 1, 3],
  ]) {
    moves(shape, permuted(shape, order), packedStrides(shape));
    moves(shape, packedStrides(shape), permuted(shape, order));
    moves(shape, permuted(shape, order), permuted(shape, [4, 0, 3, 1, 2]));
  }
  // maps between channels first and channels last
  moves([2, 31, 31, 24], permuted([2, 31, 31, 24], [0, 2, 3, 1]), packedStrides([2, 31, 31, 24]));
});

test('slices, concatenates into slices, leaves what lies between alone', () => {
  moves([4, 10, 6], [200, 8, 1], [60, 6, 1]);
  moves([4, 10, 6], [60, 6, 1], [200, 8, 1]);
  moves([300, 3], [4, 1], [5, 1]);
  moves([3, 40000], [40001, 1], [50000, 1]);
  moves([50, 7], [14, 2], [21, 3]);
  moves([2, 1, 5], [5, 99, 1], [5, 99, 1]);
});

test('repeats where the stride of src is 0', () => {
  const cases: [number[], number[], (i: number[]) => number][] = [
    [[5, 33], [0, 1], (i) => i[1]!],
    [[5, 33], [1, 0], (i) => i[0]!],
    [[4, 3, 50], [0, 1, 0], (i) => i[1]!],
    [[70000], [0], () => 0],
  ];
  for (const [shape, strides, place] of cases) {
    const base = smallIntegers(100, 3, 50);
    const strideOf = packedStrides(shape);
    const want = Float64Array.from(
      { length: count(shape) },
      (_, flat) => base[place(shape.map((s, d) => Math.floor(flat / strideOf[d]!) % s))]!,
    );
    for (const set of INSTRUCTION_SETS)
      for (const dtype of ['float32', 'float64'] as const)
        same(runCase(copyCase(shape, { strides, values: want }, {}), dtype, set)['dst']!, want, `[${shape}] by [${strides}] on ${set}`);
  }
});

// Everything that rounding can do: ties, subnormals, overflow, signed zeros, NaN.
const EDGES = [
  0,
  -0,
  1,
  -1,
  NaN,
  Infinity,
  -Infinity,
  65504,
  65519.996,
  65520,
  -65520,
  1e30,
  3.4e38,
  6.1e-5,
  6.097e-5,
  5.96e-8,
  2.98e-8,
  2.9802322387695312e-8,
  2.99e-8,
  -8.9e-8,
  1e-40,
  1.0009765625,
  1.00048828125,
  1.00146484375,
  1.00390625,
  1.001953125,
  1.005859375,
  2049,
  2051,
  0.1,
  1 / 3,
].map(Math.fround);

/** Bits of a half type as cases have them: bfloat16 as numbers, float16 as bits. */
const numbersOf = (dtype: 'bfloat16' | 'float16', bits: Uint16Array): Float64Array =>
  Float64Array.from(dtype === 'bfloat16' ? bf16ToF32(bits) : bits);

test('rounds float32 to half types to nearest even', () => {
  const scales = [1, 1e-3, 1e-6, 1e-8, 1e4, 1e38];
  const values = Float64Array.from([...EDGES, ...randomValues(3000, 2).map((v, i) => Math.fround(v * scales[i % scales.length]!))]);
  for (const [dtype, reference] of [
    ['bfloat16', f32ToBf16],
    ['float16', f32ToF16],
  ] as const) {
    const want = numbersOf(dtype, reference(Float32Array.from(values)));
    for (const set of INSTRUCTION_SETS) {
      const got = runCase(copyCase([values.length], { values, dtype: 'float32' }, { dtype }), 'float32', set)['dst']!;
      got.forEach((v, i) => assert.ok(Object.is(v, want[i]), `${values[i]} to ${dtype} on ${set}: ${v} for ${want[i]}`));
    }
  }
});

test('every half is exact in float32 and float64', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  for (const [dtype, reference] of [
    ['bfloat16', bf16ToF32],
    ['float16', f16ToF32],
  ] as const) {
    const want = Float64Array.from(reference(bits));
    const values = numbersOf(dtype, bits);
    for (const to of ['float32', 'float64'] as const)
      for (const set of to === 'float32' ? INSTRUCTION_SETS : ['plain'])
        same(runCase(copyCase([65536], { values, dtype }, { dtype: to }), to, set)['dst']!, want, `${dtype} to ${to} on ${set}`);
  }
});

test('converts between the other types', () => {
  for (const set of INSTRUCTION_SETS) {
    const u8 = Float64Array.from({ length: 300 }, (_, i) => i % 256);
    for (const to of ['float32', 'float64', 'uint8'] as const)
      same(runCase(copyCase([300], { values: u8, dtype: 'uint8' }, { dtype: to }), 'float32', set)['dst']!, u8, `uint8 to ${to}`);
    const f64 = randomValues(300, 4);
    const rounded = f64.map(Math.fround);
    same(runCase(copyCase([300], { values: f64, dtype: 'float64' }, { dtype: 'float32' }), 'float32', set)['dst']!, rounded);
    same(runCase(copyCase([300], { values: rounded, dtype: 'float32' }, { dtype: 'float64' }), 'float32', set)['dst']!, rounded);
    // bytes [H,W,3] to float [3,H,W]
    const shape = [3, 20, 31];
    const pixels = Float64Array.from({ length: count(shape) }, (_, i) => (i * 7) % 256);
    const got = runCase(
      copyCase(shape, { values: pixels, dtype: 'uint8', strides: permuted(shape, [2, 0, 1]) }, { dtype: 'float32' }),
      'float32',
      set,
    );
    same(got['dst']!, pixels);
  }
});

test('adds to dst, from every type, in any layout', () => {
  const shape = [19, 70];
  const start = smallIntegers(count(shape), 5);
  const add = smallIntegers(count(shape), 6).map((v) => Math.abs(v));
  const want = start.map((v, i) => v + add[i]!);
  const coded: [DType, Float64Array][] = [
    ['float32', add],
    ['float64', add],
    ['uint8', add],
    ['bfloat16', add],
    ['float16', Float64Array.from(f32ToF16(Float32Array.from(add)))],
  ];
  for (const set of INSTRUCTION_SETS)
    for (const to of ['float32', 'float64'] as const)
      for (const [dtype, values] of coded)
        for (const src of [
          [70, 1],
          [1, 19],
          [72, 1],
          [140, 2],
        ])
          for (const dst of [
            [70, 1],
            [71, 1],
          ]) {
            const c = copyCase(shape, { values, dtype, strides: src }, { values: start, dtype: to, strides: dst }, 1);
            same(runCase(c, 'float32', set)['dst']!, want, `${dtype} into ${to} from [${src}] to [${dst}] on ${set}`);
          }
});

test('the same bits twice and on any number of threads', () => {
  const shape = [3, 130, 257];
  const values = randomValues(count(shape), 8);
  checkDeterminism(copyCase(shape, { values }, {}));
  checkDeterminism(copyCase(shape, { values, strides: permuted(shape, [0, 2, 1]) }, {}));
  checkDeterminism(copyCase(shape, { values, strides: [0, 257, 1] }, { values, strides: [260 * 130, 260, 1] }, 1));
});

test('passes NaN and infinities on', () => {
  const values = [NaN, Infinity, -Infinity, -0, 2 ** -149, 3.4028234663852886e38];
  for (const set of INSTRUCTION_SETS) same(runCase(copyCase([6], { values }, {}), 'float32', set)['dst']!, values);
});

test('names what is wrong', () => {
  tidy(() => {
    const bad = (src: Tensor, dst: Tensor, accumulate: number, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      throwsCode(() => dispatch('copy', { src, dst, accumulate }), code, 'copy', "'", ...parts);
    };
    const x = Tensor.zeros([2, 3]);
    bad(x, Tensor.zeros([3, 2]), 0, 'ERR_SHAPE', "'dst'", '[2,3]', '[3,2]');
    bad(x, Tensor.zeros([6]), 0, 'ERR_SHAPE', "'dst'");
    bad(x, Tensor.zeros([3]).strided([2, 3], [0, 1]), 0, 'ERR_SHAPE', "'dst'", 'overlap');
    bad(x, Tensor.zeros([6]).strided([2, 3], [2, 1]), 0, 'ERR_SHAPE', "'dst'", 'overlap');
    bad(x, Tensor.zeros([2, 3], 'uint8'), 0, 'ERR_DTYPE', "'dst'", 'uint8');
    bad(Tensor.zeros([2, 3], 'int32'), x, 0, 'ERR_DTYPE', 'int32');
    bad(Tensor.zeros([2, 3], 'float64'), Tensor.zeros([2, 3], 'bfloat16'), 0, 'ERR_DTYPE', 'bfloat16');
    bad(x, Tensor.zeros([2, 3], 'bfloat16'), 1, 'ERR_DTYPE', 'add');
    bad(Tensor.zeros([2, 3], 'int32'), Tensor.zeros([2, 3], 'int32'), 1, 'ERR_DTYPE', 'int32');
    bad(x, Tensor.zeros([2, 3]), 2, 'ERR_ARGS', "'accumulate'");
    bad(x.strided([2, 3], [4, 1]), Tensor.zeros([2, 3]), 0, 'ERR_SHAPE', "'src'", 'past');
  });
});

test.run();
