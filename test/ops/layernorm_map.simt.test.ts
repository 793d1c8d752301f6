// The GPU's layernorm_map (kernels/layernorm_map/*.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDeviceBf16, checkDeviceExact, checkDeviceFloat32, checkSchedules, deviceTest } from '../support/device-case.js';
import { channelsFirst, channelsLast, exactNormGrad, normBackward, normForward, plainNorm, plainNormGrad } from '../support/norm-case.js';
import type { Make } from '../support/norm-case.js';
import { randomValues, relative, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';

const forward = (batch: number, length: number, values: Make = randomValues, eps = 1e-5, full: string[] = []): OpCase =>
  normForward('layernorm_map', batch, length, values, eps, full);

deviceTest('golden values, forward and backward', (device) => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'layernorm_map on devices');
  if (!golden) return;
  const cases = golden.cases(/^layernorm_chw/);
  assert.ok(cases.length >= 3);
  for (const name of cases) {
    const shape = golden.shape(`${name}/in/x`);
    const [batch, channels] = shape as [number, number];
    const map = (key: string, n = batch): Float64Array => channelsLast(golden.values(`${name}/${key}`), n, channels);
    const f = forward(batch, shape.reduce((a, b) => a * b, 1) / batch);
    f.tensors['x']!.values = map('in/x');
    f.tensors['gamma']!.values = map('in/w', 1);
    f.tensors['beta']!.values = map('in/b', 1);
    const out = runCase(f, 'float32', { device });
    golden.compare(`${name}/out/y`, channelsFirst(out['y']!, batch, channels), device);
    const b = normBackward(f);
    b.tensors['mean']!.values = out['mean']!;
    b.tensors['rstd']!.values = out['rstd']!;
    b.tensors['dy']!.values = map('dout/y');
    const din = runCase(b, 'float32', { device });
    golden.compare(`${name}/din/x`, channelsFirst(din['dx']!, batch, channels), device);
    golden.compare(`${name}/din/w`, channelsFirst(din['dgamma']!, 1, channels), device);
    golden.compare(`${name}/din/b`, channelsFirst(din['dbeta']!, 1, channels), device);
  }
});

// Slices are 1024 elements, short runs 2048: around them as well as small and odd.
deviceTest('exact where the statistics are whole: ±4 about m has mean m and rstd 1/4', (device) => {
  for (const length of [2, 34, 196, 1024, 2050, 4100])
    for (const [batch, full] of [
      [1, ['x']],
      [3, []],
      [9, ['y']],
    ] as const) {
      const about = smallIntegers(batch, 4);
      const f = forward(batch, length, smallIntegers, 0, [...full]);
      f.tensors['x']!.values = Float64Array.from({ length: batch * length }, (_, i) => about[Math.floor(i / length)]! + (i % 2 ? 4 : -4));
      const gamma = f.tensors['gamma']!.values!;
      const beta = f.tensors['beta']!.values!;
      checkDeviceExact(device, f, {
        y: Float64Array.from({ length: batch * length }, (_, i) => (i % 2 ? 1 : -1) * gamma[i % length]! + beta[i % length]!),
        mean: about,
        rstd: new Float64Array(batch).fill(0.25),
      });
    }
});

// 9 and 17 samples: two and three groups of the batch, whose gradients meet in the workspace.
deviceTest('exact sums into dgamma and dbeta, written and added to, on integers', (device) => {
  for (const [batch, length] of [
    [1, 1],
    [3, 33],
    [9, 197],
    [17, 1100],
  ] as const)
    for (const accumulate of [false, true]) {
      const { backward: b, expected } = exactNormGrad(forward(batch, length, smallIntegers, 1), accumulate);
      checkDeviceExact(device, b, expected);
    }
});

/** Without the means: the relative error of two or three numbers close to 0 is luck. */
const withoutStatistics = (f: OpCase): OpCase => {
  const { mean: _m, rstd: _r, ...tensors } = f.tensors;
  return { ...f, tensors };
};

deviceTest('float32 as accurate as the plain loop', (device) => {
  for (const [batch, length] of [
    [3, 1023],
    [11, 2052],
    [2, 10001],
  ] as const) {
    const f = forward(batch, length);
    checkDeviceFloat32(device, withoutStatistics(f));
    checkDeviceFloat32(device, normBackward(f));
    checkDeviceFloat32(device, normBackward(f, { relu: true, accumulate: true }));
  }
});

