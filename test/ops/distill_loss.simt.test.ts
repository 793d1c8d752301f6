// The GPU's loss (kernels/distill_loss/*.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/safetensors.js';
import { copyInto } from '../../src/ops/view.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
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
import { manifest, relativeError, requireGolden } from '../support/golden.js';
import { gradCase, lossCase, randomPoint } from '../support/loss-case.js';
import type { Point, Shape } from '../support/loss-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase, Values } from '../support/op-case.js';

const HALVES = [undefined, 'bfloat16', 'float16'] as const;

/** dp stays float32 where p is bfloat16, or the other way round. */
function withGradient(c: OpCase, dtype: DType): OpCase {
  return { ...c, tensors: { ...c.tensors, dp: { ...c.tensors['dp']!, dtype } } };
}

/** The plain float32 loop on these inputs: of bfloat16 only dp is rounded again. */
const plain = (c: OpCase): Record<string, Values> => {
  const out = runCase(c, 'float32', 'plain');
  return out['dp'] ? { dp: out['dp'].map(bf16) } : out;
};

const limitOf = (f32Error: number | undefined, floor: number): number => Math.max(20 * (f32Error ?? 0), floor);

const golden = requireGolden('ops_loss.safetensors', 'distill_loss golden on devices');
if (golden) {
  const entry = manifest()!.files['ops_loss.safetensors']!;
  for (const name of ['loss_2x9x7', 'loss_3x256x5', 'loss_1x33x40', 'loss_4x12'])
    deviceTest(`golden ${name}`, (device) => {
      using file = SafetensorsFile.open(golden);
      const get = (key: string): Float32Array => file.float32(`${name}/${key}`);
      const error = (key: string): number | undefined => entry.tensors[`${name}/${key}`]!.f32_rel_err;
      const stored = file.info(`${name}/in/pred`).shape;
      const shape = (stored.length === 3 ? stored : [stored[0], 1, stored[1]]) as Shape;
      const point: Point = { shape, p: get('in/pred'), t: get('in/raw'), mean: get('in/mean'), std: get('in/std') };
      const { terms } = runCase(lossCase(point), 'float32', { device });
      for (const [i, term] of ['cos', 'l1', 'mse'].entries()) {
        const e = relativeError([terms![i]!], get(`out/${term}`));
        assert.ok(e <= limitOf(error(`out/${term}`), 1e-5), `${term} on ${device}: ${e}`);
      }
      for (const [term, weights] of Object.entries({ cos: [1, 0, 0], l1: [0, 1, 0], mse: [0, 0, 1], main: [0.9, 0.1, 0] })) {
        const { dp } = runCase(gradCase(point, weights), 'float32', { device });
        const e = relativeError(dp!, get(`out/grad_${term}`));
        assert.ok(e <= limitOf(error(`out/grad_${term}`), 2e-5), `gradient of ${term} on ${device}: ${e}`);
      }
    });
}

deviceTest('sums are exact on small integers, gradients too', (device) => {
  // one element; rows that are no vectors; vectors; several chunks of a sample, the last cut; several tiles of channels
  for (const shape of [
    [1, 1, 1],
    [2, 3, 33],
    [3, 70, 64],
    [2, 17, 264],
  ] as Shape[])
    for (const half of HALVES) {
      const count = shape[0] * shape[1] * shape[2];
      const std = smallIntegers(shape[2], 4).map((v) => 2 ** Math.sign(v)); // t' stays a multiple of 1/2
      const point = { shape, p: smallIntegers(count, 1), t: smallIntegers(count, 2, 4), mean: smallIntegers(shape[2], 3), std, half };
      const { stats } = runCase(lossCase(point), 'float64');
      checkDeviceExact(device, lossCase(point), { stats: stats! });
      // Weighted by multiples of the count the gradient is clamp(d) + 2·d·2: in bfloat16 too.
      const c = gradCase(point, [0, count, 2 * count]);
      const { dp } = runCase(c, 'float64');
      for (const [type, dtypes] of [
        [undefined, ['float32', 'bfloat16']],
        ['float32', ['bfloat16']],
        ['bfloat16', ['float32']],
      ] as const)
        checkDeviceExact(device, type ? withGradient(c, type) : c, { dp: dp! }, dtypes);
    }
});

deviceTest('as accurate as the plain loop, in float32 and bfloat16', (device) => {
  for (const [i, shape] of (
    [
      [3, 1, 33],
      [2, 196, 8],
      [1, 97, 40],
      [1, 2, 4104],
      [1, 2, 300],
    ] as Shape[]
  ).entries())
    for (const half of HALVES)
      for (const normalised of [true, false]) {
        if (!normalised && half === 'float16') continue;
        const point = randomPoint(shape, 10 * i + 1, half, normalised);
        checkDeviceFloat32(device, lossCase(point));
        checkDeviceFloat32(device, gradCase(point, [0.9, 0.1, 0.3]));
        checkDeviceBf16(device, lossCase(point), plain);
        checkDeviceBf16(device, gradCase(point, [0.9, 0.1, 0.3]), plain);
      }
});

// Two samples, two chunks of each (the second cut), two tiles of channels (whose last lanes are idle), more rows than are read at once.
const LARGE: Shape = [2, 9, 2064];

