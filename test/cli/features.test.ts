import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FeatureProgress } from '../../src/cli/features-progress.js';
import { main } from '../../src/cli/main.js';
import { openDataset } from '../../src/data/dataset.js';
import { readKeys } from '../../src/data/keys.js';
import { f32ToBf16 } from '../../src/formats/half.js';
import { writeNpy } from '../../src/formats/npy.js';
import { temporaryFolder } from '../data/fixtures.js';
import { writePhoto } from '../support/photos.js';

const PROGRAM = fileURLToPath(new URL('../../../bin/theia.mjs', import.meta.url));

function theia(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'features', ...args], { encoding: 'utf8' });
  return { status, out: stdout, err: stderr };
}

/** Runs arguments that are refused before any work. */
async function refused(...args: string[]): Promise<string> {
  let err = '';
  const code = await main(['features', ...args], undefined, { out: () => undefined, err: (text) => void (err += text) });
  assert.is(code, 2, err);
  return err;
}

/** Value of a sample's channel at a position. */
const value = (sample: number, channel: number, position: number): number => sample + channel / 4 + position / 16;

function features(sample: number): Float32Array {
  return Float32Array.from({ length: 20 }, (_, i) => value(sample, Math.floor(i / 4), i % 4));
}

test('photos and an npy teacher end to end', async () => {
  const images = temporaryFolder();
  const root = join(temporaryFolder(), 'deep', 'root');
  const npy = temporaryFolder();
  const paths = ['a.b.jpg', 'a_b.png', 'sub/ü.jpg', 'c.png', 'd.jpg', 'e.jpg'];
  for (const [i, path] of paths.entries()) await writePhoto(images, path, i + 1);
  const photo = await writePhoto(images, 'lonely.jpg', 20);
  writeFileSync(join(images, 'broken.jpg'), photo.subarray(0, photo.length / 2));
  writeFileSync(join(images, 'again.jpg'), readFileSync(join(images, 'd.jpg')));
  writeFileSync(join(images, 'notes\x1b[31m.txt'), 'no photo');

  // A teacher that has nothing: the message says which files it was asked for.
  const empty = temporaryFolder();
  writeNpy(join(empty, 'none.npy'), features(0), [5, 2, 2]);
  const none = theia('--images', images, '--teacher', `T/x=npy:${empty}`, '--out', root, '--dataset', 'mine');
  assert.is(none.status, 2);
  assert.match(none.err, /theia: ERR_FILE: .*expected photos/);
  assert.match(none.err, /a\.b\.jpg: teacher T\/x has no file a_b[0-9a-f]{8}\.npy/);

  // Two photos want the key a_b, so both carry their hash.
  const hash = (path: string): string => createHash('sha256').update(readFileSync(join(images, path))).digest('hex').slice(0, 8); // prettier-ignore
  const keys = [`a_b${hash('a.b.jpg')}`, `a_b${hash('a_b.png')}`, 'sub__', 'c', 'again', 'e'];
  keys.forEach((key, i) => writeNpy(join(npy, `${key}.npy`), features(i), [5, 2, 2]));

  const { status, out, err } = theia(
    '--images',
    images,
    '--teacher',
    `T/x=npy:${npy}`,
    '--out',
    root,
    '--dataset',
    'mine',
    '--split',
    'train=1',
    '--json',
  );
  assert.is(status, 0, err);
  const summary = JSON.parse(out) as Record<string, unknown>;
  assert.is(summary.photos, 6);
  assert.is(summary.duplicates, 1);
  assert.equal(summary.splits, { train: 6 });
  assert.equal(summary.teachers, { 'T/x': { shape: [5, 2, 2], constant_channels: [] } });
  assert.equal((summary.skipped as { path: string }[]).map(({ path }) => path).sort(), ['broken.jpg', 'lonely.jpg', 'notes\x1b[31m.txt']);
  assert.match(err, /skipped broken\.jpg: .*damaged or truncated/);
  assert.match(err, /skipped lonely\.jpg: teacher T\/x has no file lonely\.npy/);
  assert.match(err, /skipped notes\\x1b\[31m\.txt: not JPEG, PNG or WebP/);
  assert.match(err, /1 photos have the content of another one/);
  assert.not.match(err, /\x1b/);

  const records = (await readKeys(join(root, 'mine', 'keys.jsonl')))!;
  assert.equal(records.map(({ key }) => key).sort(), [...keys].sort());
  assert.is(records.find(({ key }) => key === 'sub__')!.path, 'sub/ü.jpg');
  assert.is(readFileSync(join(root, 'mine', 'splits.json'), 'utf8'), '{"train": 6}\n');
  assert.equal(readdirSync(root).sort(), ['imagenet_mean_T_x.npy', 'imagenet_var_T_x.npy', 'mine']);
  assert.equal(readdirSync(join(root, 'mine', 'T_x')), ['mine_train-000000-train.tar']);
  const set = await openDataset(root, 'mine', 'train', ['T/x']);
  assert.equal([...set.keys].sort(), [...keys].sort());
  for (let i = 0; i < set.length; i++) {
    const { key, image, features: stored } = await set.read(i);
    assert.equal([image.width, image.height], [224, 224]);
    assert.equal(stored.get('T/x')!.data, f32ToBf16(features(keys.indexOf(key))));
  }
  set.close();

  const again = theia(
    '--images',
    images,
    '--teacher',
    `T/x=npy:${npy}`,
    '--out',
    root,
    '--dataset',
    'mine',
    '--split',
    'train=1',
    '--resume',
  );
  assert.is(again.status, 0, again.err);
  assert.match(again.out, /mine: 6 photos; samples: train 6; shards: images 0 \(\+ 1 kept\), T_x 0 \(\+ 1 kept\); [\d.]+ s\n$/);

  writeNpy(join(npy, 'c.npy'), features(0).fill(NaN), [5, 2, 2]);
  const bad = theia(
    '--images',
    images,
    '--teacher',
    `T/x=npy:${npy}`,
    '--out',
    root,
    '--dataset',
    'mine',
    '--split',
    'train=1',
    '--resume',
  );
  assert.is(bad.status, 2);
  assert.match(bad.err, /theia: ERR_CORRUPT: .*c\.npy: value 0 is NaN/);
});

test('arguments that are refused', async () => {
  const out = temporaryFolder();
  const images = temporaryFolder();
  await writePhoto(images, 'a.png', 1);
  const npy = temporaryFolder();
  writeNpy(join(npy, 'a.npy'), features(0), [5, 2, 2]);
  const with_ = (...more: string[]): Promise<string> => refused('--images', images, '--out', out, '--teacher', `t=npy:${npy}`, ...more);
  assert.match(await refused('--out', out), /ERR_ARGS: theia features: expected --images DIR/);
  assert.match(await refused('--images', images, '--out', out), /ERR_ARGS: theia features: expected --teacher/);
  assert.match(await refused('--images', images, '--out', out, '--teacher', 'nonsense'), /ERR_ARGS: teacher: expected NAME=KIND:PATH/);
  assert.match(await with_('--teacher', 't=npy:x'), /ERR_ARGS: --teacher: t is given twice/);
  assert.match(await with_('--teacher', 'u=npy:/nowhere'), /ERR_FILE: .*\/nowhere/);
  for (const name of ['..', 'a/b', '.x', 'a\\b', '']) assert.match(await with_(`--dataset=${name}`), /ERR_CONFIG: .*dataset/);
  assert.match(await with_('--split', 'train=2'), /ERR_ARGS: split: /);
  assert.match(await with_('--split', '../x=1'), /ERR_ARGS: split: /);
  for (const views of ['0', '1.5', '-1', 'x', '1e9']) assert.match(await with_(`--views=${views}`), /ERR_ARGS: --views/);
  for (const size of ['0', '99999']) assert.match(await with_('--size', size), /ERR_ARGS: --size/);
  assert.match(await with_('--filter', 'nearest'), /ERR_ARGS: --filter/);
  assert.match(await with_('--teachers', 'x'), /did you mean --teacher\?/);
  assert.match(await refused('--images', join(images, 'no'), '--out', out, '--teacher', `t=npy:${npy}`), /ERR_FILE: .*no/);
  const none = temporaryFolder();
  assert.match(await refused('--images', none, '--out', out, '--teacher', `t=npy:${npy}`), /ERR_FILE: .*expected photos/);
  writeFileSync(join(none, 'file'), '');
  assert.match(await refused('--images', images, '--out', join(none, 'file'), '--teacher', `t=npy:${npy}`), /ERR_FILE/);
  assert.equal(readdirSync(out), [], 'nothing was written');

  const dataset = join(temporaryFolder(), 'set');
  mkdirSync(join(dataset, 'images'), { recursive: true });
  writeFileSync(join(dataset, 'images', 'x-train.tar'), 'no tar');
  writeFileSync(join(dataset, 'splits.json'), '{"train": 1}');
  assert.match(
    await refused('--images', dataset, '--out', out, '--teacher', `t=npy:${npy}`, '--views', '2'),
    /ERR_ARGS: --views: .*dataset/,
  );
  assert.match(await refused('--images', dataset, '--out', out, '--teacher', `t=npy:${npy}`), /ERR_CORRUPT: .*x-train\.tar/);
  writeFileSync(join(dataset, 'splits.json'), '{"__proto__": 1}');
  assert.match(await refused('--images', dataset, '--out', out, '--teacher', `t=npy:${npy}`), /ERR_(CORRUPT|FILE)/);
});

test('progress on a terminal and in a pipe', () => {
  let text = '';
  let now = 0;
  const stream = { write: (piece: string) => (text += piece), isTTY: true, columns: 40 };
  const bar = new FeatureProgress({ stream, now: () => now });
  bar.update({ phase: 'photos', done: 1, total: 10 });
  now = 50;
  bar.update({ phase: 'photos', done: 2, total: 10 });
  now = 2000;
  bar.update({ phase: 'photos', done: 4, total: 10 });
  bar.note('hello');
  assert.is(text, '\rfeatures: photos 1/10\x1b[K\rfeatures: photos 4/10  2.0/s  0:03 left\x1b[K\nfeatures: hello\n');
  text = '';
  const plain = new FeatureProgress({ stream: { write: (piece) => (text += piece) }, now: () => now });
  for (let i = 1; i <= 10; i++) plain.update({ phase: 'x\x1b', done: i, total: 10 });
  assert.is(text, 'features: x? 1/10\nfeatures: x? 10/10\n');
});

test.run();
