import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Parameter, Tape } from '../../src/autograd/index.js';
import { layernormMap } from '../../src/ops/layernorm_map.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  gradcheck,
  randomValues,
  relative,
  roundInputs,
  runCase,
  same,
  smallIntegers,
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { channelsFirst, channelsLast, exactNormGrad, normBackward, normForward } from '../support/norm-case.js';
import type { Make } from '../support/norm-case.js';
import { OpGolden } from '../support/op-golden.js';

const forward = (batch: number, length: number, values: Make = randomValues, eps = 1e-5): OpCase =>
  normForward('layernorm_map', batch, length, values, eps);
const backward = normBackward;

test('golden values, forward and backward', () => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'layernorm_map');
  if (!golden) return;
  const cases = golden.cases(/^layernorm_chw/);
  assert.ok(cases.length >= 3);
  for (const name of cases)
    for (const set of INSTRUCTION_SETS) {
      const shape = golden.shape(`${name}/in/x`);
      const [batch, channels] = shape as [number, number];
      const map = (key: string, n = batch): Float64Array => channelsLast(golden.values(`${name}/${key}`), n, channels);
      const f = forward(batch, shape.reduce((a, b) => a * b, 1) / batch);
      f.tensors['x']!.values = map('in/x');
      f.tensors['gamma']!.values = map('in/w', 1);
      f.tensors['beta']!.values = map('in/b', 1);
      const out = runCase(f, 'float32', set);
      golden.compare(`${name}/out/y`, channelsFirst(out['y']!, batch, channels), set);
      const b = backward(f);
      b.tensors['mean']!.values = out['mean']!;
      b.tensors['rstd']!.values = out['rstd']!;
      b.tensors['dy']!.values = map('dout/y');
      const din = runCase(b, 'float32', set);
      golden.compare(`${name}/din/x`, channelsFirst(din['dx']!, batch, channels), set);
      golden.compare(`${name}/din/w`, channelsFirst(din['dgamma']!, 1, channels), set);
      golden.compare(`${name}/din/b`, channelsFirst(din['dbeta']!, 1, channels), set);
    }
});

// Around the length of a run (4096) as well as small and odd.
const LENGTHS = [2, 34, 196, 256, 4096, 4098, 12300];

test('exact where the statistics are whole: ±4 about m has mean m and rstd 1/4', () => {
  for (const length of LENGTHS)
    for (const batch of [1, 3]) {
      const about = smallIntegers(batch, 4).map((v) => v + 0); // no -0
      const f = forward(batch, length, smallIntegers, 0);
      f.tensors['x']!.values = Float64Array.from({ length: batch * length }, (_, i) => about[Math.floor(i / length)]! + (i % 2 ? 4 : -4));
      const gamma = f.tensors['gamma']!.values!;
      const beta = f.tensors['beta']!.values!;
      checkExact(f, {
        y: Float64Array.from({ length: batch * length }, (_, i) => (i % 2 ? 1 : -1) * gamma[i % length]! + beta[i % length]!),
        mean: about,
        rstd: new Float64Array(batch).fill(0.25),
      });
    }
});

test('exact sums into dgamma and dbeta, written and added to, on integers', () => {
  for (const [batch, length] of [
    [1, 1],
    [3, 33],
    [4, 257],
    [7, 4100],
    [9, 197],
  ] as const)
    for (const accumulate of [false, true]) {
      const { backward: b, expected } = exactNormGrad(forward(batch, length, smallIntegers, 1), accumulate);
      checkExact(b, expected);
    }
});

test('as accurate as the plain loop', () => {
  for (const [batch, length] of [
    [3, 1023],
    [5, 4097],
    [2, 30001],
  ] as const) {
    const f = forward(batch, length);
    // Not the means: the relative error of two or three numbers close to 0 is luck.
    const { mean: _m, rstd: _r, ...tensors } = f.tensors;
    checkAccuracy({ ...f, tensors });
    checkAccuracy(backward(f));
    checkAccuracy(backward(f, { relu: true, accumulate: true }));
  }
});

