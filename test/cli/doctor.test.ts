import { spawnSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatReport } from '../../src/cli/doctor.js';
import type { DoctorReport } from '../../src/cli/doctor.js';

const PROGRAM = new URL('../../src/cli/main.js', import.meta.url).href;

function doctor(args: string[], env: Record<string, string> = {}): { status: number | null; out: string; err: string } {
  const script = `const { program } = await import(${JSON.stringify(PROGRAM)}); await program(${JSON.stringify(['doctor', ...args])});`;
  const p = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env: { ...process.env, ...env } });
  return { status: p.status, out: p.stdout, err: p.stderr };
}

test('one block: everything the contract names', () => {
  const { status, out, err } = doctor([]);
  assert.is(status, 0, err);
  assert.is(err, '');
  for (const row of [
    'theia-native',
    'runtime',
    'cpu',
    'instruction sets',
    'threads',
    'memory',
    'addon',
    'devices',
    'cuda',
    'sharp',
    'auto',
  ])
    assert.match(out, new RegExp(`^${row} `, 'm'));
  assert.match(out, /Node-API \d+/);
  assert.match(out, /in use: (plain|avx2|avx512)/);
  assert.match(out, /^cuda +(this addon was built without CUDA|(no driver|driver for CUDA [\d.]+), runtime [\d.]+, code for \d\S*)$/m);
  assert.match(out, /^auto +cpu \(/m);
  assert.not.match(out, /\n\n/);
});

test('--json holds the same', () => {
  const { status, out } = doctor(['--json']);
  assert.is(status, 0);
  const r = JSON.parse(out) as DoctorReport;
  assert.ok(r.addon.loaded);
  assert.ok(r.addon.instructionSets.includes(r.addon.instructionSet));
  assert.ok(r.addon.threads >= 1);
  const gpus = r.cuda.devices.filter((d) => d.trouble === undefined).map((d) => d.device);
  assert.equal(r.devices, ['cpu', ...gpus, ...(r.simt.usable ? ['simt'] : [])]);
  assert.is(r.auto!.device, 'cpu');
  assert.is(r.cuda.trouble === null, r.cuda.devices.length > 0, 'either there is a GPU or a reason why not');
});

test('an addon that does not load: the block is printed with the reason, exit code 1', () => {
  const { status, out, err } = doctor([], { THEIA_ADDON: '/nowhere/theia.node' });
  assert.is(status, 1, err);
  assert.match(out, /^addon +ERR_NATIVE_LOAD: .*\/nowhere\/theia\.node: no such file/m);
  assert.match(out, /hint: .*npm run build:native/);
  assert.match(out, /^devices +none/m);
  assert.match(out, /^sharp /m);
  const json = doctor(['--json'], { THEIA_ADDON: '/nowhere/theia.node' });
  assert.is(json.status, 1);
  assert.is((JSON.parse(json.out) as DoctorReport).addon.loaded, false);
});

test('THEIA_CPU with a name that is none is said in the block', () => {
  const { status, out } = doctor([], { THEIA_CPU: 'sse9' });
  assert.is(status, 1);
  assert.match(out, /^addon +ERR_CONFIG: THEIA_CPU: expected plain, avx2 or avx512/m);
  assert.match(doctor([], { THEIA_CPU: 'plain' }).out, /in use: plain/);
});

test('a GPU that cannot be used is explained, with the mend', () => {
  const report = JSON.parse(doctor(['--json']).out) as DoctorReport;
  const none = { built: true, versions: 'no driver, runtime 13.0, code for 80-real', driver: null, trouble: null, devices: [] };
  const text = (cuda: Partial<DoctorReport['cuda']>): string => formatReport({ ...report, cuda: { ...none, ...cuda } });
  const unbuilt = text({ built: false, versions: null, driver: 'NVRM version: 580.1', trouble: 'this addon was built without CUDA' });
  assert.match(unbuilt, /^cuda +this addon was built without CUDA\n +driver: NVRM version: 580\.1\n +hint: .*nvcc/m);
  const absent = text({ trouble: 'no NVIDIA driver was found (libcuda.so.1)' });
  assert.match(absent, /^ +no GPU can be used: no NVIDIA driver was found.*\n +hint: install NVIDIA’s driver/m);
  assert.match(
    text({ driver: 'NVRM', trouble: 'no NVIDIA driver was found (libcuda.so.1)' }),
    /hint: the kernel module is loaded.*--gpus all/,
  );
  const old = text({ trouble: 'the NVIDIA driver supports CUDA 12.4, but this build needs 13.0' });
  assert.match(old, /supports CUDA 12\.4, but this build needs 13\.0\n +hint: install a newer NVIDIA driver/);
  const device = { device: 'cuda' as const, name: 'GeForce', capability: '7.5', multiprocessors: 40, memory: 2 ** 33 };
  assert.match(text({ devices: [device] }), /^ +cuda: GeForce, 7\.5, 8 GiB$/m);
  const strange = text({ devices: [{ ...device, trouble: 'its compute capability is 7.5, and this build has code for 80-real' }] });
  assert.match(strange, /cuda: GeForce, 7\.5, its compute capability.*\n +hint: build for it: .*THEIA_CUDA_ARCHS/);
  assert.match(formatReport({ ...report, sharp: { error: 'not installed' } }), /^sharp +not usable: not installed/m);
});

test('unknown flags are refused', () => {
  const { status, err } = doctor(['--jsn']);
  assert.is(status, 2);
  assert.match(err, /^theia: ERR_ARGS: .*--jsn\nhint: did you mean --json\?/);
});

test.run();
