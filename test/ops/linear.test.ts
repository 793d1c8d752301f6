import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
import { throwsCode } from '../support/errors.js';
import { backward, expectedBackward, expectedForward, forward } from '../support/linear-case.js';
import type { Make, Size } from '../support/linear-case.js';
import {
  INSTRUCTION_SETS,
  SIMD_SETS,
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
import type { OpCase, Values } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';

test('golden values, forward and backward', () => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'linear');
  if (!golden) return;
  for (const [name, activation] of [
    ['linear_33_65', 'none'],
    ['linear_gelu_33_65', 'gelu'],
  ] as const)
    for (const set of INSTRUCTION_SETS)
      for (const packed of [false, true]) {
        const f = forward([7, 65, 33], (count, seed) => golden.values(`${name}/in/${['x', 'w', 'b'][seed - 1]!}`).slice(0, count), {
          activation,
          bias: true,
          packed,
        });
        const out = runCase(f, 'float32', set);
        golden.compare(`${name}/out/y`, out['y']!, set);
        const b = backward(f, { packed }, () => golden.values(`${name}/dout/y`));
        if (activation === 'gelu') b.tensors['slope']!.values = out['slope']!;
        const din = runCase(b, 'float32', set);
        golden.compare(`${name}/din/x`, din['dx']!, set);
        golden.compare(`${name}/din/w`, din['dw']!, set);
        golden.compare(`${name}/din/b`, din['dbias']!, set);
      }
});

test('golden values of GELU and ReLU alone: products with 1', () => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'linear activations');
  if (!golden) return;
  for (const [name, activation] of [
    ['gelu_erf', 'gelu'],
    ['relu', 'relu'],
  ] as const)
    for (const set of INSTRUCTION_SETS) {
      const x = golden.values(`${name}/in/x`);
      // Once down a column (a lane each), once along a row (full vectors).
      for (const down of [true, false]) {
        const size: Size = down ? [x.length, 1, 1] : [1, x.length, 1];
        const f = forward(size, (_, seed) => ((seed === 1) === down ? x : Float64Array.of(1)), { activation });
        const out = runCase(f, 'float32', set);
        golden.compare(`${name}/out/y`, out['y']!, set);
        const b = backward(f, {}, () => golden.values(`${name}/dout/y`));
        if (activation === 'gelu') b.tensors['slope']!.values = out['slope']!;
        golden.compare(`${name}/din/x`, runCase(b, 'float32', set)[down ? 'dx' : 'dw']!, set);
      }
    }
});

// Sizes around strips, panels of 32 and blocks of k (256, 384, 768), the models' own token counts among them.
const SIZES: Size[] = [
  [1, 1, 1],
  [3, 33, 3],
  [33, 3, 33],
  [7, 64, 196],
  [197, 31, 12],
  [196, 33, 5],
  [33, 257, 9],
  [257, 5, 20],
  [20, 33, 257],
  [9, 40, 385],
  [3, 33, 800],
];

test('exact on integers: every epilogue, with panels and without, written and added to', () => {
  for (const size of SIZES)
    for (const packed of [false, true]) {
      for (const options of [
        {},
        { bias: true },
        { activation: 'relu' },
        { bias: true, activation: 'relu', residual: true },
        { residual: true },
      ] as const) {
        const f = forward(size, smallIntegers, { ...options, packed });
        checkExact(f, { y: expectedForward(f) });
      }
      for (const activation of ['none', 'relu'] as const)
        for (const accumulate of [false, true]) {
          const b = backward(forward(size, smallIntegers, { activation, bias: true }), { packed, accumulate }, smallIntegers);
          checkExact(b, expectedBackward(b));
        }
    }
});

test('each gradient alone is what it is among the others', () => {
  for (const activation of ['none', 'relu', 'gelu'] as const) {
    const b = backward(forward([37, 33, 40], randomValues, { activation }));
    const { dx, dw, dbias, ...inputs } = b.tensors;
    for (const set of INSTRUCTION_SETS) {
      const all = runCase(b, 'float32', set);
      for (const [name, t] of Object.entries({ dx, dw, dbias }))
        same(runCase({ ...b, tensors: { ...inputs, [name]: t! } }, 'float32', set)[name]!, all[name]!, `${name} ${activation} ${set}`);
    }
  }
});

