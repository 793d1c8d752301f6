import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blockBytes } from '../../src/data/block.js';
import { openDataset, type Dataset } from '../../src/data/dataset.js';
import { encodeFeature } from '../../src/data/feature.js';
import { Loader, type Batch, type LoaderOptions } from '../../src/data/loader.js';
import { Stream } from '../../src/data/order.js';
import { prepareImage } from '../../src/data/prepare.js';
import { shardPath } from '../../src/data/shards.js';
import { WorkerPool } from '../../src/data/worker-pool.js';
import { bf16ToF32 } from '../../src/formats/half.js';
import { encodeNpy } from '../../src/formats/npy.js';
import { feature, featureValue, noise, noiseImage, rejects, temporaryFolder, writeTinyDataset, type TinyDataset } from './fixtures.js';

const A = 'maker/A';
const B = 'b';
const teachers: TinyDataset['teachers'] = new Map([
  [A, { shape: [3, 2, 2] as const, cls: 5 }],
  [B, { shape: [40, 4, 4] as const, dtype: 'F32' as const }],
]);
const targets = [{ name: A, cls: true }, { name: B }];

async function tiny(options: Partial<TinyDataset> & { samples: number }): Promise<Dataset> {
  const root = options.root ?? temporaryFolder();
  await writeTinyDataset({ teachers, ...options, root });
  return openDataset(root, options.name ?? 'tiny', 'train', [A, B]);
}

function loaderOf(datasets: readonly Dataset[], options: Partial<LoaderOptions> & { shuffle?: boolean } = {}): Loader {
  const stream = new Stream({ seed: 1, sizes: datasets.map(({ length }) => length), shuffle: options.shuffle ?? false });
  return new Loader({ datasets, stream, batch: 4, teachers: targets, ...options });
}

/** All batches up to `to`, and the loader closed. */
async function drain(loader: Loader): Promise<Batch[]> {
  const batches: Batch[] = [];
  try {
    for await (const batch of loader) batches.push(batch);
  } finally {
    await loader.close();
  }
  return batches;
}

test('a batch holds images and channel-last features of its samples', async () => {
  const [batch] = await drain(loaderOf([await tiny({ samples: 6 })], { to: 4, from: undefined, workers: undefined }));
  assert.equal(batch.keys, ['s0000', 's0001', 's0002', 's0003']);
  assert.equal([batch.firstSample, batch.planned, batch.epoch, batch.uniform], [0, 4, 0, true]);
  assert.equal(batch.images[2].data, noise(108, 3));
  assert.is(batch.pixels.length, 4 * 108);
  const a = batch.features.get(A)!;
  assert.equal([a.dtype, a.shape, a.grid], ['BF16', [4, 4, 3], [2, 2]]);
  const values = bf16ToF32(a.data as Uint16Array);
  for (let i = 0; i < 4; i++) {
    for (let p = 0; p < 4; p++) for (let c = 0; c < 3; c++) assert.is(values[(i * 4 + p) * 3 + c], featureValue(i, c, p));
  }
  assert.equal(a.cls!.shape, [4, 5]);
  assert.is(bf16ToF32(a.cls!.data as Uint16Array)[3 * 5 + 2], featureValue(3, 2, 7));
  const b = batch.features.get(B)!;
  assert.equal([b.dtype, b.shape, b.cls], ['F32', [4, 16, 40], null]);
  assert.is(b.data[(2 * 16 + 9) * 40 + 33], featureValue(2, 33, 9));
});

test('workers and look-ahead change nothing', async () => {
  const datasets = [await tiny({ samples: 13 }), await tiny({ samples: 5, name: 'other' })];
  const expected = await drain(loaderOf(datasets, { to: 50, shuffle: true, cross: true }));
  assert.equal(
    expected.map(({ planned }) => planned),
    [...new Array<number>(12).fill(4), 2],
  );
  for (const [workers, lookAhead] of [
    [1, 1],
    [3, 5],
    [2, 2],
    [0, 1],
  ]) {
    assert.equal(await drain(loaderOf(datasets, { to: 50, shuffle: true, cross: true, workers, lookAhead })), expected);
  }
});

