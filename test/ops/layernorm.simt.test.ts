// The GPU's layernorm (kernels/layernorm/*.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
import { checkDeviceBf16, checkDeviceExact, checkDeviceFloat32, checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { exactNormGrad, normBackward, normForward, plainNorm, plainNormGrad } from '../support/norm-case.js';
import type { Make } from '../support/norm-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';

const forward = (rows: number, width: number, values: Make = randomValues, eps = 1e-5, full: string[] = []): OpCase =>
  normForward('layernorm', rows, width, values, eps, full);

// Every variant: 2, 3, 6, 8 and 10 pieces of 128 columns to a warp, with and without a partial last one; a block a row beyond 1280.
// Widths that are no multiple of 4 take the one variant that reads element by element.
const WIDTHS = [1, 3, 33, 196, 197, 256, 257, 384, 764, 1024, 1280, 1284, 1301];

deviceTest('golden values, forward and backward', (device) => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'layernorm on devices');
  if (!golden) return;
  const cases = golden.cases(/^layernorm_(?!chw)/);
  assert.ok(cases.length >= 6);
  for (const name of cases) {
    const shape = golden.shape(`${name}/in/x`);
    const width = shape[shape.length - 1]!;
    const rows = shape.reduce((a, b) => a * b, 1) / width;
    const f = forward(rows, width, randomValues, Number(/eps(.*)$/.exec(name)![1]));
    f.tensors['x']!.values = golden.values(`${name}/in/x`);
    f.tensors['gamma']!.values = golden.values(`${name}/in/w`);
    f.tensors['beta']!.values = golden.values(`${name}/in/b`);
    const out = runCase(f, 'float32', { device });
    golden.compare(`${name}/out/y`, out['y']!, device);
    const b = normBackward(f);
    b.tensors['mean']!.values = out['mean']!;
    b.tensors['rstd']!.values = out['rstd']!;
    b.tensors['dy']!.values = golden.values(`${name}/dout/y`);
    const din = runCase(b, 'float32', { device });
    golden.compare(`${name}/din/x`, din['dx']!, device);
    golden.compare(`${name}/din/w`, din['dgamma']!, device);
    golden.compare(`${name}/din/b`, din['dbeta']!, device);
  }
});

deviceTest('exact where the statistics are whole: rows of ±4 about m have mean m and rstd 1/4', (device) => {
  for (const width of [2, 34, 196, 768, 1284])
    for (const full of [[], ['x'], ['y']]) {
      const rows = 5;
      const about = smallIntegers(rows, 4);
      const f = forward(rows, width, smallIntegers, 0, full);
      f.tensors['x']!.values = Float64Array.from({ length: rows * width }, (_, i) => about[Math.floor(i / width)]! + (i % 2 ? 4 : -4));
      const gamma = f.tensors['gamma']!.values!;
      const beta = f.tensors['beta']!.values!;
      checkDeviceExact(device, f, {
        y: Float64Array.from({ length: rows * width }, (_, i) => (i % 2 ? 1 : -1) * gamma[i % width]! + beta[i % width]!),
        mean: about,
        rstd: new Float64Array(rows).fill(0.25),
      });
    }
});

deviceTest('exact sums into dgamma and dbeta, written and added to, on integers', (device) => {
  for (const [rows, width] of [
    [1, 1],
    [37, 33],
    [197, 64],
    [300, 5],
    [19, 1300],
  ] as const)
    for (const accumulate of [false, true]) {
      const { backward: b, expected } = exactNormGrad(forward(rows, width, smallIntegers, 1), accumulate);
      checkDeviceExact(device, b, expected);
    }
});

deviceTest('float32 as accurate as the plain loop', (device) => {
  for (const width of WIDTHS) {
    const f = forward(21, width);
    checkDeviceFloat32(device, f);
    // A single column has no gradient at all: what is left is rounding times rstd.
    if (width > 1) checkDeviceFloat32(device, normBackward(f, { add: width % 2 === 0, accumulate: width % 2 === 0 }));
  }
});

deviceTest('bfloat16 as accurate as the plain loop, any mix of types', (device) => {
  for (const width of [33, 196, 768, 1284])
    for (const [full, gradients] of [
      [[], []],
      [['x'], ['dx']],
      [['y'], ['dy']],
      [
        ['x', 'y'],
        ['dy', 'dx'],
      ],
    ] as const) {
      const f = forward(17, width, randomValues, 1e-5, [...full]);
      // Not mean and rstd: sums of bfloat16 may be exact in the plain loop, by luck.
      checkDeviceBf16(device, f, (c) => ({ y: plainNorm(c)['y']! }));
      const add = full.length === 1;
      checkDeviceBf16(device, normBackward(f, { add, accumulate: add, full: gradients }), plainNormGrad);
    }
});

deviceTest('a warp that has many rows, a device of any size', (device) => {
  for (const [rows, width] of [
    [150, 132],
    [23, 1300],
  ] as const) {
    const b = normBackward(forward(rows, width), { add: true });
    for (const multiprocessors of [1, 3]) withEmulated({ multiprocessors }, () => checkDeviceFloat32(device, b));
  }
});

deviceTest('the same bits under every schedule', (device) => {
  for (const [rows, width] of [
    [35, 132],
    [34, 131],
    [9, 1284],
  ] as const) {
    const f = forward(rows, width, randomValues, 1e-5, ['x']);
    checkSchedules(device, f);
    checkSchedules(device, normBackward(f, { add: true, full: ['dx'] }));
  }
});

