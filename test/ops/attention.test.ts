import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/index.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { checkAttentionGolden } from '../support/attention-case.js';
import { throwsCode } from '../support/errors.js';
import { manifest, relativeError, requireGolden } from '../support/golden.js';
import {
  INSTRUCTION_SETS,
  checkAccuracy,
  checkDeterminism,
  checkExact,
  gradcheck,
  randomValues,
  runCase,
  same,
  withInstructionSet,
} from '../support/op-case.js';
import type { OpCase, Values } from '../support/op-case.js';

interface Size {
  b?: number;
  n: number;
  m?: number;
  h?: number;
  hd: number;
}

/** Forward at random q, k, v of amplitude 1 (scores of amplitude `spread`). */
function forwardCase({ b = 1, n, m = n, h = 1, hd }: Size, spread = 1): OpCase<'attention'> {
  return {
    op: 'attention',
    tensors: {
      q: { shape: [b, n, h, hd], values: randomValues(b * n * h * hd, 1).map((x) => x * spread) },
      k: { shape: [b, m, h, hd], values: randomValues(b * m * h * hd, 2) },
      v: { shape: [b, m, h, hd], values: randomValues(b * m * h * hd, 3) },
      out: { shape: [b, n, h, hd] },
      lse: { shape: [b, h, n] },
    },
    scalars: { scale: hd ** -0.5 },
  };
}

/** Backward of a forward case at what the float64 reference gives for it. */
function backwardCase(forward: OpCase<'attention'>, dout?: Values): OpCase<'attention_grad'> {
  const { q, k, v, out, lse } = forward.tensors;
  const saved = runCase(forward, 'float64');
  return {
    op: 'attention_grad',
    tensors: {
      q: q!,
      k: k!,
      v: v!,
      out: { ...out!, values: saved['out']! },
      lse: { ...lse!, values: saved['lse']! },
      dout: { shape: out!.shape, values: dout ?? randomValues(saved['out']!.length, 4) },
      dq: { shape: q!.shape },
      dk: { shape: k!.shape },
      dv: { shape: v!.shape },
    },
    scalars: forward.scalars!,
  };
}

const GOLDEN = 'ops_attention.safetensors';
test('golden values, forward and backward, on every instruction set', () =>
  checkAttentionGolden('attention', (n, h) => (n * h > 200 ? INSTRUCTION_SETS.slice(-1) : INSTRUCTION_SETS)));

test('golden values of a whole layer: projections in float64 around the op, forward and backward', () => {
  const path = requireGolden(GOLDEN, 'attention layer');
  if (!path) return;
  using file = SafetensorsFile.open(path);
  const { tensors } = manifest()!.files[GOLDEN]!;
  const name = 'mhsa_s50_e128_h2';
  const [b, n, h, hd, e] = [2, 50, 2, 64, 128];
  const rows = b * n;
  const read = (key: string): Values => Float64Array.from(file.float32(`${name}/${key}`));
  /** [rows,e] · w (or its transpose) + bias */
  const project = (x: Values, w: Values, transposed: boolean, bias?: Values): Values =>
    new Float64Array(rows * e).map((_, at) => {
      const [r, o] = [Math.floor(at / e), at % e];
      let sum = bias?.[o] ?? 0;
      for (let i = 0; i < e; i++) sum += x[r * e + i]! * (transposed ? w[o * e + i]! : w[i * e + o]!);
      return sum;
    });
  const close = (got: Values, key: string, floor: number): void => {
    const error = relativeError(got, read(key));
    assert.ok(error <= Math.max(20 * tensors[`${name}/${key}`]!.f32_rel_err!, floor), `${key}: relative error ${error}`);
  };
  const x = read('in/x');
  const shape = [b, n, h, hd];
  const inputs = Object.fromEntries(
    ['q', 'k', 'v'].map((p) => [p, { shape, values: project(x, read(`in/w${p}`), true, read(`in/b${p}`)) }]),
  );
  const scalars = { scale: hd ** -0.5 };
  const forward = runCase({ op: 'attention', tensors: { ...inputs, out: { shape }, lse: { shape: [b, h, n] } }, scalars });
  close(project(forward['out']!, read('in/wo'), true, read('in/bo')), 'out/y', 1e-5);
  const back = runCase({
    op: 'attention_grad',
    tensors: {
      ...inputs,
      out: { shape, values: forward['out']! },
      lse: { shape: [b, h, n], values: forward['lse']! },
      dout: { shape, values: project(read('dout/y'), read('in/wo'), false) },
      dq: { shape },
      dk: { shape },
      dv: { shape },
    },
    scalars,
  });
  const dx = new Float64Array(rows * e);
  for (const p of ['q', 'k', 'v']) {
    project(back[`d${p}`]!, read(`in/w${p}`), false).forEach((g, i) => (dx[i] = dx[i]! + g));
    const dw = new Float64Array(e * e);
    for (let r = 0; r < rows; r++)
      for (let at = 0; at < e * e; at++) dw[at] = dw[at]! + back[`d${p}`]![r * e + Math.floor(at / e)]! * x[r * e + (at % e)]!;
    close(dw, `din/w${p}`, 2e-5);
  }
  close(dx, 'din/x', 2e-5);
});