test('right for odd and for tiny sizes', () => {
  for (const length of [3, 33, 196, 197, 256, 257, 4097])
    for (const batch of [1, 5]) {
      const f = forward(batch, length, (n, seed) => randomValues(n, seed).map((v) => v + 0.75));
      for (const c of [f, backward(f), backward(f, { relu: true, accumulate: true })]) {
        const rounded = roundInputs(c);
        const exact = runCase(rounded, 'float64');
        for (const set of INSTRUCTION_SETS) {
          const got = runCase(rounded, 'float32', set);
          for (const name of Object.keys(exact))
            assert.ok(relative(got[name]!, exact[name]!) < (length < 4 ? 2e-4 : 5e-6), `${c.op} ${name} ${batch}x${length} ${set}`);
        }
      }
    }
});

test('accurate far from zero, in runs of different means', () => {
  const f = forward(2, 20000);
  f.tensors['x']!.values = Float64Array.from(f.tensors['x']!.values!, (v, i) => Math.fround(4096 + v + Math.floor(i / 5000) * 0.25));
  const exact = runCase(f, 'float64')['rstd']!;
  for (const set of INSTRUCTION_SETS)
    runCase(f, 'float32', set)['rstd']!.forEach((v, i) => assert.ok(Math.abs(v / exact[i]! - 1) < 1e-5, `${set}: ${v} for ${exact[i]}`));
});

test('a constant map gives beta', () => {
  const f = forward(2, 5001, randomValues, 1e-12);
  f.tensors['x']!.values = new Float64Array(2 * 5001).map((_, i) => Math.fround(i < 5001 ? 64.1 : -3e4 / 7));
  const beta = Float64Array.from({ length: 2 * 5001 }, (_, i) => Math.fround(f.tensors['beta']!.values![i % 5001]!));
  for (const set of INSTRUCTION_SETS) assert.ok(relative(runCase(f, 'float32', set)['y']!, beta) < 1e-3, set);
});

test('gradients agree with finite differences, also through the ReLU before', () => {
  const f = forward(2, 9);
  const b = backward(f);
  const dy = b.tensors['dy']!.values!;
  const g = runCase(b, 'float64');
  gradcheck(f, { y: dy }, { x: g['dx']!, gamma: g['dgamma']!, beta: g['dbeta']! });

  // x = relu(z): dx is the gradient of z. The forward of z is done here.
  const z = f.tensors['x']!.values!;
  const clamped = { ...f, tensors: { ...f.tensors, x: { ...f.tensors['x']!, values: Float64Array.from(z, (v) => Math.max(v, 0)) } } };
  const masked = backward(clamped, { relu: true });
  masked.tensors['dy']!.values = dy;
  const dz = runCase(masked, 'float64')['dx']!;
  const open = { ...masked, scalars: { relu: 0, accumulate: 0 } };
  same(
    dz,
    runCase(open, 'float64')['dx']!.map((v, i) => (z[i]! > 0 ? v : 0)),
  );
  for (const set of INSTRUCTION_SETS) {
    const all = runCase(open, 'float32', set)['dx']!;
    same(
      runCase(masked, 'float32', set)['dx']!,
      all.map((v, i) => (z[i]! > 0 ? v : 0)),
      set,
    );
  }
});

test('the same bits twice and on any number of threads', () => {
  const f = forward(5, 9001);
  checkDeterminism(f);
  checkDeterminism(backward(f, { relu: true, accumulate: true }));
});

test('NaN and infinity stay in their sample', () => {
  const f = forward(3, 4200);
  const x = Float64Array.from(f.tensors['x']!.values!);
  x[4199] = NaN;
  x[4200 + 7] = Infinity;
  f.tensors['x']!.values = x;
  for (const set of INSTRUCTION_SETS) {
    const y = runCase(f, 'float32', set)['y']!;
    assert.ok(y.subarray(0, 8400).every(Number.isNaN), `${set}: samples 0 and 1`);
    assert.ok(y.subarray(8400).every(Number.isFinite), `${set}: sample 2`);
  }
});

test('no samples: nothing is written but the zero gradient of the parameters', () => {
  const f = forward(0, 3);
  for (const set of INSTRUCTION_SETS) {
    assert.is(runCase(f, 'float32', set)['y']!.length, 0);
    same(runCase(backward(f), 'float32', set)['dgamma']!, [0, 0, 0]);
  }
});

