import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { Plan, Tensor, dispatch, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, same } from '../support/op-case.js';

const COUNT = 50000;

/** y = (a + b) + ((a + b) + a), with temporaries that are freed on the way. */
function work(a: Tensor, b: Tensor): Tensor {
  return tidy(() => {
    const sum = Tensor.empty([COUNT]);
    dispatch('add', { a, b, y: sum });
    const other = Tensor.empty([COUNT]);
    dispatch('add', { a: sum, b: a, y: other });
    const y = Tensor.empty([COUNT]);
    dispatch('add', { a: sum, b: other, y });
    return y;
  });
}

const random = (seed: number): Float32Array => Float32Array.from(randomValues(COUNT, seed));

test('a replay gives the bits of immediate mode, for inputs written since', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    const b = Tensor.from(random(2));
    const want = work(a, b).float32();
    using plan = Plan.record(() => work(a, b));
    assert.is(plan.calls, 3);
    same(plan.result.float32(), want, 'the recorded run itself');
    for (const seed of [3, 4]) {
      a.write(random(seed));
      b.write(random(seed + 10));
      plan.replay();
      same(plan.result.float32(), work(a, b).float32(), `seed ${seed}`);
    }
  });
});

test('work between replays does not touch the memory of the plan', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    const b = Tensor.from(random(2));
    using plan = Plan.record(() => work(a, b));
    const want = plan.result.float32();
    for (let round = 0; round < 5; round++) {
      tidy(() => {
        for (let i = 0; i < 4; i++) Tensor.from(new Float32Array(COUNT).fill(NaN));
      });
      plan.replay();
      same(plan.result.float32(), want);
    }
  });
});

test('a plan keeps the memory of inputs that were disposed of', () => {
  const a = Tensor.from(random(1));
  const b = Tensor.from(random(2));
  const plan = Plan.record(() => work(a, b));
  const want = plan.result.float32();
  a.dispose();
  b.dispose();
  tidy(() => {
    for (let i = 0; i < 4; i++) Tensor.from(new Float32Array(COUNT).fill(NaN));
  });
  plan.replay();
  same(plan.result.float32(), want);
  plan.result.dispose();
  plan.dispose();
});

test('a result outlives the plan', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    const plan = Plan.record(() => work(a, a));
    const want = plan.result.float32();
    plan.dispose();
    Tensor.from(new Float32Array(COUNT).fill(NaN));
    same(plan.result.float32(), want);
  });
});

test('ERR_PLAN: values on the host, a second recording, a replay inside a recording', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    using other = Plan.record(() => work(a, a));
    const host: [string, () => unknown][] = [
      ['reading', () => a.data()],
      ['writing', () => a.write(random(2))],
      ['writing', () => Tensor.zeros([3])],
      ['writing', () => Tensor.from([1, 2])],
      ['already', () => Plan.record(() => undefined)],
      ['replayed', () => other.replay()],
    ];
    for (const [part, fn] of host) throwsCode(() => Plan.record(() => tidy(fn)), 'ERR_PLAN', part);
    const before = a.data();
    same(a.data() as Float32Array, before as Float32Array); // no recording was left open
  });
});

test('a failed nested recording leaves the outer one alone', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    const b = Tensor.from(random(2));
    using plan = Plan.record(() => {
      const y = work(a, b);
      throwsCode(() => Plan.record(() => undefined), 'ERR_PLAN');
      return work(y, b);
    });
    assert.is(plan.calls, 6);
    same(plan.result.float32(), work(work(a, b), b).float32());
  });
});

test('a recording that fails keeps nothing', () => {
  const start = memory();
  tidy(() => {
    const a = Tensor.from(random(1));
    const wrong = Tensor.empty([3]);
    throwsCode(
      () =>
        Plan.record(() => {
          work(a, a);
          dispatch('add', { a, b: a, y: wrong });
        }),
      'ERR_SHAPE',
    );
  });
  assert.is(memory().live, start.live);
  assert.is(memory().plans, start.plans);
  assert.is(memory().buffers, start.buffers);
});

test('memory freed inside a recording is used again inside it', () => {
  tidy(() => {
    const a = Tensor.from(random(1));
    const start = memory().live;
    using plan = Plan.record(() =>
      tidy(() => {
        let x = a;
        for (let i = 0; i < 20; i++) {
          const y = Tensor.empty([COUNT]);
          dispatch('add', { a: x, b: a, y });
          if (x !== a) x.dispose();
          x = y;
        }
        return x;
      }),
    );
    const held = memory().live - start;
    assert.ok(held <= 3 * (4 * COUNT * 1.125), `20 steps of one chain hold ${held} bytes`);
    const want = plan.result.float32();
    plan.replay();
    same(plan.result.float32(), want);
  });
});

test('disposal gives everything back; a second one and a late use are harmless or ERR_DISPOSED', () => {
  const start = memory();
  const a = Tensor.from(random(1));
  const plans = Array.from({ length: 3 }, () => Plan.record(() => work(a, a)));
  assert.is(memory().plans, start.plans + 3);
  for (const plan of plans) {
    plan.result.dispose();
    plan.replay(); // its memory is the plan's
    plan.dispose();
    plan.dispose();
    throwsCode(() => plan.replay(), 'ERR_DISPOSED');
    throwsCode(() => plan.calls, 'ERR_DISPOSED');
  }
  a.dispose();
  assert.is(memory().plans, start.plans);
  assert.is(memory().live, start.live);
});

test('an error that fn throws comes out as it is', () => {
  const mine = new TheiaError('ERR_CONFIG', 'mine');
  assert.throws(
    () =>
      Plan.record(() => {
        throw mine;
      }),
    (e: unknown) => e === mine,
  );
});

test.run();