test('residual in the memory of y', () => {
  for (const [m, n, k] of [
    [5, 33, 7],
    [197, 64, 800],
  ] as const)
    for (const activation of ['none', 'relu'] as const) {
      const f = forward([m, n, k], smallIntegers, {
        activation,
        bias: true,
        residual: true,
        packed: true,
      });
      const want = expectedForward(f);
      for (const set of INSTRUCTION_SETS)
        withInstructionSet(set, () =>
          tidy(() => {
            const t = Object.fromEntries(
              Object.entries(f.tensors).flatMap(([name, c]) =>
                c.values ? [[name, Tensor.from(Float32Array.from(c.values), c.shape)] as const] : [],
              ),
            );
            dispatch('linear', {
              ...t,
              y: t['residual'],
              activation,
            } as unknown as OpArgs['linear']);
            same(t['residual']!.float32(), want, `${m}x${n}x${k} ${activation} ${set}`);
          }),
        );
    }
});

test('as accurate as the plain loop, whole blocks of k and odd sizes', () => {
  const some: Size[] = [
    [33, 197, 1],
    [257, 33, 3],
    [33, 65, 196],
    [196, 33, 197],
    [197, 35, 192],
    [17, 257, 256],
    [33, 64, 385],
    [5, 70, 1000],
    [20, 35, 1600],
  ];
  for (const size of some) {
    const label = size.join('x');
    for (const packed of [false, true]) checkAccuracy(forward(size, randomValues, { packed, bias: true, residual: true }), label);
    // Weights that keep pre-activations near 1, as trained ones do: GELU and its slope live there.
    const make: Make = (count, seed) => randomValues(count, seed).map((v) => (seed === 2 ? (v * 3) / Math.sqrt(size[2]) : v));
    const f = forward(size, make, {
      activation: 'gelu',
      bias: true,
      packed: true,
    });
    checkAccuracy(f, `gelu ${label}`);
    checkAccuracy(backward(f, { packed: true, accumulate: true }), `gelu ${label}`);
    checkAccuracy(backward(forward(size, randomValues, { activation: 'relu' })), `relu ${label}`);
  }
});

test('right for sizes too small to compare errors', () => {
  const counts = [1, 3, 33];
  for (const m of counts)
    for (const n of counts)
      for (const k of [1, 3, 33, 770]) {
        const f = forward([m, n, k], randomValues, {
          activation: 'gelu',
          bias: true,
        });
        for (const c of [forward([m, n, k]), f, backward(f)]) {
          const rounded = roundInputs(c);
          const exact = runCase(rounded, 'float64');
          // Sums whose terms cancel lose digits whatever the order: the error is measured against the terms, not against what is left.
          const terms = Math.sqrt(k);
          for (const set of SIMD_SETS) {
            const got = runCase(rounded, 'float32', set);
            for (const [name, want] of Object.entries(exact))
              want.forEach((v, i) => {
                const error = Math.abs(got[name]![i]! - v);
                assert.ok(error <= 2e-6 * Math.max(1, Math.abs(v), terms), `${c.op} ${name}[${i}] ${m}x${n}x${k} ${set}: ${error}`);
              });
          }
        }
      }
});

test('GELU and its slope are as accurate as the plain formula from tail to tail', () => {
  const count = 999;
  const edges = [-13, -6, -4, -2, -1.1, 0, 1.1, 2, 4, 6, 13];
  edges.slice(1).forEach((to, e) => {
    const from = edges[e]!;
    const grid = Float64Array.from({ length: count }, (_, i) => from + ((to - from) * (i + 0.37)) / count);
    checkAccuracy(
      forward([1, count, 1], (_, seed) => (seed === 1 ? Float64Array.of(1) : grid), { activation: 'gelu' }),
      `${from} to ${to}`,
    );
  });
});

test('gradients agree with finite differences', () => {
  for (const activation of ['none', 'relu', 'gelu'] as const) {
    const f = forward([5, 6, 7], randomValues, {
      activation,
      bias: true,
      residual: activation === 'none',
    });
    const b = backward(f);
    const dy = b.tensors['dy']!.values!;
    const g = runCase(b, 'float64');
    const residual: Record<string, Values> = activation === 'none' ? { residual: Float64Array.from(dy) } : {};
    gradcheck(f, { y: dy }, { x: g['dx']!, w: g['dw']!, bias: g['dbias']!, ...residual });
  }
});

test('the same bits twice and on any number of threads', () => {
  for (const packed of [false, true]) {
    const f = forward([215, 40, 270], randomValues, {
      activation: 'gelu',
      bias: true,
      residual: true,
      packed,
    });
    checkDeterminism(f);
    checkDeterminism(backward(f, { packed, accumulate: true }));
  }
});