test('batches in lent memory are those in ordinary arrays', async () => {
  const bad = (column: string, i: number, bytes: Uint8Array): Uint8Array => (column === 'images' && i === 5 ? Buffer.from('none') : bytes);
  const datasets = [await tiny({ samples: 13, change: bad })];
  const options = { to: 26, maxBad: 0.1 };
  const expected = await drain(loaderOf(datasets, options));
  // Per sample: an image of 108 bytes, A's map and token as BF16, B's map as F32.
  const bytes = blockBytes([108, 12 * 2, 5 * 2, 640 * 4].map((each) => 4 * each));
  assert.is(expected[0].block, null, 'nothing is lent by default');
  for (const workers of [0, 2])
    for (const [size, inside] of [
      [bytes, 4],
      [bytes - 512, 3], // no room for the pixels of four images, which come last
      [0, 0],
    ]) {
      const lent: Uint8Array[] = [];
      const lend = (): Uint8Array | null => {
        if (lent.length === 5) return null;
        const block = new Uint8Array(new SharedArrayBuffer(size + 512), 256, size).fill(0xff); // as the batch before left it
        lent.push(block);
        return block;
      };
      const batches = await drain(loaderOf(datasets, { ...options, workers, lend }));
      assert.equal(
        batches.map(({ block }) => block),
        [...lent, ...new Array<null>(batches.length - 5).fill(null)],
      );
      batches.forEach((batch, i) => {
        assert.equal({ ...batch, block: null }, expected[i]);
        const arrays = [batch.pixels, ...[...batch.features.values()].flatMap(({ data, cls }) => (cls ? [data, cls.data] : [data]))];
        const shared = arrays.filter(({ buffer }) => buffer instanceof SharedArrayBuffer);
        if (i >= 5 || inside === 0) assert.is(shared.length, 0);
        else if (batch.keys.length === 4) assert.is(shared.length, inside);
        else assert.ok(shared.length >= inside, 'fewer samples take less room');
        for (const a of shared) {
          assert.is(a.byteOffset % 256, 0);
          assert.ok(a.byteOffset >= 256 && a.byteOffset + a.byteLength <= 256 + size, 'inside the block');
        }
        for (const a of shared) a.fill(1);
        if (shared.length > 0) assert.ok(batch.block!.includes(1), 'in this memory, not in a copy of it');
      });
    }
});

test('the last batch of an epoch is smaller, or goes on into the next', async () => {
  const dataset = await tiny({ samples: 6 });
  const apart = await drain(loaderOf([dataset], { to: 12 }));
  assert.equal(
    apart.map(({ firstSample, planned, epoch, keys }) => [firstSample, planned, epoch, keys[0]]),
    [
      [0, 4, 0, 's0000'],
      [4, 2, 0, 's0004'],
      [6, 4, 1, 's0000'],
      [10, 2, 1, 's0004'],
    ],
  );
  const across = await drain(loaderOf([dataset], { to: 12, cross: true }));
  assert.equal(
    across.map(({ firstSample, keys }) => [firstSample, keys.length, keys[0]]),
    [
      [0, 4, 's0000'],
      [4, 4, 's0004'],
      [8, 4, 's0002'],
    ],
  );
});

test('a run that starts in the middle sees the same batches', async () => {
  const dataset = await tiny({ samples: 11 });
  const whole = await drain(loaderOf([dataset], { to: 33, shuffle: true }));
  for (const start of [1, 3, 5]) {
    assert.equal(await drain(loaderOf([dataset], { from: whole[start].firstSample, to: 33, shuffle: true })), whole.slice(start));
  }
});

test('damaged samples are left out and named; numbers behind them do not shift', async () => {
  const dataset = await tiny({
    samples: 12,
    change: (column, i, bytes) => {
      if (column === 'images' && i === 1) return Buffer.from('no image at all');
      if (column === 'b' && i === 2) return encodeFeature(new Float32Array(640).fill(1 / 0), [40, 4, 4]);
      if (column === 'maker_A' && i === 6) return feature(i, [3, 2, 2]);
      if (column === 'b' && i === 9) return feature(i, [40, 4, 3], undefined, 'F32');
      return bytes;
    },
  });
  for (const workers of [0, 2]) {
    const batches = await drain(loaderOf([dataset], { to: 24, workers, maxBad: 0.34 }));
    assert.equal(
      batches.slice(0, 3).map(({ firstSample, planned, keys }) => [firstSample, planned, keys]),
      [
        [0, 4, ['s0000', 's0003']],
        [4, 4, ['s0004', 's0005', 's0007']],
        [8, 4, ['s0008', 's0010', 's0011']],
      ],
    );
    assert.equal(
      batches.flatMap(({ damaged }) => damaged.map(({ key }) => key)),
      ['s0001', 's0002', 's0006', 's0009', 's0001', 's0002', 's0006', 's0009'],
    );
    const reasons = batches.slice(0, 3).flatMap(({ damaged }) => damaged.map(({ reason }) => reason));
    assert.match(reasons[0], /sample s0001, image: expected JPEG, PNG or WebP/);
    assert.match(reasons[1], /sample s0002, teacher b: a value that is not finite/);
    assert.match(reasons[2], /sample s0006, teacher maker\/A: has no cls_token/);
    assert.match(reasons[3], /sample s0009, teacher b: expected features \[40, 4, 4\], got \[40, 4, 3\]/);
    assert.is(batches[0].features.get(B)!.data[16 * 40], featureValue(3, 0, 0));
  }
});

