// Runs over files: what is written, and that an interrupted and resumed run is the same run, byte for byte.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/index.js';
import { writeStatistics } from '../../src/data/statistics.js';
import { memory } from '../../src/tensor/index.js';
import { newestCheckpoint } from '../../src/train/checkpoint-dir.js';
import { loadConfig } from '../../src/train/config.js';
import { runTraining } from '../../src/train/run.js';
import { rejects, temporaryFolder, writeTinyDataset } from '../data/fixtures.js';

const program = fileURLToPath(new URL('../../../bin/theia.mjs', import.meta.url));
const teachers = new Map([
  ['map/one', { shape: [8, 14, 14] as const, cls: 8 }],
  ['map/seven', { shape: [5, 7, 7] as const, dtype: 'F32' as const }],
]);

/** Two datasets of 224-pixel noise, one with an evaluation split, and their statistics. */
async function makeData(): Promise<string> {
  const root = temporaryFolder();
  await writeTinyDataset({ root, name: 'first', samples: 11, side: 224, teachers });
  await writeTinyDataset({ root, name: 'second', samples: 7, side: 224, teachers });
  await writeTinyDataset({ root, name: 'first', split: 'val', samples: 4, side: 224, teachers });
  for (const [name, { shape }] of teachers)
    writeStatistics(root, name, {
      mean: Float64Array.from({ length: shape[0] }, () => 0.5),
      std: Float64Array.from({ length: shape[0] }, () => 9),
    });
  return root;
}

const data = await makeData();

function configText(output: string, extra = ''): string {
  return `
seed = 3
output = ${JSON.stringify(output)}
[model]
backbone = { hidden = 32, depth = 2, heads = 2, mlp = 64 }
[data]
root = ${JSON.stringify(data)}
mix = { first = 1.0, second = 2.0 }
teachers = ["map/one", "map/seven"]
workers = 1
[train]
epochs = 3
batch = 2
accumulate = 2
base_lr = 0.2
distill_cls = true
grad_clip = 1.0
schedule = "cosine"
[eval]
fraction = 1.0
[checkpoint]
keep = 2
${extra}`;
}

