// Devices with memory of their own, as the addon sees them: what is asked of a backend, and what goes wrong.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, addonPath } from '../../src/native/load.js';
import { Plan, Tensor, cudaDevices, dispatch, keep, memory, synchronize, tidy, trimMemory } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { DEVICES, deviceTest } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, same } from '../support/op-case.js';

const TENSORS = new URL('../../src/tensor/index.js', import.meta.url).href;
const COUNT = 3000;

const random = (seed: number): Float32Array => Float32Array.from(randomValues(COUNT, seed));

/** What asking for a device says in a process of its own. */
function opening(device: string, env: Record<string, string>): string {
  const script = `const { Tensor, resolveDevice } = await import(${JSON.stringify(TENSORS)});
    try { console.log(resolveDevice(${JSON.stringify(device)}), Tensor.zeros([1], 'float32', ${JSON.stringify(device)}).toString()); }
    catch (e) { console.log(e.code, e.message, '|', e.hint); }`;
  const p = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env: { ...process.env, ...env } });
  assert.is(p.status, 0, p.stderr);
  return p.stdout.trim();
}

deviceTest('values go there and back, and to another device', (device) =>
  tidy(() => {
    const values = random(1);
    const there = Tensor.from(values, [30, 100], 'float32', device);
    assert.is(there.device, device);
    assert.is(there.toString(), `Tensor([30,100], float32, ${device})`);
    same(there.float32(), values);
    same(there.to('cpu').float32(), values);
    same(Tensor.from(values).to(device).to(device).float32(), values);
    const row = there.slice(0, 3, 2).reshape([200]);
    same(row.to('cpu').float32(), values.subarray(300, 500));
    row.write(new Float32Array(200).fill(7));
    same(there.float32().subarray(299, 501), [values[299]!, ...new Array<number>(200).fill(7), values[500]!]);
    same(Tensor.zeros([5], 'int32', device).data() as Int32Array, [0, 0, 0, 0, 0]);
    assert.equal(Tensor.from(BigInt64Array.of(-5n), undefined, undefined, device).data(), BigInt64Array.of(-5n));
    assert.is(Tensor.empty([0], 'float32', device).float32().length, 0);
    throwsCode(() => there.strided([10, 10], [1, 10]).to('cpu'), 'ERR_SHAPE', 'to:');
    synchronize(device);
  }),
);

deviceTest('memory is counted for each device and used again', (device) => {
  const before = memory('cpu').live;
  const start = memory(device).live;
  const round = (): void =>
    tidy(() => {
      const a = Tensor.zeros([1 << 16], 'float32', device);
      assert.ok(memory(device).live >= start + (1 << 18));
      dispatch('add', { a, b: a, y: Tensor.empty([1 << 16], 'float32', device) });
    });
  round();
  const { cached } = memory(device);
  for (let i = 0; i < 20; i++) round();
  assert.is(memory(device).cached, cached);
  assert.is(memory(device).live, start);
  assert.is(memory('cpu').live, before);
  trimMemory();
  assert.ok(memory(device).cached < cached);
});

/** y = (a + b) + ((a + b) + a), with temporaries that are freed on the way. */
function work(a: Tensor, b: Tensor): Tensor {
  return tidy(() => {
    const empty = (): Tensor => Tensor.empty([COUNT], 'float32', a.device);
    const [sum, other, y] = [empty(), empty(), empty()];
    dispatch('add', { a, b, y: sum });
    dispatch('add', { a: sum, b: a, y: other });
    dispatch('add', { a: sum, b: other, y });
    return y;
  });
}

deviceTest('a plan replays with the inputs written since', (device) =>
  tidy(() => {
    const a = Tensor.from(random(1), [COUNT], 'float32', device);
    const b = Tensor.from(random(2), [COUNT], 'float32', device);
    const want = work(a, b).float32();
    using plan = Plan.record(() => work(a, b));
    assert.is(plan.calls, 3);
    same(plan.result.float32(), want, 'the recorded run itself');
    for (const seed of [3, 4, 5]) {
      a.write(random(seed));
      b.write(random(seed + 10));
      plan.replay();
      same(plan.result.float32(), work(a.to('cpu'), b.to('cpu')).float32(), `seed ${seed}`);
    }
    throwsCode(() => Plan.record(() => a.to('cpu')), 'ERR_PLAN', 'copying');
    throwsCode(() => Plan.record(() => Tensor.from([1], [1], 'float32', device)), 'ERR_PLAN', 'writing');
    same(a.float32(), random(5)); // no recording was left open
  }),
);

