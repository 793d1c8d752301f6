// The GPU's attention (kernels/attention/*.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { checkAttentionGolden } from '../support/attention-case.js';
import {
  bf16,
  checkDeviceBf16,
  checkDeviceExact,
  checkDeviceFloat32,
  checkSchedules,
  deviceTest,
  roundCase,
  withEmulated,
} from '../support/device-case.js';
import type { DeviceDType } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, relative, runCase, same, smallIntegers } from '../support/op-case.js';
import type { CaseTensor, OpCase, Values } from '../support/op-case.js';

interface Size {
  b?: number;
  n: number;
  m?: number;
  h?: number;
  hd: number;
}

const f = Math.fround;

/** Forward at random values of amplitude 1 (scores of amplitude `spread`). Rows of tokens are `gap` elements longer than h·hd. */
function forwardCase({ b = 1, n, m = n, h = 1, hd }: Size, spread = 1, gap = 0): OpCase<'attention'> {
  const tokens = (count: number, seed?: number): CaseTensor => ({
    shape: [b, count, h, hd],
    strides: [count * (h * hd + gap), h * hd + gap, hd, 1],
    ...(seed && { values: randomValues(b * count * h * hd, seed).map((x) => (seed === 1 ? x * spread : x)) }),
  });
  return {
    op: 'attention',
    tensors: { q: tokens(n, 1), k: tokens(m, 2), v: tokens(m, 3), out: tokens(n), lse: { shape: [b, h, n], full: true } },
    scalars: { scale: hd ** -0.5 },
  };
}

/** Backward of a forward case at what the float64 reference gives for its values as `dtype` holds them. */
function backwardCase(forward: OpCase<'attention'>, dtype: DeviceDType = 'bfloat16'): OpCase<'attention_grad'> {
  const { q, k, v, out, lse } = forward.tensors;
  const saved = runCase(roundCase(forward, dtype), 'float64');
  const like = (t: CaseTensor): CaseTensor => ({ shape: t.shape, ...(t.strides && { strides: t.strides }) });
  return {
    op: 'attention_grad',
    tensors: {
      q: q!,
      k: k!,
      v: v!,
      out: { ...out!, values: saved['out']! },
      lse: { ...lse!, values: saved['lse']! },
      dout: { ...like(out!), values: randomValues(saved['out']!.length, 4) },
      dq: like(q!),
      dk: like(k!),
      dv: like(v!),
    },
    scalars: forward.scalars!,
  };
}

/** Σ a[i]·b[i] over the channels of two tokens, in float32 and in order. */
function dot(a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number, hd: number): number {
  let sum = 0;
  for (let i = 0; i < hd; i++) sum = f(sum + f(a[at + i]! * b[bt + i]!));
  return sum;
}

/** body(first element of the query, of key m, number of the row) for each head's queries; tokens packed as [B,N,H,hd]. */
function eachQuery(c: OpCase, body: (query: number, key: (m: number) => number, row: number, m: number, hd: number) => void): void {
  const [b, n, h, hd] = c.tensors['q']!.shape as [number, number, number, number];
  const count = c.tensors['k']!.shape[1]!;
  for (let i = 0; i < b * h * n; i++) {
    const [batch, head, token] = [Math.floor(i / (h * n)), Math.floor(i / n) % h, i % n];
    body(((batch * n + token) * h + head) * hd, (m) => ((batch * count + m) * h + head) * hd, i, count, hd);
  }
}

/** The plain loop that the kernels may err twice as much as: float32 sums in order, P rounded to bfloat16 before P·V. */
function plainForward(c: OpCase): Record<string, Values> {
  const [q, k, v] = ['q', 'k', 'v'].map((x) => c.tensors[x]!.values!) as [Values, Values, Values];
  const out = new Float64Array(q.length);
  const lse = new Float64Array(c.tensors['lse']!.shape.reduce((x, y) => x * y));
  const scale = f(c.scalars!['scale'] as number);
  eachQuery(c, (at, key, row, count, hd) => {
    const s = Array.from({ length: count }, (_, m) => f(scale * dot(q, at, k, key(m), hd)));
    const max = s.reduce((x, y) => Math.max(x, y));
    const p = s.map((x) => f(Math.exp(f(x - max))));
    const sum = p.reduce((x, y) => f(x + y));
    for (let d = 0; d < hd; d++) {
      let o = 0;
      for (let m = 0; m < count; m++) o = f(o + f(bf16(p[m]!) * v[key(m) + d]!));
      out[at + d] = bf16(f(o / sum));
    }
    lse[row] = f(max + f(Math.log(sum)));
  });
  return { out, lse };
}

