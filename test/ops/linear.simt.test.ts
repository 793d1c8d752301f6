// The GPU's linear layers (kernels/linear/*.cu on kernels/gemm/device). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
import {
  bf16,
  checkDeviceBf16,
  checkDeviceExact,
  checkDeviceFloat32,
  checkSchedules,
  deviceTest,
  withEmulated,
} from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { withTile } from '../support/gemm-tile.js';
import { backward, dot, expectedBackward, expectedForward, forward, gradientsOver, plainForward } from '../support/linear-case.js';
import type { Make, Options, Size } from '../support/linear-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';

const TILES = [
  [128, 256, 32],
  [128, 128, 32],
  [128, 64, 64],
  [64, 64, 64],
  [64, 32, 64],
] as const;

/** linear_grad with float32 sums, rounded where the kernel stores: dpre where dy is not what the products read. */
function plainBackward(c: OpCase): Record<string, ArrayLike<number>> {
  const v = (name: string): ArrayLike<number> | undefined => c.tensors[name]?.values;
  const [m, k] = c.tensors['x']!.shape as [number, number];
  const n = c.tensors['w']!.shape[0]!;
  const [x, w] = [v('x')!, v('w')!];
  const wide = Float64Array.from(v('dy')!, (g, e) => Math.fround(v('slope') ? g * v('slope')![e]! : v('y') && !(v('y')![e]! > 0) ? 0 : g));
  const dpre = wide.map(bf16);
  const held = (name: string, e: number): number => v(name)?.[e] ?? 0;
  const out = (rows: number, columns: number, at: (i: number, j: number) => number): Float64Array =>
    Float64Array.from({ length: rows * columns }, (_, e) => at(Math.floor(e / columns), e % columns));
  return {
    dx: out(m, k, (i, d) => {
      const s = dot(n, (j) => dpre[i * n + j]! * w[j * k + d]!);
      return c.tensors['dx']!.full ? s : bf16(s);
    }),
    dw: out(n, k, (j, d) => Math.fround(dot(m, (i) => dpre[i * n + j]! * x[i * k + d]!) + held('dw', j * k + d))),
    dbias: out(1, n, (_, j) => Math.fround(dot(m, (i) => wide[i * n + j]!) + held('dbias', j))),
  };
}

/** Strides that leave gaps: 16-byte copies hold for none, some or all of the tensors. */
function spread(c: OpCase, gap: (i: number) => number): OpCase {
  const tensors = { ...c.tensors };
  Object.entries(c.tensors).forEach(([name, t], i) => {
    if (t.shape.length === 2) tensors[name] = { ...t, strides: [t.shape[1]! + gap(i), 1] };
  });
  return { ...c, tensors };
}

deviceTest('golden values, forward and backward', (device) => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'linear on devices');
  if (!golden) return;
  for (const [name, activation] of [
    ['linear_33_65', 'none'],
    ['linear_gelu_33_65', 'gelu'],
  ] as const) {
    const make: Make = (count, seed) => golden.values(`${name}/in/${['x', 'w', 'b'][seed - 1]!}`).slice(0, count);
    const f = forward([7, 65, 33], make, { activation, bias: true });
    const out = runCase(f, 'float32', { device });
    golden.compare(`${name}/out/y`, out['y']!, device);
    const b = backward(f, {}, () => golden.values(`${name}/dout/y`));
    if (activation === 'gelu') b.tensors['slope']!.values = out['slope']!;
    const din = runCase(b, 'float32', { device });
    golden.compare(`${name}/din/x`, din['dx']!, device);
    golden.compare(`${name}/din/w`, din['dw']!, device);
    golden.compare(`${name}/din/b`, din['dbias']!, device);
  }
});

// Odd sizes, no alignment at all among them (K of 33), and 16-byte rows (K of 40, 136, 200).
const SIZES: Size[] = [
  [1, 1, 1],
  [3, 33, 3],
  [33, 3, 33],
  [7, 64, 197],
  [70, 40, 136],
  [65, 72, 200],
  [5, 257, 12],
  [257, 5, 20],
];

deviceTest('exact on integers: every epilogue, written and added to', (device) => {
  const one: Make = (count, seed) => smallIntegers(count, seed, 1);
  for (const size of SIZES) {
    for (const options of [
      {},
      { bias: true, activation: 'relu' },
      { bias: true, activation: 'relu', residual: true, full: ['y'] },
      { residual: true },
    ] satisfies Options[]) {
      const f = forward(size, one, options);
      checkDeviceExact(device, f, { y: expectedForward(f) });
    }
    for (const [activation, accumulate, full] of [
      ['none', false, []],
      ['none', true, ['dy', 'dx']],
      ['relu', true, []],
      ['relu', false, ['dy']],
    ] as const) {
      const b = backward(forward(size, one, { activation, bias: true }), { accumulate, full }, one);
      checkDeviceExact(device, b, expectedBackward(b));
    }
  }
});

