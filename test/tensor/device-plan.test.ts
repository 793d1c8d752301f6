// Plans on devices with memory of their own: where their buffers lie, when they are captured, what is fetched from them.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon } from '../../src/native/load.js';
import {
  Plan,
  Tensor,
  dispatch,
  memory,
  pinShared,
  pinnedArray,
  readLater,
  tidy,
  trimMemory,
  unpin,
  writeLater,
} from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { DEVICES, deviceTest } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { same } from '../support/op-case.js';

const MB = 2 ** 20;

/** x + 1 + 2 + ... + n over `count` elements, each sum in a buffer of its own; all of them live to the end if `keepAll`. */
function chain(x: Tensor, one: Tensor, n: number, keepAll = false): Tensor {
  return tidy(() => {
    let sum = x;
    let step = one;
    for (let i = 0; i < n; i++) {
      const [next, grown] = [Tensor.empty(x.shape, 'float32', x.device), Tensor.empty(x.shape, 'float32', x.device)];
      dispatch('add', { a: sum, b: step, y: next });
      dispatch('add', { a: step, b: one, y: grown });
      if (!keepAll && i > 0) {
        sum.dispose();
        step.dispose();
      }
      sum = next;
      step = grown;
    }
    return sum;
  });
}

interface Setting {
  x: Tensor;
  one: Tensor;
  plan: Plan<Tensor>;
  n: number;
}

function setting(device: Device, count: number, n: number, keepAll = false): Setting {
  const x = Tensor.zeros([count], 'float32', device);
  const one = Tensor.from(new Float32Array(count).fill(1), [count], 'float32', device);
  return { x, one, plan: Plan.record(() => chain(x, one, n, keepAll)), n };
}

/** Replays with x = value and checks the result. */
function run({ x, plan, n }: Setting, value: number): void {
  x.write(new Float32Array(x.size).fill(value));
  plan.replay();
  same(plan.result.float32(), new Float32Array(x.size).fill(value + (n * (n + 1)) / 2));
}

/** Bytes in use once what is kept for the life of the process has been made. */
function settled(device: Device): number {
  Tensor.empty([0], 'float32', device).dispose();
  Plan.record(() => undefined).dispose();
  return memory(device).live;
}

const drop = (...all: Setting[]): void => all.forEach(({ plan }) => plan.dispose());

deviceTest('what lives only inside a plan is placed by its lifetime', (device) => {
  const start = settled(device);
  tidy(() => {
    const s = setting(device, MB / 4, 20); // 40 temporaries of 1 MB, at most 4 at a time
    run(s, 3);
    assert.ok(memory(device).live - start <= 9 * MB, `${(memory(device).live - start) / MB} MB`);
    drop(s);
    const all = setting(device, MB / 4, 20, true); // here nothing is disposed of early, but lifetimes are those of the calls
    run(all, 4);
    assert.ok(memory(device).live - start <= 13 * MB, `${(memory(device).live - start) / MB} MB`);
    drop(all);
  });
  assert.is(memory(device).live, start);
});

deviceTest('plans share that memory, whatever their sizes and the order they run in', (device) => {
  const start = settled(device);
  tidy(() => {
    const small = setting(device, MB / 8, 5);
    run(small, 1);
    const large = setting(device, MB / 4, 9);
    run(small, 2); // the region grew: its addresses moved
    run(large, 3);
    const middle = setting(device, 170000, 7);
    for (const [i, s] of [middle, small, large, small, middle, large].entries()) run(s, i);
    const before = [small, large, middle].map((s) => s.plan.result.float32());
    run(small, 5);
    same(large.plan.result.float32(), before[1]!, 'the result of a plan is not shared');
    same(middle.plan.result.float32(), before[2]!);
    // x, one and a result each, and the region of the largest
    assert.ok(memory(device).live - start <= (3 * (0.5 + 1 + 0.67) + 5) * MB * 1.13, `${(memory(device).live - start) / MB} MB`);
    drop(large, middle);
    run(small, 6);
    drop(small);
  });
  assert.is(memory(device).live, start);
});

