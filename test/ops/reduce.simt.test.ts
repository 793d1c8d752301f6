// The GPU's reduce (kernels/reduce/*.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { bf16, checkDeviceBf16, checkDeviceExact, checkDeviceFloat32, checkSchedules, deviceTest } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import type { OpCase, Values } from '../support/op-case.js';

const KINDS = ['mean', 'max', 'sum'] as const;
type Kind = (typeof KINDS)[number];
type Make = (count: number, seed: number) => Float64Array;

/** `full`: those of x and y (and dy and dx) that stay float32. */
function forward(kind: Kind, shape: [number, number, number], values: Make = randomValues, full: readonly string[] = []): OpCase {
  const [batch, tokens, width] = shape;
  return {
    op: 'reduce',
    tensors: {
      x: { shape, values: values(batch * tokens * width, 1), full: full.includes('x') },
      y: { shape: [batch, width], full: full.includes('y') },
    },
    scalars: { kind },
  };
}

function backward(f: OpCase, values: Make = randomValues, full: readonly string[] = []): OpCase {
  const shape = f.tensors['x']!.shape;
  const [batch, , width] = shape as [number, number, number];
  const max = f.scalars!['kind'] === 'max';
  return {
    op: 'reduce_grad',
    tensors: {
      ...(max ? { x: f.tensors['x']!, y: { ...f.tensors['y']!, values: runCase(f, 'float64')['y']! } } : {}),
      dy: { shape: [batch, width], values: values(batch * width, 5), full: full.includes('dy') },
      dx: { shape, full: full.includes('dx') },
    },
    scalars: { kind: f.scalars!['kind']! },
  };
}

/** What the op means, one element after the other, with `round` behind each sum. */
function plain(f: OpCase, round: (v: number) => number = (v) => v): Float64Array {
  const [batch, tokens, width] = f.tensors['x']!.shape as [number, number, number];
  const x = f.tensors['x']!.values!;
  return Float64Array.from({ length: batch * width }, (_, i) => {
    const column = Array.from({ length: tokens }, (_, n) => x[(Math.floor(i / width) * tokens + n) * width + (i % width)]!);
    if (f.scalars!['kind'] === 'max') return column.reduce((a, b) => (b > a ? b : a));
    return round(column.reduce((a, b) => round(a + b)) / (f.scalars!['kind'] === 'mean' ? tokens : 1));
  });
}

/** Where the first maximum of each column is. */
function firstMaximum(b: OpCase): Float64Array {
  const [batch, tokens, width] = b.tensors['dx']!.shape as [number, number, number];
  const [x, y, dy] = ['x', 'y', 'dy'].map((n) => b.tensors[n]!.values!) as [Values, Values, Values];
  const dx = new Float64Array(x.length);
  for (let s = 0; s < batch; s++)
    for (let d = 0; d < width; d++)
      for (let n = 0; n < tokens; n++) {
        const i = (s * tokens + n) * width + d;
        if (x[i] !== y[s * width + d]) continue;
        dx[i] = dy[s * width + d]!;
        break;
      }
  return dx;
}

// 128 columns a block, 8 tokens at a time in 4 rounds, 64 tokens a block of the gradient of sums.
const SHAPES: [number, number, number][] = [
  [2, 1, 5],
  [1, 3, 33],
  [2, 8, 128],
  [3, 33, 132],
  [2, 70, 257],
  [1, 197, 36],
];

deviceTest('exact on integers at odd sizes, any mix of types', (device) => {
  for (const shape of SHAPES) {
    for (const full of [[], ['y'], ['x', 'y']]) {
      const max = forward('max', shape, smallIntegers, full);
      checkDeviceExact(device, max, { y: plain(max) });
      // Sums that bfloat16 holds: of -1, 0 and 1.
      const sum = forward('sum', shape, (n, seed) => smallIntegers(n, seed, 1), full);
      checkDeviceExact(device, sum, { y: plain(sum).map((v) => v + 0) });
    }
    for (const full of [[], ['dy'], ['dx']]) {
      const sum = backward(forward('sum', shape, smallIntegers), smallIntegers, full);
      const [, tokens, width] = shape;
      const dy = sum.tensors['dy']!.values!;
      const dx = Float64Array.from(
        { length: shape[0] * tokens * width },
        (_, i) => dy[Math.floor(i / (tokens * width)) * width + (i % width)]!,
      );
      checkDeviceExact(device, sum, { dx });
      // Of equal maxima the first gets the gradient.
      const max = backward(
        forward('max', shape, (n, seed) => smallIntegers(n, seed, 2), full.includes('dx') ? ['x', 'y'] : []),
        (n, seed) => smallIntegers(n, seed).map((v) => v || 1),
        full,
      );
      checkDeviceExact(device, max, { dx: firstMaximum(max) });
    }
  }
});

