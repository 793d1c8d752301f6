import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeImage, encodePng, type Image } from '../../src/data/image.js';
import { readKeys, viewKey } from '../../src/data/keys.js';
import { applyView, imageView } from '../../src/data/views.js';
import { hashFile } from '../../src/data/keys.js';
import { writeNpy } from '../../src/formats/npy.js';
import { CONTESTANTS } from '../../src/train/compare.js';
import { lockRun } from '../../src/train/lock.js';
import { loadConfig } from '../../src/train/config.js';
import { concludeQuickstart, preparePhotos, randomRunOf, trainControl, trainStudent } from '../../src/train/quickstart.js';
import { SafetensorsFile } from '../../src/formats/index.js';
import { newestCheckpoint } from '../../src/train/checkpoint-dir.js';
import { rejects, smoothImage, temporaryFolder } from '../data/fixtures.js';

const CHANNELS = 4;
const PHOTOS = 24;

/** A teacher that looks: mean brightness of each of 14 x 14 cells, and simple functions of it. [C,14,14] */
function features({ data, width, height }: Image): Float32Array {
  const sums = new Float64Array(196);
  const counts = new Float64Array(196);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const cell = Math.floor((y * 14) / height) * 14 + Math.floor((x * 14) / width);
      sums[cell]! += data[(y * width + x) * 3]! / 255;
      counts[cell]! += 1;
    }
  const out = new Float32Array(CHANNELS * 196);
  for (let i = 0; i < 196; i++) {
    const v = sums[i]! / counts[i]!;
    out.set([v], i);
    out.set([v * v], 196 + i);
    out.set([Math.sin(9 * v)], 392 + i);
    out.set([Math.cos(15 * v)], 588 + i);
  }
  return out;
}

/** A folder of photos and a folder of their features, as somebody else may have computed them. */
async function material(root: string): Promise<{ photos: string; teacher: string }> {
  const [photos, teacher] = [join(root, 'photos'), join(root, 'features')];
  mkdirSync(photos);
  mkdirSync(teacher);
  for (let i = 0; i < PHOTOS; i++) {
    const path = join(photos, `p${i}.png`);
    writeFileSync(path, await encodePng(smoothImage(70, 60, i + 1)));
    const image = await decodeImage(path);
    const sha256 = await hashFile(path);
    for (let k = 0; k < 2; k++) {
      const view = applyView(image, imageView(sha256, k, image.width, image.height));
      writeNpy(join(teacher, `${viewKey(`p${i}`, k)}.npy`), features(view), [CHANNELS, 14, 14]);
    }
  }
  return { photos, teacher };
}

test('photos to a judged student, its control, a report and a kept result; twice the same numbers', async () => {
  const root = temporaryFolder();
  const { photos, teacher } = await material(root);
  const config = (seed: number): ReturnType<typeof loadConfig> =>
    loadConfig({
      set: [
        `seed=${seed}`,
        `output=${join(root, 'runs', `seed-${seed}`)}`,
        `data.root=${join(root, 'data')}`,
        'data.mix={ generated = 1.0 }',
        'data.teachers=["t"]',
        'data.workers=0',
        'model.backbone={ hidden = 32, depth = 1, heads = 2, mlp = 64, patch = 4, image = 56 }',
        'train.steps=12',
        'train.batch=4',
        'train.base_lr=0.2',
        'train.schedule=cosine',
        'eval.every=6',
      ],
    });
  const options = { photos, teacher: { name: 't', kind: 'npy', path: teacher }, views: 2, heldOut: 0.3 };
  const summary = await preparePhotos(config(0), options);
  const heldOut = summary.splits.get('val')!;
  // Two views of each training photo, one of each held-out photo.
  assert.is(summary.splits.get('train')!, 2 * (PHOTOS - heldOut));
  const records = (await readKeys(join(root, 'data', 'generated', 'keys.jsonl')))!;
  assert.is(records.filter((r) => r.split === 'val' && (r.view ?? 0) > 0).length, 0);
  assert.is((await preparePhotos(config(0), options)).shards.get('t')!.written, 0);

  const results = [];
  for (const seed of [0, 1, 0]) {
    await trainStudent(config(seed));
    await trainControl(config(seed));
    results.push(await concludeQuickstart(config(seed)));
  }
  const [first, second, again] = results as [(typeof results)[0], (typeof results)[0], (typeof results)[0]];
  assert.equal([...first.fits.keys()], [...CONTESTANTS]);
  for (const name of CONTESTANTS) assert.is(first.fits.get(name)!.images, heldOut);
  assert.equal(again.fits, first.fits);
  assert.is.not(second.margin, first.margin);
  assert.is(first.margins.size, 1);
  assert.equal(
    again.margins,
    new Map([
      [0, first.margin],
      [1, second.margin],
    ]),
  );
  assert.is(first.beatsAll, first.lostTo.length === 0);
  // The student learned something: the untrained one explains less.
  assert.ok(first.fits.get('student')!.explained > first.fits.get('untrained')!.explained);
  assert.is(
    readFileSync(join(root, 'runs', 'results.jsonl'), 'utf8')
      .trim()
      .split('\n').length,
    3,
  );
  const page = readFileSync(first.report, 'utf8');
  assert.match(page, /What training was worth/);
  assert.ok(page.split('data:image/png').length - 1 >= 4);

  // The control's encoder is the one it began with, the student's is not; the translators of both moved.
  const key = 'backbone.model.encoder.layer.0.intermediate.dense.weight';
  const weight = (run: string, name: string): Float32Array => {
    using file = SafetensorsFile.open(join(newestCheckpoint(run)!.path, 'model.safetensors'));
    return file.float32(name);
  };
  const [student, control] = [config(0).output, randomRunOf(config(0))];
  assert.not.equal(weight(student, key), weight(control, key));
  const { Theia } = await import('../../src/models/theia.js');
  const { modelOf } = await import('../../src/train/config.js');
  const fresh = new Theia({ ...modelOf(config(0)), teachers: new Map([['t', [CHANNELS, 14, 14]]]) }, { seed: 0 });
  assert.equal(weight(control, key), fresh.arena.export(key));
  fresh.dispose();
});

test('a run that is going on is not replaced', async () => {
  const output = join(temporaryFolder(), 'run');
  mkdirSync(output);
  const lock = lockRun(output);
  await rejects(() => trainStudent(loadConfig({ set: [`output=${output}`] })), 'ERR_CONFIG', /./);
  lock.release();
});

test('a configuration that does not fit the photos is named', async () => {
  const options = { photos: 'x', teacher: { name: 't', kind: 'npy', path: 'y' }, views: 1, heldOut: 0.2 };
  await rejects(
    () => preparePhotos(loadConfig({ set: ['data.teachers=["t"]'] }), options),
    'ERR_CONFIG',
    /data\.mix: expected one dataset/,
  );
  await rejects(
    () => preparePhotos(loadConfig({ set: ['data.mix={ a = 1.0 }'] }), options),
    'ERR_CONFIG',
    /data\.teachers: expected t, got resnet50/,
  );
});

test.run();
