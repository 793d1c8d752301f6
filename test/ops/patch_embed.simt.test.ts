// The GPU's patch embedding (kernels/patch_embed/*.cu on kernels/gemm/device). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { fromFile, toFile } from '../../src/autograd/layout.js';
import { byteTable } from '../../src/ops/preprocess.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
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
import { randomValues, runCase, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { withTile } from '../support/gemm-tile.js';
import { OpGolden } from '../support/op-golden.js';
import { backward, expectedBackward, expectedForward, forward, parameters, tokensOf } from '../support/patch-embed-case.js';
import type { Geometry, Make } from '../support/patch-embed-case.js';

const one: Make = (count, seed) => smallIntegers(count, seed, 1);

/** The weight gradient on tensor cores although dy is float32: the type of w says so. */
function withWeights(g: Geometry, b: OpCase): OpCase {
  return {
    ...b,
    tensors: { ...b.tensors, w: { shape: [g.d, g.patch, g.patch, g.channels], values: new Float64Array(g.d * g.patch ** 2 * g.channels) } },
  };
}

/** The plain float32 loops with the kernel's rounding points: what the product reads, the table and dy, as bfloat16. */
function plain(c: OpCase): Record<string, ArrayLike<number>> {
  const rounded = { ...c.tensors };
  for (const name of ['table', 'dy'])
    if (rounded[name]) rounded[name] = { ...rounded[name], values: Float64Array.from(rounded[name].values!, bf16) };
  const product = runCase({ ...c, tensors: rounded }, 'float32', 'plain');
  if (c.op === 'patch_embed') return { y: product['y']!.map(c.tensors['y']!.full ? Math.fround : bf16) };
  return { ...runCase(c, 'float32', 'plain'), dw: product['dw']! };
}

// One patch, patches of one pixel, rows of patches of 8 bytes and not, more channels than the table in shared memory holds.
const GEOMETRIES: Geometry[] = [
  { batch: 1, height: 1, width: 1, channels: 1, patch: 1, d: 1 },
  { batch: 2, height: 3, width: 5, channels: 3, patch: 1, d: 33, cls: true },
  { batch: 3, height: 4, width: 10, channels: 3, patch: 2, d: 3, cls: true, registers: 1 },
  { batch: 2, height: 9, width: 6, channels: 1, patch: 3, d: 31, registers: 2 },
  { batch: 1, height: 16, width: 32, channels: 4, patch: 16, d: 40, cls: true },
  { batch: 5, height: 24, width: 32, channels: 3, patch: 8, d: 72, cls: true, registers: 4, wide: true },
  { batch: 1, height: 28, width: 14, channels: 3, patch: 14, d: 32 },
  { batch: 2, height: 6, width: 4, channels: 5, patch: 2, d: 24, cls: true, wide: true },
];

deviceTest('golden values, forward and backward, from bytes', (device) => {
  const golden = OpGolden.open('ops_embed.safetensors', 'patch_embed on devices');
  if (!golden) return;
  const table = byteTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);
  for (const [name, cls, registers] of [
    ['patch_embed_cls', true, 0],
    ['patch_embed_nocls', false, 0],
    ['patch_embed_reg', true, 4],
  ] as const) {
    const g: Geometry = { batch: 2, height: 32, width: 48, channels: 3, patch: 16, d: 24, cls, registers };
    const file = golden.shape(`${name}/in/w`);
    const keys = { w: 'w', bias: 'b', positions: 'pos', cls: 'cls', registers: 'reg', register_positions: 'reg_pos' } as const;
    const value = (field: keyof typeof keys): Float64Array => {
      const read = golden.values(`${name}/in/${keys[field]}`);
      return field === 'w' ? Float64Array.from(fromFile(Float32Array.from(read), file, 'oihw')) : read;
    };
    const names = parameters(g).map(([field]) => field as keyof typeof keys);
    const f = forward(g, (count, seed) => (seed === 20 ? Float64Array.from(table) : value(names[seed - 1]!).slice(0, count)));
    f.tensors['images']!.values = golden.bytes(`${name}/in/u8`);
    golden.compare(`${name}/out/y`, runCase(f, 'float32', { device })['y']!, device);
    const b = backward(g, (_, seed) => (seed === 20 ? Float64Array.from(table) : golden.values(`${name}/dout/y`)));
    b.tensors['images']!.values = golden.bytes(`${name}/in/u8`);
    const din = runCase(b, 'float32', { device });
    for (const field of names) {
      const got = din[`d${field}`]!;
      golden.compare(`${name}/din/${keys[field]}`, field === 'w' ? toFile(Float32Array.from(got), file, 'oihw') : got, device);
    }
  }
});

deviceTest('exact on integers, written and added to', (device) => {
  for (const g of GEOMETRIES) {
    const f = forward(g, one);
    checkDeviceExact(device, f, { y: expectedForward(g, f).map((v) => v + 0) });
    for (const accumulate of [false, true]) {
      const b = backward(g, (count, seed) => one(count, seed).map((v) => v + 0), accumulate);
      checkDeviceExact(device, b, expectedBackward(g, b));
      checkDeviceExact(device, withWeights(g, b), expectedBackward(g, b));
    }
  }
});

