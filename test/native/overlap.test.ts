// Outputs lie apart from everything else, but where the op's field list says so: one rule for all ops.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OPS } from '../../src/generated/ops.js';
import { addon } from '../../src/native/load.js';
import { DTYPES, Tensor, bytesOf, dispatch, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { generator } from '../support/generator.js';

test('copy: over itself, shifted, turned', () => {
  tidy(() => {
    const x = Tensor.from(Float32Array.from({ length: 32 }, (_, i) => i));
    const copy = (src: Tensor, dst: Tensor): void => dispatch('copy', { src, dst, accumulate: 0 });
    const square = x.strided([4, 4], [4, 1]);
    throwsCode(() => copy(square, square), 'ERR_ARGS', "copy: expected 'dst' apart from the memory of 'src'");
    throwsCode(() => copy(x.strided([4, 4], [1, 4]), square), 'ERR_ARGS', 'overlap');
    throwsCode(() => copy(x.strided([31], [1]), x.strided([31], [1], 1)), 'ERR_ARGS', 'overlap');
    copy(x.strided([4, 3], [8, 1]), x.strided([4, 3], [8, 1], 4)); // columns of one tensor, interleaved
    assert.equal([...x.float32()].slice(8, 16), [8, 9, 10, 11, 8, 9, 10, 15]);
    copy(x.strided([16], [2]), x.strided([16], [2], 1)); // even to odd
    copy(x.strided([0], [1]), x.strided([0], [1]));
  });
});

test('sharing is for the very same view', () => {
  tidy(() => {
    const make = (n: number): Tensor => Tensor.zeros([n]);
    const base = make(64);
    const x = make(8).strided([4, 2], [2, 1]);
    const w = make(6).strided([3, 2], [2, 1]);
    const at = (offset: number, row = 3): Tensor => base.strided([4, 3], [row, 1], offset);
    const run = (y: Tensor, residual: Tensor): void => dispatch('linear', { x, w, y, residual, activation: 'none' });
    run(at(0), at(0));
    run(at(0), at(12));
    run(at(0, 6), at(3, 6));
    throwsCode(() => run(at(0), at(1)), 'ERR_ARGS', "linear: expected 'y' as exactly the view 'residual'");
    throwsCode(() => run(at(0), at(0, 6)), 'ERR_ARGS', 'partial overlap');
    throwsCode(
      () => dispatch('linear', { x: base.strided([4, 2], [2, 1]), w, y: at(7), activation: 'none' }),
      'ERR_ARGS',
      "linear: expected 'y' apart from the memory of 'x'",
    );
    const [a, b] = [base.strided([8], [1]), base.strided([8], [1], 8)];
    dispatch('add', { a, b, y: a });
    dispatch('add', { a, b, y: b });
    dispatch('add', { a, b: a, y: a });
    throwsCode(() => dispatch('add', { a, b, y: base.strided([8], [1], 4) }), 'ERR_ARGS', 'partial overlap');
  });
});

test('attention_grad: slices of one packed gradient, not one slice twice', () => {
  tidy(() => {
    const [B, N, H, hd] = [2, 5, 3, 4];
    const C = H * hd;
    const slices = (t: Tensor): Tensor[] => [0, 1, 2].map((i) => t.strided([B, N, H, hd], [N * 3 * C, 3 * C, hd, 1], i * C));
    const [q, k, v] = slices(Tensor.zeros([B * N * 3 * C]));
    const [dq, dk, dv] = slices(Tensor.zeros([B * N * 3 * C]));
    const out = Tensor.zeros([B, N, H, hd]);
    const dout = Tensor.zeros([B, N, H, hd]);
    const args = { q: q!, k: k!, v: v!, out, lse: Tensor.zeros([B, H, N]), dout, dq: dq!, dk: dk!, dv: dv!, scale: 1 };
    dispatch('attention_grad', args);
    throwsCode(() => dispatch('attention_grad', { ...args, dk: dq! }), 'ERR_ARGS', "'dq' apart from the memory of 'dk'");
    throwsCode(() => dispatch('attention_grad', { ...args, dv: v! }), 'ERR_ARGS', "'dv' apart from the memory of 'v'");
  });
});

test('1500 pairs of random views are refused exactly where they share a byte', () => {
  const random = generator(7);
  const below = (n: number): number => Math.floor(random() * n);
  const bytes = 512;
  const handle = addon().allocate(bytes);
  addon().write(handle, 0, new Uint8Array(bytes));
  const COPY = OPS.findIndex((op) => op.name === 'copy');
  const pad = (x: number[]): number[] => [...x, ...new Array<number>(5 - x.length).fill(0)];
  /** The bytes of a view: a set, and whether any came twice. */
  const touched = (size: number[], stride: number[], offset: number, each: number): { set: Set<number>; twice: boolean } => {
    let places = [offset];
    size.forEach((n, i) => (places = places.flatMap((p) => Array.from({ length: n }, (_, k) => p + k * stride[i]!))));
    const set = new Set(places.flatMap((p) => Array.from({ length: each }, (_, k) => p * each + k)));
    return { set, twice: set.size < places.length * each };
  };
  let refused = 0;
  let ran = 0;
  try {
    while (refused + ran < 1500) {
      const size = Array.from({ length: 1 + below(3) }, () => 1 + below(4));
      const [src, dst] = (['uint8', 'float32'] as const).map((first) => {
        const dtype: DType = first === 'uint8' ? (['uint8', 'float32', 'float64'] as const)[below(3)]! : 'float64';
        const each = bytesOf(dtype);
        const stride = size.map(() => below(14));
        const offset = below(24);
        return { dtype, each, stride, offset, ...touched(size, stride, offset, each) };
      });
      const fits = (v: { set: Set<number> }): boolean => Math.max(...v.set) < bytes;
      if (!fits(src!) || !fits(dst!) || dst!.twice) continue;
      const area = [src!, dst!].flatMap((v) => [handle, v.offset, DTYPES.indexOf(v.dtype), size.length, ...pad(size), ...pad(v.stride)]);
      const shared = [...src!.set].some((b) => dst!.set.has(b));
      const what = JSON.stringify({ size, src: [src!.dtype, src!.offset, src!.stride], dst: [dst!.offset, dst!.stride] });
      let message = '';
      try {
        addon().dispatch(COPY, new Float64Array([...area, 0]));
      } catch (error) {
        message = (error as Error).message;
      }
      if (message.includes('elements of')) continue; // an interleaved output without overlap, refused as documented
      assert.is(message.includes('apart from the memory'), shared, `${what}: ${message}`);
      if (shared) refused += 1;
      else ran += 1;
    }
  } finally {
    addon().release(handle);
  }
  assert.ok(refused > 100 && ran > 100, `${refused} refused, ${ran} ran`);
});

/** What the addon says of an op's fields. */
type Described = {
  name: string;
  fields: { name: string; kind: string; flag?: boolean; rank?: string; dtypes?: string[]; optional?: boolean }[];
};
const DESCRIBED = (addon() as unknown as { describeOps(): Described[] }).describeOps();

test('flags are 0 or 1 in every op that has one', () => {
  const flagged = DESCRIBED.flatMap((op, number) => op.fields.filter((f) => f.flag).map((f) => ({ op, number, flag: f.name })));
  const names = new Set(flagged.map((f) => f.op.name));
  for (const name of [
    'copy',
    'linear_grad',
    'conv2d_grad',
    'conv_transpose2d_grad',
    'layernorm_grad',
    'layernorm_map_grad',
    'patch_embed_grad',
  ])
    assert.ok(names.has(name), name);
  for (const op of DESCRIBED) for (const f of op.fields) if (f.name === 'accumulate') assert.ok(f.flag, `${op.name}: accumulate is a flag`);
  const handle = addon().allocate(64);
  try {
    for (const { op, number, flag } of flagged) {
      for (const value of [2, -1, 2 ** 40]) {
        const area = op.fields.flatMap((f) => {
          if (f.kind !== 'tensor') return [f.name === flag ? value : 1];
          if (f.optional) return new Array<number>(14).fill(0);
          const dtype = DTYPES.indexOf(f.dtypes![0] as DType);
          return [handle, 0, dtype, Number(f.rank!.split(' ')[0]), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        });
        throwsCode(
          () => addon().dispatch(number, new Float64Array(area)),
          'ERR_ARGS',
          `${op.name}: expected '${flag}' as 0 or 1, got ${value}`,
        );
      }
    }
  } finally {
    addon().release(handle);
  }
});

test('an unknown choice is named with what is allowed', () => {
  tidy(() => {
    const x = Tensor.zeros([1, 2, 3]);
    const run = (kind: unknown): void => dispatch('reduce', { x, y: Tensor.zeros([1, 3]), kind: kind as 'sum' });
    throwsCode(() => run('median'), 'ERR_ARGS', "reduce: expected 'kind' as one of mean|max|sum, got 'median'");
    throwsCode(() => run(undefined), 'ERR_ARGS', 'got nothing');
    throwsCode(() => run(1), 'ERR_ARGS', 'got a number');
  });
});

test.run();