/** As plainForward: P and dS rounded to bfloat16 before the products, float32 sums in the order of the queries. */
function plainBackward(c: OpCase): Record<string, Values> {
  const [q, k, v, out, dout, lse] = ['q', 'k', 'v', 'out', 'dout', 'lse'].map((x) => c.tensors[x]!.values!) as Values[];
  const dq = new Float64Array(q!.length);
  const [dk, dv] = [new Float64Array(k!.length), new Float64Array(k!.length)];
  const scale = f(c.scalars!['scale'] as number);
  eachQuery(c, (at, key, row, count, hd) => {
    const delta = dot(dout!, at, out!, at, hd);
    for (let m = 0; m < count; m++) {
      const to = key(m);
      const exact = f(Math.exp(f(f(scale * dot(q!, at, k!, to, hd)) - f(lse![row]!))));
      const ds = bf16(f(exact * f(dot(dout!, at, v!, to, hd) - delta)));
      const p = bf16(exact);
      for (let d = 0; d < hd; d++) {
        dq[at + d] = f(dq[at + d]! + f(ds * k![to + d]!));
        dk[to + d] = f(dk[to + d]! + f(ds * q![at + d]!));
        dv[to + d] = f(dv[to + d]! + f(p * dout![at + d]!));
      }
    }
  });
  return { dq: dq.map((x) => bf16(f(scale * x))), dk: dk.map((x) => bf16(f(scale * x))), dv: dv.map(bf16) };
}

deviceTest('golden values in float32, forward and backward', (device) => checkAttentionGolden('attention on devices', () => [{ device }]));

// Kernels are made for 64, 208 and 272 keys, then tiles of 64; for 32, 64, 80 and 128 channels; with 16 rows a warp.
const SIZES: readonly Size[] = [
  { n: 1, hd: 1 },
  { n: 1, m: 257, hd: 64 },
  { b: 2, n: 3, m: 33, h: 2, hd: 3 },
  { n: 33, m: 3, h: 2, hd: 33 },
  { n: 197, hd: 64 },
  { n: 196, m: 65, hd: 80 },
  { n: 20, m: 256, hd: 80 },
  { n: 8, m: 49, hd: 128 },
  { n: 17, m: 209, hd: 127 },
  { b: 2, n: 7, m: 16, h: 3, hd: 16 },
  { n: 33, m: 272, hd: 20 },
  { n: 18, m: 273, hd: 32 },
  { n: 300, m: 20, hd: 64 },
  { n: 70, m: 300, hd: 8 },
];

for (const size of SIZES)
  deviceTest(`as accurate as the plain loop: ${JSON.stringify(size)}`, (device) => {
    const forward = forwardCase(size);
    checkDeviceFloat32(device, forward);
    checkDeviceFloat32(device, backwardCase(forward, 'float32'));
    checkDeviceBf16(device, forward, plainForward);
    checkDeviceBf16(device, backwardCase(forward), plainBackward);
  });

// Long or wide heads whose four operands do not fit in shared memory; 2 blocks and a partial one on either side, and 4 tiles passing through.
const TILED: readonly Size[] = [
  { n: 220, m: 240, hd: 128 },
  { n: 30, m: 430, hd: 100 },
  { n: 860, m: 18, hd: 64 },
];
for (const size of TILED)
  deviceTest(`gradients that pass through in tiles: ${JSON.stringify(size)}`, (device) =>
    checkDeviceBf16(device, backwardCase(forwardCase(size)), plainBackward),
  );

deviceTest('rows aligned to 4, 8 and 16 bytes, with gaps between them', (device) => {
  for (const [hd, gap] of [
    [20, 2],
    [20, 4],
    [24, 8],
    [33, 1],
    [66, 0],
  ] as const) {
    const c = forwardCase({ b: 2, n: 18, m: 19, h: 2, hd }, 1, gap);
    checkDeviceBf16(device, c, plainForward);
    checkDeviceBf16(device, backwardCase(c), plainBackward);
  }
});