deviceTest('accurate far from zero; a constant row gives beta and the largest rstd', (device) => {
  for (const width of [768, 1284]) {
    const f = forward(5, width, randomValues, 1e-12);
    f.tensors['x']!.values = Float64Array.from(f.tensors['x']!.values!, (v) => Math.fround(4096 + v));
    const exact = runCase(f, 'float64')['rstd']!;
    runCase(f, 'float32', { device })['rstd']!.forEach((v, i) => assert.ok(Math.abs(v / exact[i]! - 1) < 1e-6, `${v} for ${exact[i]}`));
  }
  for (const width of [1, 7, 96, 257, 1284]) {
    const f = forward(3, width, randomValues, 1e-12);
    f.tensors['x']!.values = new Float64Array(3 * width).map((_, i) => Math.fround([0, 64.1, -3e4 / 7][Math.floor(i / width)]!));
    const out = runCase(f, 'float32', { device });
    same(
      out['y']!,
      Float64Array.from({ length: 3 * width }, (_, i) => Math.fround(f.tensors['beta']!.values![i % width]!)),
    );
    for (const v of out['rstd']!) assert.ok(Math.abs(v / 1e6 - 1) < 1e-6, `rstd ${v}`);
  }
});

deviceTest('NaN and infinity stay in their row; huge values give no NaN in others', (device) => {
  for (const width of [33, 132, 1284])
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const f = forward(4, width);
      const x = Float64Array.from(f.tensors['x']!.values!);
      x[5] = NaN;
      x[width + 7] = Infinity;
      x[2 * width + 8] = 1e18;
      f.tensors['x']!.values = x;
      const y = runCase(f, dtype, { device })['y']!;
      assert.ok(y.subarray(0, 2 * width).every(Number.isNaN), 'rows 0 and 1');
      assert.ok(y.subarray(2 * width).every(Number.isFinite), 'rows 2 and 3');
    }
});

deviceTest('strided rows give what packed rows give, and nothing lies between them', (device) => {
  for (const gap of [3, 4])
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const f = forward(9, 36);
      const b = normBackward(f, { add: true });
      const strided = (c: OpCase, names: string[]): OpCase => ({
        ...c,
        tensors: { ...c.tensors, ...Object.fromEntries(names.map((n, i) => [n, { ...c.tensors[n]!, strides: [36 + gap * (i + 1), 1] }])) },
      });
      for (const [packed, spread] of [
        [f, strided(f, ['x', 'y'])],
        [b, strided(b, ['x', 'dy', 'add', 'dx'])],
      ] as const) {
        const want = runCase(packed, dtype, { device });
        const got = runCase(spread, dtype, { device });
        // Where four elements cannot be read at once, sums run in another order: nearly the same.
        for (const name of Object.keys(want))
          if (gap === 4) same(got[name]!, want[name]!, `${packed.op} ${name}`);
          else got[name]!.forEach((v, i) => assert.ok(Math.abs(v - want[name]![i]!) <= 0.02 * Math.abs(v) + 1e-5, `${packed.op} ${name}`));
      }
    }
});

deviceTest('dx in the memory of add; no rows; inference and frozen parameters', (device) => {
  const b = normBackward(forward(21, 68), { add: true });
  const want = runCase(b, 'float32', { device })['dx']!;
  tidy(() => {
    const tensors = Object.fromEntries(
      Object.entries(b.tensors).map(([n, t]) => [
        n,
        Tensor.from(Float32Array.from(t.values ?? new Float32Array(t.shape.reduce((p, q) => p * q))), t.shape, 'float32', device),
      ]),
    ) as Record<string, Tensor>;
    dispatch('layernorm_grad', { ...tensors, dx: tensors['add'], accumulate: 0 } as unknown as OpArgs['layernorm_grad']);
    same(tensors['add']!.float32(), want);
  });
  assert.is(runCase(forward(0, 5), 'float32', { device })['y']!.length, 0);
  same(runCase(normBackward(forward(0, 5)), 'float32', { device })['dgamma']!, [0, 0, 0, 0, 0]);
  const f = forward(3, 20);
  const { mean: _m, rstd: _r, ...rest } = f.tensors;
  same(runCase({ ...f, tensors: rest }, 'float32', { device })['y']!, runCase(f, 'float32', { device })['y']!);
  const { dgamma: _g, dbeta: _b, ...inputs } = b.tensors;
  same(runCase({ ...b, tensors: inputs }, 'float32', { device })['dx']!, want);
});

deviceTest('refuses types that it does not mix', (device) =>
  tidy(() => {
    const run = (change: Partial<Record<'x' | 'gamma' | 'y' | 'mean', 'float32' | 'bfloat16' | 'float64'>>): void => {
      const make = (name: 'x' | 'gamma' | 'y' | 'mean', shape: number[]): Tensor => Tensor.zeros(shape, change[name] ?? 'float32', device);
      const [x, y, gamma, mean] = [make('x', [2, 4]), make('y', [2, 4]), make('gamma', [4]), make('mean', [2])];
      const beta = Tensor.zeros([4], 'float32', device);
      dispatch('layernorm', { x, gamma, beta, y, mean, rstd: Tensor.zeros([2], 'float32', device), eps: 1e-5 });
    };
    throwsCode(() => run({ gamma: 'bfloat16' }), 'ERR_DTYPE', "'gamma'");
    throwsCode(() => run({ x: 'bfloat16', mean: 'bfloat16' }), 'ERR_DTYPE', "'mean'");
    throwsCode(() => run({ y: 'float64' }), 'ERR_DTYPE', "'y'");
    run({ x: 'bfloat16' });
    run({ y: 'bfloat16' });
  }),
);

test.run();
