import { closeSync, mkdirSync, openSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../src/data/dataset.js';
import { encodeFeature } from '../../src/data/feature.js';
import { shardPath } from '../../src/data/shards.js';
import { bf16ToF32 } from '../../src/formats/half.js';
import { encodeNpy } from '../../src/formats/npy.js';
import { TarWriter } from '../../src/formats/tar.js';
import { feature, featureValue, noise, rejects, sampleKey, temporaryFolder, writeTinyDataset } from './fixtures.js';

const A = 'maker/Teacher-A';
const B = 'b';
const teachers = new Map([
  [A, { shape: [3, 2, 2] as const, cls: 5 }],
  [B, { shape: [2, 4, 4] as const, dtype: 'F32' as const }],
]);

/** Writes a shard by hand, members in any order and under any name. */
function tar(root: string, column: string, name: string, members: readonly (readonly [string, Uint8Array])[]): void {
  const folder = join(root, 'tiny', column);
  mkdirSync(folder, { recursive: true });
  const fd = openSync(join(folder, name), 'w');
  const writer = new TarWriter(fd, name);
  for (const [member, bytes] of members) writer.add(member, bytes);
  writer.finish();
  closeSync(fd);
}

const image = (seed: number): Uint8Array => encodeNpy(noise(12, seed), [2, 2, 3]);

test('reads back what was written, in shard order', async () => {
  const root = temporaryFolder();
  await writeTinyDataset({ root, samples: 10, teachers });
  const dataset = await openDataset(root, 'tiny', 'train', [A, B]);
  assert.is(dataset.length, 10);
  assert.is(dataset.damagedCount, 0);
  assert.equal(
    dataset.keys,
    Array.from({ length: 10 }, (_, i) => sampleKey(i)),
  );
  for (const i of [9, 0, 5]) {
    const sample = await dataset.read(i);
    assert.is(sample.key, sampleKey(i));
    assert.equal(sample.image.data, noise(6 * 6 * 3, i + 1));
    assert.equal([...sample.features.keys()], [A, B]);
    const a = sample.features.get(A)!;
    assert.equal([a.dtype, a.shape], ['BF16', [3, 2, 2]]);
    assert.is(bf16ToF32(a.data as Uint16Array)[2 * 4 + 3], featureValue(i, 2, 3));
    assert.is(bf16ToF32(a.cls!.data as Uint16Array)[4], featureValue(i, 4, 7));
    const b = sample.features.get(B)!;
    assert.equal([b.dtype, b.shape, b.cls], ['F32', [2, 4, 4], null]);
    assert.is(b.data[17], featureValue(i, 1, 1));
  }
  await rejects(() => dataset.locate(10), 'ERR_ARGS', /sample 10 of 10/);
  dataset.close();
  assert.is((await dataset.read(1)).key, sampleKey(1), 'reading goes on after close');
  dataset.close();
});

test('features are joined by key, not by place or shard', async () => {
  const root = temporaryFolder();
  tar(root, 'images', 'x-000000-train.tar', [
    ['k1.image', image(1)],
    ['k2.npy', image(2)],
  ]);
  tar(root, 'images', 'x-000001-train.tar', [['k3.image', image(3)]]);
  tar(
    root,
    B,
    'other-train.tar',
    [3, 1, 2].map((i) => [`k${i}.${i === 1 ? '' : 'b.'}safetensors`, feature(i, [1, 1, 2])]),
  );
  const dataset = await openDataset(root, 'tiny', 'train', [B]);
  assert.equal(dataset.keys, ['k1', 'k2', 'k3']);
  for (let i = 0; i < 3; i++) {
    const {
      image: { data },
      features,
    } = await dataset.read(i);
    assert.equal(data, noise(12, i + 1));
    assert.is(bf16ToF32(features.get(B)!.data as Uint16Array)[1], featureValue(i + 1, 0, 1));
  }
  dataset.close();
});

test('JPEG, PNG and WebP images by their first bytes, whatever the extension', async () => {
  const root = temporaryFolder();
  const raw = sharp(noise(48), { raw: { width: 4, height: 4, channels: 3 } });
  tar(root, 'images', 'x-000000-train.tar', [
    ['a.jpg', await raw.png().toBuffer()],
    ['b.image', await raw.webp({ lossless: true }).toBuffer()],
    ['c.PNG', await raw.jpeg().toBuffer()],
    ['a.json', Buffer.from('{}')],
    ['README', Buffer.from('x')],
  ]);
  const dataset = await openDataset(root, 'tiny', 'train', []);
  assert.equal(dataset.keys, ['a', 'b', 'c']);
  assert.equal((await dataset.read(0)).image.data, noise(48));
  assert.equal((await dataset.read(1)).image.data, noise(48));
  assert.is((await dataset.read(2)).image.width, 4);
  dataset.close();
});

test('missing and doubled samples are named, counted and left out', async () => {
  const root = temporaryFolder();
  tar(root, 'images', 'x-000000-train.tar', [
    ['ok.image', image(1)],
    ['twice.image', image(2)],
    ['lonely.image', image(3)],
    ['twofold.image', image(4)],
    ['wrong.image', image(4)],
  ]);
  tar(root, 'images', 'x-000001-train.tar', [['twice.jpg', image(2)]]);
  const f = feature(1, [1, 1, 1]);
  tar(root, B, 'x-000000-train.tar', [
    ['ok.b.safetensors', f],
    ['twice.b.safetensors', f],
    ['twofold.b.safetensors', f],
    ['twofold.safetensors', f],
    ['orphan.b.safetensors', f],
    ['wrong.c.safetensors', f],
  ]);
  const dataset = await openDataset(root, 'tiny', 'train', [B]);
  assert.equal(dataset.keys, ['ok']);
  assert.is(dataset.damagedCount, 5);
  assert.is(dataset.total, 6);
  assert.equal(
    dataset.damaged.map(({ key, reason }) => `${key}: ${reason}`),
    [
      'twice: more than one member in images',
      'lonely: an image but no b.safetensors in b; members such as wrong.c.safetensors were passed over',
      'twofold: more than one member in b',
      'wrong: an image but no b.safetensors in b; members such as wrong.c.safetensors were passed over',
      'orphan: features in b but no image',
    ],
  );
  dataset.checkDamaged(5 / 6);
  await rejects(() => dataset.checkDamaged(0.8), 'ERR_CORRUPT', /5 of 6 samples are damaged.*twice: more than one/);
  await rejects(() => dataset.checkDamaged(5 / 6, [{ key: 'ok', reason: 'bad' }]), 'ERR_CORRUPT', /6 of 6.*ok: bad/);
  assert.is((await dataset.read(0)).key, 'ok');
  dataset.close();
});

test('nothing to read is an error that says what was looked for', async () => {
  const root = temporaryFolder();
  await writeTinyDataset({ root, samples: 2, teachers });
  await rejects(() => openDataset(root, 'absent', 'train', []), 'ERR_FILE', /absent/);
  await rejects(() => openDataset(root, 'tiny', 'val', []), 'ERR_FILE', /\*-val\.tar/);
  await rejects(() => openDataset(root, 'tiny', 'train', ['C']), 'ERR_FILE', /tiny\/C/);
  await rejects(() => openDataset(root, '../tiny', 'train', []), 'ERR_CONFIG', /dataset/);
  tar(root, 'D', 'x-train.tar', [['other.d.safetensors', feature(1, [1, 1, 1])]]);
  await rejects(() => openDataset(root, 'tiny', 'train', ['D']), 'ERR_CORRUPT', /3 of 3 samples are damaged/);
  tar(root, 'images', 'x-empty.tar', []);
  await rejects(() => openDataset(root, 'tiny', 'empty', []), 'ERR_CORRUPT', /no samples/);
});

test('a damaged sample throws naming itself; a shortened shard is noticed', async () => {
  const root = temporaryFolder();
  const bad = encodeFeature(Float32Array.of(1, 2, NaN, 4), [2, 1, 2]);
  tar(root, 'images', 'x-train.tar', [
    ['a.image', image(1)],
    ['b.image', new Uint8Array(9)],
    ['c.image', image(1)],
  ]);
  tar(root, B, 'x-train.tar', [
    ['a.b.safetensors', bad],
    ['b.b.safetensors', feature(1, [2, 1, 2])],
    ['c.b.safetensors', new Uint8Array(3)],
  ]);
  const dataset = await openDataset(root, 'tiny', 'train', [B]);
  await rejects(() => dataset.read(0), 'ERR_CORRUPT', /sample a, teacher b: .*not finite, channel 1, position 0/);
  await rejects(() => dataset.read(1), 'ERR_FILE', /sample b, image: expected JPEG/);
  await rejects(() => dataset.read(2), 'ERR_CORRUPT', /sample c, teacher b/);
  truncateSync(join(root, 'tiny', 'images', 'x-train.tar'), 600);
  await rejects(() => dataset.read(2), 'ERR_CORRUPT', /x-train\.tar/);
  dataset.close();
});

test('a broken tar is an error naming it', async () => {
  const root = temporaryFolder();
  await writeTinyDataset({ root, samples: 3, teachers });
  truncateSync(shardPath(root, 'tiny', B, 'train', 0), 700);
  await rejects(() => openDataset(root, 'tiny', 'train', [B]), 'ERR_CORRUPT', /tiny_train-000000-train\.tar/);
});

test.run();