deviceTest('the same bits on any GPU: a head in one block or over several, on chip or in tiles', (device) => {
  if (device !== 'simt') return;
  for (const size of [
    { b: 2, n: 150, m: 33, h: 2, hd: 32 },
    { n: 33, m: 150, hd: 64 },
    { n: 60, m: 270, hd: 128 }, // too large for whole heads in the shared memory of an 8.0
  ]) {
    const forward = roundCase(forwardCase(size), 'bfloat16');
    const backward = roundCase(backwardCase(forward), 'bfloat16');
    for (const c of [forward, backward]) {
      const run = (what: Parameters<typeof withEmulated>[0]): Record<string, Values> =>
        withEmulated(what, () => runCase(c, 'bfloat16', { device }));
      const one = run({ multiprocessors: 1 });
      for (const gpu of [{ multiprocessors: 3 }, { multiprocessors: 132 }, { capability: '8.0' }])
        for (const [name, got] of Object.entries(run(gpu))) same(got, one[name]!, `${c.op} ${name} on ${JSON.stringify(gpu)}`);
    }
  }
});

deviceTest('the same bits under every schedule', (device) => {
  const short = forwardCase({ b: 2, n: 150, m: 66, h: 2, hd: 32 }); // two blocks a head, of five tiles each for three warps
  checkSchedules(device, short);
  checkSchedules(device, backwardCase(short));
  checkSchedules(device, forwardCase({ n: 66, m: 280, hd: 16 }), ['bfloat16']); // keys pass through in tiles
  checkSchedules(device, backwardCase(forwardCase({ n: 150, m: 310, h: 2, hd: 128 })), ['bfloat16']);
});

deviceTest('equal keys: the mean of the values, exactly', (device) => {
  // With q = 0 all 64 probabilities are 2^-6, and sums of small integers over 64 are exact, also in bfloat16 where they are below 256/64.
  const [n, m, h, hd] = [18, 64, 2, 33] as const;
  const c = forwardCase({ n, m, h, hd });
  const v = smallIntegers(m * h * hd, 5, 1).map((x, i) => (i < 8 * h * hd ? x : 0));
  const mean = (channel: number): number => Array.from({ length: m }, (_, j) => v[j * h * hd + channel]!).reduce((x, y) => x + y) / m;
  c.tensors['v']!.values = v;
  const want = Float64Array.from({ length: n * h * hd }, (_, i) => mean(i % (h * hd)));
  for (const change of ['q', 'scale'] as const) {
    const equal = structuredClone(c);
    if (change === 'q') equal.tensors['q']!.values = new Float64Array(n * h * hd);
    else equal.scalars!['scale'] = 0;
    checkDeviceExact(device, equal, { out: want });
  }
});

deviceTest('one key: its value is the answer; a negative scale turns the order round', (device) => {
  const one = forwardCase({ n: 17, m: 1, hd: 32 });
  const v = smallIntegers(32, 7);
  one.tensors['v']!.values = v;
  checkDeviceExact(device, one, { out: Float64Array.from({ length: 17 * 32 }, (_, i) => v[i % 32]!) });
  const back = runCase(roundCase(backwardCase(one), 'bfloat16'), 'bfloat16', { device });
  for (const x of ['dq', 'dk']) assert.ok(back[x]!.every((g) => Math.abs(g) < 1e-4));
  for (const size of [
    { n: 17, m: 40, hd: 24 },
    { n: 17, m: 280, hd: 24 },
  ]) {
    const c = forwardCase(size, 4);
    c.scalars!['scale'] = -0.7;
    checkDeviceBf16(device, c, plainForward);
    checkDeviceBf16(device, backwardCase(c), plainBackward);
    checkDeviceFloat32(device, c);
  }
});

