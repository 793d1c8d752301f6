import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { decodeImage } from '../../src/data/image.js';
import { Encoder } from '../../src/encoder/index.js';
import { SafetensorsFile, encodeNpy, writeSafetensors } from '../../src/formats/index.js';
import { image } from '../support/procedural.js';
import { inFolder, pictures, saveModel, theia, tinyModel } from '../support/tiny-model.js';
import type { Ran } from '../support/tiny-model.js';

const program = fileURLToPath(new URL('../../../bin/theia.mjs', import.meta.url));

interface Case {
  folder: string;
  model: string;
  out: string;
  run(images: string, ...flags: string[]): Ran;
}

async function withModel(body: (c: Case) => void | Promise<void>, changes: Record<string, unknown> = {}): Promise<void> {
  await inFolder(async (folder) => {
    const model = saveModel(tinyModel(changes), join(folder, 'student'));
    const out = join(folder, 'out.safetensors');
    const run = (images: string, ...flags: string[]): Ran =>
      theia('encode', '--weights', model, '--images', images, '--out', out, ...flags);
    await body({ folder, model, out, run });
  });
}

function png(path: string, n: number, width: number, height: number): Promise<unknown> {
  return sharp(image(n, height, width, 3, 5), { raw: { width, height, channels: 3 } })
    .png()
    .toFile(path);
}

function fails({ folder, out }: Case, ran: Ran, line: RegExp, status = 2): void {
  assert.is(ran.status, status, ran.stdout + ran.stderr);
  assert.is(ran.stdout, '');
  assert.match(ran.stderr, line);
  assert.match(ran.stderr, /^theia: ERR_[A-Z]+: [^\n]+\n(hint: [^\n]+\n)?$/);
  assert.not(existsSync(out), 'nothing is written');
  assert.equal(readdirSync(folder).filter((f) => f.includes('.tmp-')), []); // prettier-ignore
}

const bits = (x: Float32Array): Uint8Array => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

test('an npy of two images: tokens as the encoder gives them, and the metadata', () =>
  withModel(async ({ folder, model, out, run }) => {
    const x = join(folder, 'x.npy');
    const data = pictures(2);
    writeFileSync(x, encodeNpy(data, [2, 224, 224, 3]));
    const { status, stdout, stderr } = run(x);
    assert.is(status, 0, stderr);
    assert.match(stdout, /^tokens  \[2,196,32\]\n.*out\.safetensors: 2 images, .* ms each\n$/);
    assert.is(stderr, '');
    using file = SafetensorsFile.open(out);
    assert.equal(file.names(), ['tokens']);
    assert.equal([file.info('tokens').dtype, file.info('tokens').shape], ['F32', [2, 196, 32]]);
    const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };
    const m = Object.fromEntries(file.metadata);
    assert.equal([m.model, m.device, m.dtype, m.version, m.format, m.reduce], ['student', 'cpu', 'float32', version, '1', 'none']);
    using encoder = await Encoder.load(model);
    const frames = [0, 1].map((i) => ({ data: data.slice(i * 150528, (i + 1) * 150528), width: 224, height: 224 }));
    assert.equal(bits(file.float32('tokens')), bits(encoder.encode(frames)));
  }));

test('--predict, --hidden, --reduce and --json; the batch size changes nothing', () =>
  withModel(async ({ folder, out, run }) => {
    const x = join(folder, 'x.safetensors');
    writeSafetensors(x, [{ name: 'images', dtype: 'U8', shape: [5, 224, 224, 3], data: pictures(5) }]);
    const read = (...flags: string[]): Map<string, { shape: readonly number[]; values: Float32Array }> => {
      const { status, stdout, stderr } = run(x, '--predict', '--hidden', '--json', ...flags);
      assert.is(status, 0, stderr);
      using file = SafetensorsFile.open(out);
      const report = JSON.parse(stdout) as Record<string, unknown> & { tensors: Record<string, number[]>; ms_per_image: number };
      assert.equal(Object.keys(report), ['out', 'tensors', 'images', 'device', 'dtype', 'ms_per_image']);
      assert.equal([report.out, report.images, report.device, report.dtype], [out, 5, 'cpu', 'float32']);
      assert.ok(report.ms_per_image > 0);
      assert.equal(report.tensors, Object.fromEntries(file.names().map((n) => [n, [...file.info(n).shape]])));
      return new Map(file.names().map((n) => [n, { shape: file.info(n).shape, values: file.float32(n) }]));
    };
    const whole = read();
    assert.equal(
      [...whole].map(([n, t]) => `${n} ${t.shape.join()}`),
      [
        'tokens 5,196,32',
        'pred/mini/vit.16 5,256,8',
        'pred/mini/vit.16_cls 5,8',
        'hidden/0 5,197,32',
        'hidden/1 5,197,32',
        'hidden/2 5,197,32',
      ],
    );
    for (const batch of ['1', '2', '5', '100'])
      for (const [name, t] of read('--batch', batch))
        assert.equal(bits(t.values), bits(whole.get(name)!.values), `${name} in batches of ${batch}`);
    for (const [reduce, shape] of [
      ['cls', '5,32'],
      ['mean_pooling', '5,32'],
      ['max_pooling', '5,32'],
      ['identity', '5,197,32'],
    ] as const)
      assert.is(read('--reduce', reduce).get('tokens')!.shape.join(), shape);
  }));

