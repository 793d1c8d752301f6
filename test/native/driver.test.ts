// What is said about an NVIDIA driver that is absent, too old, or shows no GPU: with a libcuda.so.1 of our own that says so.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cudaDevices } from '../../src/tensor/index.js';

const TENSORS = new URL('../../src/tensor/index.js', import.meta.url).href;
const PROGRAM = new URL('../../src/cli/main.js', import.meta.url).href;

const DRIVER = `
  #include <stdlib.h>
  #include <string.h>
  static int number(const char* name) { const char* text = getenv(name); return text ? atoi(text) : 0; }
  int cuDriverGetVersion(int* v) { *v = number("DRIVER_VERSION"); return 0; }
  int cuInit(unsigned flags) { return number("DRIVER_INIT"); }
  static int failing(void) { return 999; }
  int cuGetProcAddress_v2(const char* name, void** fn, int version, unsigned long long flags, int* status) {
    *fn = !strcmp(name, "cuDriverGetVersion") ? (void*)cuDriverGetVersion : !strcmp(name, "cuInit") ? (void*)cuInit
        : !strcmp(name, "cuGetProcAddress") ? (void*)cuGetProcAddress_v2 : (void*)failing;
    if (status) *status = 0;
    return 0;
  }
  int cuGetProcAddress(const char* name, void** fn, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, fn, version, flags, 0);
  }`;

const folder = mkdtempSync(join(tmpdir(), 'theia-'));
const empty = join(folder, 'empty');
mkdirSync(empty);
writeFileSync(join(folder, 'driver.c'), DRIVER);
const made = spawnSync('g++', ['-x', 'c', '-shared', '-fPIC', '-o', join(folder, 'libcuda.so.1'), join(folder, 'driver.c')]);
const why = !cudaDevices().built ? 'this addon was built without CUDA' : made.status !== 0 ? 'no g++ to make a driver with' : undefined;
test.after(() => rmSync(folder, { recursive: true, force: true }));

function run(script: string, env: Record<string, string>): { out: string; err: string } {
  const p = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, CUDA_VISIBLE_DEVICES: undefined, LD_LIBRARY_PATH: folder, ...env },
  });
  assert.is(p.status, 0, p.stderr);
  return { out: p.stdout, err: p.stderr };
}

/** What `device: 'cuda'` and `auto` say, and what the doctor says. */
function said(env: Record<string, string>): { cuda: string; auto: string; doctor: string } {
  const { out } = run(
    `const { Tensor, dispatch, resolveDevice } = await import(${JSON.stringify(TENSORS)});
     try { resolveDevice('cuda'); } catch (e) { console.log(e.code, e.message); }
     resolveDevice('auto', (line) => console.log(line));
     const a = Tensor.from([1, 2]); // the CPU works on
     dispatch('add', { a, b: a, y: a });
     console.log(a.float32().join());`,
    env,
  );
  const [cuda, auto, values] = out.trim().split('\n');
  assert.is(values, '2,4');
  const doctor = run(`const { program } = await import(${JSON.stringify(PROGRAM)}); await program(['doctor']);`, env).out;
  return { cuda: cuda!, auto: auto!, doctor };
}

const cases: [name: string, env: Record<string, string>, reason: RegExp, doctor: RegExp][] = [
  [
    'too old',
    { DRIVER_VERSION: '12040' },
    /the NVIDIA driver supports CUDA 12\.4, but this build needs 1\d\.\d$/,
    /driver for CUDA 12\.4, runtime 1\d\.\d[^]*hint: install a newer NVIDIA driver/,
  ],
  [
    'without a GPU',
    { DRIVER_VERSION: '99000', DRIVER_INIT: '100' },
    /the driver shows no GPU$/,
    /no GPU can be used: the driver shows no GPU/,
  ],
  [
    'whose GPUs are hidden',
    { DRIVER_VERSION: '99000', DRIVER_INIT: '100', CUDA_VISIBLE_DEVICES: '7' },
    /the driver shows no GPU \(CUDA_VISIBLE_DEVICES is '7'\)$/,
    /CUDA_VISIBLE_DEVICES is '7'/,
  ],
  [
    'that does not start',
    { DRIVER_VERSION: '99000', DRIVER_INIT: '999' },
    /\(cudaErrorUnknown\)$/,
    /no GPU can be used: .*cudaErrorUnknown/,
  ],
];

for (const [name, env, reason, doctor] of cases)
  test(`a driver ${name}`, () => {
    if (why) return console.log(`\nSKIP a driver ${name}: ${why}`);
    const s = said(env);
    assert.match(s.cuda, /^ERR_DEVICE device cuda:0 cannot be used: /);
    assert.match(s.cuda, reason);
    assert.match(s.auto, /^device auto: cpu \(/);
    assert.match(s.auto.slice(0, -1), reason);
    assert.match(s.doctor, doctor);
  });

test('no driver at all', () => {
  if (why) return console.log(`\nSKIP no driver at all: ${why}`);
  const { trouble } = cudaDevices();
  if (trouble === undefined || !/no NVIDIA driver/.test(trouble)) return console.log('\nSKIP no driver at all: there is one');
  assert.match(said({ LD_LIBRARY_PATH: empty }).cuda, /no NVIDIA driver was found \(libcuda\.so\.1\)$/);
});

test.run();