function rows(run: string): Record<string, unknown>[] {
  return readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Text of every metrics field but the two that depend on the clock. */
function timeless(run: string): string[] {
  return rows(run).map((row) => {
    const { images_per_s: _, wall_s: __, ...rest } = row;
    return JSON.stringify(rest);
  });
}

function sameFinal(a: string, b: string): void {
  const one = newestCheckpoint(a)!;
  const two = newestCheckpoint(b)!;
  assert.is(one.step, two.step);
  for (const file of ['model.safetensors', 'optimizer.safetensors'])
    assert.ok(readFileSync(join(one.path, file)).equals(readFileSync(join(two.path, file))), file);
  assert.equal(timeless(a), timeless(b));
}

const whole = join(temporaryFolder(), 'whole');

test('a run writes metrics, checkpoints and its resolved configuration, and learns', async () => {
  const before = memory();
  const result = await runTraining(loadConfig({ text: configText(whole) }));
  // 18 samples an epoch in steps of 2 x 2: 5 steps, the last one of 2 samples
  assert.is(result.steps, 15);
  const lines = rows(whole);
  const training = lines.filter((r) => r['split'] === undefined);
  assert.equal(
    training.map((r) => r['step']),
    Array.from({ length: 15 }, (_, i) => i + 1),
  );
  assert.equal(
    training.map((r) => r['epoch']),
    Array.from({ length: 15 }, (_, i) => Math.floor(i / 5)),
  );
  assert.equal(Object.keys(training[0]!['teachers'] as object), ['map/one', 'map/seven', 'map/one_cls']);
  const evaluated = lines.filter((r) => r['split'] === 'val');
  assert.equal(
    evaluated.map((r) => r['step']),
    [5, 10, 15],
  );
  assert.ok((evaluated[2]!['loss'] as number) < (evaluated[0]!['loss'] as number), 'the evaluation loss falls');
  assert.equal(readdirSync(join(whole, 'checkpoints')).sort(), ['step-00000010', 'step-00000015']);
  assert.ok(existsSync(join(whole, 'config.toml')));
  const now = memory();
  assert.is(now.plans, before.plans);
  assert.ok(now.buffers - before.buffers <= 2, `${now.buffers - before.buffers} buffers are left`); // the two constants of plans
  // The published names, shapes and layouts.
  using file = SafetensorsFile.open(join(whole, 'checkpoints', 'step-00000015', 'model.safetensors'));
  assert.equal([...file.info('backbone.model.embeddings.patch_embeddings.projection.weight').shape], [32, 3, 16, 16]);
  assert.equal([...file.info('translator.translator_heads.map/one.adapter.0.weight').shape], [32, 14, 14]);
});

// Step 3 lies inside an epoch; every step is two micro-batches, the fifth of an epoch one.
for (const at of [3, 5, 9]) {
  test(`stopped behind step ${at} and resumed: the same weights byte for byte, the same metrics`, async () => {
    const run = join(temporaryFolder(), 'cut');
    let steps = 0;
    const first = await runTraining(loadConfig({ text: configText(run) }), { stop: () => steps >= at, onRow: (row) => (steps = row.step) });
    assert.is(first.stopped, true);
    assert.is(first.steps, at);
    const resumed = spawnSync(process.execPath, [program, 'train', '--resume', run, '--set', 'data.workers=0', '--set', 'threads=1'], {
      encoding: 'utf8',
    });
    assert.is(resumed.status, 0, resumed.stderr);
    sameFinal(run, whole);
  });
}

test('SIGINT finishes the step, saves, exits 130; the resumed run is the same', async () => {
  const run = join(temporaryFolder(), 'sigint');
  const file = join(temporaryFolder(), 'run.toml');
  writeFileSync(file, configText(run));
  const child = spawn(process.execPath, [program, 'train', '--config', file], { stdio: 'ignore' });
  const exit = new Promise<number | null>((resolve) => child.on('exit', resolve));
  await waitFor(
    () => existsSync(join(run, 'metrics.jsonl')) && readFileSync(join(run, 'metrics.jsonl'), 'utf8').includes('"step":2,'),
    child,
  );
  child.kill('SIGINT');
  assert.is(await exit, 130);
  const at = newestCheckpoint(run)!.step;
  assert.ok(at >= 2 && at < 15, `saved at step ${at}`);
  const resumed = spawnSync(process.execPath, [program, 'train', '--resume', run], { encoding: 'utf8' });
  assert.is(resumed.status, 0, resumed.stderr);
  sameFinal(run, whole);
});

test('SIGKILL at any moment loses nothing that was complete', async () => {
  const run = join(temporaryFolder(), 'sigkill');
  const file = join(temporaryFolder(), 'run.toml');
  writeFileSync(file, configText(run).replace('keep = 2', 'keep = 50\nevery = 1'));
  const child = spawn(process.execPath, [program, 'train', '--config', file], { stdio: 'ignore' });
  const exit = new Promise((resolve) => child.on('exit', resolve));
  // Every step saves: in all likelihood the kill falls into the writing of a checkpoint.
  await waitFor(() => (newestCheckpoint(run)?.step ?? 0) >= 4, child);
  child.kill('SIGKILL');
  await exit;
  const newest = newestCheckpoint(run)!;
  assert.ok(newest.step >= 4);
  const resumed = spawnSync(process.execPath, [program, 'train', '--resume', run], { encoding: 'utf8' });
  assert.is(resumed.status, 0, resumed.stderr);
  const final = newestCheckpoint(run)!;
  assert.is(final.step, 15);
  assert.ok(
    readFileSync(join(final.path, 'model.safetensors')).equals(readFileSync(join(newestCheckpoint(whole)!.path, 'model.safetensors'))),
  );
  assert.equal(timeless(run), timeless(whole));
});

test('steps instead of epochs: batches cross the end of the data, nothing else differs', async () => {
  const run = join(temporaryFolder(), 'steps');
  const result = await runTraining(loadConfig({ text: configText(run), set: ['train.steps=6', 'eval.every=4', 'checkpoint.every=3'] }));
  assert.is(result.steps, 6);
  assert.equal(
    rows(run)
      .filter((r) => r['split'] === 'val')
      .map((r) => r['step']),
    [4, 6],
  );
});

test('drawn teachers and frozen translators leave what they do not train as it is', async () => {
  const run = join(temporaryFolder(), 'drawn');
  const set = [
    'train.steps=6',
    'train.random_teachers=1',
    'train.freeze_translator_at=0.5',
    'train.distill_cls=false',
    'checkpoint.every=3',
    'train.accumulate=1',
  ];
  await runTraining(loadConfig({ text: configText(run), set }));
  const drawn = rows(run)
    .filter((r) => r['split'] === undefined)
    .map((r) => Object.keys(r['teachers'] as object));
  assert.ok(drawn.every((names) => names.length === 1));
  const [half, end] = ['step-00000003', 'step-00000006'].map((s) => SafetensorsFile.open(join(run, 'checkpoints', s, 'model.safetensors')));
  for (const name of half!.names()) {
    const same = Buffer.from(half!.bytes(name)).equals(Buffer.from(end!.bytes(name)));
    assert.is(same, name.startsWith('translator.'), name);
  }
  half!.close();
  end!.close();
});

test('what cannot be: a taken run folder, other settings on resume, other data, no dataset', async () => {
  await rejects(() => runTraining(loadConfig({ text: configText(whole) })), 'ERR_CONFIG', /already holds a run/);
  const cli = (...args: string[]): { status: number | null; stderr: string } =>
    spawnSync(process.execPath, [program, 'train', ...args], { encoding: 'utf8' });
  const changed = cli('--resume', whole, '--set', 'train.base_lr=1.0');
  assert.is(changed.status, 2);
  assert.match(changed.stderr, /theia: ERR_CONFIG: .*train\.base_lr/);
  const nothing = cli('--resume', temporaryFolder());
  assert.is(nothing.status, 2);
  assert.match(nothing.stderr, /theia: ERR_FILE: /);
  const unsupported = cli('--set', 'device=cuda:999', '--set', `data.root=${data}`);
  assert.is(unsupported.status, 2);
  assert.match(unsupported.stderr, /theia: ERR_DEVICE: device cuda:999/);
  assert.is(cli('--set', 'dtype=bfloat16').status, 2);
  await rejects(
    () => runTraining(loadConfig({ text: configText(join(temporaryFolder(), 'x')), set: ['data.teachers=["nobody"]'] })),
    'ERR_FILE',
    /nobody/,
  );
  await rejects(
    () => runTraining(loadConfig({ text: configText(join(temporaryFolder(), 'x')), set: [`data.root=${temporaryFolder()}`] })),
    'ERR_FILE',
    /first/,
  );
});

test('a loss that is not finite stops before a weight changes and names the samples', async () => {
  const run = join(temporaryFolder(), 'nan');
  await rejects(
    () =>
      runTraining(
        loadConfig({
          text: configText(run),
          set: ['train.base_lr=1e30', 'train.grad_clip=0', 'train.warmup_ratio=0', 'checkpoint.every=1'],
        }),
      ),
    'ERR_NONFINITE',
    /step \d+: .*samples s0/,
  );
  const newest = newestCheckpoint(run)!;
  using file = SafetensorsFile.open(join(newest.path, 'model.safetensors'));
  assert.ok(file.names().length > 0);
});

test('--dry-run prints what the run would be and writes nothing', () => {
  const run = join(temporaryFolder(), 'dry');
  const file = join(temporaryFolder(), 'run.toml');
  writeFileSync(file, configText(run));
  const dry = spawnSync(process.execPath, [program, 'train', '--config', file, '--dry-run', '--json'], { encoding: 'utf8' });
  assert.is(dry.status, 0, dry.stderr);
  const found = JSON.parse(dry.stdout) as { stepsTotal: number; samples: number; parameters: number; gflopPerImage: number };
  assert.is(found.stepsTotal, 15);
  assert.is(found.samples, 18);
  assert.ok(found.gflopPerImage > 0.01);
  assert.not.ok(existsSync(run));
});

async function waitFor(done: () => boolean, child: ChildProcess): Promise<void> {
  const until = Date.now() + 60_000;
  while (!done()) {
    if (child.exitCode !== null) throw new Error(`the child ended with code ${child.exitCode}`);
    if (Date.now() > until) throw new Error('waited a minute in vain');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test.run();