test('equal keys: the mean of the values, and its gradients, exactly', () => {
  // With q = 0 all 64 probabilities are 2^-6, and sums of small integers over 64 are exact.
  for (const [n, m, h, hd] of [
    [9, 64, 1, 33],
    [1, 1, 2, 5],
  ] as const) {
    const v = randomValues(m * h * hd, 5).map((x) => Math.round(3 * x));
    const mean = new Float64Array(n * h * hd).map((_, i) => {
      let sum = 0;
      for (let j = 0; j < m; j++) sum += v[j * h * hd + (i % (h * hd))]!;
      return sum / m;
    });
    const c = forwardCase({ n, m, h, hd });
    c.tensors['q']!.values = new Float64Array(n * h * hd);
    c.tensors['v']!.values = v;
    checkExact(c, { out: mean });
    const dout = randomValues(n * h * hd, 6).map((x) => Math.round(3 * x));
    const back = backwardCase(c, dout);
    back.tensors['lse']!.values = new Float64Array(n * h).fill(Math.log(m));
    // e^(-log m) is one rounding away from 1/m; for m = 1 it is exact.
    const dv = new Float64Array(m * h * hd).map((_, i) => {
      let sum = 0;
      for (let r = 0; r < n; r++) sum += dout[r * h * hd + (i % (h * hd))]!;
      return sum / m;
    });
    if (m === 1) checkExact(back, { dv, dk: new Float64Array(m * h * hd) });
    else for (const set of INSTRUCTION_SETS) assert.ok(relativeError(runCase(back, 'float32', set)['dv']!, dv) < 1e-6);
  }
});

const SIZES: readonly Size[] = [
  { n: 1, hd: 1 },
  { n: 1, m: 257, hd: 64 },
  { b: 2, n: 3, m: 33, h: 2, hd: 3 },
  { n: 33, m: 3, h: 2, hd: 33 },
  { n: 197, h: 2, hd: 64 },
  { b: 2, n: 196, m: 257, h: 1, hd: 80 },
  { n: 8, m: 49, h: 1, hd: 128 },
  { n: 17, m: 31, h: 1, hd: 127 },
  { b: 5, n: 7, m: 16, h: 4, hd: 16 },
  { n: 25, m: 600, h: 1, hd: 16 },
  { n: 9, m: 2100, h: 1, hd: 5 },
];

for (const size of SIZES) {
  test(`as accurate as the plain loop: ${JSON.stringify(size)}`, () => {
    const c = forwardCase(size);
    checkAccuracy(c);
    checkAccuracy(backwardCase(c));
  });
}

test('one key: its value is the answer, and queries and keys get no gradient but rounding', () => {
  const c = forwardCase({ n: 257, m: 1, hd: 32 });
  checkAccuracy(c);
  const back = backwardCase(c);
  const exact = runCase(back, 'float64');
  for (const set of INSTRUCTION_SETS) {
    const { dq, dk, dv } = runCase(back, 'float32', set) as { dq: Values; dk: Values; dv: Values };
    assert.ok(relativeError(dv, exact['dv']!) < 1e-6);
    for (const x of [dq, dk]) assert.ok(x.every((g) => Math.abs(g) < 1e-4));
  }
});

test('gradients agree with differences', () => {
  for (const size of [
    { b: 2, n: 5, m: 7, h: 2, hd: 3 },
    { n: 33, hd: 8 },
  ]) {
    const forward = forwardCase(size, 2);
    const back = backwardCase(forward);
    const { dq, dk, dv } = runCase(back, 'float64') as { dq: Values; dk: Values; dv: Values };
    gradcheck(forward, { out: back.tensors['dout']!.values! }, { q: dq, k: dk, v: dv });
  }
});

test('the same bits twice and on any number of threads, with and without parts of a head', () => {
  for (const size of [
    { n: 197, h: 3, hd: 64 },
    { b: 4, n: 33, m: 40, h: 5, hd: 32 },
  ]) {
    const c = forwardCase(size);
    checkDeterminism(c);
    checkDeterminism(backwardCase(c));
  }
});