test('no GPU: asking for one says why, and the addon works on', () => {
  const { devices, trouble, built } = cudaDevices();
  if (trouble === undefined) return assert.ok(devices.length > 0 && built);
  assert.ok(trouble.length > 10, trouble);
  const said = opening('cuda:1', {});
  assert.match(said, /^ERR_DEVICE device cuda/);
  assert.ok(said.includes(trouble), said);
  assert.match(said, /\| .*theia doctor/);
  throwsCode(() => addon().openDevice('cuda'), 'ERR_DEVICE', trouble);
  tidy(() => same(Tensor.from([1, 2]).float32(), [1, 2]));
});

test('which GPUs a build covers', () => {
  const covers = (archs: string, capability: string): boolean => addon().covers(archs, capability);
  const ours = '80-real;87-real;90a-real;90-virtual';
  for (const capability of ['8.0', '8.6', '8.7', '8.9', '9.0', '10.0', '12.1']) assert.ok(covers(ours, capability), capability);
  for (const capability of ['5.2', '7.0', '7.5']) assert.not.ok(covers(ours, capability), capability);
  assert.not.ok(covers('90a-real', '10.0'), 'code with an a runs on its own GPU only');
  assert.not.ok(covers('87-real', '8.0'));
  assert.ok(covers('80', '8.6') && covers('80', '9.0'), 'without a suffix it is machine code and PTX');
  assert.not.ok(covers('80-real', '9.0'));
  assert.not.ok(covers('', '8.0'));
  throwsCode(() => covers(ours, 'new'), 'ERR_ARGS');
});