test('a row comes out the same whatever the rows around it', () => {
  const f = forward([50, 40, 300], randomValues, {
    activation: 'gelu',
    bias: true,
    packed: true,
  });
  const one: OpCase = {
    ...f,
    tensors: {
      ...f.tensors,
      x: {
        shape: [1, 300],
        values: Float64Array.from(f.tensors['x']!.values!).slice(37 * 300, 38 * 300),
      },
      y: { shape: [1, 40] },
      slope: { shape: [1, 40] },
    },
  };
  for (const set of INSTRUCTION_SETS)
    assert.ok(relative(runCase(one, 'float32', set)['y']!, runCase(f, 'float32', set)['y']!.slice(37 * 40, 38 * 40)) < 1e-6, set);
});

test('strided rows give what packed rows give, and nothing lies between them', () => {
  const spread = (c: OpCase, names: string[]): OpCase => ({
    ...c,
    tensors: {
      ...c.tensors,
      ...Object.fromEntries(
        names.map((n, i) => [
          n,
          {
            ...c.tensors[n]!,
            strides: [c.tensors[n]!.shape[1]! + 3 + 5 * i, 1],
          },
        ]),
      ),
    },
  });
  for (const activation of ['none', 'relu', 'gelu'] as const) {
    const f = forward([19, 33, 65], randomValues, {
      activation,
      bias: true,
      residual: true,
    });
    const b = backward(f, { accumulate: true });
    const saved = { none: [], relu: ['y'], gelu: ['slope'] }[activation];
    for (const set of INSTRUCTION_SETS)
      for (const [close, wide] of [
        [f, spread(f, ['x', 'w', 'residual', 'y', ...(activation === 'gelu' ? ['slope'] : [])])],
        [b, spread(b, ['x', 'w', 'dy', 'dx', 'dw', ...saved])],
      ] as const) {
        const want = runCase(close, 'float32', set);
        const got = runCase(wide, 'float32', set);
        for (const name of Object.keys(want)) same(got[name]!, want[name]!, `${close.op} ${name} ${activation} ${set}`);
      }
  }
});

test('NaN and infinity reach their row or column and nothing else', () => {
  const [m, n, k] = [6, 35, 40];
  for (const activation of ['none', 'relu', 'gelu'] as const) {
    const f = forward([m, n, k], (count, seed) => randomValues(count, seed).map((v) => Math.abs(v) + 0.1), { activation });
    const x = Float64Array.from(f.tensors['x']!.values!);
    const w = Float64Array.from(f.tensors['w']!.values!);
    x[1 * k + 3] = NaN;
    x[3 * k + 39] = Infinity;
    w[33 * k + 5] = NaN;
    f.tensors['x']!.values = x;
    f.tensors['w']!.values = w;
    for (const set of INSTRUCTION_SETS) {
      const out = runCase(f, 'float32', set);
      out['y']!.forEach((v, e) => {
        const [row, column] = [Math.floor(e / n), e % n];
        if (row === 1 || column === 33) assert.ok(Number.isNaN(v), `${activation} ${set} y[${row},${column}] = ${v}`);
        else if (row === 3) assert.is(v, Infinity, `${activation} ${set} y[${row},${column}]`);
        else assert.ok(Number.isFinite(v), `${activation} ${set} y[${row},${column}] = ${v}`);
      });
      // At infinity itself the formula's slope is 1 + inf·0.
      if (activation === 'gelu')
        out['slope']!.forEach((v, e) => {
          const row = Math.floor(e / n);
          if (row !== 3) assert.is(Number.isNaN(v), row === 1 || e % n === 33, `${set} slope[${row},${e % n}]`);
        });
    }
  }
  // Backward: a NaN of dy spoils its row of dx, its row of dw and its element of dbias.
  const b = backward(forward([m, n, k]));
  const dy = Float64Array.from(b.tensors['dy']!.values!);
  dy[2 * n + 34] = NaN;
  b.tensors['dy']!.values = dy;
  for (const set of INSTRUCTION_SETS) {
    const g = runCase(b, 'float32', set);
    g['dx']!.forEach((v, e) => assert.is(Number.isNaN(v), Math.floor(e / k) === 2));
    g['dw']!.forEach((v, e) => assert.is(Number.isNaN(v), Math.floor(e / k) === 34));
    g['dbias']!.forEach((v, e) => assert.is(Number.isNaN(v), e === 34));
  }
});

test('far tails of GELU: the identity with slope 1, and zero with slope 0', () => {
  const x = Float64Array.of(14, 50, Math.fround(3e38), -14, -50, -1e30);
  const f = forward([1, 6, 1], (_, seed) => (seed === 1 ? Float64Array.of(1) : x), { activation: 'gelu' });
  for (const set of INSTRUCTION_SETS) {
    const { y, slope } = runCase(f, 'float32', set) as { y: Values; slope: Values };
    same(y.slice(0, 3), x.slice(0, 3), set);
    same(slope.slice(0, 3), [1, 1, 1], set);
    // -14 leaves the plain formula with subnormal numbers
    for (const v of [...y.slice(3), ...slope.slice(3)]) assert.ok(Math.abs(v) < 1e-37, `${set}: ${v}`);
  }
});