deviceTest('every tile: two blocks each way and partial last ones, k longer than the stages hold', (device) => {
  const one: Make = (count, seed) => smallIntegers(count, seed, 1);
  TILES.forEach(([m, n, k], tile) =>
    withTile(tile, () => {
      const depth = 5 * k + 8;
      const options = { bias: true, residual: true, full: ['y'] } as const;
      const f = forward([m + 9, n + 8, depth], one, options);
      checkDeviceExact(device, f, { y: expectedForward(f) }, ['bfloat16']);
      for (const [name, b] of gradientsOver(depth, m, n, one))
        same(runCase(b, 'bfloat16', { device })[name]!, expectedBackward(b)[name]!, `${name} tile ${tile}`);
    }),
  );
});

deviceTest('blocks go down a band of eight tiles before they go right, and the last band is shorter', (device) => {
  const one: Make = (count, seed) => smallIntegers(count, seed, 1);
  withTile(4, () => {
    const f = forward([64 * 10 + 3, 32 * 3, 8], one);
    checkDeviceExact(device, f, { y: expectedForward(f) }, ['bfloat16']);
  });
});

deviceTest('k in parts, summed up in order', (device) => {
  // Many multiprocessors and few tiles: the weight gradient of a batch.
  withEmulated({ multiprocessors: 132 }, () => {
    const one: Make = (count, seed) => smallIntegers(count, seed, 1);
    const f = forward([9, 17, 2500], one, { bias: true, activation: 'relu', residual: true, full: ['y'] });
    checkDeviceExact(device, f, { y: expectedForward(f) });
    for (const activation of ['none', 'relu'] as const) {
      const b = backward(forward([2000, 24, 16], one, { activation, bias: true }), { accumulate: true }, one);
      checkDeviceExact(device, b, expectedBackward(b));
    }
    checkSchedules(device, forward([9, 40, 1500]));
  });
});

deviceTest('as accurate as the plain loop in float32', (device) => {
  for (const size of [
    [33, 197, 1],
    [33, 65, 196],
    [17, 64, 385],
    [5, 70, 1000],
  ] as Size[]) {
    checkDeviceFloat32(device, forward(size, randomValues, { bias: true, residual: true }));
    const make: Make = (count, seed) => randomValues(count, seed).map((v) => (seed === 2 ? (v * 3) / Math.sqrt(size[2]) : v));
    const f = forward(size, make, { activation: 'gelu', bias: true });
    checkDeviceFloat32(device, f);
    checkDeviceFloat32(device, backward(f, { accumulate: true }));
    checkDeviceFloat32(device, backward(forward(size, randomValues, { activation: 'relu' })));
  }
});

deviceTest('as accurate as a plain loop in bfloat16', (device) => {
  for (const size of [
    [33, 65, 196],
    [70, 64, 200],
    [5, 70, 1000],
  ] as Size[]) {
    checkDeviceBf16(device, forward(size, randomValues, { bias: true, residual: true, full: ['y'] }), plainForward);
    checkDeviceBf16(device, forward(size, randomValues, { bias: true, residual: true }), plainForward);
    const make: Make = (count, seed) => randomValues(count, seed).map((v) => (seed === 2 ? (v * 3) / Math.sqrt(size[2]) : v));
    const f = forward(size, make, { activation: 'gelu', bias: true });
    checkDeviceBf16(device, f, plainForward);
    checkDeviceBf16(device, backward(f, { accumulate: true }), plainBackward);
    checkDeviceBf16(device, backward(f, { full: ['dy', 'dx'] }), plainBackward);
    checkDeviceBf16(device, backward(forward(size), { full: ['dy'] }), plainBackward);
  }
});

deviceTest('GELU from tail to tail', (device) => {
  const edges = [-13, -6, -4, -2, -1.1, 0, 1.1, 2, 4, 6, 13];
  const grid = Float64Array.from({ length: 990 }, (_, i) => {
    const e = Math.floor(i / 99);
    return edges[e]! + ((edges[e + 1]! - edges[e]!) * ((i % 99) + 0.37)) / 99;
  });
  for (let part = 0; part < 10; part++)
    checkDeviceFloat32(
      device,
      forward([1, 99, 1], (_, seed) => (seed === 1 ? Float64Array.of(1) : grid.slice(part * 99, part * 99 + 99)), { activation: 'gelu' }),
    );
});

deviceTest('strided rows, whose copies are 16, 8, 4 or 2 bytes wide', (device) => {
  const one: Make = (count, seed) => smallIntegers(count, seed, 1);
  for (const gap of [() => 8, () => 4, () => 2, () => 1, (i: number) => i]) {
    const f = forward([19, 32, 72], one, { bias: true, residual: true });
    const b = backward(forward([19, 32, 72], one, { activation: 'relu' }), { accumulate: true }, one);
    checkDeviceExact(device, spread(f, gap), { y: expectedForward(f) });
    checkDeviceExact(device, spread(b, gap), expectedBackward(b));
  }
});

