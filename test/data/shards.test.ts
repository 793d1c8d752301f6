import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { indexShard, splitMemberName } from '../../src/data/shard-index.js';
import {
  isSealed,
  listShards,
  memberExtension,
  planShards,
  readSplits,
  removeShardsFrom,
  shardPath,
  sidecarPath,
  teacherColumn,
  writeShard,
  writeSplits,
} from '../../src/data/shards.js';
import { rejects, temporaryFolder } from './fixtures.js';

const sample = (key: string, text = `bytes of ${key}`): { key: string; bytes: Uint8Array } => ({ key, bytes: Buffer.from(text) });
const digest = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

test('names as the original has them', async () => {
  assert.is(shardPath('/r', 'food', 'images', 'train', 7), '/r/food/images/food_train-000007-train.tar');
  assert.is(teacherColumn('facebook/dinov2-large'), 'facebook_dinov2-large');
  assert.is(memberExtension('LiheYoung_depth-anything-large-hf'), 'liheyoung_depth-anything-large-hf.safetensors');
  assert.is(memberExtension('images'), 'image');
  assert.is(sidecarPath('/r/food/images/x.tar', '.json'), '/r/food/.shards/images/x.tar.json');
  for (const bad of ['..', '', '.x', 'a\\b', 'a\0']) await rejects(() => teacherColumn(bad), 'ERR_CONFIG', /teacher/);
  await rejects(() => teacherColumn('images'), 'ERR_CONFIG', /images/);
  await rejects(() => shardPath('/r', '../x', 'images', 'train', 0), 'ERR_CONFIG', /dataset/);
  await rejects(() => shardPath('/r', 'x', 'images', 'a/b', 0), 'ERR_CONFIG', /split/);
});

test('keys end at the first dot of the file name', () => {
  assert.equal(splitMemberName('a.facebook_dinov2-large.SafeTensors'), { key: 'a', extension: 'facebook_dinov2-large.safetensors' });
  assert.equal(splitMemberName('./x.y/a.image'), { key: 'x.y/a', extension: 'image' });
  assert.is(splitMemberName('README'), null);
  assert.is(splitMemberName('a/.hidden'), null);
});

test('planShards', async () => {
  assert.equal(planShards(['a', 'b', 'c'], 2), [['a', 'b'], ['c']]);
  assert.equal(planShards([], 2), []);
  assert.is(planShards(Array.from({ length: 2001 }, String)).length, 3);
  await rejects(() => planShards(['a'], 0), 'ERR_ARGS', /0/);
});

test('a shard is written whole, the same each time, and sealed', async () => {
  const path = shardPath(temporaryFolder(), 'd', 'a_b', 'train', 0);
  assert.is(await writeShard(path, 'a_b', [sample('k1'), sample('k2')], 'from here'), 2);
  const first = digest(path);
  assert.equal(
    (await indexShard(path)).map(({ name }) => name),
    ['k1.a_b.safetensors', 'k2.a_b.safetensors'],
  );
  const [, second] = await indexShard(path);
  assert.is(
    readFileSync(path)
      .subarray(second.offset, second.offset + second.size)
      .toString(),
    'bytes of k2',
  );
  assert.ok(await isSealed(path, ['k1', 'k2'], 'from here'));
  assert.not(await isSealed(path, ['k1'], 'from here'), 'count');
  assert.not(await isSealed(path, ['k2', 'k1'], 'from here'), 'keys');
  assert.not(await isSealed(path, ['k1', 'k2'], 'from elsewhere'), 'source');
  await writeShard(
    path,
    'a_b',
    (async function* () {
      yield sample('k1');
      yield sample('k2');
    })(),
    'from here',
  );
  assert.is(digest(path), first);
});

test('a changed, shortened or missing shard and a damaged seal are not taken over', async () => {
  const path = shardPath(temporaryFolder(), 'd', 'images', 'train', 0);
  const write = (): Promise<number> => writeShard(path, 'images', [sample('k1'), sample('k2')]);
  const sealed = (): Promise<boolean> => isSealed(path, ['k1', 'k2']);
  assert.not(await sealed());
  await write();
  assert.ok(await sealed());
  const bytes = readFileSync(path);
  bytes[520] ^= 1;
  writeFileSync(path, bytes);
  assert.not(await sealed());
  await write();
  truncateSync(path, 1000);
  assert.not(await sealed());
  await write();
  rmSync(path);
  assert.not(await sealed());
  await write();
  for (const text of ['', 'null', '[]', '{"format":1,"count":2,"source":"","keys":3}', '{"__proto__":{"format":1}}']) {
    writeFileSync(sidecarPath(path, '.json'), text);
    assert.not(await sealed(), text);
  }
});

