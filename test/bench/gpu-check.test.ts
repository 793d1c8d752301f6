// The standing GPU check itself, tried out on the emulator: a GPU is seldom at hand, and the check must not be what fails then.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PARAMETERS } from '../../bench/gpu/cases.js';
import { student } from '../../bench/support/student.js';
import { OPS } from '../../src/generated/ops.js';
import { deviceTest } from '../support/device-case.js';

let root = dirname(fileURLToPath(import.meta.url));
while (!existsSync(join(root, 'CMakeLists.txt'))) root = dirname(root);

interface Report {
  device: string;
  gpu: { name: string };
  stages: Record<
    string,
    {
      ok: boolean;
      rows: Record<string, unknown>[];
      results?: { passed: number; failed: number }[];
      skipped?: string;
      ceilings?: { tflops: number; gbytes: number };
    }
  >;
}

deviceTest('gpu:check --rehearse: every stage ends, with its rows', (device) => {
  if (device !== 'simt') return;
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    const args = ['scripts/gpu-check.mjs', '--rehearse', '--no-build', '--out', folder];
    const run = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    assert.is(run.status, 0, run.stdout + run.stderr);
    const report = JSON.parse(readFileSync(join(folder, 'gpu-check-simt.json'), 'utf8')) as Report;
    const { tests, parity, determinism, sanitizer, kernels, models, torch } = report.stages;
    assert.is(tests!.results![0]!.failed, 0);
    assert.ok(tests!.results![0]!.passed > 0);
    for (const stage of [sanitizer, torch]) assert.is(stage!.skipped, 'a rehearsal');
    for (const stage of [parity, determinism, kernels, models]) assert.ok(stage!.ok && stage!.rows.length > 0);
    assert.equal(
      parity!.rows.map((r) => r['dtype']),
      ['float32', 'bfloat16'],
    );
    assert.ok(parity!.rows.every((r) => (r['cosine'] as number) > 0.999));
    assert.is(determinism!.rows.length, 2);
    // Every op has a row with a time but for the CPU's panels and what no published training step calls.
    const others = ['add', 'copy', 'reduce', 'reduce_grad', 'max_pool2d', 'max_pool2d_grad', 'pack'];
    const timed = new Set(kernels!.rows.map((r) => r['op']));
    assert.equal(
      OPS.map((op) => op.name).filter((name) => !timed.has(name)),
      others,
    );
    for (const row of kernels!.rows) assert.ok((row['seconds'] as number) > 0 && (row['floor_seconds'] as number) > 0, String(row['case']));
    assert.ok(kernels!.ceilings!.tflops > 0 && kernels!.ceilings!.gbytes > 0);
    assert.is(models!.rows.filter((r) => String(r['case']).endsWith('shards on disk')).length, 1);
    assert.ok(models!.rows.every((r) => (r['images_per_s'] as number) > 0));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('the arenas that adamw and grad_norm are timed on are those of the students', () => {
  for (const size of ['mini', 'tiny', 'small'] as const) {
    using model = student(size, true);
    assert.is(PARAMETERS[size], model.arena.values.size, size);
  }
});

test.run();