test('more damaged samples than max_bad are an error, at the same batch with any number of workers', async () => {
  const dataset = await tiny({
    samples: 12,
    change: (column, i, bytes) => (column === 'b' && (i === 5 || i === 9) ? new Uint8Array(4) : bytes),
  });
  for (const workers of [0, 2]) {
    const loader = loaderOf([dataset], { workers, maxBad: 0.1 });
    assert.is((await loader.next())!.keys.length, 4);
    assert.is((await loader.next())!.keys.length, 3);
    await rejects(() => loader.next(), 'ERR_CORRUPT', /2 of 12 samples are damaged.*allows a share of 0\.1.*s0005: .*s0009: /);
    await loader.close();
  }
  const incomplete = await tiny({ samples: 12, change: (column, i, bytes) => (column === 'b' && i < 3 ? null : bytes) });
  await rejects(() => loaderOf([incomplete]), 'ERR_CORRUPT', /3 of 12 samples are damaged/);
  await loaderOf([incomplete], { maxBad: 0.25 }).close();
});

test('a batch of damaged samples only is empty', async () => {
  const dataset = await tiny({ samples: 5, change: (column, i, bytes) => (column === 'images' && i < 2 ? new Uint8Array(3) : bytes) });
  const [first, second] = await drain(loaderOf([dataset], { batch: 2, to: 4, maxBad: 1 }));
  assert.equal([first.keys, first.planned, first.features.size, first.pixels.length], [[], 2, 0, 0]);
  assert.equal(second.keys, ['s0002', 's0003']);
});

test('samples stored in several dtypes meet in float32', async () => {
  const dataset = await tiny({
    samples: 4,
    change: (column, i, bytes) => (column === 'b' && i === 2 ? feature(i, [40, 4, 4], undefined, 'BF16') : bytes),
  });
  const mixed = await tiny({
    samples: 4,
    change: (column, i, bytes) => (column === 'maker_A' && i === 3 ? feature(i, [3, 2, 2], 5, 'F16') : bytes),
  });
  for (const [set, teacher] of [
    [dataset, B],
    [mixed, A],
  ] as const) {
    const [batch] = await drain(loaderOf([set], { to: 4 }));
    const { dtype, data, shape } = batch.features.get(teacher)!;
    assert.is(dtype, 'F32');
    for (let i = 0; i < 4; i++) assert.is(data[i * shape[1] * shape[2] + shape[2] + 1], featureValue(i, 1, 1));
  }
});

test('a teacher of the wrong shape condemns every sample', async () => {
  const dataset = await tiny({ samples: 4 });
  const loader = loaderOf([dataset], { teachers: [{ name: B, shape: [41, 4, 4] }] });
  await rejects(() => loader.next(), 'ERR_CORRUPT', /expected features \[41, 4, 4\], got \[40, 4, 4\]/);
  await loader.close();
  const unknown = loaderOf([dataset], { teachers: [{ name: 'nobody' }] });
  await rejects(() => unknown.next(), 'ERR_INTERNAL', /nobody/);
  await unknown.close();
});

test('images of several sizes', async () => {
  const jpeg = await sharp(noise(90), { raw: { width: 5, height: 6, channels: 3 } })
    .png()
    .toBuffer();
  const dataset = await tiny({ samples: 4, change: (column, i, bytes) => (column === 'images' && i === 1 ? jpeg : bytes) });
  for (const workers of [0, 1]) {
    const [batch] = await drain(loaderOf([dataset], { to: 4, workers }));
    assert.not(batch.uniform);
    assert.equal(
      batch.images.map(({ width, height }) => [width, height]),
      [
        [6, 6],
        [5, 6],
        [6, 6],
        [6, 6],
      ],
    );
    assert.equal(batch.images[1].data, noise(90));
    assert.equal(batch.images[3].data, noise(108, 4));
  }
});

