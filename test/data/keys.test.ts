import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assignKeys, compareBytes, hashFile, listImages, pathKey, readKeys, removeDuplicates, writeKeys } from '../../src/data/keys.js';
import { noise, rejects, temporaryFolder } from './fixtures.js';

const png = (seed: number): Promise<Buffer> =>
  sharp(noise(48, seed), { raw: { width: 4, height: 4, channels: 3 } })
    .png()
    .toBuffer();
const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

test('keys from paths', () => {
  assert.is(pathKey('a/b/photo.jpg'), 'a_b_photo');
  assert.is(pathKey('a.b/photo.x.jpg'), 'a_b_photo_x');
  assert.is(pathKey('.jpg'), '_jpg');
  assert.is(pathKey('no-extension_1'), 'no-extension_1');
  assert.is(pathKey('bücher/ä b.png'), 'b_cher___b');
  assert.is(pathKey('😀.png'), '_', 'one character, one underscore');
});

test('a clash gets eight digits of the hash, whatever the order', () => {
  const images = [
    { path: 'a/b.jpg', sha256: sha('1') },
    { path: 'a_b.png', sha256: sha('2') },
    { path: 'c.png', sha256: sha('3') },
  ];
  const keys = assignKeys(images);
  assert.equal(keys, [`a_b${sha('1').slice(0, 8)}`, `a_b${sha('2').slice(0, 8)}`, 'c']);
  assert.equal(assignKeys([...images].reverse()), [...keys].reverse());
});

test('a key that the suffix makes clash again gets more digits', () => {
  const hash = sha('1');
  const keys = assignKeys([
    { path: 'x.jpg', sha256: hash },
    { path: 'x.png', sha256: sha('2') },
    { path: `x${hash.slice(0, 8)}.png`, sha256: sha('3') },
  ]);
  assert.is(new Set(keys).size, 3);
  assert.is(keys[0], `x${hash.slice(0, 16)}`);
  assert.ok(keys.every((key) => /^[A-Za-z0-9_-]+$/.test(key)));
});

test('keys leave room for the views of others', () => {
  const images = [
    { path: 'a.jpg', sha256: sha('1') },
    { path: 'a-view1.jpg', sha256: sha('2') },
  ];
  assert.equal(assignKeys(images), ['a', 'a-view1']);
  const keys = assignKeys(images, 2);
  assert.equal(keys, [`a${sha('1').slice(0, 8)}`, `a-view1${sha('2').slice(0, 8)}`]);
});

test('equal contents under one key cannot be told apart', async () => {
  const same = { path: 'a.jpg', sha256: sha('1') };
  await rejects(() => assignKeys([same, { ...same, path: 'a.png' }]), 'ERR_ARGS', /same content and key/);
});

test('listing: recursive, bytewise, by first bytes, links not followed', async () => {
  const root = temporaryFolder();
  const outside = temporaryFolder();
  mkdirSync(join(root, 'b'));
  mkdirSync(join(root, 'a'));
  writeFileSync(join(outside, 'far.png'), await png(9));
  for (const [name, seed] of [
    ['b/1.png', 1],
    ['a/2.txt', 2],
    ['Z.png', 3],
    ['a.png', 4],
    ['\uff41.png', 5],
    ['😀.png', 6],
  ] as const) {
    writeFileSync(join(root, name), await png(seed));
  }
  writeFileSync(join(root, 'note.jpg'), 'no image');
  writeFileSync(join(root, 'empty.png'), '');
  symlinkSync(join(outside, 'far.png'), join(root, 'link.png'));
  symlinkSync(outside, join(root, 'folder'));
  symlinkSync(root, join(root, 'b', 'loop'));
  const { images, skipped } = await listImages(root);
  assert.equal(images, ['Z.png', 'a.png', 'a/2.txt', 'b/1.png', '\uff41.png', '😀.png']);
  assert.equal(
    skipped.map(({ path, reason }) => `${path}: ${reason.slice(0, 15)}`),
    [
      'b/loop: a symbolic link',
      'empty.png: not JPEG, PNG o',
      'folder: a symbolic link',
      'link.png: a symbolic link',
      'note.jpg: not JPEG, PNG o',
    ],
  );
  assert.ok(compareBytes('\uff41', '😀') < 0);
  await rejects(() => listImages(join(root, 'absent')), 'ERR_FILE', /absent/);
});

test('exact duplicates keep their first name', async () => {
  const root = temporaryFolder();
  writeFileSync(join(root, 'x'), 'same');
  assert.is(await hashFile(join(root, 'x')), sha('same'));
  await rejects(() => hashFile(join(root, 'y')), 'ERR_FILE', /y/);
  const { kept, duplicates } = removeDuplicates([
    { path: 'a', sha256: '1' },
    { path: 'b', sha256: '2' },
    { path: 'c', sha256: '1' },
  ]);
  assert.equal(
    kept.map(({ path }) => path),
    ['a', 'b'],
  );
  assert.equal(duplicates, [{ path: 'c', of: 'a' }]);
});

test('keys.jsonl round trip and damage', async () => {
  const file = join(temporaryFolder(), 'set', 'keys.jsonl');
  assert.is(await readKeys(file), null);
  const records = [
    { key: 'a', path: 'a "b"\n.jpg', sha256: sha('1'), split: 'train' },
    { key: 'a-view1', path: 'a "b"\n.jpg', sha256: sha('1'), split: 'train', view: 1 },
  ];
  await writeKeys(file, records);
  assert.equal(await readKeys(file), records);
  assert.is(readFileSync(file, 'utf8').split('\n').length, 3);
  writeFileSync(file, '{"key":"a","path":"b","sha256":"c","split":"d"}\n{"key":1}\n');
  await rejects(() => readKeys(file), 'ERR_CORRUPT', /line 2/);
  writeFileSync(file, 'nonsense\n');
  await rejects(() => readKeys(file), 'ERR_CORRUPT', /line 1/);
});

test.run();