deviceTest('a tensor kept from inside a recording keeps its memory', (device) =>
  tidy(() => {
    const x = Tensor.from([1, 2, 3], [3], 'float32', device);
    let inner: Tensor | undefined;
    using plan = Plan.record(() => {
      inner = Tensor.empty([3], 'float32', device);
      dispatch('add', { a: x, b: x, y: inner });
      return chain(inner, x, 3);
    });
    inner = inner!.retain();
    x.write(Float32Array.of(10, 20, 30));
    plan.replay();
    same(inner.float32(), [20, 40, 60]);
    inner.dispose();
  }),
);

deviceTest('an empty plan, and one whose temporaries are never used', (device) =>
  tidy(() => {
    using nothing = Plan.record(() => undefined);
    nothing.replay();
    using unused = Plan.record(() => tidy(() => void Tensor.empty([100], 'float32', device)));
    unused.replay();
    assert.is(unused.calls, 0);
  }),
);

for (const device of ['cpu', ...DEVICES] as const)
  test(`${device}: values are fetched one step late`, () =>
    tidy(() => {
      const s = setting(device, 10, 2);
      const fetch = s.plan.fetchLater(s.plan.result);
      assert.is(fetch.previous(), undefined);
      assert.is(fetch.latest(), undefined);
      for (let step = 0; step < 5; step++) {
        run(s, step);
        assert.is(fetch.previous()?.[9], step === 0 ? undefined : step - 1 + 3);
        if (step % 2) assert.is(fetch.latest()![0], step + 3);
      }
      assert.is(fetch.latest()![0], 7);
      drop(s);
      throwsCode(() => s.plan.fetchLater(s.x), 'ERR_DISPOSED');
    }));

for (const device of ['cpu', ...DEVICES] as const)
  test(`${device}: copies that go on while others work`, () =>
    tidy(() => {
      const x = Tensor.zeros([3, 1000], 'float32', device);
      const data = pinnedArray('float32', 1000, device) as Float32Array;
      for (let row = 0; row < 3; row++) {
        data.forEach((_, i) => (data[i] = row * 1000 + i));
        writeLater(x.slice(0, row, 1), data).done();
      }
      const back = pinnedArray('float32', 3000, device);
      readLater(x, back).done();
      same(
        back as Float32Array,
        Array.from({ length: 3000 }, (_, i) => i),
      );
      const ordinary = new Float32Array(1000);
      readLater(x.slice(0, 1, 1), ordinary); // not pinned: done at once
      assert.is(ordinary[7], 1007);
      for (let i = 0; i < 300; i++) writeLater(x.slice(0, 0, 1), data); // nobody waits for these
      throwsCode(() => writeLater(x, data), 'ERR_SHAPE', 'writeLater');
      throwsCode(() => readLater(x.slice(0, 0, 1), new Int32Array(1000)), 'ERR_DTYPE', 'readLater');
      throwsCode(() => Plan.record(() => writeLater(x.slice(0, 0, 1), data)), 'ERR_PLAN');
      throwsCode(() => addon().pinned(2 ** 45, 0), 'ERR_OOM');
      throwsCode(() => addon().reach(99, 1), 'ERR_ARGS');
    }));