test('image files and folders: decoded, resized, in the order of their paths', () =>
  withModel(async ({ folder, model, out, run }) => {
    const photos = join(folder, 'photos');
    mkdirSync(join(photos, 'sub'), { recursive: true });
    await png(join(photos, 'b.png'), 0, 100, 77);
    await png(join(photos, 'a.png'), 1, 300, 260);
    await png(join(photos, 'sub', 'c'), 2, 224, 224);
    writeFileSync(join(photos, 'notes.txt'), 'no image');
    const { status, stderr } = run(photos, '--batch', '2');
    assert.is(status, 0, stderr);
    assert.match(stderr, /^skipped "notes\.txt": /);
    using file = SafetensorsFile.open(out);
    assert.equal(JSON.parse(file.metadata.get('images')!), ['a.png', 'b.png', 'sub/c']);
    using encoder = await Encoder.load(model);
    const tokens = file.float32('tokens');
    for (const [i, name] of ['a.png', 'b.png', 'sub/c'].entries()) {
      const want = encoder.encode(await decodeImage(join(photos, name)));
      assert.equal(bits(tokens.slice(i * want.length, (i + 1) * want.length)), bits(want), name);
      assert.is(run(join(photos, name)).status, 0);
      using one = SafetensorsFile.open(out);
      assert.equal(bits(one.float32('tokens')), bits(want));
    }
  }));

test('--no-resize and --interpolate', () =>
  withModel(async (c) => {
    const { folder, run } = c;
    const npy = (height: number, width: number): string => {
      const path = join(folder, `${height}x${width}.npy`);
      writeFileSync(path, encodeNpy(pictures(1, height, width), [height, width, 3]));
      return path;
    };
    fails(c, run(npy(100, 96), '--no-resize'), /ERR_SHAPE: .*multiples of the patch 16, got 96 x 100/);
    fails(c, run(npy(160, 96), '--no-resize'), /ERR_UNSUPPORTED: .*positions are not interpolated in this build/);
    fails(c, run(npy(160, 96), '--no-resize', '--interpolate', 'scale'), /ERR_UNSUPPORTED/);
    fails(c, run(npy(224, 224), '--interpolate', 'nearest'), /ERR_ARGS: --interpolate: expected one of size, scale/);
    const photos = join(folder, 'photos');
    mkdirSync(photos);
    await png(join(photos, 'a.png'), 1, 224, 224);
    await png(join(photos, 'b.png'), 0, 240, 224);
    fails(c, run(photos, '--no-resize'), /ERR_SHAPE: b\.png: expected 224 x 224 as the first image, got 240 x 224/);
    assert.is(run(npy(224, 224), '--no-resize', '--interpolate', 'size').status, 0);
  }));

test('images that cannot be used', () =>
  withModel(async (c) => {
    const { folder, run } = c;
    const file = (name: string, bytes: string | Uint8Array): string => {
      writeFileSync(join(folder, name), bytes);
      return join(folder, name);
    };
    fails(c, run(join(folder, 'none.png')), /ERR_FILE: .*none\.png/);
    fails(c, run(file('x.txt', 'hello')), /ERR_FILE: .*x\.txt: expected JPEG, PNG, WebP, npy or safetensors, got bytes 68656c6c6f/);
    fails(c, run(file('empty', '')), /ERR_FILE: .*an empty file/);
    fails(c, run(file('x.gif', 'GIF89a..........')), /ERR_FILE: .*got GIF/);
    mkdirSync(join(folder, 'bare'));
    fails(c, run(join(folder, 'bare')), /ERR_FILE: .*expected JPEG, PNG or WebP files in the folder, got none/);
    fails(c, run('/dev/zero'), /ERR_FILE: .*a pipe or a device/);
    await png(join(folder, 'cut.png'), 0, 64, 64);
    truncateSync(join(folder, 'cut.png'), 4000);
    fails(c, run(join(folder, 'cut.png')), /ERR_CORRUPT: .*cut\.png: damaged or truncated/);
    const npy = encodeNpy(pictures(1), [224, 224, 3]);
    fails(c, run(file('cut.npy', npy.subarray(0, 1000))), /ERR_CORRUPT: .*cut\.npy/);
    fails(c, run(file('f.npy', encodeNpy(new Float32Array(12), [2, 2, 3]))), /ERR_DTYPE: .*expected uint8 images, got <f4/);
    fails(c, run(file('flat.npy', encodeNpy(new Uint8Array(12), [3, 4]))), /ERR_SHAPE: .*flat\.npy/);
    fails(c, run(file('none.npy', encodeNpy(new Uint8Array(0), [0, 2, 2, 3]))), /ERR_SHAPE: .*none\.npy/);
    const other = join(folder, 'other.safetensors');
    writeSafetensors(other, [{ name: 'pixels', dtype: 'U8', shape: [1, 1, 1, 3], data: new Uint8Array(3) }]);
    fails(c, run(other), /ERR_CORRUPT: .*has no tensor "images"\nhint: it has 1: pixels/);
    writeSafetensors(other, [{ name: 'images', dtype: 'U8', shape: [0, 2, 2, 3], data: new Uint8Array(0) }]);
    fails(c, run(other), /ERR_SHAPE: .*images: expected uint8 \[B,H,W,3\], got \[0,2,2,3\]/);
    // The third of a folder is broken: what was there stays as it was.
    const photos = join(folder, 'photos');
    mkdirSync(photos);
    for (const name of ['a', 'b', 'c']) await png(join(photos, `${name}.png`), 0, 64, 64);
    truncateSync(join(photos, 'c.png'), 3000);
    fails(c, run(photos, '--batch', '1'), /ERR_CORRUPT: .*c\.png: damaged or truncated/);
    writeFileSync(c.out, 'old');
    assert.is(run(photos, '--batch', '1').status, 2);
    assert.is(readFileSync(c.out, 'utf8'), 'old');
  }));

