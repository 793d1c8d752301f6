import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TheiaError } from '../../src/errors.js';
import { Schedule, cosineCycle, scaledLr, warmupSteps, type ScheduleOptions } from '../../src/train/schedule.js';

/** The rates of steps 0 .. steps-1. */
function learningRates(options: ScheduleOptions, steps: number): Float64Array {
  const schedule = new Schedule(options);
  return Float64Array.from({ length: steps }, (_, step) => schedule.lr(step));
}

const golden = join(process.env.THEIA_GOLDEN ?? join(process.cwd(), '..', 'shared', 'golden'), 'lr_schedules.json');
const cos = Math.cos;

if (existsSync(golden)) {
  type File = {
    schedules: {
      lr: number;
      warm_up_steps: number;
      warm_up_lr_start_factor: number;
      schedule: string;
      cos_lrs_T_0: number | null;
      values: number[];
    }[];
    scaling: { base_lr: number; batch: number; world: number; lr: number }[];
  };
  const file = JSON.parse(readFileSync(golden, 'utf8')) as File;

  test('the golden schedules: warm-up and constant exactly, cosine within the last bit of cos', () => {
    assert.is(file.schedules.length, 5);
    for (const s of file.schedules) {
      const options: ScheduleOptions = {
        lr: s.lr,
        warmupSteps: s.warm_up_steps,
        warmupStart: s.warm_up_lr_start_factor,
        kind: s.schedule as 'constant' | 'cosine',
        cycle: s.cos_lrs_T_0 ?? 0,
        cos,
      };
      const values = learningRates(options, s.values.length);
      s.values.forEach((want, step) => {
        if (s.schedule === 'constant' || step < s.warm_up_steps) assert.is(values[step], want, `${s.schedule} step ${step}`);
        // Near the end of a period 1 + cos cancels, so the last bit of cos is a last bit of lr, not of the value.
        else assert.ok(Math.abs(values[step] - want) <= 2 ** -52 * s.lr, `cosine step ${step}: ${values[step]} against ${want}`);
      });
    }
  });

  test('the golden scaling', () => {
    for (const s of file.scaling) {
      assert.is(scaledLr(s.base_lr, s.batch, 1, s.world), s.lr);
      assert.is(scaledLr(s.base_lr, 1, s.batch, s.world), s.lr);
    }
  });
} else {
  console.log(`SKIP train/schedule golden: no ${golden}`);
}

const base: ScheduleOptions = { lr: 1e-3, warmupSteps: 7, warmupStart: 0.01, kind: 'cosine', cycle: 10, cos };

test('any step can be asked for in any order', () => {
  const inOrder = learningRates(base, 40);
  for (const step of [39, 0, 6, 3, 7, 17, 27]) assert.is(new Schedule(base).lr(step), inOrder[step]);
  assert.is(inOrder[0], 1e-3 * 0.01);
  assert.is(inOrder[7], 1e-3);
  assert.is(inOrder[17], 1e-3, 'restarts');
  assert.ok(inOrder[16] < 1e-4);
});

test('no warm-up starts at the full rate', () => {
  assert.is(new Schedule({ ...base, warmupSteps: 0, kind: 'constant', cycle: 0 }).lr(0), 1e-3);
});

test('the cosine is the one that was given', () => {
  const seen: number[] = [];
  const schedule = new Schedule({ ...base, cos: (x) => (seen.push(x), 0) });
  assert.is(schedule.lr(12), 0.0005);
  assert.equal(seen, [(Math.PI * 5) / 10]);
});

test('counts of steps', () => {
  assert.is(warmupSteps(99, 0.1), 9);
  assert.is(warmupSteps(99, 0.1, 4), 4);
  assert.is(warmupSteps(5, 0.1), 0);
  assert.is(cosineCycle(100, 10), 90);
  assert.is(cosineCycle(100, 10, 20), 20);
  assert.is(cosineCycle(10, 10), 1);
});

test('impossible schedules', () => {
  const bad: Partial<ScheduleOptions>[] = [
    { lr: NaN },
    { lr: -1 },
    { warmupSteps: 1.5 },
    { warmupSteps: -1 },
    { warmupStart: 0 },
    { cycle: 0 },
  ];
  for (const change of bad) {
    try {
      new Schedule({ ...base, ...change });
      assert.unreachable(JSON.stringify(change));
    } catch (error) {
      assert.is((error as TheiaError).code, 'ERR_CONFIG', JSON.stringify(change));
    }
  }
  assert.throws(() => new Schedule(base).lr(-1), /step from 0 up/);
});

test.run();