for (const device of ['cpu', ...DEVICES] as const)
  test(`${device}: pinned memory that a worker writes to`, async () => {
    const before = memory(device).pinned;
    const block = pinShared(100_000, device);
    const more = pinShared(1, device);
    assert.ok(block.buffer instanceof SharedArrayBuffer);
    assert.is(block.length, 100_000);
    assert.is(before, 0);
    assert.ok(device === 'cpu' || memory(device).pinned >= 100_001);
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const floats = new Float32Array(workerData.buffer, workerData.byteOffset + 400, 1000);
       floats.forEach((_, i) => (floats[i] = i));
       parentPort.postMessage(floats);`,
      { eval: true, workerData: block },
    );
    const [floats] = (await once(worker, 'message')) as [Float32Array];
    await worker.terminate();
    tidy(() => {
      const x = Tensor.zeros([1000], 'float32', device);
      writeLater(x, floats).done(); // what came back from the worker is the same memory
      assert.is(x.float32()[999], 999);
      new Float32Array(block.buffer, block.byteOffset + 400, 1000).fill(7);
      assert.is(floats[5], 7);
      const transfer = writeLater(x, floats);
      unpin(block); // waits for it
      transfer.done();
      assert.is(x.float32()[0], 7);
      floats.fill(8);
      writeLater(x, floats); // ordinary memory again: copied at once
      floats.fill(9);
      assert.is(x.float32()[999], 8);
      unpin(block); // nothing happens
    });
    unpin(more);
    assert.is(memory(device).pinned, before);
    throwsCode(() => pinShared(2 ** 53, device), 'ERR_OOM');
    const number = addon().openDevice(device);
    for (const wrong of [new Uint8Array(300_000), new SharedArrayBuffer(300_000), undefined])
      throwsCode(() => addon().lock(wrong as never, number), 'ERR_ARGS');
    if (device === 'cpu') return;
    throwsCode(() => addon().lock(new Uint8Array(new SharedArrayBuffer(100)), number), 'ERR_ARGS', 'a whole page');
    const twice = new Uint8Array(new SharedArrayBuffer(300_000));
    const start = addon().lock(twice, number);
    throwsCode(() => addon().lock(twice, number), 'ERR_ARGS', 'not locked');
    addon().unlock(twice.subarray(start));
    assert.is(memory(device).pinned, before);
  });

if (DEVICES.includes('simt')) {
  test('simt: a plan is captured at its first replay, and again when an address moved', () => {
    const native = addon();
    native.setOption('simt', 'graphs', 'on');
    try {
      native.count('simt', 'captures');
      native.count('simt', 'dropped_graphs');
      const made = (): [number, number] => [native.count('simt', 'captures'), native.count('simt', 'dropped_graphs')];
      tidy(() => {
        const first = setting('simt', 1000, 3);
        assert.equal(made(), [0, 0]);
        for (const value of [1, 2, 3]) run(first, value);
        assert.equal(made(), [1, 0]);
        const same = setting('simt', 1000, 3);
        run(same, 1);
        run(first, 2);
        assert.equal(made(), [1, 0], 'the shared region is large enough');
        const larger = setting('simt', 5000, 3);
        run(larger, 1);
        assert.equal(made(), [1, 0]);
        run(first, 2);
        run(first, 3);
        assert.equal(made(), [1, 1], 'the region moved: captured anew, once');
        drop(first, same, larger);
        assert.equal(made(), [0, 3]);
      });
    } finally {
      native.setOption('simt', 'graphs', 'off');
    }
  });

  test('simt: out of memory is ERR_OOM, caches are given back first, and all goes on', () => {
    const native = addon();
    const [before] = native.probe('simt').devices;
    trimMemory();
    native.setOption('simt', 'memory', String(memory('simt').live + 8 * MB));
    try {
      tidy(() => {
        const bytes = (n: number): Tensor => Tensor.empty([n], 'uint8', 'simt');
        const e = throwsCode(() => bytes(9 * MB), 'ERR_OOM', 'out of memory on simt');
        assert.match(e.message, /a buffer of \d+ bytes/);
        for (let i = 1; i <= 6; i++) bytes(i * MB).dispose(); // in the cache these would be 21 MB
        const kept = bytes(4 * MB);
        throwsCode(() => bytes(5 * MB), 'ERR_OOM');
        kept.dispose();
        bytes(7 * MB).dispose();
        throwsCode(() => Tensor.zeros([8 * MB], 'float32', 'simt'), 'ERR_OOM');
      });
      tidy(() => run(setting('simt', 1000, 2), 5));
    } finally {
      native.setOption('simt', 'memory', String(before!.memory));
    }
  });
}

test.run();
