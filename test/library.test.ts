// What a user of the package writes: imports by its own name, types included, and no file until the student is saved.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile, Theia, TheiaError, Trainer, loadConfig, memory, newModelConfig, runTraining, saveWeights } from 'theia-native';
import type { RunResult, StepBatch, TrainConfig } from 'theia-native';
import { Encoder } from 'theia-native/encoder';
import { inFolder } from './support/tiny-model.js';

const SIDE = 32;
const POSITIONS = 14 * 14;

/** Two batches of two pictures, each a plain colour whose features follow from it, endlessly. */
async function* recordings(steps: number): AsyncGenerator<StepBatch> {
  for (let step = 0; step < steps; step++) {
    const images = new Uint8Array(2 * 224 * 224 * 3);
    const data = new Float32Array(2 * POSITIONS * 3);
    for (let i = 0; i < 2; i++) {
      const colour = [40 + 90 * i, 200 - 60 * (step % 2), 10 + 50 * i];
      for (let at = 0; at < 224 * 224 * 3; at++) images[i * 224 * 224 * 3 + at] = colour[at % 3];
      for (let at = 0; at < POSITIONS * 3; at++) data[i * POSITIONS * 3 + at] = (colour[at % 3] - 100) / 60;
    }
    await Promise.resolve();
    yield { images, size: 2, targets: new Map([['mine', { data, dtype: 'float32', shape: [2, POSITIONS, 3] }]]) };
  }
}

const config = newModelConfig({ hidden: SIDE, depth: 1, heads: 2, mlp: 32, teachers: new Map([['mine', [3, 14, 14]]]) });

test('a dataset can be an async iterable: a student is trained, saved and used without a run folder', () =>
  inFolder(async (folder) => {
    const losses: number[] = [];
    const file = join(folder, 'student.safetensors');
    const heads = join(folder, 'heads.json');
    writeFileSync(heads, '{"heads":2}');
    {
      using model = new Theia(config, { training: true, seed: 1 });
      using trainer = new Trainer(model, { lr: 5e-3 });
      for await (const { step, loss } of trainer.train(recordings(12))) {
        assert.is(step, losses.length + 1);
        losses.push(loss);
      }
      assert.is(trainer.steps, 12);
      saveWeights(model, file);
    }
    assert.ok(losses[11] < 0.7 * losses[0], `expected the loss to fall, got ${losses.join(' ')}`);
    using weights = SafetensorsFile.open(file);
    assert.equal(weights.info('backbone.model.embeddings.cls_token').shape, [1, 1, SIDE]);

    using encoder = await Encoder.load(file, { config: heads });
    const out = encoder.run([{ data: new Uint8Array(224 * 224 * 3).fill(90), width: 224, height: 224 }], { predict: true });
    assert.equal(out.get('tokens')!.shape, [1, POSITIONS, SIDE]);
    assert.equal(out.get('pred/mine')!.shape, [1, POSITIONS, 3]);
  }));

test('an array of batches will do, and an error in the dataset reaches the caller', async () => {
  const { buffers, plans } = memory();
  const model = new Theia(config, { training: true, seed: 1 });
  const trainer = new Trainer(model, { lr: 1e-3 });
  const batches: StepBatch[] = [];
  for await (const batch of recordings(2)) batches.push(batch);
  const steps: number[] = [];
  for await (const { step } of trainer.train(batches)) steps.push(step);
  assert.equal(steps, [1, 2]);
  async function* broken(): AsyncGenerator<StepBatch> {
    yield batches[0];
    throw new TheiaError('ERR_FILE', 'the camera is gone');
  }
  let error: unknown;
  try {
    for await (const { step } of trainer.train(broken())) steps.push(step);
  } catch (thrown) {
    error = thrown;
  }
  assert.equal(steps, [1, 2, 3]);
  assert.instance(error, TheiaError);
  trainer.dispose();
  model.dispose();
  const after = memory();
  assert.equal([after.buffers, after.plans], [buffers, plans], 'disposing frees everything');
});

test('runs over files are part of the library', async () => {
  const run: TrainConfig = loadConfig({ set: ['output=runs/none', 'data.root=/nowhere/at/all'] });
  let result: RunResult | undefined;
  let error: unknown;
  try {
    result = await runTraining(loadConfig({ set: ['data.root=/nowhere/at/all', `output=${process.execPath}`] }));
  } catch (thrown) {
    error = thrown;
  }
  assert.is(run.train.batch, 16);
  assert.is(result, undefined);
  assert.is((error as TheiaError).code, 'ERR_FILE');
});

test('the package says what it exports, and packs what its own commands need', () => {
  const root = new URL('../../', import.meta.url);
  const own = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as {
    exports: Record<string, { types: string; default: string }>;
    files: string[];
  };
  for (const { types, default: code } of Object.values(own.exports))
    for (const path of [types, code]) assert.ok(readFileSync(new URL(path, root)).length > 0, path);
  for (const path of ['dist/src', 'bin', 'kernels', 'native', 'src', 'CMakeLists.txt', 'scripts/build-native.mjs'])
    assert.ok(own.files.includes(path), path);
});

test.run();
