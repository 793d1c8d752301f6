import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fromFile, toFile } from '../../src/autograd/layout.js';
import { packedLength } from '../../src/autograd/parameter.js';
import { Arena } from '../../src/autograd/index.js';
import { byteTable } from '../../src/ops/preprocess.js';
import { patchEmbed } from '../../src/ops/patch_embed.js';
import { Tensor, countOf, dispatch, memory, resetPeakMemory, threads, tidy, trimMemory } from '../../src/tensor/index.js';
import type { OpArgs } from '../../src/generated/ops.js';
import { throwsCode } from '../support/errors.js';
import { backward, bytes, expectedBackward, expectedForward, forward, parameters, tokensOf } from '../support/patch-embed-case.js';
import type { Geometry } from '../support/patch-embed-case.js';
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
} from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';
import { image } from '../support/procedural.js';

// Images that are not square, one patch, patches of one pixel, channels other than three, widths around the panel of 32.
const GEOMETRIES: Geometry[] = [
  { batch: 1, height: 1, width: 1, channels: 1, patch: 1, d: 1 },
  { batch: 2, height: 3, width: 5, channels: 3, patch: 1, d: 33, cls: true },
  { batch: 3, height: 4, width: 10, channels: 3, patch: 2, d: 3, cls: true, registers: 1 },
  { batch: 2, height: 9, width: 6, channels: 1, patch: 3, d: 31, registers: 2 },
  { batch: 1, height: 16, width: 32, channels: 4, patch: 16, d: 40, cls: true },
  { batch: 2, height: 32, width: 16, channels: 3, patch: 16, d: 65, cls: true, registers: 4 },
  { batch: 1, height: 28, width: 14, channels: 3, patch: 14, d: 32 },
];

// These two come first: what the environment keeps as scratch is from the largest call so far, and they measure it.

test('no float image is ever stored, shown by the peak of memory()', () => {
  const [batch, d] = [8, 192];
  const specs = parameters({ batch, height: 224, width: 224, channels: 3, patch: 16, d, cls: true }).map(([name, shape]) => ({
    name,
    shape,
    decay: true,
    segments: [{ key: name, fileShape: shape, layout: 'same' as const, init: (out: Float32Array) => void out.fill(0.01) }],
  }));
  const before = threads();
  threads(2);
  const arena = new Arena(specs, { training: false });
  arena.initialise();
  const p = (name: string) => arena.parameters.get(name)!;
  try {
    tidy(() => {
      const images = Tensor.from(image(1, 224, 224 * batch, 3, 5), [batch, 224, 224, 3], 'uint8');
      const table = Tensor.from(byteTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]));
      trimMemory();
      const start = memory().live;
      resetPeakMemory();
      const y = patchEmbed(images, table, { w: p('w'), bias: p('bias'), positions: p('positions'), cls: p('cls') });
      const grown = memory().peak - start;
      const tokens = y.size * 4;
      const weights = packedLength(p('w').shape, 'forward') * 4;
      const scratch = 2 * 256 * 1024; // at most 256 KB a thread (kernels/gemm)
      const most = (tokens + weights + scratch) * 1.125; // the allocator rounds up by at most an eighth
      assert.ok(grown >= tokens + weights, `${grown} bytes cannot hold tokens and panels: the measurement is wrong`);
      assert.ok(grown <= most, `${grown} bytes for ${tokens} of tokens and ${weights} of panels`);
      // The patch matrix has as many elements as the images have bytes: four times their size in float32.
      const floats = images.size * 4;
      assert.ok(grown < 0.6 * floats, `${grown} bytes could hold most of a float image, ${floats}`);
    });
  } finally {
    arena.dispose();
    threads(before);
  }
});

