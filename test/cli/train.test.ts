// `theia train` from outside: what it answers to, and what it leaves behind when it fails.
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeFeature } from '../../src/data/feature.js';
import { rejects, temporaryFolder, writeTinyDataset } from '../data/fixtures.js';
import { openTrainingData } from '../../src/train/training-data.js';
import { loadConfig } from '../../src/train/config.js';
import { theia } from '../support/tiny-model.js';

const teachers = new Map([['t', { shape: [4, 14, 14] as const }]]);
const root = temporaryFolder();
await writeTinyDataset({ root, name: 'one', samples: 4, side: 224, teachers });
const settings = [
  'model.backbone={ hidden = 16, depth = 1, heads = 2, mlp = 16 }',
  `data.root=${root}`,
  'data.teachers=["t"]',
  'data.normalize=false',
  'data.workers=0',
  'train.batch=2',
  'train.steps=2',
];
const flags = (...more: string[]): string[] => [...settings, ...more].flatMap((s) => ['--set', s]);

test('a run, and resuming it: the run folder is the one thing that --set output cannot change', () => {
  const folder = temporaryFolder();
  const output = join(folder, 'run');
  const first = theia('train', ...flags(`output=${output}`), '--json');
  assert.is(first.status, 0, first.stderr);
  assert.equal(JSON.parse(first.stdout).steps, 2);

  const elsewhere = theia('train', '--resume', output, '--set', `output=${join(folder, 'other')}`);
  assert.is(elsewhere.status, 2);
  assert.match(elsewhere.stderr, /^theia: ERR_CONFIG: --resume: .*output: .*run -> .*other\nhint: /);
  assert.not.ok(existsSync(join(folder, 'other')));
  const batch = theia('train', '--resume', output, '--set', 'train.batch=3');
  assert.is(batch.status, 2);
  assert.match(batch.stderr, /train\.batch: 2 -> 3/);

  // A run that was moved goes on where it is now.
  const moved = join(folder, 'moved');
  renameSync(output, moved);
  const on = theia('train', '--resume', moved, '--set', 'train.steps=3', '--json');
  assert.is(on.status, 0, on.stderr);
  assert.is(JSON.parse(on.stdout).run, moved);
  assert.not.ok(existsSync(output));

  const again = theia('train', ...flags(`output=${moved}`));
  assert.is(again.status, 2);
  assert.match(again.stderr, /^theia: ERR_CONFIG: output: .* already holds a run\nhint: /);
});

test('a run that fails before it begins leaves no folder', () => {
  const output = join(temporaryFolder(), 'run');
  for (const [setting, code] of [
    ['data.teachers=["nobody"]', 'ERR_FILE'],
    ['model.init=/nowhere', 'ERR_FILE'],
    ['model.translator=mlp', 'ERR_UNSUPPORTED'],
  ]) {
    const { status, stderr } = theia('train', ...flags(`output=${output}`, setting));
    assert.is(status, 2, stderr);
    assert.match(stderr, new RegExp(`^theia: ${code}: .*\nhint: .*\n$`));
    assert.not.ok(existsSync(output), setting);
  }
});

test('errors name keys as the configuration spells them', () => {
  const bad = theia('train', '--set', 'model.backbone={ hidden = 33, depth = 1 }');
  assert.match(bad.stderr, /^theia: ERR_CONFIG: model\.backbone\.heads: expected a value, because 64 does not divide hidden 33\n/);
  const mix = theia('train', '--set', 'data.mix.__proto__=1');
  assert.match(
    mix.stderr,
    /^theia: ERR_CONFIG: unknown key data\.mix\.__proto__; names in \[data\.mix\] are yours, but this one is empty or reserved\n/,
  );
  const { status, stderr } = theia('train', ...flags('device=cuda:999'));
  assert.is(status, 2);
  assert.match(stderr, /^theia: ERR_DEVICE: /);
});

test('a damaged first sample does not end a run that may skip it', async () => {
  const bad = temporaryFolder();
  const nan = encodeFeature(new Float32Array(4 * 196).fill(NaN), [4, 14, 14], {});
  await writeTinyDataset({ root: bad, samples: 4, side: 224, teachers, change: (column, i, b) => (column === 't' && i === 0 ? nan : b) });
  const output = join(bad, 'run');
  const tolerant = theia('train', ...flags(`data.root=${bad}`, `output=${output}`, 'data.max_bad=0.5'));
  assert.is(tolerant.status, 0, tolerant.stderr);
  assert.match(tolerant.stderr, /skipped sample s0000 of tiny: .*not finite/);
  const strict = theia('train', ...flags(`data.root=${bad}`, `output=${output}2`, 'data.max_bad=0'));
  assert.is(strict.status, 2, strict.stderr);
  assert.match(strict.stderr, /^theia: ERR_CORRUPT: .*s0000/m);
});

test('the evaluation mixes the datasets that have its split, each by its own weight', async () => {
  const several = temporaryFolder();
  for (const name of ['a', 'b', 'c']) await writeTinyDataset({ root: several, name, samples: 4, side: 16, teachers });
  for (const name of ['b', 'c']) await writeTinyDataset({ root: several, name, split: 'val', samples: 4, side: 16, teachers });
  const config = loadConfig({ set: [...settings, `data.root=${several}`, 'data.mix={ a = 1.0, b = 2.0, c = 3.0 }'] });
  const data = await openTrainingData(config);
  assert.equal(data.weights, [1, 2, 3]);
  assert.equal(data.evaluationWeights, [2, 3]);
  assert.is(data.evaluation.length, 2);
  data.close();
  await rejects(() => openTrainingData(loadConfig({ set: [...settings, `data.root=${several}`] })), 'ERR_CONFIG', /several: a, b, c/);
});

test('a checkpoint outside of a run needs a configuration, and has to be whole', () => {
  const folder = temporaryFolder();
  const output = join(folder, 'run');
  assert.is(theia('train', ...flags(`output=${output}`)).status, 0);
  const from = join(output, 'checkpoints', 'step-00000002');
  const copy = join(folder, 'copy');
  mkdirSync(copy);
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(copy, name));
  assert.match(theia('train', '--resume', copy).stderr, /^theia: ERR_ARGS: --resume: this checkpoint lies in no run folder/);
  writeFileSync(join(folder, 'run.toml'), readFileSync(join(output, 'config.toml')));
  const other = join(folder, 'other');
  const on = theia('train', '--resume', copy, '--config', join(folder, 'run.toml'), '--set', `output=${other}`, '--set', 'train.steps=3');
  assert.is(on.status, 0, on.stderr);
  assert.ok(existsSync(join(other, 'checkpoints', 'step-00000003', 'model.safetensors')));
  writeFileSync(join(copy, 'state.json'), '{"format":2}');
  const old = theia('train', '--resume', copy, '--config', join(folder, 'run.toml'), '--set', `output=${other}2`);
  assert.is(old.status, 2);
  assert.match(old.stderr, /^theia: ERR_CORRUPT: .*expected "format": 1, got 2/);
});

test.run();