deviceTest('bfloat16 as accurate as the plain loop, any mix of types', (device) => {
  for (const [full, gradients] of [
    [[], []],
    [['x'], ['dx']],
    [['y'], ['dy']],
  ] as const)
    for (const [batch, length] of [
      [2, 1023],
      [9, 2052],
    ] as const) {
      const f = forward(batch, length, randomValues, 1e-5, [...full]);
      checkDeviceBf16(device, f, (c) => ({ y: plainNorm(c)['y']! }));
      for (const relu of [false, true])
        checkDeviceBf16(device, normBackward(f, { relu, accumulate: relu, full: gradients }), plainNormGrad);
    }
});

deviceTest('long runs, where the batch is large enough for them', (device) => {
  const f = forward(256, 2052, randomValues, 1e-5, ['y']); // a run of up to 8192, the last of its three slices partial
  const want = plainNorm(f)['y']!;
  const got = runCase(withoutStatistics(f), 'float32', { device })['y']!;
  assert.ok(relative(got, want) < 1e-5);
});

deviceTest('right for odd and for tiny sizes', (device) => {
  for (const length of [3, 33, 196, 197, 256, 257])
    for (const batch of [1, 5]) {
      const f = forward(batch, length, (n, seed) => randomValues(n, seed).map((v) => Math.fround(v + 0.75)));
      for (const c of [f, normBackward(f), normBackward(f, { relu: true, accumulate: true })]) {
        const exact = runCase(c, 'float64');
        const got = runCase(c, 'float32', { device });
        for (const name of Object.keys(exact))
          assert.ok(relative(got[name]!, exact[name]!) < (length < 4 ? 2e-4 : 5e-6), `${c.op} ${name} ${batch}x${length}`);
      }
    }
});

deviceTest('the same bits under every schedule', (device) => {
  for (const length of [2052, 1031]) {
    const f = forward(9, length);
    checkSchedules(device, f);
    checkSchedules(device, normBackward(f, { relu: true, accumulate: true }));
  }
});

deviceTest('accurate far from zero, in runs of different means; a constant map gives beta', (device) => {
  const f = forward(2, 6000);
  f.tensors['x']!.values = Float64Array.from(f.tensors['x']!.values!, (v, i) => Math.fround(4096 + v + Math.floor(i / 1500) * 0.25));
  const exact = runCase(f, 'float64')['rstd']!;
  runCase(f, 'float32', { device })['rstd']!.forEach((v, i) => assert.ok(Math.abs(v / exact[i]! - 1) < 1e-5, `${v} for ${exact[i]}`));

  const c = forward(2, 5001, randomValues, 1e-12);
  c.tensors['x']!.values = new Float64Array(2 * 5001).map((_, i) => Math.fround(i < 5001 ? 64.1 : -3e4 / 7));
  const beta = Float64Array.from({ length: 2 * 5001 }, (_, i) => Math.fround(c.tensors['beta']!.values![i % 5001]!));
  assert.ok(relative(runCase(c, 'float32', { device })['y']!, beta) < 1e-3);
});

deviceTest('NaN and infinity stay in their sample', (device) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const f = forward(3, 2100);
    const x = Float64Array.from(f.tensors['x']!.values!);
    x[2099] = NaN;
    x[2100 + 7] = Infinity;
    f.tensors['x']!.values = x;
    const y = runCase(f, dtype, { device })['y']!;
    assert.ok(y.subarray(0, 4200).every(Number.isNaN), 'samples 0 and 1');
    assert.ok(y.subarray(4200).every(Number.isFinite), 'sample 2');
  }
});

deviceTest('no samples; inference and frozen parameters', (device) => {
  assert.is(runCase(forward(0, 3), 'float32', { device })['y']!.length, 0);
  same(runCase(normBackward(forward(0, 3)), 'float32', { device })['dgamma']!, [0, 0, 0]);
  const kept = runCase(normBackward(forward(0, 3), { accumulate: true }), 'float32', { device })['dbeta']!;
  same(kept, randomValues(3, 7).map(Math.fround));
  const f = forward(2, 1500);
  const b = normBackward(f);
  same(runCase(withoutStatistics(f), 'float32', { device })['y']!, runCase(f, 'float32', { device })['y']!);
  const { dgamma: _g, dbeta: _b, ...inputs } = b.tensors;
  same(runCase({ ...b, tensors: inputs }, 'float32', { device })['dx']!, runCase(b, 'float32', { device })['dx']!);
});

test.run();
