import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { resizeImage } from '../../src/data/prepare.js';
import { Encoder } from '../../src/encoder/index.js';
import type { Frame } from '../../src/encoder/index.js';
import { TheiaError } from '../../src/errors.js';
import type { ErrorCode } from '../../src/errors.js';
import { loadTheia } from '../../src/models/checkpoint.js';
import type { ReduceMethod } from '../../src/models/theia.js';
import { Tensor, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { inFolder, pictures, saveModel, tinyModel } from '../support/tiny-model.js';

async function withEncoder(
  body: (encoder: Encoder, path: string) => void | Promise<void>,
  changes: Record<string, unknown> = {},
): Promise<void> {
  await inFolder(async (folder) => {
    const path = saveModel(tinyModel(changes), join(folder, 'student'));
    using encoder = await Encoder.load(path);
    await body(encoder, path);
  });
}

async function rejects(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, TheiaError);
    assert.is((error as TheiaError).code, code, (error as Error).message);
    return;
  }
  assert.unreachable(`expected ${code}`);
}

const bits = (x: Float32Array): Uint8Array => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
const frame = (i: number, all = pictures(i + 1)): Frame => ({ data: all.subarray(i * 150528, (i + 1) * 150528), width: 224, height: 224 });

test('the bits of immediate mode: first call, recorded call and replays', () =>
  withEncoder((encoder, path) => {
    using model = loadTheia(path);
    const pixels = pictures(3);
    for (let i = 0; i < 3; i++) {
      const want = tidy(() => {
        const { tokens } = model.encode(Tensor.from(frame(i, pixels).data.slice(), [1, 224, 224, 3], 'uint8'));
        const predictions = model.predict(tokens);
        return [model.represent(tokens, 'none').float32(), predictions.get('mini/vit.16')!.float32(), predictions.get('mini/vit.16_cls')!.float32()]; // prettier-ignore
      });
      for (let turn = 0; turn < 3; turn++) {
        assert.equal(bits(encoder.encode(frame(i, pixels))), bits(want[0]!), `frame ${i}, turn ${turn}`);
        const predicted = encoder.predict(frame(i, pixels));
        assert.equal([...predicted.keys()], ['mini/vit.16', 'mini/vit.16_cls']);
        assert.equal(bits(predicted.get('mini/vit.16')!), bits(want[1]!));
        assert.equal(bits(predicted.get('mini/vit.16_cls')!), bits(want[2]!));
      }
    }
    // A batch gives each frame's own bits.
    const batch = [0, 1, 2].map((i) => frame(i, pixels));
    for (let turn = 0; turn < 3; turn++) {
      const tokens = encoder.encode(batch);
      assert.is(tokens.length, 3 * 196 * 32);
      batch.forEach((f, i) => assert.equal(bits(tokens.slice(i * 196 * 32, (i + 1) * 196 * 32)), bits(encoder.encode(f))));
    }
  }));

test('representations and hidden states', () =>
  withEncoder((encoder, path) => {
    using model = loadTheia(path);
    const f = frame(0);
    const shapes: Record<ReduceMethod, number[]> = { none: [1, 196, 32], cls: [1, 32], mean_pooling: [1, 32], max_pooling: [1, 32], identity: [1, 197, 32] }; // prettier-ignore
    for (const [reduce, shape] of Object.entries(shapes) as [ReduceMethod, number[]][]) {
      const want = tidy(() =>
        model.represent(model.encode(Tensor.from(f.data.slice(), [1, 224, 224, 3], 'uint8')).tokens, reduce).float32(),
      );
      for (let turn = 0; turn < 3; turn++) {
        const { tokens } = Object.fromEntries(encoder.run(f, { reduce }));
        assert.equal(tokens!.shape, shape);
        assert.equal(bits(tokens!.data), bits(want), reduce);
      }
    }
    const all = encoder.run(f, { hidden: true, predict: ['mini/vit.16_cls'] });
    assert.equal([...all.keys()], ['tokens', 'pred/mini/vit.16_cls', 'hidden/0', 'hidden/1', 'hidden/2']);
    assert.equal([...all.values()].map((o) => o.shape.join()), ['1,196,32', '1,8', '1,197,32', '1,197,32', '1,197,32']); // prettier-ignore
    for (const { data } of all.values()) assert.ok(data.every(Number.isFinite));
  }));

