// The GPU's copy (kernels/copy/copy.cu). The pattern of these files: test/support/device-case.ts. What it moves is compared with what went
// in, what it converts with the CPU's copy, bit by bit.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, packedStrides, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import { copyCase, count, permuted } from '../support/copy-case.js';
import { checkSchedules, deviceTest } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { Where } from '../support/op-case.js';

const places = (device: Where['device']): Where[] => [{ device: device! }, { device: device!, shift: 1 }];

/** The elements must come out as they went in; the harness takes care of places and gaps. */
function moves(device: Where['device'], shape: number[], src: number[], dst: number[], dtype: DType = 'float32'): void {
  const values = smallIntegers(count(shape), 1, 100).map((v) => Math.abs(v));
  for (const where of places(device)) {
    const got = runCase(copyCase(shape, { strides: src, dtype, values }, { strides: dst, dtype }), 'float32', where);
    same(got['dst']!, values, `[${shape}] from [${src}] to [${dst}] ${dtype}`);
  }
}

const DTYPES = ['float32', 'bfloat16', 'float16', 'uint8', 'int32', 'int64'] as const;

// A block moves 1024 units of 16 bytes down to one.
deviceTest('moves packed tensors of any size, of every type', (device) => {
  for (const n of [0, 1, 3, 33, 197, 256, 1028, 3001]) for (const dtype of DTYPES) moves(device, [n], [1], [1], dtype);
  moves(device, [70004], [1], [1], 'uint8');
  moves(device, [], [], []);
});

// Tiles of 32 or 64 elements.
deviceTest('transposes matrices of odd sizes, of every width of element', (device) => {
  for (const rows of [1, 3, 33, 65, 130]) for (const columns of [1, 8, 17, 67]) moves(device, [rows, columns], [1, rows], [columns, 1]);
  for (const dtype of DTYPES) moves(device, [67, 130], [1, 67], [130, 1], dtype);
  moves(device, [67, 130], [1, 67], [136, 1]);
  moves(device, [67, 130], [1, 80], [130, 1]);
  moves(device, [9, 40], [2, 18], [80, 2]);
});

deviceTest('permutes up to five dimensions', (device) => {
  const shape = [3, 5, 2, 7, 9];
  for (const order of [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [0, 2, 1, 4, 3],
    [1, 0, 3, 2, 4],
    [2, 4, 0, 1, 3],
  ]) {
    moves(device, shape, permuted(shape, order), packedStrides(shape));
    moves(device, shape, packedStrides(shape), permuted(shape, order));
    moves(device, shape, permuted(shape, order), permuted(shape, [4, 0, 3, 1, 2]), 'bfloat16');
  }
  // maps between channels first and channels last
  const map = [2, 17, 5, 24];
  for (const dtype of ['float32', 'bfloat16'] as const) {
    moves(device, map, permuted(map, [0, 2, 3, 1]), packedStrides(map), dtype);
    moves(device, map, packedStrides(map), permuted(map, [0, 2, 3, 1]), dtype);
  }
});

deviceTest('slices, concatenates into slices, leaves what lies between alone', (device) => {
  for (const dtype of ['float32', 'bfloat16', 'uint8'] as const) {
    moves(device, [4, 10, 8], [200, 8, 1], [80, 8, 1], dtype);
    moves(device, [4, 10, 8], [80, 8, 1], [200, 16, 1], dtype);
    moves(device, [300, 3], [4, 1], [5, 1], dtype);
    moves(device, [3, 2000], [2001, 1], [2500, 1], dtype);
    moves(device, [50, 7], [14, 2], [21, 3], dtype);
    moves(device, [2, 1, 5], [5, 99, 1], [5, 99, 1], dtype);
  }
});

deviceTest('repeats where the stride of src is 0', (device) => {
  const cases: [number[], number[], (i: number[]) => number][] = [
    [[5, 36], [0, 1], (i) => i[1]!],
    [[5, 33], [1, 0], (i) => i[0]!],
    [[4, 3, 50], [0, 1, 0], (i) => i[1]!],
    [[3000], [0], () => 0],
  ];
  for (const [shape, strides, place] of cases) {
    const base = smallIntegers(100, 3, 50);
    const strideOf = packedStrides(shape);
    const want = Float64Array.from(
      { length: count(shape) },
      (_, flat) => base[place(shape.map((s, d) => Math.floor(flat / strideOf[d]!) % s))]!,
    );
    for (const dtype of ['float32', 'bfloat16'] as const)
      for (const where of places(device))
        same(runCase(copyCase(shape, { strides, values: want }, {}), dtype, where)['dst']!, want, `[${shape}] by [${strides}]`);
  }
});

