// `theia train` and `theia encode` on a device with GPU kernels: the same numbers as on the CPU, in float32 as in bfloat16. How accurate models
// are is judged in test/models/device.test.ts by derived limits; those here tell wrong plumbing (a missed update, a stale copy of the weights,
// a result of another step) from rounding, by orders of magnitude to both sides.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { temporaryFolder, writeTinyDataset } from '../data/fixtures.js';
import { SafetensorsFile, encodeNpy } from '../../src/formats/index.js';
import { deviceTest } from '../support/device-case.js';
import { pictures, saveModel, theia, tinyModel } from '../support/tiny-model.js';

const teachers = new Map([['t', { shape: [8, 14, 14] as const }]]);
const root = temporaryFolder();
await writeTinyDataset({ root, name: 'one', samples: 6, side: 224, teachers });
const settings = [
  'model.backbone={ hidden = 32, depth = 1, heads = 2, mlp = 64 }',
  `data.root=${root}`,
  'data.teachers=["t"]',
  'data.normalize=false',
  'data.workers=0',
  'train.batch=2',
  'train.accumulate=2',
  'train.base_lr=0.05',
  'train.warmup_ratio=0',
];

interface Run {
  losses: number[];
  norms: number[];
  weights: Uint8Array;
}

function train(folder: string, steps: number, ...more: string[]): Run {
  const sets = [...settings, `output=${folder}`, `train.steps=${steps}`, ...more].flatMap((s) => ['--set', s]);
  const { status, stdout, stderr } = theia('train', ...sets, '--json');
  assert.is(status, 0, stderr);
  return read(folder, (JSON.parse(stdout) as { steps: number }).steps);
}

function read(folder: string, steps: number): Run {
  const rows = readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { loss: number; grad_norm: number | null; split?: string })
    .filter((r) => r.split === undefined);
  assert.is(rows.length, steps, 'a row for every step, the last one too');
  const name = `step-${String(steps).padStart(8, '0')}`;
  return {
    losses: rows.map((r) => r.loss),
    norms: rows.map((r) => r.grad_norm!),
    weights: readFileSync(join(folder, 'checkpoints', name, 'model.safetensors')),
  };
}

const worst = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((x, i) => Math.abs(x / b[i]! - 1)));

deviceTest('train: losses and gradient norms are those of the CPU', (device) => {
  const folder = temporaryFolder();
  const cpu = train(join(folder, 'cpu'), 4, 'device=cpu');
  const single = train(join(folder, 'single'), 4, `device=${device}`);
  // The CPU's own histories are good to a few 1e-6 of PyTorch's (test/train/history); two such runs may differ by the sum.
  assert.ok(worst(single.losses, cpu.losses) < 1e-5, `losses ${single.losses.join()} for ${cpu.losses.join()}`);
  assert.ok(worst(single.norms, cpu.norms) < 1e-4, `norms ${single.norms.join()} for ${cpu.norms.join()}`);

  const half = train(join(folder, 'half'), 4, `device=${device}`, 'dtype=bfloat16');
  // bfloat16 keeps 8 bits: the first loss, of equal weights, is the CPU's to 2^-8.
  assert.ok(worst(half.losses.slice(0, 1), cpu.losses) < 2 ** -8, `losses ${half.losses.join()} for ${cpu.losses.join()}`);
  assert.ok(half.losses[3]! < half.losses[0]!, 'it learns');
  const again = train(join(folder, 'again'), 4, `device=${device}`, 'dtype=bfloat16');
  assert.equal(again, half, 'twice the same bits');
});

deviceTest('train: an interrupted bfloat16 run that is resumed ends with the same bits', (device) => {
  const folder = temporaryFolder();
  const whole = train(join(folder, 'whole'), 4, `device=${device}`, 'dtype=bfloat16', 'train.schedule="constant"');
  const part = join(folder, 'part');
  train(part, 2, `device=${device}`, 'dtype=bfloat16', 'train.schedule="constant"');
  const { status, stderr } = theia('train', '--resume', part, '--set', 'train.steps=4', '--json');
  assert.is(status, 0, stderr);
  assert.equal(read(part, 4), whole);
});

deviceTest('encode: tokens and predictions of the CPU', (device) => {
  const folder = temporaryFolder();
  using student = tinyModel();
  const model = saveModel(student, join(folder, 'student'));
  const picture = join(folder, 'x.npy');
  writeFileSync(picture, encodeNpy(pictures(1), [224, 224, 3]));
  const run = (out: string, ...more: string[]): Map<string, Float32Array> => {
    const path = join(folder, out);
    const { status, stderr } = theia('encode', '--weights', model, '--images', picture, '--out', path, '--predict', ...more);
    assert.is(status, 0, stderr);
    using file = SafetensorsFile.open(path);
    return new Map(file.names().map((name) => [name, file.float32(name)]));
  };
  const want = run('cpu.safetensors', '--device', 'cpu');
  for (const [dtype, limit] of [
    ['float32', 1e-5],
    ['bfloat16', 0.03], // cosine 0.9995 and better
  ] as const) {
    const got = run(`${dtype}.safetensors`, '--device', device, '--dtype', dtype);
    assert.equal([...got.keys()], [...want.keys()]);
    for (const [name, values] of want) {
      let [error, norm] = [0, 0];
      values.forEach((v, i) => {
        error += (got.get(name)![i]! - v) ** 2;
        norm += v * v;
      });
      assert.ok(Math.sqrt(error / norm) < limit, `${name} in ${dtype}: ${Math.sqrt(error / norm)}`);
    }
  }
});

test('bfloat16 is not computed on the CPU', () => {
  const sets = [...settings, `output=${join(temporaryFolder(), 'run')}`, 'device=cpu', 'dtype=bfloat16'].flatMap((s) => ['--set', s]);
  const { status, stderr } = theia('train', ...sets);
  assert.is(status, 2);
  assert.match(stderr, /^theia: ERR_UNSUPPORTED: .*bfloat16\nhint: /);
});

test.run();