test('backward stores no float image either', () => {
  tidy(() => {
    const g: Geometry = { batch: 8, height: 224, width: 224, channels: 3, patch: 16, d: 64, cls: true };
    const t = Object.fromEntries(
      Object.entries(backward(g, (count) => new Float64Array(count).fill(0.5)).tensors).map(([name, c]) => [
        name,
        name === 'images'
          ? Tensor.from(c.values as Uint8Array, c.shape, 'uint8')
          : Tensor.from(new Float32Array(countOf(c.shape)), c.shape),
      ]),
    );
    const before = threads();
    threads(2);
    trimMemory();
    const start = memory().live;
    resetPeakMemory();
    dispatch('patch_embed_grad', { ...t, accumulate: 0 } as unknown as OpArgs['patch_embed_grad']);
    const scratch = memory().peak - start;
    threads(before);
    assert.ok(scratch <= (2 * 256 * 1024 + 197 * 64 * 4) * 1.125, `${scratch} bytes of scratch`);
  });
});

test('golden values, forward and backward, from bytes', () => {
  const golden = OpGolden.open('ops_embed.safetensors', 'patch_embed');
  if (!golden) return;
  const table = byteTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);
  for (const [name, cls, registers] of [
    ['patch_embed_cls', true, 0],
    ['patch_embed_nocls', false, 0],
    ['patch_embed_reg', true, 4],
  ] as const) {
    const g: Geometry = { batch: 2, height: 32, width: 48, channels: 3, patch: 16, d: 24, cls, registers };
    const file = golden.shape(`${name}/in/w`);
    // The bytes and the float image of the golden data belong together by the table, bit for bit.
    const u8 = golden.bytes(`${name}/in/u8`);
    const px = golden.values(`${name}/in/px`);
    const plane = 32 * 48;
    u8.forEach((byte, i) => {
      const c = i % 3;
      const pixel = Math.floor(i / 3);
      assert.is(px[(Math.floor(pixel / plane) * 3 + c) * plane + (pixel % plane)], table[c * 256 + byte]);
    });
    const keys = { w: 'w', bias: 'b', positions: 'pos', cls: 'cls', registers: 'reg', register_positions: 'reg_pos' } as const;
    for (const packed of [false, true])
      for (const set of INSTRUCTION_SETS) {
        const value = (field: keyof typeof keys): Float64Array => {
          const read = golden.values(`${name}/in/${keys[field]}`);
          return field === 'w' ? Float64Array.from(fromFile(Float32Array.from(read), file, 'oihw')) : read;
        };
        const names = parameters(g).map(([field]) => field as keyof typeof keys);
        const f = forward(g, (count, seed) => (seed === 20 ? Float64Array.from(table) : value(names[seed - 1]!).slice(0, count)), packed);
        f.tensors['images']!.values = u8;
        golden.compare(`${name}/out/y`, runCase(f, 'float32', set)['y']!, set);
        const b = backward(g, (_, seed) => (seed === 20 ? Float64Array.from(table) : golden.values(`${name}/dout/y`)));
        b.tensors['images']!.values = u8;
        const din = runCase(b, 'float32', set);
        for (const field of names) {
          const got = din[`d${field}`]!;
          golden.compare(`${name}/din/${keys[field]}`, field === 'w' ? toFile(Float32Array.from(got), file, 'oihw') : got, set);
        }
      }
  }
});

test('the tables of both conventions equal the processors’ arithmetic bit for bit', () => {
  const golden = OpGolden.open('ops_embed.safetensors', 'byte table');
  if (!golden) return;
  same(byteTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]), golden.values('processed_value_of_byte'));
  same(byteTable([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), golden.values('processed_value_of_byte_imagenet'));
});

test('exact on integers, with panels and without, written and added to', () => {
  for (const g of GEOMETRIES) {
    for (const packed of [false, true]) {
      const f = forward(g, smallIntegers, packed);
      checkExact(f, { y: expectedForward(g, f).map((v) => v + 0) });
    }
    for (const accumulate of [false, true]) {
      const b = backward(g, (count, seed) => smallIntegers(count, seed).map((v) => v + 0), accumulate);
      checkExact(b, expectedBackward(g, b));
    }
  }
});