test('what fails in the middle leaves the old shard and nothing else', async () => {
  const root = temporaryFolder();
  const path = shardPath(root, 'd', 'images', 'train', 0);
  await writeShard(path, 'images', [sample('old')]);
  const before = digest(path);
  for (const [samples, code, message] of [
    [[sample('a'), sample('a')], 'ERR_ARGS', /two samples have the key a/],
    [[sample('a'), sample('../b')], 'ERR_ARGS', /"\.\.\/b"/],
    [[sample('a.b')], 'ERR_ARGS', /"a\.b"/],
  ] as const) {
    await rejects(() => writeShard(path, 'images', samples), code, message);
  }
  assert.is(digest(path), before);
  assert.ok(await isSealed(path, ['old']));
  assert.equal(readdirSync(join(root, 'd', 'images')), ['d_train-000000-train.tar']);
  writeFileSync(join(root, 'file'), '');
  await rejects(() => writeShard(join(root, 'file', 'x', 'y.tar'), 'images', []), 'ERR_FILE', /file/);
});

test('the index is kept until the tar changes, and a forged one is not believed', async () => {
  const path = shardPath(temporaryFolder(), 'd', 'images', 'train', 0);
  await writeShard(path, 'images', [sample('a'), sample('b')]);
  const walked = await indexShard(path);
  const cache = sidecarPath(path, '.index.json');
  assert.ok(existsSync(cache));
  assert.equal(await indexShard(path), walked);
  // Proof that it is used: another name in it comes back.
  const text = readFileSync(cache, 'utf8');
  writeFileSync(cache, text.replace('a.image', 'z.image'));
  assert.is((await indexShard(path))[0].name, 'z.image');
  const good = JSON.parse(text) as Record<string, unknown>;
  for (const change of [
    { offsets: [0, 1e9] },
    { offsets: [-1, 0] },
    { sizes: [0.5, 1] },
    { sizes: [1] },
    { names: [1, 2] },
    { names: 'ab' },
    { format: 2 },
    { size: 1 },
    { mtime: '1' },
  ]) {
    writeFileSync(cache, JSON.stringify({ ...good, ...change }));
    assert.equal(await indexShard(path), walked, JSON.stringify(change));
  }
  writeFileSync(cache, 'null');
  assert.equal(await indexShard(path), walked);
  // A new tar of the same size but another time.
  writeFileSync(cache, text.replace('a.image', 'z.image'));
  utimesSync(path, new Date(), new Date(Date.now() + 5000));
  assert.equal(await indexShard(path), walked);
});

test('shards of a split are found in order', async () => {
  const root = temporaryFolder();
  mkdirSync(join(root, 'd', 'images'), { recursive: true });
  for (const name of ['b-train.tar', 'a-val.tar', 'a-train.tar', 'a-train.tar.tmp-7', '._a-train.tar', 'train.tar']) {
    writeFileSync(join(root, 'd', 'images', name), '');
  }
  assert.equal(
    (await listShards(root, 'd', 'images', 'train')).map((path) => path.slice(root.length)),
    ['/d/images/a-train.tar', '/d/images/b-train.tar'],
  );
  await rejects(() => listShards(root, 'd', 'images', 'test'), 'ERR_FILE', /\*-test\.tar, there are none/);
  await rejects(() => listShards(root, 'd', 'teacher', 'train'), 'ERR_FILE', /teacher/);
});

test('shards that a longer run left are removed, others are not', async () => {
  const root = temporaryFolder();
  for (let i = 0; i < 3; i++) await writeShard(shardPath(root, 'd', 'images', 'train', i), 'images', [sample(`k${i}`)]);
  await writeShard(shardPath(root, 'd', 'images', 'val', 2), 'images', [sample('v')]);
  writeFileSync(join(root, 'd', 'images', 'other-000009-train.tar'), '');
  const removed = await removeShardsFrom(root, 'd', 'images', 'train', 1);
  assert.equal(
    removed,
    [1, 2].map((i) => shardPath(root, 'd', 'images', 'train', i)),
  );
  assert.equal(readdirSync(join(root, 'd', 'images')).sort(), [
    'd_train-000000-train.tar',
    'd_val-000002-val.tar',
    'other-000009-train.tar',
  ]);
  assert.not(existsSync(sidecarPath(removed[0], '.json')));
  assert.equal(await removeShardsFrom(root, 'd', 'absent', 'train', 0), []);
  await writeShard(shardPath(root, 'd', 'images', 'my-val', 0), 'images', [sample('m')]);
  assert.is((await removeShardsFrom(root, 'd', 'images', 'my-val', 0)).length, 1);
});

test('splits.json', async () => {
  const root = temporaryFolder();
  mkdirSync(join(root, 'd'));
  writeSplits(
    root,
    'd',
    new Map([
      ['train', 9],
      ['__proto__', 1],
      ['val', 0],
    ]),
  );
  assert.equal(
    [...(await readSplits(root, 'd'))],
    [
      ['train', 9],
      ['__proto__', 1],
      ['val', 0],
    ],
  );
  for (const text of ['', '[1]', '{"train":-1}', '{"train":"1"}', 'null']) {
    writeFileSync(join(root, 'd', 'splits.json'), text);
    await rejects(() => readSplits(root, 'd'), 'ERR_CORRUPT', /splits\.json/);
  }
  await rejects(() => readSplits(root, 'e'), 'ERR_FILE', /splits\.json/);
});

test.run();