deviceTest('each byte is looked up in the table of its own channel', (device) => {
  // One pixel a patch and weights that pick a channel: the tokens are the table's entries themselves.
  const g: Geometry = { batch: 1, height: 16, width: 16, channels: 3, patch: 1, d: 3 };
  const f = forward(g, (count) => new Float64Array(count));
  const entry = (c: number, byte: number): number => (byte - 128) * (c + 1) * (byte % 2 ? 0.5 : 0.25);
  f.tensors['images']!.values = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  f.tensors['table']!.values = Float64Array.from({ length: 768 }, (_, i) => bf16(entry(Math.floor(i / 256), i % 256)));
  f.tensors['w']!.values = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  checkDeviceExact(device, f, { y: Float64Array.from({ length: 768 }, (_, i) => bf16(entry(i % 3, Math.floor(i / 3))) + 0) });
});

deviceTest('as accurate as the plain loop', (device) => {
  for (const g of GEOMETRIES.filter((g) => g.batch * g.d > 60)) {
    checkDeviceFloat32(device, forward(g));
    checkDeviceFloat32(device, backward(g, randomValues, true));
    checkDeviceBf16(device, forward(g), plain);
    checkDeviceBf16(device, backward(g, randomValues, true), plain);
    if (g.wide)
      checkDeviceBf16(device, withWeights(g, backward(g)), (c) => {
        const { w: _, ...tensors } = c.tensors;
        return plain({ ...c, tensors });
      });
  }
});

deviceTest('the same bits under every schedule, k in parts too', (device) => {
  // Two blocks each way on 64 x 64 and 128 x 64 tiles, three steps of k and more.
  const g: Geometry = { batch: 6, height: 32, width: 40, channels: 3, patch: 8, d: 72, cls: true, registers: 1 };
  checkSchedules(device, forward(g));
  checkSchedules(device, backward(g));
  withEmulated({ multiprocessors: 132 }, () => {
    const deep: Geometry = { batch: 24, height: 24, width: 24, channels: 3, patch: 4, d: 24, cls: true, wide: true };
    checkSchedules(device, backward(deep), ['float32']);
    checkSchedules(device, withWeights(deep, backward(deep)), ['bfloat16']);
    const b = backward(deep, one, true);
    checkDeviceExact(device, withWeights(deep, b), expectedBackward(deep, b));
  });
});

deviceTest('the products of whole batches, tile by tile', (device) => {
  const g: Geometry = { batch: 9, height: 32, width: 32, channels: 3, patch: 8, d: 264, cls: true };
  for (const tile of [0, 1, 2, 3])
    withTile(tile, () => {
      const f = forward(g, one);
      checkDeviceExact(device, f, { y: expectedForward(g, f).map((v) => v + 0) }, ['bfloat16']);
      if (tile !== 1 && tile !== 3) return;
      const b = backward(g, one);
      checkDeviceExact(device, b, expectedBackward(g, b), ['bfloat16']);
    });
});

deviceTest('which types go together', (device) => {
  tidy(() => {
    const on = (shape: number[], dtype: 'float32' | 'bfloat16' | 'uint8' = 'float32'): Tensor => Tensor.zeros(shape, dtype, device);
    const images = on([1, 4, 4, 3], 'uint8');
    const table = on([768]);
    const good = { images, table, w: on([5, 2, 2, 3], 'bfloat16'), bias: on([5]), positions: on([5, 5]), y: on([1, 4, 5], 'bfloat16') };
    dispatch('patch_embed', good);
    dispatch('patch_embed', { ...good, y: on([1, 4, 5]) });
    const bad = (change: object, field: string): void => {
      throwsCode(() => dispatch('patch_embed', { ...good, ...change } as OpArgs['patch_embed']), 'ERR_DTYPE', 'patch_embed', field);
    };
    bad({ w: on([5, 2, 2, 3]) }, "'y'");
    const grad = {
      images,
      table,
      dy: on([1, 4, 5], 'bfloat16'),
      dw: on([5, 2, 2, 3]),
      dbias: on([5]),
      dpositions: on([5, 5]),
      accumulate: 0,
    };
    dispatch('patch_embed_grad', grad);
    dispatch('patch_embed_grad', { ...grad, dy: on([1, 4, 5]), w: good.w });
    const worse = (change: object, code: 'ERR_DTYPE' | 'ERR_SHAPE', field: string): void => {
      throwsCode(() => dispatch('patch_embed_grad', { ...grad, ...change } as OpArgs['patch_embed_grad']), code, 'patch_embed_grad', field);
    };
    worse({ w: on([5, 2, 2, 3]) }, 'ERR_DTYPE', "'dy'");
    worse({ w: on([5, 3, 2, 2], 'bfloat16') }, 'ERR_SHAPE', "'w'");
  });
});

deviceTest('no images, no patches beside CLS', (device) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const g: Geometry = { batch: 0, height: 4, width: 4, channels: 3, patch: 2, d: 8, cls: true };
    runCase(forward(g), dtype, { device });
    const b = backward(g, randomValues, true);
    const out = runCase(b, dtype, { device });
    for (const [name, values] of Object.entries(out))
      values.forEach((v, i) => {
        if (v !== Math.fround(b.tensors[name]!.values![i]!)) throw new Error(`${name}[${i}]: ${v} of ${tokensOf(g)} tokens`);
      });
  }
});

test.run();
