import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { f16ToF32 } from '../../src/formats/half.js';
import { SafetensorsFile } from '../../src/formats/safetensors.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { manifest, relativeError, requireGolden } from '../support/golden.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  gradcheck,
  randomValues,
  relative,
  runCase,
  same,
  smallIntegers,
  toBf16,
} from '../support/op-case.js';
import type { Values } from '../support/op-case.js';
import { gradCase, inputs, lossCase, randomPoint } from '../support/loss-case.js';
import type { Point, Shape } from '../support/loss-case.js';

/** Relative error limits of golden/README.md. */
const limitOf = (f32Error: number | undefined, floor: number): number => Math.max(20 * (f32Error ?? 0), floor);

const golden = requireGolden('ops_loss.safetensors', 'distill_loss golden');
if (golden) {
  const entry = manifest()!.files['ops_loss.safetensors']!;
  for (const name of ['loss_2x9x7', 'loss_3x256x5', 'loss_1x33x40', 'loss_4x12']) {
    test(`golden ${name}`, () => {
      const file = SafetensorsFile.open(golden);
      try {
        const get = (key: string): Float32Array => file.float32(`${name}/${key}`);
        const error = (key: string): number | undefined => entry.tensors[`${name}/${key}`]!.f32_rel_err;
        const stored = file.info(`${name}/in/pred`).shape;
        const shape = (stored.length === 3 ? stored : [stored[0], 1, stored[1]]) as Shape;
        const point: Point = { shape, p: get('in/pred'), t: get('in/raw'), mean: get('in/mean'), std: get('in/std') };
        for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const]) {
          const { terms } = runCase(lossCase(point), dtype, set);
          for (const [i, term] of ['cos', 'l1', 'mse'].entries()) {
            const e = relativeError([terms![i]!], get(`out/${term}`));
            assert.ok(e <= limitOf(error(`out/${term}`), 1e-5), `${term} on ${set} ${dtype}: ${e}`);
          }
          for (const [term, weights] of Object.entries({ cos: [1, 0, 0], l1: [0, 1, 0], mse: [0, 0, 1], main: [0.9, 0.1, 0] })) {
            const { dp } = runCase(gradCase(point, weights), dtype, set);
            const e = relativeError(dp!, get(`out/grad_${term}`));
            assert.ok(e <= limitOf(error(`out/grad_${term}`), 2e-5), `gradient of ${term} on ${set} ${dtype}: ${e}`);
          }
        }
      } finally {
        file.close();
      }
    });
  }
}

for (const shape of [
  [1, 1, 1],
  [2, 3, 33],
  [3, 196, 16],
  [2, 256, 64],
] as Shape[]) {
  for (const half of [undefined, 'bfloat16', 'float16'] as const) {
    test(`sums are exact on small integers: ${shape} ${half ?? ''}`, () => {
      const count = shape[0] * shape[1] * shape[2];
      // std is a power of two, so t' = (t - mean) / std stays a multiple of 1/2
      const point: Point = {
        shape,
        p: smallIntegers(count, 1),
        t: smallIntegers(count, 2, 4),
        mean: smallIntegers(shape[2], 3),
        std: smallIntegers(shape[2], 4).map((v) => 2 ** Math.sign(v)),
        half,
      };
      const each = count / shape[0];
      const stats = new Float64Array(shape[0] * 3);
      let l1 = 0;
      let mse = 0;
      for (let i = 0; i < count; i++) {
        const x = point.p[i]!;
        const y = (point.t[i]! - point.mean![i % shape[2]]!) / point.std![i % shape[2]]!;
        const row = 3 * Math.floor(i / each);
        stats[row] += x * y;
        stats[row + 1] += x * x;
        stats[row + 2] += y * y;
        l1 += Math.abs(x - y) < 1 ? (x - y) ** 2 / 2 : Math.abs(x - y) - 0.5;
        mse += (x - y) ** 2;
      }
      checkExact(lossCase(point), { stats });
      for (const set of INSTRUCTION_SETS) {
        const { terms } = runCase(lossCase(point), 'float32', set);
        same(terms!.slice(1), [Math.fround(l1 / count), Math.fround(mse / count)], `terms on ${set}`);
      }
      // With l1 and mse weighted by multiples of the count the gradient is clamp(d) + 2·d·2.
      const weights = [0, count, 2 * count];
      const dp = Float64Array.from(point.p, (x, i) => {
        const d = x - (point.t[i]! - point.mean![i % shape[2]]!) / point.std![i % shape[2]]!;
        return Math.max(-1, Math.min(1, d)) + 4 * d;
      });
      for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const]) {
        const got = runCase(gradCase(point, weights), dtype, set)['dp']!;
        const unsigned = (x: Values): Values => x.map((v) => v + 0); // which zero a sum of zeros gives is left open
        same(unsigned(got), unsigned(dp), `dp on ${set} ${dtype}`);
      }
    });
  }
}

