import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TheiaError } from '../../src/errors.js';
import { metricsLine, openMetrics, type MetricsRow } from '../../src/train/metrics.js';

const row = (step: number, change: Partial<MetricsRow> = {}): MetricsRow => ({
  wall_s: 1.5,
  images_per_s: 10,
  teachers: new Map([
    ['b/x', { mse: 3, l1: 2, cos: 1 }],
    ['7', { mse: 6, l1: 5, cos: 4 }],
  ]),
  grad_norm: 0.25,
  mse: 0.3,
  l1: 0.2,
  cos: 0.1,
  loss: 0.5,
  lr: 2e-5,
  epoch: 0,
  step,
  ...change,
});

const folder = mkdtempSync(join(tmpdir(), 'theia-'));
const path = join(folder, 'metrics.jsonl');
const steps = () =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { step: number }).step);

test.before.each(() => rmSync(path, { force: true }));
test.after(() => rmSync(folder, { recursive: true }));

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.instance(error, TheiaError);
    return (error as TheiaError).code;
  }
  return 'none';
}

test("the contract's keys in its order, teachers in theirs", () => {
  assert.is(
    metricsLine(row(1)),
    '{"step":1,"epoch":0,"lr":0.00002,"loss":0.5,"cos":0.1,"l1":0.2,"mse":0.3,"grad_norm":0.25,' +
      '"teachers":{"b/x":{"cos":1,"l1":2,"mse":3},"7":{"cos":4,"l1":5,"mse":6}},"images_per_s":10,"wall_s":1.5}',
  );
  const evaluation = metricsLine(row(1, { split: 'val', grad_norm: null }));
  assert.ok(evaluation.endsWith('"images_per_s":10,"wall_s":1.5,"split":"val"}'));
  assert.ok(evaluation.includes('"grad_norm":null'));
  assert.is((JSON.parse(metricsLine(row(3, { lr: 0.1 + 0.2 }))) as { lr: number }).lr, 0.1 + 0.2);
});

test('a number that is not finite is an error and writes nothing', () => {
  const metrics = openMetrics(path);
  metrics.append(row(1));
  assert.is(
    code(() => metrics.append(row(2, { loss: NaN }))),
    'ERR_NONFINITE',
  );
  assert.is(
    code(() => metrics.append(row(2, { grad_norm: Infinity }))),
    'ERR_NONFINITE',
  );
  assert.is(
    code(() => metrics.append(row(2, { grad_norm: null }))),
    'ERR_NONFINITE',
    'null only in an evaluation',
  );
  assert.is(
    code(() => metrics.append(row(2, { teachers: new Map([['t', { cos: 1, l1: -Infinity, mse: 0 }]]) }))),
    'ERR_NONFINITE',
  );
  metrics.close();
  metrics.close();
  assert.equal(steps(), [1]);
  assert.is(
    code(() => metrics.append(row(2))),
    'ERR_DISPOSED',
  );
});

test('a resume cuts later steps and a torn line, and goes on', () => {
  const first = openMetrics(path);
  for (const step of [1, 2, 3, 4, 5]) first.append(row(step));
  first.append(row(3, { split: 'val' }));
  first.close();
  const whole = readFileSync(path, 'utf8');
  writeFileSync(path, `${whole}{"step":2,"epo`);
  const again = openMetrics(path, 3);
  assert.equal(steps(), [1, 2, 3, 3]);
  again.append(row(4));
  again.close();
  assert.equal(steps(), [1, 2, 3, 3, 4]);
  assert.ok(readFileSync(path, 'utf8').startsWith(whole.split('\n').slice(0, 3).join('\n')), 'kept lines keep their text');
  assert.equal(readdirSync(folder), ['metrics.jsonl']);
  openMetrics(path, 0).close();
  assert.is(readFileSync(path, 'utf8'), '');
});

test('zeros that a power loss left behind are cut too', () => {
  writeFileSync(path, `${metricsLine(row(1))}\n${metricsLine(row(2))}\n${'\0'.repeat(200000)}`);
  openMetrics(path, 9).close();
  assert.equal(steps(), [1, 2]);
});

test('damage between good lines is an error, and the file stays', () => {
  const text = `${metricsLine(row(1))}\nnonsense\n${metricsLine(row(2))}\n`;
  writeFileSync(path, text);
  assert.is(
    code(() => openMetrics(path, 9)),
    'ERR_CORRUPT',
  );
  assert.is(readFileSync(path, 'utf8'), text);
  assert.equal(readdirSync(folder), ['metrics.jsonl']);
});

test('many lines over many pieces', () => {
  const lines = Array.from({ length: 2000 }, (_, i) => `${metricsLine(row(i + 1))}\n`);
  writeFileSync(path, lines.join(''));
  openMetrics(path, 1234).close();
  assert.is(readFileSync(path, 'utf8'), lines.slice(0, 1234).join(''));
});

test('a new run does not write into an old one', () => {
  openMetrics(path).close();
  openMetrics(path).close();
  writeFileSync(path, `${metricsLine(row(1))}\n`);
  assert.is(
    code(() => openMetrics(path)),
    'ERR_CONFIG',
  );
  assert.is(
    code(() => openMetrics(join(folder, 'none', 'metrics.jsonl'))),
    'ERR_FILE',
  );
});

test('a full disk is ERR_DISK', () => {
  const metrics = openMetrics('/dev/full');
  assert.is(
    code(() => metrics.append(row(1))),
    'ERR_DISK',
  );
  metrics.close();
});

test.run();