test('formats and strides are the same picture', () =>
  withEncoder((encoder) => {
    const rgb = frame(1);
    const [width, height] = [224, 224];
    const want = encoder.encode(rgb);
    const build = (channels: number, stride: number, at: (p: number, c: number) => number): Uint8Array => {
      const out = new Uint8Array(stride * (height - 1) + width * channels).fill(199);
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) out[y * stride + x * channels + c] = at(y * width + x, c);
      return out;
    };
    const same = (f: Frame, label: string): void => assert.equal(bits(encoder.encode(f)), bits(want), label);
    const pixel = (p: number, c: number): number => rgb.data[p * 3 + c]!;
    same({ data: build(3, 672, (p, c) => pixel(p, 2 - c)), width, height, format: 'bgr' }, 'bgr');
    same({ data: build(4, 896, (p, c) => (c === 3 ? 17 : pixel(p, c))), width, height, format: 'rgba' }, 'rgba');
    same({ data: build(3, 700, pixel), width, height, stride: 700 }, 'rgb, padded rows');
    same({ data: build(3, 673, (p, c) => pixel(p, 2 - c)), width, height, format: 'bgr', stride: 673 }, 'bgr, padded rows');
    same({ data: build(4, 1024, (p, c) => (c === 3 ? 0 : pixel(p, c))), width, height, format: 'rgba', stride: 1024 }, 'rgba, padded rows');
    same({ data: Uint8Array.from([...rgb.data, 1, 2, 3]), width, height }, 'bytes behind the last row');
    same({ data: Buffer.from(rgb.data), width, height, format: 'rgb' }, 'a Buffer');
    const grey = { data: build(1, 224, (p) => pixel(p, 0)), width, height, format: 'grey' as const };
    const replicated = { data: build(3, 672, (p) => pixel(p, 0)), width, height };
    assert.equal(bits(encoder.encode(grey)), bits(encoder.encode(replicated)));
    assert.equal(bits(encoder.encode({ ...grey, data: build(1, 256, (p) => pixel(p, 0)), stride: 256 })), bits(encoder.encode(replicated)));
  }));

test('frames of other sizes are resized as the preprocessing does it; mixed batches too', () =>
  withEncoder(async (encoder, path) => {
    const [height, width] = [90, 130];
    const other: Frame = { data: pictures(1, height, width), width, height };
    const resized = resizeImage({ data: other.data, width, height, channels: 3 }, 224, 224, 'bilinear');
    const want = encoder.encode({ data: resized.data, width: 224, height: 224 });
    for (let turn = 0; turn < 3; turn++) assert.equal(bits(encoder.encode(other)), bits(want));
    for (let turn = 0; turn < 3; turn++) {
      const tokens = encoder.encode([frame(0), other]);
      assert.equal(bits(tokens.slice(196 * 32)), bits(want));
      assert.equal(bits(tokens.slice(0, 196 * 32)), bits(encoder.encode(frame(0))));
    }
    using exact = await Encoder.load(path, { resize: false });
    assert.equal(bits(exact.encode({ data: resized.data, width: 224, height: 224 })), bits(want));
    throwsCode(() => exact.encode(other), 'ERR_SHAPE', 'frame', 'patch 16', '130 x 90');
    throwsCode(() => exact.encode({ data: pictures(1, 160, 96), width: 96, height: 160 }), 'ERR_UNSUPPORTED', '96 x 160', '224');
    using bicubic = await Encoder.load(path, { filter: 'bicubic' });
    assert.not.equal(bits(bicubic.encode(other)), bits(want));
  }));

