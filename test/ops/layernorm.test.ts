import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Parameter, Tape } from '../../src/autograd/index.js';
import { layernorm } from '../../src/ops/layernorm.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
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
  withInstructionSet,
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { exactNormGrad, normBackward, normForward } from '../support/norm-case.js';
import type { Make } from '../support/norm-case.js';
import { OpGolden } from '../support/op-golden.js';

const forward = (rows: number, width: number, values: Make = randomValues, eps = 1e-12): OpCase =>
  normForward('layernorm', rows, width, values, eps);
const backward = normBackward;

test('golden values, forward and backward', () => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'layernorm');
  if (!golden) return;
  const cases = golden.cases(/^layernorm_(?!chw)/);
  assert.ok(cases.length >= 6);
  for (const name of cases)
    for (const set of INSTRUCTION_SETS) {
      const shape = golden.shape(`${name}/in/x`);
      const width = shape[shape.length - 1]!;
      const rows = shape.reduce((a, b) => a * b, 1) / width;
      const f = forward(rows, width, randomValues, Number(/eps(.*)$/.exec(name)![1]));
      f.tensors['x']!.values = golden.values(`${name}/in/x`);
      f.tensors['gamma']!.values = golden.values(`${name}/in/w`);
      f.tensors['beta']!.values = golden.values(`${name}/in/b`);
      const out = runCase(f, 'float32', set);
      golden.compare(`${name}/out/y`, out['y']!, set);
      const b = backward(f);
      b.tensors['mean']!.values = out['mean']!;
      b.tensors['rstd']!.values = out['rstd']!;
      b.tensors['dy']!.values = golden.values(`${name}/dout/y`);
      const din = runCase(b, 'float32', set);
      golden.compare(`${name}/din/x`, din['dx']!, set);
      golden.compare(`${name}/din/w`, din['dgamma']!, set);
      golden.compare(`${name}/din/b`, din['dbeta']!, set);
    }
});

const WIDTHS = [1, 3, 33, 196, 197, 256, 257];

test('exact where the statistics are whole: rows of ±a about m have mean m and rstd 1/a', () => {
  for (const width of [2, 4, 34, 196, 256, 768])
    for (const rows of [1, 3, 37]) {
      const about = smallIntegers(rows, 4).map((v) => v + 0); // no -0
      const f = forward(rows, width, smallIntegers, 0);
      f.tensors['x']!.values = Float64Array.from({ length: rows * width }, (_, i) => about[Math.floor(i / width)]! + (i % 2 ? 4 : -4));
      const gamma = f.tensors['gamma']!.values!;
      const beta = f.tensors['beta']!.values!;
      checkExact(f, {
        y: Float64Array.from({ length: rows * width }, (_, i) => (i % 2 ? 1 : -1) * gamma[i % width]! + beta[i % width]!),
        mean: about,
        rstd: new Float64Array(rows).fill(0.25),
      });
    }
});

test('exact sums into dgamma and dbeta, written and added to, on integers', () => {
  for (const [rows, width] of [
    [1, 1],
    [5, 3],
    [37, 33],
    [197, 64],
    [2100, 5],
  ] as const) {
    const f = forward(rows, width, smallIntegers, 1);
    for (const accumulate of [false, true]) {
      const { backward: b, expected } = exactNormGrad(f, accumulate);
      checkExact(b, expected);
    }
  }
});

test('as accurate as the plain loop at odd widths, with and without the sum into dx', () => {
  for (const width of WIDTHS) {
    // One column has no variance: eps keeps rstd small, or the rounding of x - mean would be all there is.
    const f = forward(67, width, randomValues, 1e-5);
    checkAccuracy(f, `67x${width}`);
    // A single column has no gradient at all: what is left is rounding times rstd.
    if (width === 1) runCase(backward(f))['dx']!.forEach((v) => assert.ok(Math.abs(v) < 1e-4, `dx ${v}`));
    else for (const add of [false, true]) checkAccuracy(backward(f, { add, accumulate: add }), `67x${width}`);
  }
});

test('right for few rows, too few to compare errors', () => {
  for (const rows of [1, 3, 33, 196, 197, 256, 257]) {
    const f = forward(rows, 35, randomValues, 1e-5);
    for (const c of [f, backward(f), backward(f, { add: true, accumulate: true })]) {
      const rounded = roundInputs(c);
      const exact = runCase(rounded, 'float64');
      for (const set of INSTRUCTION_SETS) {
        const got = runCase(rounded, 'float32', set);
        for (const name of Object.keys(exact)) assert.ok(relative(got[name]!, exact[name]!) < 2e-6, `${c.op} ${name} ${rows} ${set}`);
      }
    }
  }
});

