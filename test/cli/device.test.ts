// `theia train` and `theia encode` on a device with GPU kernels: the same numbers as on the CPU, in float32 as in bfloat16. How accurate models
// are is judged in test/models/device.test.ts by derived limits; those here tell wrong plumbing (a missed update, a stale copy of the weights,
// a result of another step) from rounding, by orders of magnitude to both sides.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { temporaryFolder, writeTinyDataset } from '../data/fixtures.js';
import { SafetensorsFile, encodeNpy } from '../../src/formats/index.js';
import { addon } from '../../src/native/load.js';
import { memory } from '../../src/tensor/index.js';
import { loadConfig } from '../../src/train/config.js';
import { runTraining } from '../../src/train/run.js';
import { DEVICES, deviceTest } from '../support/device-case.js';
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

if (DEVICES.includes('simt'))
  test('simt: train: the same bits from pinned memory, and where none can be had', async () => {
    const folder = temporaryFolder();
    const left: number[] = [];
    const run = async (name: string, workers: number): Promise<{ run: Run; notices: string[]; most: number }> => {
      const output = join(folder, name);
      const set = [
        ...settings,
        `output=${output}`,
        'device=simt',
        'train.steps=5',
        'train.batch=1',
        'train.accumulate=1',
        `data.workers=${workers}`,
      ];
      const notices: string[] = [];
      let most = 0;
      const onRow = (): void => void (most = Math.max(most, memory('simt').pinned));
      const { buffers } = memory('simt');
      const { steps } = await runTraining(loadConfig({ set }), { onRow, onNotice: (text) => notices.push(text) });
      assert.is(memory('simt').pinned, 0, 'a run leaves nothing pinned');
      left.push(memory('simt').buffers - buffers);
      return { run: read(output, steps), notices: notices.filter((text) => text.includes('pinned')), most };
    };
    const setLockable = (bytes: number): void => addon().setOption('simt', 'lockable', String(bytes));
    setLockable(0);
    const plain = await run('ordinary', 0);
    setLockable(2 ** 40);
    assert.equal([plain.most, plain.notices.length], [0, 1], 'the fallback is said once');
    const block = 224 * 224 * 3 + 8 * 14 * 14 * 2;
    for (const workers of [0, 2]) {
      const pinned = await run(`workers${workers}`, workers);
      assert.equal(pinned.run, plain.run);
      assert.equal(pinned.notices, []);
      // The batches that the loader looks ahead, and two whose steps are under way.
      const most = workers + 2 + 2;
      assert.is(left.at(-1), 0, 'nor any buffer but the constants that the first one made');
      assert.ok(pinned.most >= 3 * block && pinned.most <= most * (block + 2 ** 18), `${pinned.most} bytes for blocks of ${block}`);
    }
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
