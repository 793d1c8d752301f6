import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../src/data/dataset.js';
import { extractFeatures, type ExtractOptions, type ExtractProgress } from '../../src/data/extract.js';
import { decodeImage } from '../../src/data/image.js';
import { readKeys } from '../../src/data/keys.js';
import { resizeImage } from '../../src/data/prepare.js';
import { readSplits } from '../../src/data/shards.js';
import { loadStatistics } from '../../src/data/statistics.js';
import { applyView, imageView } from '../../src/data/views.js';
import { bf16ToF32, f32ToBf16 } from '../../src/formats/half.js';
import type { Teacher, TeacherSample } from '../../src/teachers/teacher.js';
import { writePhoto } from '../support/photos.js';
import { rejects, temporaryFolder } from './fixtures.js';

const SIDE = 8;

/** Features that show what the teacher was given: channel c at (y, x) is the colour c of that pixel, halved, and a third of nothing. */
class PixelTeacher implements Teacher {
  readonly shape = [3, SIDE, SIDE] as const;
  readonly input = { size: SIDE, filter: 'bilinear' } as const;
  calls = 0;
  constructor(
    readonly name = 'pixels',
    readonly identity = 'pixels 1',
    private readonly spoil?: (key: string, values: Float32Array) => void,
  ) {}
  missing(): undefined {}
  features(samples: readonly TeacherSample[]): Promise<Float32Array> {
    this.calls += samples.length;
    const out = new Float32Array(samples.length * 3 * SIDE * SIDE);
    samples.forEach(({ key, image }, i) => {
      const values = Float32Array.from(image!.data, (byte) => byte / 2);
      this.spoil?.(key, values);
      out.set(values, i * values.length);
    });
    return Promise.resolve(out);
  }
  dispose(): void {}
}

const SHARES = [
  { name: 'train', share: 0.6 },
  { name: 'val', share: 0.4 },
];

async function photos(count: number): Promise<string> {
  const folder = temporaryFolder();
  for (let i = 0; i < count; i++) await writePhoto(folder, `${i % 2 ? 'sub dir/' : ''}p${i}.${i % 3 ? 'jpg' : 'png'}`, i + 1, 40 + i, 30);
  return folder;
}

function options(images: string, root: string, teachers: Teacher[], more: Partial<ExtractOptions> = {}): ExtractOptions {
  return { images, teachers, root, dataset: 'set', shares: SHARES, views: 1, resume: false, size: 16, filter: 'bilinear', ...more };
}

/** Every file below a folder but indexes that reading writes, with its content. */
function contents(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => !name.endsWith('.index.json'));
  const files = names.filter((name) => statSync(join(folder, name)).isFile()).sort();
  return new Map(files.map((name) => [name, readFileSync(join(folder, name)).toString('base64')]));
}

test('what is stored is what the photos hold: images, views, features, keys, splits, statistics', async () => {
  const images = await photos(12);
  const root = temporaryFolder();
  const summary = await extractFeatures(options(images, root, [new PixelTeacher()], { views: 3 }));
  assert.is(summary.photos, 12);
  assert.equal(summary.skipped, []);
  const records = (await readKeys(join(root, 'set', 'keys.jsonl')))!;
  assert.is(records.length, 36);
  const splits = await readSplits(root, 'set');
  assert.equal([...splits.keys()], ['train', 'val']);
  assert.is(
    [...splits.values()].reduce((a, b) => a + b),
    36,
  );
  assert.ok(splits.get('train')! > 0 && splits.get('val')! > 0);

  const byKey = new Map(records.map((record) => [record.key, record]));
  const training: number[][] = [[], [], []];
  for (const [split, count] of splits) {
    const set = await openDataset(root, 'set', split, ['pixels']);
    assert.is(set.length, count);
    assert.is(set.damagedCount, 0);
    for (let i = 0; i < set.length; i++) {
      const sample = await set.read(i);
      const { path, sha256, view = 0, split: noted } = byKey.get(sample.key)!;
      assert.is(noted, split);
      const photo = await decodeImage(join(images, path));
      const cut = applyView(photo, imageView(sha256, view, photo.width, photo.height));
      assert.equal(sample.image.data, resizeImage(cut, 16, 16, 'bilinear').data, `${sample.key}: image`);
      const feature = sample.features.get('pixels')!;
      assert.is(feature.dtype, 'BF16');
      assert.equal(feature.shape, [3, SIDE, SIDE]);
      const seen = resizeImage(cut, SIDE, SIDE, 'bilinear').data;
      const first = Float32Array.from({ length: seen.length }, (_, j) => seen[(j % (SIDE * SIDE)) * 3 + Math.floor(j / (SIDE * SIDE))] / 2);
      assert.equal(feature.data, f32ToBf16(first), `${sample.key}: features [C,H,W] of the view cut from the photo itself`);
      if (split === 'train') bf16ToF32(f32ToBf16(first)).forEach((value, j) => training[Math.floor(j / (SIDE * SIDE))].push(value));
    }
    set.close();
  }
  const { mean, std } = loadStatistics(root, 'pixels', 3);
  training.forEach((values, c) => {
    const average = values.reduce((a, b) => a + b, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - average) ** 2, 0) / (values.length - 1));
    assert.ok(Math.abs(mean[c] - average) < 1e-5 && Math.abs(std[c] - deviation) < 1e-5);
  });
});