deviceTest('huge scores do not overflow, -inf is probability 0, NaN and +inf make their rows NaN', (device) => {
  for (const dtype of ['float32', 'bfloat16'] as const)
    for (const m of [2, 70, 300]) {
      const c = forwardCase({ n: 9, m, hd: 4 });
      const q = new Float64Array(36);
      for (let r = 0; r < 9; r++) q[4 * r] = [1e30, -1e30, 0, 1e-30, NaN, 3, Infinity, 0, -1e4][r]!;
      const k = new Float64Array(4 * m);
      for (let j = 0; j < m; j++) k[4 * j] = j === 1 ? 5 : 1; // no zero beside the infinity
      c.tensors['q']!.values = q;
      c.tensors['k']!.values = k;
      c.scalars = { scale: 1 };
      const run = (): Record<string, Values> => runCase(roundCase(c, dtype), dtype, { device });
      const { out, lse } = run() as { out: Values; lse: Values };
      const v = roundCase(c, dtype).tensors['v']!.values!;
      const rowOf = (r: number): Values => out.slice(4 * r, 4 * r + 4);
      same(
        rowOf(0),
        Float64Array.from([4, 5, 6, 7], (i) => v[i]!),
        'all weight on key 1',
      );
      assert.ok(Math.abs(lse[0]! / 5e30 - 1) < (dtype === 'float32' ? 1e-6 : 4e-3));
      for (const r of [4, 6]) assert.ok(rowOf(r).every(Number.isNaN), `row ${r} is NaN`);
      for (const r of [1, 2, 3, 5, 7, 8]) assert.ok(rowOf(r).every(Number.isFinite), `row ${r} is finite beside NaN rows`);

      // One key at -inf drops out; all at -inf leave nothing to average.
      k.fill(0).fill(-Infinity, 0, 1);
      q.fill(0);
      for (let r = 0; r < 9; r++) q[4 * r] = 1;
      const rest = new Float64Array(4);
      for (let j = 1; j < m; j++) for (let d = 0; d < 4; d++) rest[d] = rest[d]! + v[4 * j + d]! / (m - 1);
      assert.ok(relative(run()['out']!.slice(0, 4), rest) < (dtype === 'float32' ? 1e-5 : 4e-3));
      // A whole tile at -inf, before keys that count.
      if (m === 300) {
        for (let j = 0; j < 299; j++) k[4 * j] = -Infinity;
        same(
          run()['out']!.slice(0, 4),
          Float64Array.from([0, 1, 2, 3], (d) => v[4 * 299 + d]!),
          'the last key alone',
        );
      }
      for (let j = 0; j < m; j++) k[4 * j] = -Infinity;
      const none = run();
      for (const x of ['out', 'lse']) assert.ok(none[x]!.every((value) => !Number.isFinite(value)));
      assert.ok(none['out']!.every(Number.isNaN));
    }
});

deviceTest('gradients are NaN where a row is NaN and finite where scores are large', (device) => {
  for (const dtype of ['float32', 'bfloat16'] as const)
    for (const size of [
      { n: 9, m: 35, hd: 4 },
      { n: 9, m: 450, hd: 128 },
    ]) {
      const large = backwardCase(forwardCase(size, 1e6), dtype);
      for (const [name, x] of Object.entries(runCase(roundCase(large, dtype), dtype, { device })))
        assert.ok(x.every(Number.isFinite), `${name} ${dtype} ${JSON.stringify(size)}`);
      const broken = forwardCase(size);
      (broken.tensors['q']!.values as Float64Array)[2 * size.hd] = NaN;
      const { dq, dk } = runCase(roundCase(backwardCase(broken, dtype), dtype), dtype, { device }) as { dq: Values; dk: Values };
      dq.forEach((x, i) => assert.is(Number.isNaN(x), i >= 2 * size.hd && i < 3 * size.hd));
      assert.ok(dk.every(Number.isNaN), `${dtype} ${JSON.stringify(size)}: ${dk.findIndex((x) => !Number.isNaN(x))}`);
    }
});

/** The values of a device tensor as numbers. */
function numbers(t: Tensor): Float64Array {
  const wide = Tensor.empty(t.shape, 'float32', t.device);
  dispatch('copy', { src: t, dst: wide, accumulate: 0 });
  return Float64Array.from(wide.float32());
}