test('flags, weights and outputs that cannot be used', () =>
  withModel(async (c) => {
    const { folder, model, out, run } = c;
    const x = join(folder, 'x.npy');
    writeFileSync(x, encodeNpy(pictures(1), [224, 224, 3]));
    for (const dtype of ['int8', 'bfloat16']) fails(c, run(x, '--device', 'cpu', '--dtype', dtype), /ERR_UNSUPPORTED: --dtype/);
    fails(c, run(x, '--dtype', 'double'), /ERR_ARGS: --dtype/);
    fails(c, run(x, '--device', 'cuda:999'), /ERR_DEVICE: /);
    fails(c, run(x, '--device', 'tpu'), /ERR_DEVICE/);
    fails(c, run(x, '--reduce', 'mean'), /ERR_ARGS: --reduce: expected one of none, cls, .*\n/);
    fails(c, run(x, '--batch', '0'), /ERR_ARGS: --batch: expected a whole number/);
    fails(c, run(x, '--batch', '1.5'), /ERR_ARGS: --batch/);
    fails(c, run(x, '--predictt'), /ERR_ARGS: theia encode: unknown flag --predictt\nhint: did you mean --predict\?/);
    fails(c, theia('encode', '--weights', model, '--images', x), /ERR_ARGS: theia encode: expected --out/);
    fails(c, theia('encode', '--weights', join(folder, 'none'), '--images', x, '--out', out), /ERR_FILE: .*none/);
    fails(c, theia('encode', '--weights', x, '--images', x, '--out', out), /ERR_CORRUPT: .*x\.npy/);
    fails(c, theia('encode', '--weights', model, '--images', x, '--out', join(folder, 'no', 'out')), /ERR_FILE: .*no/);
    fails(c, theia('encode', '--weights', model, '--images', x, '--out', folder), /ERR_FILE: .*a folder/);
    const config = join(folder, 'c.json');
    writeFileSync(config, '{"depth":7,"heads":2}');
    fails(c, run(x, '--config', config), /ERR_CONFIG: depth: the config says 7, the weights say 2/);
    writeFileSync(config, '{"heads":2,"heads":4}');
    fails(c, run(x, '--config', config), /ERR_CORRUPT: .*c\.json: the key "heads" comes twice/);
    const auto = spawnSync(process.execPath, [program, 'encode', '--weights', model, '--images', x, '--out', out], { encoding: 'utf8' });
    assert.match(auto.stderr, /^device auto: cpu \(.*\)\n$/, 'auto says what it chose');
    assert.not.match(theia('encode', '--help').stdout, /int8/);
  }));

test('models without CLS or translators', async () => {
  await withModel(
    async (c) => {
      const x = join(c.folder, 'x.npy');
      writeFileSync(x, encodeNpy(pictures(1), [224, 224, 3]));
      fails(c, c.run(x, '--reduce', 'cls'), /ERR_ARGS: reduce cls: /);
      fails(c, c.run(x, '--predict'), /ERR_ARGS: predict: expected a model with translators/);
      assert.is(c.run(x).status, 0);
    },
    { tokens: 'nocls', teachers: {} },
  );
});

test('a signal between batches: 130, and no file', () =>
  withModel(async (c) => {
    const x = join(c.folder, 'x.npy');
    writeFileSync(x, encodeNpy(pictures(2), [2, 224, 224, 3]));
    const photos = join(c.folder, 'photos');
    mkdirSync(photos);
    for (let i = 0; i < 300; i++) await png(join(photos, `${i}.png`), i % 4, 64, 48);
    const p = spawn(process.execPath, [program, 'encode', '--weights', c.model, '--images', photos, '--out', c.out, '--batch', '1']);
    const watch = setInterval(() => {
      if (!readdirSync(c.folder).some((f) => f.includes('.tmp-'))) return;
      clearInterval(watch); // a second signal would end it at once
      p.kill('SIGINT');
    }, 5);
    const code = await new Promise((done) => p.on('close', done));
    clearInterval(watch);
    assert.is(code, 130);
    assert.equal(readdirSync(c.folder).sort(), ['photos', 'student', 'x.npy']);
  }));

test.run();