deviceTest('workers have devices of their own, and end with tensors, plans and copies on them', async (device) => {
  const script = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(TENSORS)}).then(({ Tensor, Plan, dispatch, pinShared, pinnedArray, writeLater, memory }) => {
      const a = Tensor.zeros([5000], 'float32', ${JSON.stringify(device)});
      writeLater(a, pinnedArray('float32', 5000, a.device).fill(2));
      const block = pinShared(200, a.device);
      writeLater(a.slice(0, 0, 50), new Float32Array(block.buffer, block.byteOffset, 50).fill(2)); // left to the end, pinned
      const plan = Plan.record(() => {
        const y = Tensor.empty([5000], 'float32', a.device);
        dispatch('add', { a, b: a, y });
        return y;
      });
      const fetch = plan.fetchLater(plan.result);
      for (let i = 0; i < 10; i++) plan.replay();
      globalThis.kept = [a, plan, fetch];
      parentPort.postMessage(fetch.previous()[4999]);
    });`;
  const results = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise<{ code: number; value: unknown }>((done, fail) => {
          const worker = new Worker(script, { eval: true });
          let value: unknown;
          worker.on('message', (m) => (value = m));
          worker.on('error', fail);
          worker.on('exit', (code) => done({ code, value }));
        }),
    ),
  );
  for (const result of results) assert.equal(result, { code: 0, value: 4 });
});

deviceTest('a process ends cleanly with all of that, THEIA_SYNC or not', (device) => {
  const script = `const { Tensor, Plan, dispatch, pinShared, pinnedArray, writeLater } = await import(${JSON.stringify(TENSORS)});
    const a = Tensor.zeros([5000], 'float32', ${JSON.stringify(device)});
    globalThis.kept = [a, writeLater(a, pinnedArray('float32', 5000, a.device)), pinShared(200, a.device), Plan.record(() => dispatch('add', { a, b: a, y: a }))];
    kept[3].replay();
    if (process.env.END === 'exit') process.exit(0);`;
  for (const env of [{}, { THEIA_SYNC: '1' }, { END: 'exit' }] as Record<string, string>[]) {
    const options = { encoding: 'utf8', env: { ...process.env, ...env } } as const;
    const p = spawnSync(process.execPath, ['--input-type=module', '-e', script], options);
    assert.equal([p.status, p.signal, p.stdout, p.stderr], [0, null, '', '']);
  }
});

test('names of devices, numbers of devices, kinds of devices', () => {
  for (const name of ['', 'gpu', 'cuda:', 'cuda:-1', 'cuda:1x', 'cuda:00', 'cuda:12345', 'simt:0', 'cpu:0', 'x'.repeat(5000)])
    throwsCode(() => addon().openDevice(name), 'ERR_DEVICE', 'expected a device of cpu, cuda, cuda:N or simt');
  throwsCode(() => addon().openDevice(3 as never), 'ERR_ARGS');
  assert.is(addon().openDevice('cpu'), 0);
  for (const device of [77, -1, 0.5, 2 ** 32]) {
    throwsCode(() => addon().allocate(8, device), 'ERR_ARGS');
    throwsCode(() => addon().memory(device), 'ERR_ARGS');
    throwsCode(() => addon().synchronize(device), 'ERR_ARGS');
  }
  throwsCode(() => addon().setOption('cpu', 'schedule', 'forward'), 'ERR_DEVICE');
  assert.is(addon().probe('nothing').built, false);
});

test('transfers and clears stay inside their buffers', () => {
  const [a, b] = [addon().allocate(16), addon().allocate(32)];
  for (const [from, at, to, there, bytes] of [
    [a, 8, b, 0, 9],
    [b, 0, a, 8, 9],
    [a, 17, b, 0, 0],
    [a, 0, b, 0, 2 ** 53 - 1],
  ] as const)
    throwsCode(() => addon().transfer(from, at, to, there, bytes), 'ERR_SHAPE');
  throwsCode(() => addon().transfer(a, 0, a, 8, 8), 'ERR_ARGS', 'two buffers');
  throwsCode(() => addon().clear(a, 8, 9), 'ERR_SHAPE');
  throwsCode(() => addon().clear(a, 8, -1), 'ERR_ARGS');
  addon().release(a);
  throwsCode(() => addon().transfer(a, 0, b, 0, 1), 'ERR_DISPOSED');
  throwsCode(() => addon().clear(a, 0, 1), 'ERR_DISPOSED');
  addon().release(b);
});

if (DEVICES.includes('simt')) {
  test('simt: options, counts, and an error thrown inside the emulator arrives as one of ours', () => {
    const native = addon();
    throwsCode(() => native.setOption('simt', 'schedule', 'sideways'), 'ERR_ARGS', 'sideways');
    throwsCode(() => native.setOption('simt', 'speed', '3'), 'ERR_ARGS', 'speed');
    throwsCode(() => native.setOption('simt', 'capability', '1.0'), 'ERR_ARGS', '1.0');
    throwsCode(() => native.setOption('simt', 'multiprocessors', '0'), 'ERR_ARGS');
    throwsCode(() => native.count('simt', 'sheep'), 'ERR_ARGS', 'sheep');
    native.count('simt', 'launches');
    tidy(() => {
      const a = Tensor.zeros([1025], 'float32', 'simt');
      dispatch('add', { a, b: a, y: a });
    });
    assert.is(native.count('simt', 'launches'), 1);
    assert.is(native.count('simt', 'launches'), 0);
  });

  test('simt: absent, or of another build: the error names the file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'theia-'));
    try {
      copyFileSync(addonPath()!, join(folder, 'theia.node'));
      assert.match(
        opening('simt', { THEIA_ADDON: join(folder, 'theia.node') }),
        /^ERR_DEVICE device simt: .*theia_simt\.node: cannot open/,
      );
      const other = join(folder, 'other.node');
      writeFileSync(other, 'no shared object');
      assert.match(opening('simt', { THEIA_SIMT: other }), /^ERR_DEVICE device simt: .*other\.node/);
      assert.match(opening('simt', { THEIA_SIMT: addonPath()! }), /^ERR_DEVICE device simt: .*another build/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    assert.is(opening('simt', {}), 'simt Tensor([1], float32, simt)');
  });
}

deviceTest('an op that is not built for it, and arguments that lie apart', (device) =>
  tidy(() => {
    const x = (on: Device): Tensor => Tensor.zeros([4, 4], 'float32', on);
    const packed = Tensor.zeros([32 * 4], 'float32', device);
    throwsCode(() => dispatch('pack', { w: x(device), packed, use: 'forward' }), 'ERR_UNSUPPORTED', 'pack is not built for');
    throwsCode(() => dispatch('add', { a: x('cpu'), b: x(device), y: x('cpu') }), 'ERR_DEVICE', "'a' on cpu", `'b' on ${device}`);
    const kept = keep(x(device));
    kept.dispose();
    throwsCode(() => dispatch('add', { a: kept, b: kept, y: kept }), 'ERR_DISPOSED');
  }),
);

test.run();