deviceTest('a packed projection in, a packed gradient out, nothing else touched', (device: Device) => {
  const [b, n, h, hd] = [2, 19, 2, 24] as const;
  const size = b * n * h * hd;
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const c = roundCase(forwardCase({ b, n, h, hd }), dtype);
    const back = roundCase(backwardCase(c, dtype), dtype);
    const want = runCase(c, dtype, { device });
    const wantBack = runCase(back, dtype, { device });
    tidy(() => {
      // Rows of 3·h·hd + 5: q, k, v next to each other, then five that nobody may touch.
      const row = 3 * h * hd + 5;
      const at = (which: number, i: number): number => Math.floor(i / (h * hd)) * row + which * h * hd + (i % (h * hd));
      const make = (values: ArrayLike<number>, shape: number[], type: 'float32' | 'bfloat16' = dtype): Tensor => {
        const t = Tensor.empty(shape, type, device);
        dispatch('copy', { src: Tensor.from(Float32Array.from(values), shape, 'float32', device), dst: t, accumulate: 0 });
        return t;
      };
      const packed = new Float32Array(b * n * row).fill(7);
      for (const [which, x] of ['q', 'k', 'v'].entries()) for (let i = 0; i < size; i++) packed[at(which, i)] = c.tensors[x]!.values![i]!;
      const qkv = make(packed, [packed.length]);
      const gradient = make(new Float32Array(packed.length).fill(7), [packed.length]);
      const view = (t: Tensor, which: number): Tensor => t.strided([b, n, h, hd], [n * row, row, hd, 1], which * h * hd);
      const scale = hd ** -0.5;
      // out as [B,H,N,hd] memory: any order of the first three dimensions will do.
      const out = Tensor.empty([b, h, n, hd], dtype, device);
      const outView = out.strided([b, n, h, hd], [h * n * hd, hd, n * hd, 1]);
      const lse = Tensor.empty([b, h, n], 'float32', device);
      dispatch('attention', { q: view(qkv, 0), k: view(qkv, 1), v: view(qkv, 2), out: outView, lse, scale });
      const values = numbers(out);
      const moved = Float64Array.from({ length: size }, (_, i) => {
        const [d, head, token, batch] = [i % hd, Math.floor(i / hd) % h, Math.floor(i / hd / h) % n, Math.floor(i / hd / h / n)];
        return values[((batch * h + head) * n + token) * hd + d]!;
      });
      same(moved, want['out']!, 'out');
      same(numbers(lse), want['lse']!, 'lse');
      const from = (x: string, type: 'float32' | 'bfloat16' = dtype): Tensor =>
        make(back.tensors[x]!.values!, back.tensors[x]!.shape, type);
      dispatch('attention_grad', {
        q: view(qkv, 0),
        k: view(qkv, 1),
        v: view(qkv, 2),
        out: from('out'),
        lse: from('lse', 'float32'),
        dout: from('dout'),
        dq: view(gradient, 0),
        dk: view(gradient, 1),
        dv: view(gradient, 2),
        scale,
      });
      const got = numbers(gradient);
      for (const [which, x] of ['dq', 'dk', 'dv'].entries())
        same(
          Float64Array.from({ length: size }, (_, i) => got[at(which, i)]!),
          wantBack[x]!,
          x,
        );
      for (let r = 0; r < b * n; r++) for (let i = row - 5; i < row; i++) assert.is(got[r * row + i], 7);
    });
  }
});

deviceTest('takes one type for all but the log-sum-exp, which is float32', (device) =>
  tidy(() => {
    const make = (n: number, dtype: 'float32' | 'bfloat16' | 'float16' = 'bfloat16', on = device): Tensor =>
      Tensor.zeros([1, n, 2, 8], dtype, on);
    const args = { q: make(5), k: make(7), v: make(7), out: make(5), lse: Tensor.zeros([1, 2, 5], 'float32', device), scale: 1 };
    const run = (change: Partial<typeof args>): void => dispatch('attention', { ...args, ...change });
    run({});
    throwsCode(() => run({ k: make(7, 'float32') }), 'ERR_DTYPE', "'k'");
    throwsCode(() => run({ v: make(7, 'float16') }), 'ERR_DTYPE', "'v'");
    throwsCode(() => run({ lse: Tensor.zeros([1, 2, 5], 'bfloat16', device) }), 'ERR_DTYPE', "'lse'");
    throwsCode(() => run({ q: make(5, 'bfloat16', 'cpu') }), 'ERR_DEVICE', "'q' on cpu");
  }),
);

test.run();
