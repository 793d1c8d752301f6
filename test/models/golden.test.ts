// Whole models against PyTorch: forward values, losses and every gradient, by the tolerance table of the golden data.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SafetensorsFile } from '../../src/formats/index.js';
import { loadTheia } from '../../src/models/checkpoint.js';
import { parseModelConfig } from '../../src/models/config.js';
import { findGoldenFacts, goldenTolerances } from '../../src/parity/golden.js';
import { judge, measure } from '../../src/parity/compare.js';
import type { ParityRow } from '../../src/parity/compare.js';
import { planParity, runParity } from '../../src/parity/run.js';
import { Theia } from '../../src/models/theia.js';
import { memory } from '../../src/tensor/index.js';
import { goldenFile, manifest, requireGolden } from '../support/golden.js';
import type { GoldenEntry } from '../support/golden.js';
import { goldenInputs, writeGoldenModel } from '../support/golden-model.js';
import type { GoldenInputs } from '../support/golden-model.js';

const program = fileURLToPath(new URL('../../../bin/theia.mjs', import.meta.url));

function entryOf(file: string): GoldenEntry {
  const entry = manifest()?.files[file];
  if (!entry) throw new Error(`the manifest has no ${file}`);
  return entry;
}

/** Compares by the library, and says which rows fail. */
function compare(model: Theia, inputs: GoldenInputs, path: string): { rows: ParityRow[]; notCompared: string[] } {
  using file = SafetensorsFile.open(path);
  const plan = planParity(model, file.names());
  const targets = new Map(plan.targets.map((t) => [t, inputs.target(t)]));
  const differences = [];
  for (const [name, own] of runParity(model, inputs.images, targets, plan))
    differences.push(measure(own, { name, shape: file.info(name).shape, values: file.float32(name) }));
  const rows = judge(differences, goldenTolerances(findGoldenFacts(path, [dirname(goldenFile('manifest.json')!)])));
  const bad = rows.filter((r) => !r.ok).map((r) => `${r.name}: ${r.rel} above ${r.limit}`);
  assert.equal(bad, []);
  return { rows, notCompared: plan.notCompared };
}

function holds(rows: readonly ParityRow[], ...names: string[]): void {
  for (const name of names)
    assert.ok(
      rows.some((r) => r.name === name),
      `${name} was compared`,
    );
}

for (const [name, gradients] of [
  ['mini_lconv_cls', 105],
  ['mini_lconv_nocls', 76],
  ['mini_lconv_reg', 85],
] as const) {
  test(`${name}: forward, losses and all gradients`, () => {
    const weights = requireGolden(`${name}.weights.safetensors`, name);
    const golden = requireGolden(`${name}.golden.safetensors`, name);
    if (weights === undefined || golden === undefined) return;
    const entry = entryOf(`${name}.golden.safetensors`);
    const inputs = goldenInputs(entry);
    const before = memory().buffers;
    const model = new Theia(inputs.config, { training: true, initialise: false });
    {
      using file = SafetensorsFile.open(weights);
      for (const key of file.names()) {
        const values = file.float32(key);
        assert.equal(values, inputs.weights(key), `${key}: the file has the procedural values`);
        model.arena.load(key, values);
      }
      assert.is(file.names().length, model.arena.segments.length);
    }
    const { rows, notCompared } = compare(model, inputs, golden);
    holds(rows, 'tokens', 'loss/main', 'loss/cos/mini/vit-16', 'pred/mini/vit-16', 'grad_tokens');
    assert.is(rows.filter((r) => r.name.startsWith('grad')).length, gradients);
    assert.is(rows.filter((r) => r.scaled !== undefined).length, 3, 'the key biases');
    if (name === 'mini_lconv_cls') holds(rows, 'hidden/0', 'hidden/3', 'pred/mini/dpt-1.5-14', 'reduce/cls', 'reduce/max_pooling');
    assert.is(
      notCompared.some((n) => n.startsWith('reduce/')),
      name === 'mini_lconv_nocls',
    );
    model.dispose();
    // The constant zero that views are filled from stays.
    assert.ok(memory().buffers <= before + 1, 'nothing leaks');
  });
}

test('mini_lconv_cls: the images of the file are the procedural ones', () => {
  const golden = requireGolden('mini_lconv_cls.golden.safetensors', 'images');
  if (golden === undefined) return;
  using file = SafetensorsFile.open(golden);
  assert.equal(file.bytes('images'), goldenInputs(entryOf('mini_lconv_cls.golden.safetensors')).images.data);
});

test('a config in the manifest completes a checkpoint', () => {
  const weights = requireGolden('mini_lconv_nocls.weights.safetensors', 'config');
  if (weights === undefined) return;
  const entry = entryOf('mini_lconv_nocls.golden.safetensors');
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    const { model: path } = writeGoldenModel(folder, entry);
    using model = loadTheia(path);
    assert.equal(model.config, goldenInputs(entry).config);
    assert.is(parseModelConfig(entry.config).tokens, 'nocls');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// small and base hold forward values and losses, sampled.
for (const name of ['full_small_cddsv', 'full_base_cddsv']) {
  test(`${name}: forward and losses`, () => {
    const golden = requireGolden(`${name}.safetensors`, name);
    if (golden === undefined) return;
    const inputs = goldenInputs(entryOf(`${name}.safetensors`));
    using model = new Theia(inputs.config, { initialise: false });
    assert.is(model.arena.count, entryOf(`${name}.safetensors`).config.parameters);
    for (const key of inputs.shapes.keys()) model.arena.load(key, inputs.weights(key));
    const { rows } = compare(model, inputs, golden);
    holds(rows, 'tokens', 'loss/main', 'pred/facebook/sam-vit-huge', 'pred/LiheYoung/depth-anything-large-hf');
    assert.ok(rows.every((r) => r.name.startsWith('loss/') || r.samples === 4096));
  });
}

test('full_tiny_cddsv: forward, losses and gradients by the program', () => {
  const name = 'full_tiny_cddsv.safetensors';
  const golden = requireGolden(name, name);
  if (golden === undefined) return;
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    const { model, images, targets } = writeGoldenModel(folder, entryOf(name));
    const flags = ['--weights', model, '--reference', golden, '--images', images, '--targets', targets, '--profile', 'golden', '--json'];
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'parity', ...flags], { encoding: 'utf8', maxBuffer: 1 << 26 });
    assert.is(status, 0, stderr + stdout);
    const result = JSON.parse(stdout) as { ok: boolean; rows: ParityRow[]; not_compared: string[] };
    assert.is(result.ok, true);
    assert.equal(result.not_compared, []);
    assert.is(result.rows.filter((r) => r.name.startsWith('grad/')).length, 268);
    const median = result.rows
      .filter((r) => r.name.startsWith('grad/') && r.rel !== null)
      .map((r) => r.rel!)
      .sort((a, b) => a - b)[128]!;
    assert.ok(median < 5e-3, `median ${median}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