test('a resume takes over what holds, and nothing else', async () => {
  const images = await photos(7);
  const root = temporaryFolder();
  const run = async (
    teacher: PixelTeacher,
    more: Partial<ExtractOptions> = {},
  ): Promise<Map<string, { written: number; reused: number }>> =>
    (await extractFeatures(options(images, root, [teacher], { resume: true, ...more }))).shards;
  const first = await run(new PixelTeacher());
  assert.equal([...first], [['images', { written: 2, reused: 0 }], ['pixels', { written: 2, reused: 0 }]]); // prettier-ignore
  const before = contents(root);

  const idle = new PixelTeacher();
  assert.equal([...(await run(idle))], [['images', { written: 0, reused: 2 }], ['pixels', { written: 0, reused: 2 }]]); // prettier-ignore
  assert.is(idle.calls, 0);
  assert.equal(contents(root), before);

  const other = new PixelTeacher('pixels', 'pixels 2');
  assert.equal((await run(other)).get('pixels'), { written: 2, reused: 0 }, 'another teacher of the same name');
  assert.equal((await run(new PixelTeacher())).get('pixels'), { written: 2, reused: 0 });

  const shard = join(root, 'set/pixels/set_train-000000-train.tar');
  const bytes = readFileSync(shard);
  bytes[2000] ^= 1;
  writeFileSync(shard, bytes);
  assert.equal((await run(new PixelTeacher())).get('pixels'), { written: 1, reused: 1 }, 'a flipped bit');
  assert.equal(contents(root), before);

  assert.equal((await run(new PixelTeacher(), { size: 20 })).get('images'), { written: 2, reused: 0 }, 'another size');
  const added = await writePhoto(images, 'q.png', 99);
  assert.ok(added.length > 0);
  await run(new PixelTeacher());
  const splits = new Map((await readKeys(join(root, 'set/keys.jsonl')))!.map(({ key, split }) => [key, split]));
  assert.is(splits.size, 8);
  const was = Buffer.from(before.get('set/keys.jsonl')!, 'base64').toString().trim().split('\n');
  for (const line of was) {
    const { key, split } = JSON.parse(line) as { key: string; split: string };
    assert.is(splits.get(key), split, 'a new photo moves none');
  }
});

test('called off anywhere, a resume ends with the same bytes', async () => {
  const images = await photos(9);
  const whole = temporaryFolder();
  const steps: ExtractProgress[] = [];
  await extractFeatures(options(images, whole, [new PixelTeacher()], { batch: 2, onProgress: (p) => steps.push(p) }));
  for (const stop of [1, 10, 14, 21, 25]) {
    assert.ok(stop < steps.length);
    const root = temporaryFolder();
    const controller = new AbortController();
    let count = 0;
    const onProgress = (): void => void (++count === stop && controller.abort());
    const cut = options(images, root, [new PixelTeacher()], { batch: 2, onProgress, signal: controller.signal });
    await rejects(() => extractFeatures(cut), 'ERR_ABORTED', /called off/);
    assert.not(
      [...contents(root).keys()].some((name) => name.includes('.tmp-')),
      'no temporary file stays',
    );
    await extractFeatures(options(images, root, [new PixelTeacher()], { batch: 3, resume: true }));
    assert.equal(contents(root), contents(whole));
  }
});

test('one more teacher for a dataset that is there', async () => {
  const images = await photos(6);
  const root = temporaryFolder();
  await extractFeatures(options(images, root, [new PixelTeacher()], { size: SIDE, views: 2 }));
  const before = contents(root);
  const second = await extractFeatures(options(join(root, 'set'), root, [new PixelTeacher('again')]));
  assert.equal([...second.shards.keys()], ['again']);
  const after = contents(root);
  for (const [name, content] of before) assert.is(after.get(name), content, name);
  // The stored images have the teacher's size, so it saw the same pixels as before.
  const set = await openDataset(root, 'set', 'train', ['pixels', 'again']);
  assert.is(set.damagedCount, 0);
  for (let i = 0; i < set.length; i++) {
    const { features } = await set.read(i);
    assert.equal(features.get('again')!.data, features.get('pixels')!.data);
  }
  set.close();

  const elsewhere = temporaryFolder();
  const copy = await extractFeatures(options(join(root, 'set'), elsewhere, [new PixelTeacher()], { size: SIDE, dataset: 'copy' }));
  assert.equal(copy.splits, second.splits);
  const content = contents(elsewhere);
  assert.is(content.get('copy/keys.jsonl'), before.get('set/keys.jsonl'));
  assert.is(content.get('copy/images/copy_train-000000-train.tar'), before.get('set/images/set_train-000000-train.tar'));
  assert.is(content.get('imagenet_mean_pixels.npy'), before.get('imagenet_mean_pixels.npy'));
});

test('what a teacher does wrong', async () => {
  const images = await photos(3);
  const root = temporaryFolder();
  const spoilt = new PixelTeacher('pixels', 'x', (key, values) => void (key === 'p2' && (values[17] = Infinity)));
  await rejects(() => extractFeatures(options(images, root, [spoilt])), 'ERR_NONFINITE', /sample p2, position 5, channel 2: Infinity/);
  const twice = [new PixelTeacher('a/b'), new PixelTeacher('A_b')];
  await rejects(() => extractFeatures(options(images, root, twice)), 'ERR_ARGS', /share the folder A_b/);
  await rejects(() => extractFeatures(options(images, root, [new PixelTeacher('images')])), 'ERR_CONFIG', /images' folder/);
});

test('nothing to train on: no statistics', async () => {
  const root = temporaryFolder();
  const shares = [{ name: 'val', share: 1 }];
  const { teachers } = await extractFeatures(options(await photos(2), root, [new PixelTeacher()], { shares }));
  assert.is(teachers.get('pixels')!.constantChannels, null);
  assert.equal(readdirSync(root), ['set']);
});

test.run();