test('each byte is looked up in the table of its own channel', () => {
  // One pixel a patch and weights that pick a channel: the tokens are the table's entries themselves.
  const g: Geometry = { batch: 1, height: 16, width: 16, channels: 3, patch: 1, d: 3 };
  const f = forward(g, (count) => new Float64Array(count));
  f.tensors['images']!.values = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  f.tensors['table']!.values = Float64Array.from({ length: 768 }, (_, i) => 1000 + i);
  f.tensors['w']!.values = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  checkExact(f, { y: Float64Array.from({ length: 768 }, (_, i) => 1000 + (i % 3) * 256 + Math.floor(i / 3)) });
});

test('as accurate as the plain loop', () => {
  for (const g of [
    { batch: 2, height: 48, width: 64, channels: 3, patch: 16, d: 33, cls: true, registers: 3 },
    { batch: 3, height: 42, width: 28, channels: 3, patch: 14, d: 64 },
    { batch: 9, height: 16, width: 24, channels: 1, patch: 8, d: 197, cls: true },
  ] satisfies Geometry[])
    for (const packed of [false, true]) {
      checkAccuracy(forward(g, randomValues, packed), JSON.stringify(g));
      checkAccuracy(backward(g, randomValues, packed), JSON.stringify(g));
    }
});

test('gradients of all parameters agree with finite differences', () => {
  for (const g of [
    { batch: 2, height: 4, width: 6, channels: 3, patch: 2, d: 5, cls: true, registers: 2 },
    { batch: 2, height: 4, width: 6, channels: 3, patch: 2, d: 5 },
  ] satisfies Geometry[]) {
    const b = backward(g);
    const gradient = runCase(b, 'float64');
    const byInput = Object.fromEntries(Object.entries(gradient).map(([name, v]) => [name.slice(1), v]));
    gradcheck(forward(g), { y: b.tensors['dy']!.values! }, byInput);
  }
});

test('without CLS row 0 of the positions is neither read nor given a gradient', () => {
  const g: Geometry = { batch: 2, height: 4, width: 4, channels: 3, patch: 2, d: 7 };
  const f = forward(g);
  const positions = Float64Array.from(f.tensors['positions']!.values!).fill(NaN, 0, 7);
  for (const set of INSTRUCTION_SETS) {
    const want = runCase(f, 'float32', set)['y']!;
    same(runCase({ ...f, tensors: { ...f.tensors, positions: { shape: [5, 7], values: positions } } }, 'float32', set)['y']!, want);
    same(runCase(backward(g), 'float32', set)['dpositions']!.slice(0, 7), new Float64Array(7), set);
  }
});

test('a batch gives image by image what each gives alone', () => {
  const g: Geometry = { batch: 3, height: 32, width: 16, channels: 3, patch: 16, d: 33, cls: true, registers: 1 };
  const f = forward(g, randomValues, true);
  const size = 32 * 16 * 3;
  const tokens = tokensOf(g) * g.d;
  for (const set of INSTRUCTION_SETS) {
    const all = runCase(f, 'float32', set)['y']!;
    for (let b = 0; b < 3; b++) {
      const alone = forward({ ...g, batch: 1 }, randomValues, true);
      alone.tensors['images']!.values = bytes(g).slice(b * size, (b + 1) * size);
      // Products are cut by shape, so the last bit may differ.
      const error = relative(runCase(alone, 'float32', set)['y']!, all.slice(b * tokens, (b + 1) * tokens));
      assert.ok(error < 1e-6, `image ${b} ${set}: ${error}`);
    }
  }
});

test('the same bits twice and on any number of threads', () => {
  const g: Geometry = { batch: 5, height: 64, width: 48, channels: 3, patch: 16, d: 97, cls: true, registers: 2 };
  for (const packed of [false, true]) checkDeterminism(forward(g, randomValues, packed));
  checkDeterminism(backward(g, randomValues, true));
});

test('NaN of a table entry reaches the tokens that see the byte, and no others', () => {
  const g: Geometry = { batch: 1, height: 4, width: 4, channels: 1, patch: 2, d: 5, cls: true };
  const f = forward(g);
  const values = new Uint8Array(16).fill(3);
  values[15] = 200;
  f.tensors['images']!.values = values;
  const table = Float64Array.from(f.tensors['table']!.values!);
  table[200] = NaN;
  f.tensors['table']!.values = table;
  for (const set of INSTRUCTION_SETS)
    runCase(f, 'float32', set)['y']!.forEach((v, e) =>
      assert.is(Number.isNaN(v), Math.floor(e / 5) === 4, `token ${Math.floor(e / 5)} ${set}`),
    );
});