test('accurate far from zero, where the variance must not come from a difference of squares', () => {
  const f = forward(5, 768);
  f.tensors['x']!.values = Float64Array.from(f.tensors['x']!.values!, (v) => Math.fround(4096 + v));
  const exact = runCase(f, 'float64')['rstd']!;
  for (const set of INSTRUCTION_SETS) {
    const rstd = runCase(f, 'float32', set)['rstd']!;
    rstd.forEach((v, i) => assert.ok(Math.abs(v / exact[i]! - 1) < 1e-6, `${set}: ${v} for ${exact[i]}`));
  }
});

test('a constant row gives beta and the largest rstd, whatever the constant', () => {
  for (const width of [1, 7, 96, 257]) {
    const f = forward(3, width);
    f.tensors['x']!.values = new Float64Array(3 * width).map((_, i) => Math.fround([0, 64.1, -3e4 / 7][Math.floor(i / width)]!));
    for (const set of INSTRUCTION_SETS) {
      const out = runCase(f, 'float32', set);
      same(
        out['y']!,
        Float64Array.from({ length: 3 * width }, (_, i) => Math.fround(f.tensors['beta']!.values![i % width]!)),
        set,
      );
      for (const v of out['rstd']!) assert.ok(Math.abs(v / 1e6 - 1) < 1e-6, `rstd ${v}`);
    }
  }
});

test('gradients agree with finite differences', () => {
  const f = forward(4, 7, randomValues, 1e-5);
  const b = backward(f);
  const g = runCase(b, 'float64');
  const dy = b.tensors['dy']!.values!;
  gradcheck({ ...f }, { y: dy }, { x: g['dx']!, gamma: g['dgamma']!, beta: g['dbeta']! });
});

test('the same bits twice and on any number of threads', () => {
  checkDeterminism(forward(300, 192));
  checkDeterminism(backward(forward(300, 192), { add: true, accumulate: true }));
});

test('strided rows give what packed rows give, and nothing lies between them', () => {
  const f = forward(9, 33);
  const b = backward(f, { add: true });
  const strided = (c: OpCase, names: string[]): OpCase => ({
    ...c,
    tensors: { ...c.tensors, ...Object.fromEntries(names.map((n, i) => [n, { ...c.tensors[n]!, strides: [35 + 8 * i, 1] }])) },
  });
  for (const set of INSTRUCTION_SETS) {
    for (const [packed, spread] of [
      [f, strided(f, ['x', 'y'])],
      [b, strided(b, ['x', 'dy', 'add', 'dx'])],
    ] as const) {
      const want = runCase(packed, 'float32', set);
      const got = runCase(spread, 'float32', set);
      for (const name of Object.keys(want)) same(got[name]!, want[name]!, `${packed.op} ${name} ${set}`);
    }
  }
});

test('dx in the memory of add', () => {
  const b = backward(forward(21, 65), { add: true });
  for (const set of INSTRUCTION_SETS) {
    const want = runCase(b, 'float32', set)['dx']!;
    withInstructionSet(set, () =>
      tidy(() => {
        const tensors = Object.fromEntries(
          Object.entries(b.tensors).map(([n, t]) => [
            n,
            Tensor.from(Float32Array.from(t.values ?? new Float32Array(t.shape.reduce((p, q) => p * q))), t.shape),
          ]),
        ) as Record<string, Tensor>;
        dispatch('layernorm_grad', { ...tensors, dx: tensors['add'], accumulate: 0 } as unknown as OpArgs['layernorm_grad']);
        same(tensors['add']!.float32(), want, set);
      }),
    );
  }
});

test('NaN and infinity stay in their row; huge values give no NaN in others', () => {
  const f = forward(4, 33);
  const x = Float64Array.from(f.tensors['x']!.values!);
  x[5] = NaN;
  x[33 + 7] = Infinity;
  x[66 + 8] = 1e18;
  f.tensors['x']!.values = x;
  for (const set of INSTRUCTION_SETS) {
    const y = runCase(f, 'float32', set)['y']!;
    assert.ok(y.subarray(0, 66).every(Number.isNaN), `${set}: rows 0 and 1`);
    assert.ok(y.subarray(66).every(Number.isFinite), `${set}: rows 2 and 3`);
  }
});