test('strided views: a packed projection in, a packed gradient out, nothing else touched', () => {
  const [b, n, h, hd] = [2, 37, 3, 20] as const;
  const size = b * n * h * hd;
  const c = forwardCase({ b, n, h, hd });
  const back = backwardCase(c);
  for (const set of INSTRUCTION_SETS) {
    const want = runCase(c, 'float32', set);
    const wantBack = runCase(back, 'float32', set);
    tidy(() =>
      withInstructionSet(set, () => {
        // Rows of 3·h·hd + 5 floats: q, k, v next to each other, then five that nobody may touch.
        const row = 3 * h * hd + 5;
        const packed = new Float32Array(b * n * row).fill(7);
        const at = (which: number, i: number): number => Math.floor(i / (h * hd)) * row + which * h * hd + (i % (h * hd));
        for (const [which, x] of ['q', 'k', 'v'].entries()) for (let i = 0; i < size; i++) packed[at(which, i)] = c.tensors[x]!.values![i]!;
        const qkv = Tensor.from(packed);
        const gradient = Tensor.from(new Float32Array(packed.length).fill(7));
        const view = (t: Tensor, which: number): Tensor => t.strided([b, n, h, hd], [n * row, row, hd, 1], which * h * hd);
        const scale = hd ** -0.5;
        // out as [B,H,N,hd] memory: any order of the first three dimensions will do.
        const out = Tensor.empty([b, h, n, hd]);
        const outView = out.strided([b, n, h, hd], [h * n * hd, hd, n * hd, 1]);
        const lse = Tensor.empty([b, h, n]);
        dispatch('attention', { q: view(qkv, 0), k: view(qkv, 1), v: view(qkv, 2), out: outView, lse, scale });
        const outValues = out.float32();
        const moved = Float64Array.from({ length: size }, (_, i) => {
          const [d, head, token, batch] = [i % hd, Math.floor(i / hd) % h, Math.floor(i / hd / h) % n, Math.floor(i / hd / h / n)];
          return outValues[((batch * h + head) * n + token) * hd + d]!;
        });
        same(moved, want['out']!, 'out');
        same(lse.float32(), want['lse']!, 'lse');

        const from = (x: string): Tensor => Tensor.from(Float32Array.from(back.tensors[x]!.values!), back.tensors[x]!.shape);
        dispatch('attention_grad', {
          q: view(qkv, 0),
          k: view(qkv, 1),
          v: view(qkv, 2),
          out: from('out'),
          lse: from('lse'),
          dout: from('dout'),
          dq: view(gradient, 0),
          dk: view(gradient, 1),
          dv: view(gradient, 2),
          scale,
        });
        const got = gradient.float32();
        for (const [which, x] of ['dq', 'dk', 'dv'].entries()) {
          const slice = Float64Array.from({ length: size }, (_, i) => got[at(which, i)]!);
          same(slice, wantBack[x]!, x);
        }
        for (let r = 0; r < b * n; r++) for (let i = row - 5; i < row; i++) assert.is(got[r * row + i], 7);
      }),
    );
  }
});

test('huge scores do not overflow, -inf is probability 0, NaN and +inf make their rows NaN', () => {
  for (const set of INSTRUCTION_SETS)
    for (const m of [2, 35]) {
      const c = forwardCase({ n: 9, m, hd: 4 });
      const q = new Float64Array(36);
      for (let r = 0; r < 9; r++) q[4 * r] = [1e30, -1e30, 0, 1e-30, NaN, 3, Infinity, 0, 1][r]!;
      const k = new Float64Array(4 * m);
      for (let j = 0; j < m; j++) k[4 * j] = j === 1 ? 5 : 1; // no zero beside the infinity
      c.tensors['q']!.values = q;
      c.tensors['k']!.values = k;
      c.scalars = { scale: 1 };
      const { out, lse } = runCase(c, 'float32', set) as { out: Values; lse: Values };
      const v = c.tensors['v']!.values!;
      const rowOf = (r: number): Values => out.slice(4 * r, 4 * r + 4);
      same(
        rowOf(0),
        Float64Array.from([4, 5, 6, 7], (i) => Math.fround(v[i]!)),
        'all weight on key 1',
      );
      assert.ok(Math.abs(lse[0]! / 5e30 - 1) < 1e-6);
      for (const x of rowOf(1)) assert.ok(Number.isFinite(x));
      for (const r of [4, 6]) assert.ok(rowOf(r).every(Number.isNaN), `row ${r} is NaN`);
      for (const r of [2, 3, 5, 7, 8]) assert.ok(rowOf(r).every(Number.isFinite), `row ${r} is finite beside NaN rows`);

      // One key at -inf drops out; all at -inf leave nothing to average.
      k.fill(0).fill(-Infinity, 0, 1);
      q.fill(0);
      for (let r = 0; r < 9; r++) q[4 * r] = 1;
      const dropped = runCase(c, 'float32', set);
      const rest = new Float64Array(4);
      for (let j = 1; j < m; j++) for (let d = 0; d < 4; d++) rest[d] = rest[d]! + v[4 * j + d]! / (m - 1);
      assert.ok(relativeError(dropped['out']!.slice(0, 4), rest) < 1e-6);
      for (let j = 0; j < m; j++) k[4 * j] = -Infinity;
      assert.ok(runCase(c, 'float32', set)['out']!.every(Number.isNaN));
    }
});