test('prepare: the right size passes, a crop is cut, other sizes are resized, also in workers', async () => {
  const same = { size: 6, filter: 'bilinear', resize: 6, crop: 0 } as const;
  const image = noiseImage(6, 6);
  assert.is(prepareImage(image, same), image);
  const cropped = prepareImage(image, { ...same, size: 2, crop: 2 });
  assert.equal(cropped.data.subarray(0, 6), image.data.subarray((2 * 6 + 2) * 3, (2 * 6 + 4) * 3));
  await rejects(() => prepareImage(image, { ...same, size: 5 }), 'ERR_CONFIG', /do not give the model's size 5/);
  const dataset = await tiny({ samples: 4 });
  for (const workers of [0, 1]) {
    const [batch] = await drain(loaderOf([dataset], { to: 4, workers, prepare: same }));
    assert.is(batch.pixels.length, 4 * 108);
    const [larger] = await drain(loaderOf([dataset], { to: 4, workers, prepare: { ...same, size: 8, resize: 8 } }));
    assert.is(larger.pixels.length, 4 * 8 * 8 * 3);
  }
});

test('a shard that is cut or vanishes while running stops the loader', async () => {
  for (const workers of [0, 1]) {
    const root = temporaryFolder();
    const dataset = await tiny({ root, samples: 12 });
    truncateSync(shardPath(root, 'tiny', 'images', 'train', 2), 600);
    const loader = loaderOf([dataset], { workers, maxBad: 1 });
    assert.is((await loader.next())!.keys.length, 4);
    assert.is((await loader.next())!.keys.length, 4);
    await rejects(() => loader.next(), 'ERR_CORRUPT', /tiny_train-000002-train\.tar/);
    await loader.close();
  }
});

test('overlapping calls get their batches in order; close ends those that wait', async () => {
  const dataset = await tiny({ samples: 12 });
  const loader = loaderOf([dataset], { workers: 2, to: 12 });
  const batches = await Promise.all([loader.next(), loader.next(), loader.next(), loader.next()]);
  assert.equal(
    batches.map((batch) => batch?.firstSample ?? null),
    [0, 4, 8, null],
  );
  await loader.close();
  await loader.close();
  await rejects(() => loader.next(), 'ERR_DISPOSED', /closed/);
  const busy = loaderOf([dataset], { workers: 1 });
  const waiting = busy.next().then(
    () => 'served',
    (error: { code: string }) => error.code,
  );
  await busy.close();
  assert.ok(['served', 'ERR_ABORTED'].includes(await waiting));
});

test('a worker that dies is an error, not a wait', async () => {
  const folder = temporaryFolder();
  const job = { samples: [], teachers: [], prepare: null };
  for (const [name, code, message] of [
    ['exits', `parentPort.on('message', () => process.exit(3));`, /ended with exit code 3/],
    ['throws', `parentPort.on('message', () => { throw new Error('boom'); });`, /data worker failed: boom/],
    ['fails to load', `throw new Error('no start');`, /data worker failed: no start/],
  ] as const) {
    const path = join(folder, `${name.replaceAll(' ', '-')}.mjs`);
    writeFileSync(path, `import { parentPort } from 'node:worker_threads';\n${code}\n`);
    const pool = new WorkerPool(1, pathToFileURL(path));
    const results = await Promise.allSettled([pool.run(job), pool.run(job)]);
    for (const result of results) {
      assert.is(result.status, 'rejected');
      await rejects(() => Promise.reject((result as PromiseRejectedResult).reason), 'ERR_INTERNAL', message);
    }
    await rejects(() => pool.run(job), 'ERR_INTERNAL', message);
    await pool.close();
  }
  const missing = new WorkerPool(1, pathToFileURL(join(folder, 'absent.mjs')));
  await rejects(() => missing.run(job), 'ERR_INTERNAL', /data worker failed/);
  await missing.close();
});

test('no thread is left', async () => {
  const loader = loaderOf([await tiny({ samples: 8 })], { workers: 3 });
  await loader.next();
  const threads = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'MessagePort' || kind === 'Worker').length;
  assert.ok(threads() > 0);
  await loader.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(threads(), 0);
});

test('impossible options', async () => {
  const dataset = await tiny({ samples: 2 });
  await rejects(() => loaderOf([dataset], { batch: 0 }), 'ERR_ARGS', /batch must be a whole number from 1, got 0/);
  await rejects(() => loaderOf([dataset], { workers: -1 }), 'ERR_ARGS', /workers/);
  await rejects(() => loaderOf([dataset], { from: 0.5 }), 'ERR_ARGS', /from/);
  await rejects(() => loaderOf([dataset], { lookAhead: 0 }), 'ERR_ARGS', /lookAhead/);
});

test('npy samples in grey are converted', async () => {
  const dataset = await tiny({
    samples: 2,
    change: (column, _, bytes) => (column === 'images' ? encodeNpy(new Uint8Array(36).fill(7), [6, 6]) : bytes),
  });
  const [batch] = await drain(loaderOf([dataset], { to: 2 }));
  assert.equal(batch.pixels, new Uint8Array(216).fill(7));
});

test.run();