test('inference needs no mean and rstd; frozen parameters no gradients', () => {
  const f = forward(2, 5000);
  const b = backward(f);
  for (const set of INSTRUCTION_SETS) {
    const { mean: _m, rstd: _r, ...rest } = f.tensors;
    same(runCase({ ...f, tensors: rest }, 'float32', set)['y']!, runCase(f, 'float32', set)['y']!);
    const { dgamma: _g, dbeta: _b, ...inputs } = b.tensors;
    same(runCase({ ...b, tensors: inputs }, 'float32', set)['dx']!, runCase(b, 'float32', set)['dx']!);
  }
});

test('names what is wrong', () => {
  tidy(() => {
    const x = Tensor.zeros([2, 3]);
    const l = Tensor.zeros([3]);
    const n = Tensor.zeros([2]);
    const good = { x, gamma: l, beta: l, y: Tensor.zeros([2, 3]), mean: n, rstd: Tensor.zeros([2]), eps: 1e-5 };
    const bad = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      throwsCode(() => dispatch('layernorm_map', { ...good, ...change }), code, 'layernorm_map', ...parts);
    };
    bad({ gamma: n }, 'ERR_SHAPE', "'gamma'", '[3]', '[2]');
    bad({ x: Tensor.zeros([2, 4]).strided([2, 3], [4, 1]) }, 'ERR_SHAPE', "'x'", 'packed');
    bad({ y: Tensor.zeros([2, 3], 'float64') }, 'ERR_DTYPE', "'y'");
    bad({ rstd: undefined }, 'ERR_ARGS', "'mean'");
    bad({ eps: Infinity }, 'ERR_ARGS', "'eps'");
    bad({ x: Tensor.zeros([2, 0]) }, 'ERR_SHAPE', "'x'");
    const grad = {
      x,
      gamma: l,
      mean: n,
      rstd: n,
      dy: x,
      dx: Tensor.zeros([2, 3]),
      dgamma: l,
      dbeta: Tensor.zeros([3]),
      relu: 0,
      accumulate: 0,
    };
    throwsCode(() => dispatch('layernorm_map_grad', { ...grad, relu: 2 }), 'ERR_ARGS', 'relu');
    throwsCode(() => dispatch('layernorm_map_grad', { ...grad, accumulate: -1 }), 'ERR_ARGS', 'accumulate');
    throwsCode(() => dispatch('layernorm_map_grad', { ...grad, dbeta: undefined }), 'ERR_ARGS', 'dgamma');
    throwsCode(() => dispatch('layernorm_map_grad', { ...grad, mean: Tensor.zeros([3]) }), 'ERR_SHAPE', "'mean'");
  });
});

test('on the tape: maps, their per-element parameters, and the ReLU before', () => {
  const shape = [2, 3, 4, 5];
  const f = forward(2, 60);
  f.tensors['x']!.values = Float64Array.from(f.tensors['x']!.values!, (v) => Math.max(v, 0));
  const b = backward(f, { relu: true });
  tidy(() => {
    const tensor = (c: OpCase, name: string, as: number[]): Tensor => Tensor.from(Float32Array.from(c.tensors[name]!.values!), as);
    const parameter = (name: string): Parameter =>
      new Parameter(name, tensor(f, name, shape.slice(1)), Tensor.zeros(shape.slice(1)), { version: 0 });
    const gamma = parameter('gamma');
    const beta = parameter('beta');
    const x = tensor(f, 'x', shape);
    const out = runCase(f);
    b.tensors['mean']!.values = out['mean']!;
    b.tensors['rstd']!.values = out['rstd']!;
    const want = runCase(b);
    const tape = new Tape();
    tape.watch(x);
    const y = tape.run(() => layernormMap(x, gamma, beta, 1e-5, { relu: true }));
    same(y.float32(), out['y']!);
    const [dx] = tape.backward([[y, tensor(b, 'dy', shape)]], [x]);
    same(dx!.float32(), want['dx']!);
    same(gamma.gradientView!.float32(), want['dgamma']!);
    same(beta.gradientView!.float32(), want['dbeta']!);
    dx!.dispose();
    throwsCode(() => layernormMap(tensor(f, 'x', [2, 60]), gamma, beta, 1e-5), 'ERR_SHAPE', '[3,4,5]', '[2,60]');
  });
});

test.run();