test('is as accurate as the plain loop on sizes that fill no vector, block or chunk', () => {
  const shapes: Shape[] = [
    [1, 1, 1],
    [1, 1, 3],
    [3, 1, 33],
    [2, 196, 8],
    [1, 197, 40],
    [1, 257, 131],
    [1, 2, 17000],
  ];
  for (const [i, shape] of shapes.entries())
    for (const half of [undefined, 'bfloat16', 'float16'] as const)
      for (const normalised of [true, false]) {
        const point = randomPoint(shape, 10 * i + 1, half, normalised);
        checkAccuracy(lossCase(point), `${shape} ${half} ${normalised}`);
        // Of one to three roundings twice the error of the other loop is a matter of luck; those sizes are covered by the exact test.
        if (point.p.length >= 33) checkAccuracy(gradCase(point, [0.9, 0.1, 0.3]), `${shape} ${half} ${normalised}`);
      }
});

test('a target in two bytes gives the bits of the same target in float32', () => {
  for (const half of ['bfloat16', 'float16'] as const) {
    const point = randomPoint([2, 33, 40], 5, half);
    const stored = inputs(point)['t']!.values!;
    const wide: Point = {
      ...point,
      half: undefined,
      t: half === 'bfloat16' ? Array.from(stored, toBf16) : f16ToF32(stored as Uint16Array),
    };
    for (const set of INSTRUCTION_SETS) {
      const a = runCase(lossCase(point), 'float32', set);
      const b = runCase(lossCase(wide), 'float32', set);
      same(a['stats']!, b['stats']!, `${half} on ${set}`);
      same(a['terms']!, b['terms']!, `${half} on ${set}`);
      const weights = [0.9, 0.1, 0];
      same(runCase(gradCase(point, weights), 'float32', set)['dp']!, runCase(gradCase(wide, weights), 'float32', set)['dp']!, half);
    }
  }
});

test('gradient agrees with finite differences, each term and all together', () => {
  for (const normalised of [true, false]) {
    const point = randomPoint([2, 5, 7], 3, undefined, normalised);
    for (const weights of [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
      [0.9, 0.1, 0],
      [0.7, -0.4, 1.3],
    ])
      gradcheck(lossCase(point), { terms: weights }, { p: runCase(gradCase(point, weights), 'float64')['dp']! });
  }
});

test('smooth-L1 changes branch at 1 without a step', () => {
  // Central differences of step h around the kink err by h/2 at most: the second derivative jumps by 1.
  const d = [1 - 1e-9, 1, 1 + 1e-9, -1 + 1e-9, -1, -1 - 1e-9, 0.999, 1.001, 0, -0.5];
  const t = randomValues(d.length, 8);
  const point: Point = { shape: [1, 2, 5], p: t.map((v, i) => v + d[i]!), t };
  const { dp } = runCase(gradCase(point, [0, d.length, 0]), 'float64');
  for (const [i, x] of d.entries()) assert.ok(Math.abs(dp![i]! - Math.max(-1, Math.min(1, x))) < 1e-12, `at ${x}: ${dp![i]}`);
  const { terms } = runCase(lossCase(point), 'float64');
  const want = d.reduce((sum, x) => sum + (Math.abs(x) < 1 ? (x * x) / 2 : Math.abs(x) - 0.5), 0) / d.length;
  assert.ok(Math.abs(terms![1]! - want) < 1e-14);
});