test('no rows: nothing is written but the zero gradient of the parameters', () => {
  const f = forward(0, 5);
  for (const set of INSTRUCTION_SETS) {
    assert.is(runCase(f, 'float32', set)['y']!.length, 0);
    same(runCase(backward(f), 'float32', set)['dgamma']!, [0, 0, 0, 0, 0]);
  }
});

test('inference needs no mean and rstd; frozen parameters no gradients', () => {
  const f = forward(3, 20);
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
    const d = Tensor.zeros([3]);
    const r = Tensor.zeros([2]);
    const good = { x, gamma: d, beta: d, y: Tensor.zeros([2, 3]), mean: r, rstd: Tensor.zeros([2]), eps: 1e-5 };
    const bad = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      throwsCode(() => dispatch('layernorm', { ...good, ...change }), code, 'layernorm', ...parts);
    };
    bad({ gamma: r }, 'ERR_SHAPE', "'gamma'", '[3]', '[2]');
    bad({ y: Tensor.zeros([3, 2]) }, 'ERR_SHAPE', "'y'");
    bad({ y: Tensor.zeros([6]).strided([2, 3], [2, 1]) }, 'ERR_SHAPE', "'y'", 'overlap');
    bad({ x: Tensor.zeros([6]).strided([2, 3], [1, 2]) }, 'ERR_SHAPE', "'x'", 'packed');
    bad({ beta: Tensor.zeros([3], 'float64') }, 'ERR_DTYPE', "'beta'");
    bad({ mean: undefined }, 'ERR_ARGS', "'rstd'");
    bad({ eps: NaN }, 'ERR_ARGS', "'eps'");
    bad({ eps: -1 }, 'ERR_ARGS', "'eps'");
    throwsCode(() => dispatch('layernorm', { ...good, x: Tensor.zeros([2, 0]), y: Tensor.zeros([2, 0]) }), 'ERR_SHAPE', 'column');
    const grad = { x, gamma: d, mean: r, rstd: r, dy: x, dx: Tensor.zeros([2, 3]), dgamma: d, dbeta: Tensor.zeros([3]), accumulate: 0 };
    throwsCode(() => dispatch('layernorm_grad', { ...grad, accumulate: 2 }), 'ERR_ARGS', 'accumulate');
    throwsCode(() => dispatch('layernorm_grad', { ...grad, dgamma: undefined }), 'ERR_ARGS', 'dbeta');
    throwsCode(() => dispatch('layernorm_grad', { ...grad, add: Tensor.zeros([2, 2]) }), 'ERR_SHAPE', "'add'");
  });
});

test('on the tape: gradients of x and the parameters, the residual gradient fused, shared parameters added up', () => {
  const f = forward(6, 20, randomValues, 1e-5);
  const b = backward(f, { add: true });
  tidy(() => {
    const tensor = (c: OpCase, name: string): Tensor => Tensor.from(Float32Array.from(c.tensors[name]!.values!), c.tensors[name]!.shape);
    const parameter = (name: string): Parameter => new Parameter(name, tensor(f, name), Tensor.zeros([20]), { version: 0 });
    const gamma = parameter('gamma');
    const beta = parameter('beta');
    const x = tensor(f, 'x').reshape([2, 3, 20]);
    const out = runCase(f);
    b.tensors['mean']!.values = out['mean']!;
    b.tensors['rstd']!.values = out['rstd']!;
    const want = runCase(b);
    for (const pass of [1, 2]) {
      const tape = new Tape();
      tape.watch(x);
      const y = tape.run(() => layernorm(x, gamma, beta, 1e-5));
      same(y.float32(), out['y']!);
      const residual: [Tensor, Tensor] = [x, tensor(b, 'add').reshape([2, 3, 20])];
      const [dx] = tape.backward([[y, tensor(b, 'dy').reshape([2, 3, 20])], residual], [x]);
      same(dx!.float32(), want['dx']!);
      same(residual[1].float32(), tensor(b, 'add').float32());
      // No beginGradients() between the passes: the second adds.
      same(
        gamma.gradientView!.float32(),
        want['dgamma']!.map((v) => v * pass),
      );
      same(
        beta.gradientView!.float32(),
        want['dbeta']!.map((v) => v * pass),
      );
      dx!.dispose();
    }
  });
});

test.run();