test('gradients are NaN where a row is NaN and finite where scores are huge', () => {
  for (const set of INSTRUCTION_SETS) {
    const huge = forwardCase({ n: 9, m: 35, hd: 4 }, 1e6);
    for (const x of Object.values(runCase(backwardCase(huge), 'float32', set))) assert.ok(x.every(Number.isFinite));
    const broken = forwardCase({ n: 9, m: 35, hd: 4 });
    (broken.tensors['q']!.values as Float64Array)[8] = NaN;
    const { dq, dk } = runCase(backwardCase(broken), 'float32', set) as { dq: Values; dk: Values };
    dq.forEach((x, i) => assert.is(Number.isNaN(x), i >= 8 && i < 12));
    assert.ok(dk.every(Number.isNaN));
  }
});

test('refuses what the kernels could not run, naming op and field', () => {
  tidy(() => {
    const make = (n: number, hd = 8): Tensor => Tensor.zeros([1, n, 2, hd]);
    const args = { q: make(5), k: make(7), v: make(7), out: make(5), lse: Tensor.zeros([1, 2, 5]), scale: 1 };
    const run = (change: Partial<typeof args>): void => dispatch('attention', { ...args, ...change });
    run({});
    throwsCode(() => run({ v: make(6) }), 'ERR_SHAPE', "attention: expected 'v' of shape [1,7,2,8]");
    throwsCode(() => run({ out: make(7) }), 'ERR_SHAPE', "'out'");
    throwsCode(() => run({ lse: Tensor.zeros([1, 5, 2]) }), 'ERR_SHAPE', "'lse'");
    throwsCode(() => run({ k: Tensor.zeros([1, 7, 2, 8], 'float64') }), 'ERR_DTYPE', "'k'");
    throwsCode(() => run({ lse: Tensor.zeros([1, 2, 5], 'float64') }), 'ERR_DTYPE', "'lse'");
    throwsCode(() => run({ k: Tensor.zeros([1, 0, 2, 8]), v: Tensor.zeros([1, 0, 2, 8]) }), 'ERR_SHAPE', "'k' with 1 to");
    throwsCode(() => run({ q: Tensor.zeros([1, 0, 2, 8]) }), 'ERR_SHAPE', "'q' with no empty");
    throwsCode(() => run({ q: make(5, 129) }), 'ERR_SHAPE', '128 channels');
    throwsCode(() => run({ q: make(5, 16).strided([1, 5, 2, 8], [160, 32, 16, 2]) }), 'ERR_SHAPE', "'q' packed");
    throwsCode(() => run({ out: make(5).strided([1, 5, 2, 8], [80, 8, 8, 1]) }), 'ERR_SHAPE', "elements of 'out' that do not overlap");
    throwsCode(() => run({ q: make(5).strided([1, 5, 2, 8], [80, 16, 80, 1]) }), 'ERR_SHAPE', 'reaches past its buffer');
    for (const scale of [NaN, Infinity]) throwsCode(() => run({ scale }), 'ERR_ARGS', "'scale'");
    const grads = { ...args, dout: make(5), dq: make(5), dk: make(7), dv: make(7) };
    dispatch('attention_grad', grads);
    throwsCode(() => dispatch('attention_grad', { ...grads, dk: make(5) }), 'ERR_SHAPE', "attention_grad: expected 'dk'");
    throwsCode(
      () => dispatch('attention_grad', { ...grads, dv: make(7).strided([1, 7, 2, 8], [0, 0, 8, 1]) }),
      'ERR_SHAPE',
      "elements of 'dv'",
    );
    // Inputs may repeat memory: one query for all, as a learned token is.
    run({ q: make(1).strided([1, 5, 2, 8], [0, 0, 8, 1]) });
  });
});

test.run();