deviceTest('the same bits under every schedule', (device) => {
  const f = forward([70, 72, 200], randomValues, { activation: 'gelu', bias: true, residual: true });
  checkSchedules(device, f);
  checkSchedules(device, backward(forward([70, 72, 136], randomValues, { activation: 'gelu' }), { accumulate: true, full: ['dy'] }));
  // No alignment: the loaders that take elements one by one.
  checkSchedules(device, forward([67, 69, 333]), ['bfloat16']);
  checkSchedules(device, backward(forward([333, 67, 69]), { full: ['dx'] }), ['bfloat16']);
  TILES.forEach(([m, n, k], tile) =>
    withTile(tile, () => {
      checkSchedules(device, forward([m + 1, n + 8, 5 * k]), ['bfloat16']);
    }),
  );
});

deviceTest('residual in the memory of y', (device) => {
  const f = forward([9, 40, 24], smallIntegers, { bias: true, residual: true });
  tidy(() => {
    const t = Object.fromEntries(
      Object.entries(f.tensors).flatMap(([name, c]) =>
        c.values ? [[name, Tensor.from(Float32Array.from(c.values), c.shape).to(device)] as const] : [],
      ),
    );
    dispatch('linear', { ...t, y: t['residual'], activation: 'none' } as unknown as OpArgs['linear']);
    same(t['residual']!.float32(), expectedForward(f));
  });
});

deviceTest('NaN and infinity reach their row or column and nothing else', (device) => {
  const [m, n, k] = [6, 35, 40];
  for (const dtype of ['float32', 'bfloat16'] as const)
    for (const activation of ['none', 'relu', 'gelu'] as const) {
      const f = forward([m, n, k], (count, seed) => randomValues(count, seed).map((v) => Math.abs(v) + 0.1), { activation });
      const x = Float64Array.from(f.tensors['x']!.values!);
      const w = Float64Array.from(f.tensors['w']!.values!);
      x[1 * k + 3] = NaN;
      x[3 * k + 39] = Infinity;
      w[33 * k + 5] = NaN;
      f.tensors['x']!.values = x;
      f.tensors['w']!.values = w;
      runCase(f, dtype, { device })['y']!.forEach((v, e) => {
        const [row, column] = [Math.floor(e / n), e % n];
        const label = `${activation} ${dtype} y[${row},${column}] = ${v}`;
        if (row === 1 || column === 33) assert.ok(Number.isNaN(v), label);
        else if (row === 3) assert.is(v, Infinity, label);
        else assert.ok(Number.isFinite(v), label);
      });
    }
});

deviceTest('no rows, no depth, one gradient alone', (device) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    assert.is(runCase(forward([0, 5, 4]), dtype, { device })['y']!.length, 0);
    const none = runCase(backward(forward([0, 5, 4])), dtype, { device });
    same(none['dw']!, new Float64Array(20));
    same(none['dbias']!, new Float64Array(5));
    const f = forward([3, 5, 0], smallIntegers, { bias: true });
    same(runCase(f, dtype, { device })['y']!, expectedForward(f));
    for (const activation of ['none', 'relu'] as const) {
      const b = backward(forward([37, 33, 40], smallIntegers, { activation }), {}, smallIntegers);
      const { dx, dw, dbias, ...inputs } = b.tensors;
      const all = runCase(b, dtype, { device });
      for (const [name, t] of Object.entries({ dx, dw, dbias }))
        same(runCase({ ...b, tensors: { ...inputs, [name]: t! } }, dtype, { device })[name]!, all[name]!, `${name} ${activation} ${dtype}`);
    }
  }
});

deviceTest('which types go together', (device) => {
  tidy(() => {
    const on = (shape: number[], dtype: 'float32' | 'bfloat16'): Tensor => Tensor.zeros(shape, dtype, device);
    const good = { x: on([2, 3], 'bfloat16'), w: on([4, 3], 'bfloat16'), y: on([2, 4], 'bfloat16'), activation: 'none' as const };
    dispatch('linear', good);
    dispatch('linear', { ...good, bias: on([4], 'float32'), y: on([2, 4], 'float32'), residual: on([2, 4], 'float32') });
    const bad = (change: object, field: string): void => {
      throwsCode(() => dispatch('linear', { ...good, ...change } as OpArgs['linear']), 'ERR_DTYPE', 'linear', field);
    };
    bad({ w: on([4, 3], 'float32') }, "'w'");
    bad({ bias: on([4], 'bfloat16') }, "'bias'");
    bad({ residual: on([2, 4], 'float32') }, "'residual'");
    bad({ x: on([2, 3], 'float32'), w: on([4, 3], 'float32') }, "'y'");
    const grad = { x: good.x, w: good.w, dy: good.y, activation: 'none' as const, accumulate: 0 };
    throwsCode(() => dispatch('linear_grad', { ...grad, dw: on([4, 3], 'bfloat16') }), 'ERR_DTYPE', 'linear_grad', "'dw'");
    throwsCode(() => dispatch('linear_grad', { ...grad, dbias: on([4], 'bfloat16') }), 'ERR_DTYPE', 'linear_grad', "'dbias'");
  });
});

test.run();