/** Cosine term of one sample by the published formula, and its differences at a scale of choice. */
function publishedCosine(p: ArrayLike<number>, t: ArrayLike<number>): number {
  const square = (x: ArrayLike<number>): number => Array.from(x).reduce((s, v) => s + v * v, 0);
  const unit = (x: ArrayLike<number>): number[] => {
    const norm = Math.max(Math.sqrt(square(x)), 1e-12);
    return Array.from(x, (v) => v / norm);
  };
  const [a, b] = [unit(p), unit(t)];
  return 1 - a.reduce((s, v, i) => s + v * b[i]!, 0) / Math.sqrt((square(a) + 1e-12) * (square(b) + 1e-12));
}

test('vanishing vectors follow the published epsilons, gradient included', () => {
  const direction = [0.6, -0.3, 0.2, 0.5];
  const t = [0.1, 0.9, -0.4, 0.7];
  // |p|: nothing, far below and below the clamp of 1e-12, above it; with the step of the differences
  for (const [scale, h] of [
    [0, 1e-23],
    [1e-19, 1e-23],
    [3e-13, 1e-17],
    [1e-9, 1e-14],
  ] as const)
    for (const target of [t, [0, 0, 0, 0], t.map((v) => v * 1e-13)]) {
      const p = direction.map((v) => v * scale);
      const point: Point = { shape: [1, 2, 2], p, t: target };
      const { terms } = runCase(lossCase(point), 'float64');
      assert.ok(Math.abs(terms![0]! - publishedCosine(p, target)) < 1e-12, `value at ${scale}`);
      const { dp } = runCase(gradCase(point, [1, 0, 0]), 'float64');
      const numeric = p.map((_, i) => {
        const at = (delta: number): number =>
          publishedCosine(
            p.map((v, k) => (k === i ? v + delta : v)),
            target,
          );
        return (at(h) - at(-h)) / (2 * h);
      });
      const size = Math.hypot(...numeric);
      // The differences carry the rounding of 1 - cosine (1e-16) over h, beside h².
      for (const [i, want] of numeric.entries())
        assert.ok(Math.abs(dp![i]! - want) <= 1e-5 * size + 1e-15 / h, `|p| ~ ${scale}: ${dp![i]} against ${want}`);
    }
});

test('a zero sample is finite in float32 on every instruction set', () => {
  const p = Float64Array.from({ length: 66 }, (_, i) => (i < 33 ? 0 : 1));
  for (const t of [p.map((v) => 1 - v), p])
    for (const set of INSTRUCTION_SETS) {
      const point: Point = { shape: [2, 3, 11], p, t };
      assert.ok(runCase(lossCase(point), 'float32', set)['terms']!.every(Number.isFinite));
      assert.ok(runCase(gradCase(point, [0.9, 0.1, 0]), 'float32', set)['dp']!.every(Number.isFinite));
    }
});

test('one NaN or infinity makes every term NaN, and the gradient of its sample', () => {
  for (const set of INSTRUCTION_SETS)
    for (const bad of [NaN, Infinity, -Infinity])
      for (const half of [undefined, 'bfloat16', 'float16'] as const)
        for (const field of half ? (['t'] as const) : (['p', 't'] as const)) {
          const point = randomPoint([2, 7, 37], 9, half);
          const values = Float64Array.from(point[field]);
          values[37 * 7 * 2 - 1] = bad; // in the tail of the last row
          const broken = { ...point, [field]: values };
          same(runCase(lossCase(broken), 'float32', set)['terms']!, [NaN, NaN, NaN], `${field} ${bad} on ${set}`);
          for (const weights of [
            [1, 0, 0],
            [0, 0, 1],
          ]) {
            const { dp } = runCase(gradCase(broken, weights), 'float32', set);
            assert.ok(dp!.slice(0, 259).every(Number.isFinite) && dp!.slice(259).every(Number.isNaN), `${field} ${bad} on ${set}`);
          }
        }
});

test('same bits on any number of threads', () => {
  const point = randomPoint([2, 300, 200], 4, 'bfloat16');
  checkDeterminism(lossCase(point));
  checkDeterminism(gradCase(point, [0.9, 0.1, 0.2]));
});