test('no memory for frames after the warm-up; at most eight plans', () =>
  withEncoder((encoder) => {
    const out = new Float32Array(196 * 32);
    const frames = [0, 1].map((i) => frame(i));
    for (let i = 0; i < 3; i++) encoder.encode(frames[0]!, { out });
    const { live, buffers, plans, peak } = memory();
    for (let i = 0; i < 200; i++) assert.is(encoder.encode(frames[i % 2]!, { out }), out);
    assert.equal(memory(), { ...memory(), live, buffers, plans, peak });
    let most = 0;
    let eight = 0;
    for (let batch = 1; batch <= 12; batch++) {
      const frames = Array.from({ length: batch }, () => frame(0));
      for (let turn = 0; turn < 2; turn++) encoder.encode(frames, { reduce: 'cls' });
      if (batch === 8) eight = memory().buffers;
      most = Math.max(most, memory().plans - plans);
    }
    assert.is(most, 7, 'eight with the one that was there, the oldest made room');
    assert.ok(memory().buffers <= eight + 2, 'the plans that went took their memory along');
  }));

test('dispose frees everything, and later use says so', async () => {
  const before = memory();
  await withEncoder((encoder) => {
    for (let i = 0; i < 3; i++) encoder.predict([frame(0), frame(1)]);
    encoder.dispose();
    encoder.dispose();
    throwsCode(() => encoder.encode(frame(0)), 'ERR_DISPOSED');
    throwsCode(() => encoder.predict(frame(0)), 'ERR_DISPOSED');
    throwsCode(() => encoder.teachers, 'ERR_DISPOSED');
  });
  assert.is(memory().plans, before.plans);
  assert.ok(memory().live <= before.live + tinyBytes(), 'only the test model of this file is left');
});

/** The models that tests here build to be saved are not disposed of. */
function tinyBytes(): number {
  using model = tinyModel();
  return model.arena.values.size * 4 + (1 << 16);
}

test('hostile frames', () =>
  withEncoder((encoder) => {
    const good = frame(0);
    const cases: [unknown, ErrorCode, string][] = [
      [undefined, 'ERR_ARGS', 'expected {data: Uint8Array, width, height}'],
      [null, 'ERR_ARGS', 'null'],
      [[], 'ERR_ARGS', 'at least one frame'],
      [[good, null], 'ERR_ARGS', 'frame 1'],
      [{ ...good, data: [1, 2, 3] }, 'ERR_ARGS', 'Uint8Array'],
      [{ ...good, data: new Float32Array(150528) }, 'ERR_ARGS', 'Uint8Array'],
      [{ ...good, data: good.data.subarray(1) }, 'ERR_SHAPE', 'expected 150528 bytes for 224 x 224 rgb, got 150527'],
      [{ ...good, width: 0 }, 'ERR_SHAPE', '0 x 224'],
      [{ ...good, height: 2.5 }, 'ERR_SHAPE', '224 x 2.5'],
      [{ ...good, width: '224' }, 'ERR_SHAPE', 'whole numbers'],
      [{ ...good, width: NaN }, 'ERR_SHAPE', 'NaN'],
      [{ ...good, width: 1e6, height: 1e6 }, 'ERR_SHAPE', 'megapixels'],
      [{ ...good, format: 'yuv' }, 'ERR_ARGS', '"yuv"'],
      [{ ...good, format: '__proto__' }, 'ERR_ARGS', '__proto__'],
      [{ ...good, format: 'rgba' }, 'ERR_SHAPE', 'rgba'],
      [{ ...good, stride: 671 }, 'ERR_SHAPE', 'stride of at least 672'],
      [{ ...good, stride: -672 }, 'ERR_SHAPE', 'stride'],
      [{ ...good, stride: 2 ** 53 }, 'ERR_SHAPE', 'stride'],
      [{ ...good, stride: 700 }, 'ERR_SHAPE', 'expected 156772 bytes'],
    ];
    const want = encoder.encode(good);
    for (const [value, code, text] of cases) throwsCode(() => encoder.encode(value as Frame), code, text);
    const detached = { ...good, data: good.data.slice() };
    structuredClone(detached.data, { transfer: [detached.data.buffer] });
    throwsCode(() => encoder.encode(detached), 'ERR_SHAPE', 'got 0');
    throwsCode(() => encoder.encode(good, { out: new Float32Array(3) }), 'ERR_SHAPE', 'got 3');
    throwsCode(() => encoder.encode(good, { reduce: 'sum' as ReduceMethod }), 'ERR_ARGS', '"sum"');
    throwsCode(() => encoder.predict(good, { teachers: ['other'] }), 'ERR_ARGS', 'other', 'mini/vit.16');
    throwsCode(() => encoder.run(good, { reduce: false }), 'ERR_ARGS', 'something to compute');
    assert.equal(bits(encoder.encode(good)), bits(want), 'and it goes on');
  }));

