// Whole models on a device with GPU kernels, against PyTorch: in float32 by the tolerance table of the golden data, as on the CPU; in
// bfloat16 by at most twice the error of the same model computed plainly, rounded to bfloat16 at the same places.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { basename, dirname } from 'node:path';
import { SafetensorsFile } from '../../src/formats/index.js';
import { Theia } from '../../src/models/theia.js';
import { judge, measure } from '../../src/parity/compare.js';
import type { Difference } from '../../src/parity/compare.js';
import { findGoldenFacts, goldenTolerances } from '../../src/parity/golden.js';
import { planParity, runParity } from '../../src/parity/run.js';
import { memory } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { deviceTest } from '../support/device-case.js';
import { goldenFile, manifest, requireGolden } from '../support/golden.js';
import { goldenInputs } from '../support/golden-model.js';
import { roundingAsBfloat16 } from '../support/rounded-model.js';

const MINI = ['mini_lconv_cls', 'mini_lconv_nocls', 'mini_lconv_reg'] as const;

/** What a golden file holds against what a model computes. */
function differences(golden: string, device: Device, compute: 'float32' | 'bfloat16', rounded = false): Difference[] {
  const inputs = goldenInputs(manifest()!.files[basename(golden)]!);
  const model = new Theia(inputs.config, { training: true, initialise: false, device, compute });
  try {
    for (const key of inputs.shapes.keys()) model.arena.load(key, inputs.weights(key));
    using file = SafetensorsFile.open(golden);
    const plan = planParity(model, file.names());
    const targets = new Map(plan.targets.map((t) => [t, inputs.target(t)]));
    const run = (): Difference[] =>
      [...runParity(model, inputs.images, targets, plan)].map(([key, own]) =>
        measure(own, { name: key, shape: file.info(key).shape, values: file.float32(key) }),
      );
    return rounded ? roundingAsBfloat16(model, run) : run();
  } finally {
    model.dispose();
  }
}

for (const name of MINI) {
  deviceTest(`${name} in float32: forward, losses and all gradients`, (device) => {
    const golden = requireGolden(`${name}.golden.safetensors`, name);
    if (golden === undefined) return;
    const before = memory(device).buffers;
    const rows = judge(
      differences(golden, device, 'float32'),
      goldenTolerances(findGoldenFacts(golden, [dirname(goldenFile('manifest.json')!)])),
    );
    assert.equal(
      rows.filter((r) => !r.ok).map((r) => `${r.name}: ${r.rel} above ${r.limit}`),
      [],
    );
    assert.ok(rows.filter((r) => r.name.startsWith('grad')).length > 70);
    assert.ok(memory(device).buffers <= before + 2, 'nothing leaks but the zeros that views are filled from');
  });
}

deviceTest('full_tiny_cddsv in float32: Theia-T with five teachers, forward, losses and all gradients', (device) => {
  const name = 'full_tiny_cddsv';
  const golden = requireGolden(`${name}.safetensors`, name);
  if (golden === undefined) return;
  const rows = judge(differences(golden, device, 'float32'), goldenTolerances(findGoldenFacts(golden, [dirname(golden)])));
  assert.equal(
    rows.filter((r) => !r.ok).map((r) => `${r.name}: ${r.rel} above ${r.limit}`),
    [],
  );
  assert.is(rows.filter((r) => r.name.startsWith('grad/')).length, 268);
});

/** Gradients of key biases are zero but for rounding: no error of theirs means anything. */
const isZero = (d: Difference): boolean => d.reference < 1e-9;

for (const name of MINI) {
  deviceTest(`${name} in bfloat16: at most twice the error of the plainly rounded model`, (device) => {
    const golden = requireGolden(`${name}.golden.safetensors`, name);
    if (golden === undefined) return;
    const own = differences(golden, device, 'bfloat16');
    const plain = new Map(differences(golden, 'cpu', 'float32', true).map((d) => [d.name, d]));
    const tensors = own.filter((d) => d.shape.length > 0 && !isZero(d));
    assert.ok(tensors.length > 60);
    for (const d of own) assert.ok(d.finite, d.name);
    const bad = tensors.filter((d) => !(d.error <= 2 * plain.get(d.name)!.error));
    assert.equal(
      bad.map((d) => `${d.name}: error ${d.error}, plainly rounded ${plain.get(d.name)!.error}`),
      [],
    );
    // One number's rounding error is luck: the losses are judged together, as a vector.
    const losses = own.filter((d) => d.name.startsWith('loss/'));
    const norm = (of: (d: Difference) => number): number => Math.hypot(...losses.map(of));
    const [error, limit] = [norm((d) => d.error), 2 * norm((d) => plain.get(d.name)!.error)];
    assert.ok(error <= limit, `losses: error ${error} is above ${limit}`);
  });
}

test.run();