test('no rows, no depth', () => {
  for (const set of INSTRUCTION_SETS) {
    assert.is(runCase(forward([0, 5, 4]), 'float32', set)['y']!.length, 0);
    const none = runCase(backward(forward([0, 5, 4])), 'float32', set);
    same(none['dw']!, new Float64Array(20), set);
    same(none['dbias']!, new Float64Array(5), set);
    const f = forward([3, 5, 0], smallIntegers, { bias: true });
    same(runCase(f, 'float32', set)['y']!, expectedForward(f), set);
  }
});

test('names what is wrong', () => {
  tidy(() => {
    const [x, w, y] = [Tensor.zeros([2, 3]), Tensor.zeros([4, 3]), Tensor.zeros([2, 4])];
    const good = { x, w, y, activation: 'none' as const };
    const bad = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      throwsCode(() => dispatch('linear', { ...good, ...change } as OpArgs['linear']), code, 'linear', ...parts);
    };
    bad({ w: Tensor.zeros([4, 2]) }, 'ERR_SHAPE', "'w'", '[4,3]', '[4,2]');
    bad({ y: Tensor.zeros([4, 2]) }, 'ERR_SHAPE', "'y'", '[2,4]');
    bad({ bias: Tensor.zeros([3]) }, 'ERR_SHAPE', "'bias'", '[4]');
    bad({ residual: Tensor.zeros([2, 3]) }, 'ERR_SHAPE', "'residual'");
    bad({ packed: Tensor.zeros([95]) }, 'ERR_SHAPE', "'packed'", '[96]', '[95]');
    bad({ packed: Tensor.zeros([128]) }, 'ERR_SHAPE', "'packed'", '[96]');
    bad({ x: Tensor.zeros([6]).strided([2, 3], [1, 2]) }, 'ERR_SHAPE', "'x'", 'packed');
    bad({ y: Tensor.zeros([8]).strided([2, 4], [2, 1]) }, 'ERR_SHAPE', "'y'", 'overlap');
    bad({ x: Tensor.zeros([2, 3, 1]) }, 'ERR_SHAPE', "'x'");
    bad({ w: Tensor.zeros([4, 3], 'float64') }, 'ERR_DTYPE', "'w'");
    bad({ x: Tensor.zeros([2, 3], 'uint8') }, 'ERR_DTYPE', "'x'");
    bad({ slope: Tensor.zeros([2, 4]) }, 'ERR_ARGS', "'slope'", 'gelu');
    bad({ activation: 'gelu', slope: Tensor.zeros([2, 3]) }, 'ERR_SHAPE', "'slope'");
    bad({ activation: 'tanh' }, 'ERR_ARGS', "'activation'", 'none|relu|gelu');
    bad({ y: undefined }, 'ERR_ARGS', "'y'");

    const grad = {
      x,
      w,
      dy: y,
      dx: Tensor.zeros([2, 3]),
      dw: Tensor.zeros([4, 3]),
      dbias: Tensor.zeros([4]),
    };
    const worse = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      const args = {
        ...grad,
        activation: 'none',
        accumulate: 0,
        ...change,
      } as OpArgs['linear_grad'];
      throwsCode(() => dispatch('linear_grad', args), code, 'linear_grad', ...parts);
    };
    worse({ activation: 'relu' }, 'ERR_ARGS', "'y'");
    worse({ activation: 'gelu' }, 'ERR_ARGS', "'slope'");
    worse({ packed: Tensor.zeros([96]) }, 'ERR_SHAPE', "'packed'", '[128]');
    worse({ dx: Tensor.zeros([3, 2]) }, 'ERR_SHAPE', "'dx'");
    worse({ dw: Tensor.zeros([3, 4]) }, 'ERR_SHAPE', "'dw'");
    worse({ dbias: Tensor.zeros([3]) }, 'ERR_SHAPE', "'dbias'");
    worse({ dy: Tensor.zeros([2, 3]) }, 'ERR_SHAPE', "'dy'");
    worse({ dw: Tensor.zeros([4, 3], 'float64') }, 'ERR_DTYPE', "'dw'");
    worse({ activation: 'gelu', slope: Tensor.zeros([3, 4]) }, 'ERR_SHAPE', "'slope'");
  });
});

test.run();