test('models without CLS or without translators', async () => {
  await withEncoder(
    (encoder) => {
      assert.is(encoder.encode(frame(0)).length, 196 * 32);
      throwsCode(() => encoder.encode(frame(0), { reduce: 'cls' }), 'ERR_ARGS', 'CLS');
    },
    { tokens: 'nocls', teachers: { a: [4, 16, 16] } },
  );
  await withEncoder(
    (encoder) => {
      assert.equal(encoder.teachers, []);
      throwsCode(() => encoder.predict(frame(0)), 'ERR_ARGS', 'student has none');
      assert.is(encoder.run(frame(0), { reduce: 'identity' }).get('tokens')!.shape[1], 200);
    },
    { tokens: 'reg', registers: 3, teachers: {} },
  );
});

test('load: options and errors', () =>
  inFolder(async (folder) => {
    const path = saveModel(tinyModel(), join(folder, 'student'));
    await rejects(Encoder.load(join(folder, 'none')), 'ERR_FILE');
    await rejects(Encoder.load(path, { device: 'cuda:999' }), 'ERR_DEVICE');
    await rejects(Encoder.load(path, { device: 'gpu' }), 'ERR_DEVICE');
    await rejects(Encoder.load(path, { device: 'cpu', dtype: 'bfloat16' }), 'ERR_UNSUPPORTED');
    await rejects(Encoder.load(path, { dtype: 'int8' as 'float32' }), 'ERR_UNSUPPORTED');
    await rejects(Encoder.load(join(path, 'model.safetensors')), 'ERR_CONFIG');
    using encoder = await Encoder.load(path);
    assert.equal([encoder.label, encoder.device, encoder.dtype, encoder.config.hidden], ['student', 'cpu', 'float32', 32]);
    assert.equal(encoder.teachers, ['mini/vit.16', 'mini/vit.16_cls']);
    using other = await Encoder.load(path, { normalisation: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } });
    assert.not.equal(bits(other.encode(frame(0))), bits(encoder.encode(frame(0))));
  }));

test('the encoder loads no trainer', () => {
  // What is imported when the module is, from file to file; import() inside functions comes later or never.
  const seen = new Set<string>();
  const walk = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, from] of readFileSync(new URL(file), 'utf8').matchAll(/^(?:import|export) [^;]*?from '([^']+)';/gm))
      if (from!.startsWith('.')) walk(new URL(from!, file).href);
      else seen.add(from!);
  };
  walk(new URL('../../src/encoder/index.js', import.meta.url).href);
  assert.ok(
    [...seen].some((f) => f.endsWith('/models/theia.js')),
    'the walk works',
  );
  assert.equal(
    [...seen].filter((f) => /\/src\/(train|optim|cli|analysis)\/|^sharp$/.test(f)),
    [],
  );
});

test.run();