test('names what is wrong', () => {
  const g: Geometry = { batch: 2, height: 4, width: 6, channels: 3, patch: 2, d: 5, cls: true, registers: 2 };
  tidy(() => {
    const make = (c: OpCase): Record<string, Tensor> =>
      Object.fromEntries(Object.entries(c.tensors).map(([name, t]) => [name, Tensor.zeros(t.shape, t.dtype ?? 'float32')]));
    const good = make(forward(g));
    const bad = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      throwsCode(() => dispatch('patch_embed', { ...good, ...change } as unknown as OpArgs['patch_embed']), code, 'patch_embed', ...parts);
    };
    bad({ images: Tensor.zeros([2, 4, 6, 3]) }, 'ERR_DTYPE', "'images'", 'uint8');
    bad({ images: Tensor.zeros([2, 5, 6, 3], 'uint8') }, 'ERR_SHAPE', 'multiples of the patch', '2');
    bad({ images: Tensor.zeros([2, 0, 6, 3], 'uint8') }, 'ERR_SHAPE', 'multiples of the patch');
    bad({ images: Tensor.zeros([2, 4, 6, 4], 'uint8') }, 'ERR_SHAPE', "'w'", '[5,2,2,4]');
    bad({ table: Tensor.zeros([256]) }, 'ERR_SHAPE', "'table'", '[768]');
    bad({ w: Tensor.zeros([5, 2, 3, 3]) }, 'ERR_SHAPE', "'w'");
    bad({ w: Tensor.zeros([5, 50, 50, 3]), images: Tensor.zeros([2, 50, 50, 3], 'uint8') }, 'ERR_UNSUPPORTED', '49');
    bad({ bias: Tensor.zeros([4]) }, 'ERR_SHAPE', "'bias'", '[5]');
    bad({ positions: Tensor.zeros([6, 5]) }, 'ERR_SHAPE', "'positions'", '[7,5]');
    bad({ cls: Tensor.zeros([6]) }, 'ERR_SHAPE', "'cls'");
    bad({ cls: undefined }, 'ERR_SHAPE', "'y'", '[2,8,5]');
    bad({ register_positions: undefined }, 'ERR_ARGS', "'registers'", "'register_positions'");
    bad({ register_positions: Tensor.zeros([3, 5]) }, 'ERR_SHAPE', "'register_positions'");
    bad({ y: Tensor.zeros([2, 8, 5]) }, 'ERR_SHAPE', "'y'", '[2,9,5]');
    bad({ packed: Tensor.zeros([12 * 32 - 1]) }, 'ERR_SHAPE', "'packed'", '[384]');
    bad({ bias: Tensor.zeros([5], 'float64') }, 'ERR_DTYPE', "'bias'");
    bad({ y: Tensor.zeros([2, 9, 10]).strided([2, 9, 5], [90, 10, 1]) }, 'ERR_SHAPE', "'y'", 'packed');
    const grad = make(backward(g));
    const worse = (change: object, code: Parameters<typeof throwsCode>[1], ...parts: string[]): void => {
      const args = { ...grad, accumulate: 0, ...change } as unknown as OpArgs['patch_embed_grad'];
      throwsCode(() => dispatch('patch_embed_grad', args), code, 'patch_embed_grad', ...parts);
    };
    worse({ dy: Tensor.zeros([2, 8, 5]) }, 'ERR_SHAPE', "'dy'");
    worse({ dpositions: Tensor.zeros([6, 5]) }, 'ERR_SHAPE', "'dpositions'");
    worse({ dregisters: undefined }, 'ERR_ARGS', "'dregisters'");
    worse({ dcls: undefined }, 'ERR_SHAPE', "'dy'");
  });
});

test.run();