// Everything that rounding can do: ties, subnormals, overflow, signed zeros, NaN.
const EDGES = [0, -0, 1, -1, NaN, Infinity, -Infinity, 65504, 65519.996, 65520, -65520, 1e30, 3.4e38, 6.1e-5, 6.097e-5, 5.96e-8, 2.98e-8];
const TIES = [
  2.9802322387695312e-8, -8.9e-8, 1e-40, 1.0009765625, 1.00048828125, 1.00146484375, 1.00390625, 1.001953125, 1.005859375, 2049,
];

/** Values of a dtype as runCase takes them: float16 as bits. */
function valuesOf(dtype: DType, n: number): Float64Array {
  if (dtype === 'float16') return Float64Array.from({ length: n }, (_, i) => (i * 2654435761) % 65536);
  if (dtype === 'uint8') return Float64Array.from({ length: n }, (_, i) => (i * 7) % 256);
  const scales = [1, 1e-3, 1e-6, 1e-8, 1e4, 1e38];
  const values = [...EDGES, ...TIES, ...randomValues(n, 2).map((v, i) => v * scales[i % scales.length]!)];
  return Float64Array.from(values.slice(0, n), Math.fround);
}

/** As numbers, so that any NaN is any other's equal: f16 from its bits. */
function asNumbers(values: Float64Array, dtype: DType): Float64Array {
  if (dtype !== 'float16') return values;
  return values.map((bits) => ((bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0 ? NaN : bits));
}

deviceTest('converts as the CPU does, bit by bit, and adds', (device) => {
  const pairs: [DType, DType][] = [
    ['float32', 'bfloat16'],
    ['float32', 'float16'],
    ['bfloat16', 'float32'],
    ['bfloat16', 'float16'],
    ['float16', 'float32'],
    ['float16', 'bfloat16'],
    ['uint8', 'float32'],
  ];
  for (const [from, to] of pairs)
    for (const n of [5, 4100]) {
      const c = copyCase([n], { values: valuesOf(from, n), dtype: from }, { dtype: to });
      // The CPU has bfloat16 as storage: copies take it there too.
      const want = runCase(c, 'float32')['dst']!;
      for (const where of places(device)) {
        const got = runCase(c, 'float32', where)['dst']!;
        // NaN of a half has lost its payload in one of the two.
        same(asNumbers(got, to), asNumbers(want, to), `${from} to ${to}`);
        if (from === 'float32') same(got, want, `${from} to ${to}, bits`);
      }
    }
  const shape = [19, 72];
  const start = smallIntegers(count(shape), 5);
  for (const dtype of ['float32', 'bfloat16', 'float16', 'uint8'] as const)
    for (const src of [
      [72, 1],
      [1, 19],
      [76, 1],
      [144, 2],
    ])
      for (const dst of [
        [72, 1],
        [80, 1],
      ]) {
        const values =
          dtype === 'float16'
            ? smallIntegers(count(shape), 6).map((v) => [0, 0x3c00, 0x4000, 0x4200][Math.abs(v)]!)
            : smallIntegers(count(shape), 6).map(Math.abs);
        const want = start.map((v, i) => v + (dtype === 'float16' ? [0, 0x3c00, 0x4000, 0x4200].indexOf(values[i]!) : values[i]!));
        const c = copyCase(shape, { values, dtype, strides: src }, { values: start, strides: dst }, 1);
        for (const where of places(device)) same(runCase(c, 'float32', where)['dst']!, want, `${dtype} from [${src}] to [${dst}]`);
      }
});

deviceTest('the same bits under every schedule', (device) => {
  const shape = [3, 70, 133];
  const values = randomValues(count(shape), 8);
  checkSchedules(device, copyCase(shape, { values }, {}));
  checkSchedules(device, copyCase(shape, { values, strides: permuted(shape, [0, 2, 1]) }, {}));
  checkSchedules(device, copyCase(shape, { values, strides: [0, 133, 1] }, { values, strides: [140 * 70, 140, 1] }, 1), ['float32']);
  checkSchedules(device, copyCase([3004], { values: values.slice(0, 3004), dtype: 'float32' }, { dtype: 'bfloat16' }), ['float32']);
});

deviceTest('refuses conversions of float64', (device) =>
  tidy(() => {
    const x = Tensor.zeros([3], 'float64', device);
    throwsCode(() => dispatch('copy', { src: x, dst: Tensor.zeros([3], 'float32', device), accumulate: 0 }), 'ERR_UNSUPPORTED', 'float64');
    assert.ok(true);
  }),
);

test.run();
