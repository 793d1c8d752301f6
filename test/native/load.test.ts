import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, addonPath } from '../../src/native/load.js';

const LOADER = new URL('../../src/native/load.js', import.meta.url).href;
const TENSORS = new URL('../../src/tensor/index.js', import.meta.url).href;

/** Runs a module in a process of its own. */
function runModule(
  script: string,
  env: Record<string, string> = {},
): { status: number | null; signal: string | null; out: string; err: string } {
  const p = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60000,
  });
  return { status: p.status, signal: p.signal, out: p.stdout, err: p.stderr };
}

/** What the loader says when THEIA_ADDON names this file. */
function loadError(file: string): { code: string; message: string; hint: string } {
  const p = runModule(
    `const { addon } = await import(${JSON.stringify(LOADER)});
     try { addon(); console.log('{}'); } catch (e) { console.log(JSON.stringify({ code: e.code, message: e.message, hint: e.hint })); }`,
    { THEIA_ADDON: file },
  );
  assert.is(p.status, 0, p.err);
  return JSON.parse(p.out);
}

function withFolder(fn: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    fn(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('an addon that is not there: what was tried and the mend', () => {
  withFolder((folder) => {
    const file = join(folder, 'nowhere.node');
    const e = loadError(file);
    assert.is(e.code, 'ERR_NATIVE_LOAD');
    assert.ok(e.message.includes(`${file}: no such file`), e.message);
    assert.match(e.message, process.platform);
    assert.match(e.hint, 'npm run build:native');
  });
});

test('a file that is no addon: named, with a reason in words', () => {
  withFolder((folder) => {
    const text = join(folder, 'text.node');
    writeFileSync(text, 'this is no shared object\n');
    const e = loadError(text);
    assert.is(e.code, 'ERR_NATIVE_LOAD');
    assert.ok(e.message.includes(text), e.message);
    assert.match(e.message, /another system or processor|refused it/);
    assert.match(e.hint, 'npm run build:native');

    const empty = join(folder, 'empty.node');
    writeFileSync(empty, '');
    assert.is(loadError(empty).code, 'ERR_NATIVE_LOAD');
  });
});

test('an addon elsewhere is taken from there', () => {
  withFolder((folder) => {
    const copy = join(folder, 'theia.node');
    addon();
    copyFileSync(addonPath()!, copy);
    const p = runModule(`const { addon, addonPath } = await import(${JSON.stringify(LOADER)}); addon(); console.log(addonPath());`, {
      THEIA_ADDON: copy,
    });
    assert.is(p.out.trim(), copy, p.err);
  });
});

test('THEIA_CPU: plain works, a name that is none is ERR_CONFIG', () => {
  const script = `const { addon } = await import(${JSON.stringify(LOADER)});
    try { console.log(addon().machine().instructionSet); } catch (e) { console.log(e.code, e.message); }`;
  assert.is(runModule(script, { THEIA_CPU: 'plain' }).out.trim(), 'plain');
  const wrong = runModule(script, { THEIA_CPU: 'sse9' });
  assert.is(wrong.status, 0, wrong.err);
  assert.match(wrong.out, /^ERR_CONFIG THEIA_CPU: expected plain, avx2 or avx512, got 'sse9'/);
});

test('several workers load the addon at once and compute', async () => {
  const script = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(TENSORS)}).then(({ Tensor, dispatch, tidy, memory }) => {
      let sum = 0;
      for (let round = 0; round < 20; round++)
        sum += tidy(() => {
          const a = Tensor.from(new Float32Array(70000).fill(workerData));
          dispatch('add', { a, b: a, y: a });
          const y = a.float32();
          return y[0] + y[69999];
        });
      parentPort.postMessage({ sum, buffers: memory().buffers });
    });`;
  const before = addon().memory().buffers;
  const results = await Promise.all(
    [1, 2, 3, 4, 5].map(
      (n) =>
        new Promise<{ n: number; sum: number; buffers: number; code: number }>((done, fail) => {
          const worker = new Worker(script, { eval: true, workerData: n });
          let message: { sum: number; buffers: number } | undefined;
          worker.on('message', (m) => (message = m));
          worker.on('error', fail);
          worker.on('exit', (code) => done({ n, code, ...message! }));
        }),
    ),
  );
  for (const { n, sum, buffers, code } of results) {
    assert.is(code, 0);
    assert.is(sum, 20 * 2 * 2 * n);
    assert.is(buffers, 0, 'a worker has buffers of its own');
  }
  assert.is(addon().memory().buffers, before);
});

test('a worker that is terminated in the middle leaves the process whole', async () => {
  const script = `
    import(${JSON.stringify(TENSORS)}).then(({ Tensor, dispatch }) => {
      const a = Tensor.zeros([1 << 20]);
      require('node:worker_threads').parentPort.postMessage('busy');
      for (;;) dispatch('add', { a, b: a, y: a });
    });`;
  const worker = new Worker(script, { eval: true });
  await new Promise((done, fail) => worker.once('message', done).once('error', fail));
  await worker.terminate();
  assert.ok(addon().memory().live >= 0);
});

test('a process ends cleanly with live tensors, a plan and a recording', () => {
  const p = runModule(`
    const { Tensor, Plan, dispatch } = await import(${JSON.stringify(TENSORS)});
    const { addon } = await import(${JSON.stringify(LOADER)});
    const a = Tensor.zeros([100000]);
    globalThis.plan = Plan.record(() => { const y = Tensor.empty([100000]); dispatch('add', { a, b: a, y }); return y; });
    plan.replay();
    addon().beginRecording();
    globalThis.b = Tensor.empty([10]);
    console.log('end');`);
  assert.is(p.signal, null);
  assert.is(p.status, 0, p.err);
  assert.is(p.out, 'end\n');
  assert.is(p.err, '');
});

test.run();