test('takes samples that lie apart, and writes the gradient over the prediction', () => {
  for (const set of INSTRUCTION_SETS)
    tidy(() => {
      const [samples, positions, channels] = [2, 4, 19];
      const each = positions * channels;
      const values = (n: number, seed: number): Values => randomValues(n, seed).map(Math.fround);
      const whole = values(samples * (each + channels), 1); // a CLS row before the map of each sample
      const p = values(samples * each, 2);
      const t = Float64Array.from(
        { length: samples * each },
        (_, i) => whole[Math.floor(i / each) * (each + channels) + channels + (i % each)]!,
      );
      const point: Point = { shape: [samples, positions, channels], p, t };
      const want = runCase(lossCase(point), 'float32', set);
      const wantGrad = runCase(gradCase(point, [0.9, 0.1, 0]), 'float32', set)['dp']!;
      const prediction = Tensor.from(Float32Array.from(p), [samples, positions, channels]);
      const target = Tensor.from(Float32Array.from(whole), [samples, positions + 1, channels]).slice(1, 1, positions);
      const terms = Tensor.empty([3]);
      const stats = Tensor.empty([samples, 3], 'float64');
      dispatch('distill_loss', { p: prediction, t: target, terms, stats });
      assert.ok(relative(terms.float32(), want['terms']!) < 1e-7);
      const weights = Tensor.from([0.9, 0.1, 0]);
      dispatch('distill_loss_grad', { p: prediction, t: target, stats, weights, dp: prediction });
      assert.ok(relative(prediction.float32(), wantGrad) < 1e-6);
    });
});

test('names field, expected and given', () => {
  tidy(() => {
    const z = (...shape: number[]): Tensor => Tensor.zeros(shape);
    const good = { p: z(2, 3, 4), t: z(2, 3, 4), mean: z(4), std: z(4), terms: z(3), stats: Tensor.zeros([2, 3], 'float64') };
    const fails = (change: object, code: 'ERR_SHAPE' | 'ERR_DTYPE' | 'ERR_ARGS', ...parts: string[]): void => {
      throwsCode(() => dispatch('distill_loss', { ...good, ...change }), code, 'distill_loss', ...parts);
    };
    fails({ t: z(2, 4, 3) }, 'ERR_SHAPE', "'t'", '[2,3,4]', '[2,4,3]');
    fails({ p: z(2, 0, 4), t: z(2, 0, 4) }, 'ERR_SHAPE', "'p'", '[2,0,4]');
    fails({ p: z(2, 4, 3).strided([2, 3, 4], [12, 1, 3]) }, 'ERR_SHAPE', "'p'");
    fails({ t: z(2, 3, 8).slice(2, 0, 4) }, 'ERR_SHAPE', "'t'");
    fails({ std: undefined }, 'ERR_ARGS', "'mean'");
    fails({ mean: z(3) }, 'ERR_SHAPE', "'mean'", '[4]', '[3]');
    fails({ terms: z(2) }, 'ERR_SHAPE', "'terms'");
    fails({ stats: Tensor.zeros([3, 3], 'float64') }, 'ERR_SHAPE', "'stats'");
    fails({ stats: z(2, 3) }, 'ERR_DTYPE', "'stats'", 'float64');
    fails({ t: Tensor.zeros([2, 3, 4], 'float64') }, 'ERR_DTYPE', "'t'");
    fails({ t: Tensor.zeros([2, 3, 4], 'uint8') }, 'ERR_DTYPE', "'t'");
    const { terms, ...common } = good;
    void terms;
    const grad = { ...common, weights: z(3), dp: z(2, 3, 4) };
    throwsCode(() => dispatch('distill_loss_grad', { ...grad, dp: z(2, 12, 1) }), 'ERR_SHAPE', "distill_loss_grad: expected 'dp'");
    throwsCode(() => dispatch('distill_loss_grad', { ...grad, weights: z(4) }), 'ERR_SHAPE', "'weights'");
    throwsCode(() => dispatch('distill_loss_grad', { ...grad, dp: Tensor.zeros([2, 3, 4], 'float64') }), 'ERR_DTYPE', "'dp'");
  });
});

test.run();