deviceTest('the same bits under every schedule', (device) => {
  for (const shape of [LARGE, [2, 37, 131]] as Shape[]) {
    const point = randomPoint(shape, 4, 'bfloat16');
    checkSchedules(device, lossCase(point));
    checkSchedules(device, gradCase(point, [0.9, 0.1, 0.2]));
  }
});

deviceTest('the same bits on any number of multiprocessors', (device) => {
  const point = randomPoint([40, 2, 9], 6);
  const grad = gradCase(point, [0.9, 0.1, 0.2]);
  const run = (): Record<string, Values> => ({
    ...runCase(lossCase(point), 'float32', { device }),
    ...runCase(grad, 'float32', { device }),
  });
  const want = run();
  const got = device === 'simt' ? withEmulated({ multiprocessors: 1 }, run) : run(); // sixteen blocks, forty samples
  for (const name of Object.keys(want)) same(got[name]!, want[name]!, name);
});

deviceTest('one NaN or infinity makes every term NaN, and the gradient of its sample', (device) => {
  for (const channels of [37, 40])
    for (const bad of [NaN, Infinity, -Infinity])
      for (const field of ['p', 't'] as const) {
        const point = randomPoint([2, 7, channels], 9, field === 't' ? 'bfloat16' : undefined);
        const values = Float64Array.from(point[field]);
        values[values.length - 1] = bad;
        const broken = { ...point, [field]: values };
        for (const dtype of ['float32', 'bfloat16'] as const) {
          same(runCase(lossCase(broken), dtype, { device })['terms']!, [NaN, NaN, NaN], `${field} ${bad} on ${device}`);
          const { dp } = runCase(gradCase(broken, [1, 0, 0]), dtype, { device });
          const each = 7 * channels;
          assert.ok(dp!.slice(0, each).every(Number.isFinite) && dp!.slice(each).every(Number.isNaN), `${field} ${bad} on ${device}`);
        }
      }
});

deviceTest('a zero sample is finite', (device) => {
  const p = Float64Array.from({ length: 66 }, (_, i) => (i < 33 ? 0 : 1));
  for (const t of [p.map((v) => 1 - v), p]) {
    const point: Point = { shape: [2, 3, 11], p, t };
    assert.ok(runCase(lossCase(point), 'float32', { device })['terms']!.every(Number.isFinite));
    assert.ok(runCase(gradCase(point, [0.9, 0.1, 0]), 'float32', { device })['dp']!.every(Number.isFinite));
  }
});

deviceTest('takes samples that lie apart, and writes the gradient over the prediction', (device) => {
  for (const channels of [19, 24])
    for (const dtype of ['float32', 'bfloat16'] as const)
      tidy(() => {
        const [samples, positions] = [2, 4];
        const each = positions * channels;
        const make = (n: number, seed: number, shape: number[]): Tensor => {
          const values = Tensor.from(Float32Array.from(randomValues(n, seed), bf16), shape);
          const stored = Tensor.empty(shape, dtype);
          copyInto(stored, values);
          return stored;
        };
        const p = make(samples * each, 2, [samples, positions, channels]);
        const t = make(samples * (each + channels), 1, [samples, positions + 1, channels]); // a CLS row before each map
        const weights = Tensor.from([0.9, 0.1, 0]);
        const run = (on: Tensor, whole: Tensor): Tensor => {
          const terms = Tensor.empty([3], 'float32', on.device);
          const stats = Tensor.empty([samples, 3], 'float64', on.device);
          const target = whole.slice(1, 1, positions);
          const common = { p: on, t: target, stats };
          dispatch('distill_loss', { ...common, terms });
          dispatch('distill_loss_grad', { ...common, weights: weights.to(on.device), dp: on });
          return on;
        };
        const wide = Tensor.empty(p.shape, 'float32');
        copyInto(wide, p);
        const want = run(wide, t).float32();
        const got = run(p.to(device), t.to(device)).to('cpu');
        const there = Tensor.empty(p.shape, 'float32');
        copyInto(there, got);
        const e = relativeError(there.float32(), want);
        assert.ok(e < (dtype === 'float32' ? 1e-6 : 4e-3), `${channels} channels, ${dtype}: ${e}`);
      });
});

deviceTest('refuses mixtures that make no sense', (device) =>
  tidy(() => {
    const z = (dtype: DType, ...shape: number[]): Tensor => Tensor.zeros(shape, dtype, device);
    const good = { p: z('bfloat16', 2, 3, 4), t: z('float16', 2, 3, 4), stats: z('float64', 2, 3) };
    dispatch('distill_loss', { ...good, terms: z('float32', 3) });
    throwsCode(() => dispatch('distill_loss', { ...good, terms: z('bfloat16', 3) }), 'ERR_DTYPE', "'terms'");
    const half = z('bfloat16', 4);
    throwsCode(() => dispatch('distill_loss', { ...good, mean: half, std: half, terms: z('float32', 3) }), 'ERR_DTYPE', "'mean'");
    const grad = { ...good, weights: z('float32', 3) };
    throwsCode(() => dispatch('distill_loss_grad', { ...grad, dp: z('float16', 2, 3, 4) }), 'ERR_DTYPE', "'dp'");
    throwsCode(() => dispatch('distill_loss_grad', { ...grad, dp: z('float64', 2, 3, 4) }), 'ERR_DTYPE', "'dp'");
    dispatch('distill_loss_grad', { ...grad, dp: z('float32', 2, 3, 4) });
  }),
);

test.run();