deviceTest('as accurate as the plain loop', (device) => {
  for (const kind of ['mean', 'sum'] as const) {
    for (const shape of [
      [2, 196, 68],
      [2, 257, 33],
      [1, 1025, 7],
    ] as [number, number, number][]) {
      checkDeviceFloat32(device, forward(kind, shape));
      checkDeviceFloat32(device, backward(forward(kind, shape)));
    }
    for (const full of [[], ['y']]) {
      const round = full.length > 0 ? Math.fround : bf16;
      checkDeviceBf16(device, forward(kind, [2, 196, 68], randomValues, full), (c) => ({ y: plain(c, Math.fround).map(round) }));
    }
    checkDeviceBf16(device, backward(forward(kind, [2, 70, 68])), (c) => {
      const dy = c.tensors['dy']!.values!;
      const scale = kind === 'mean' ? 70 : 1;
      return {
        dx: Float64Array.from({ length: 2 * 70 * 68 }, (_, i) => bf16(Math.fround(dy[Math.floor(i / (70 * 68)) * 68 + (i % 68)]! / scale))),
      };
    });
  }
});

deviceTest('NaN wins, its gradient goes to the first NaN; -inf is a value', (device) => {
  const x = new Float64Array(2 * 9 * 3).fill(-Infinity);
  x[3 * 3] = NaN; // sample 0, token 3, column 0
  x[5 * 3] = NaN;
  x[6 * 3 + 1] = 4; // column 1
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const f = forward('max', [2, 9, 3], () => x);
    same(runCase(f, dtype, { device })['y']!, [NaN, 4, -Infinity, -Infinity, -Infinity, -Infinity]);
    const b = backward(f, (n) => new Float64Array(n).fill(1));
    const want = new Float64Array(x.length);
    for (const i of [3 * 3, 6 * 3 + 1, 2, 27, 28, 29]) want[i] = 1;
    same(runCase(b, dtype, { device })['dx']!, want);
    const sum = runCase({ ...f, scalars: { kind: 'sum' } }, dtype, { device })['y']!;
    assert.ok(Number.isNaN(sum[0]));
    assert.is(sum[5], -Infinity);
  }
});

deviceTest('strided samples and rows: the tokens behind the class token', (device) => {
  const spread = (c: OpCase, row: number): OpCase => ({
    ...c,
    tensors: Object.fromEntries(
      Object.entries(c.tensors).map(([n, t]) => [n, { ...t, strides: t.shape.length === 3 ? [row * 30, row, 1] : [row, 1] }]),
    ),
  });
  for (const kind of KINDS)
    for (const row of [40, 41]) {
      const f = forward(kind, [3, 20, 36]);
      same(runCase(spread(f, row), 'float32', { device })['y']!, runCase(f, 'float32', { device })['y']!, kind);
      const b = backward(f);
      same(runCase(spread(b, row), 'float32', { device })['dx']!, runCase(b, 'float32', { device })['dx']!, `${kind} gradient`);
    }
});

deviceTest('the same bits under every schedule; nothing to do is nothing done', (device) => {
  for (const kind of KINDS) {
    for (const width of [132, 131]) {
      const f = forward(kind, [2, 70, width]);
      checkSchedules(device, f);
      checkSchedules(device, backward(f));
    }
    assert.is(runCase(forward(kind, [0, 4, 5]), 'float32', { device })['y']!.length, 0);
    assert.is(runCase(forward(kind, [2, 4, 0]), 'float32', { device })['y']!.length, 0);
  }
});

deviceTest('refuses types that it does not mix', (device) =>
  tidy(() => {
    const x = Tensor.zeros([2, 4, 3], 'float32', device);
    const y = Tensor.zeros([2, 3], 'bfloat16', device);
    throwsCode(() => dispatch('reduce', { x, y, kind: 'sum' }), 'ERR_DTYPE', "'y'");
    const dx = Tensor.zeros([2, 4, 3], 'bfloat16', device);
    // A maximum rounded to bfloat16 would not be found again.
    throwsCode(() => dispatch('reduce_grad', { x, y, dy: y, dx, kind: 'max' }), 'ERR_DTYPE', "'y'");
  }),
);

test.run();
