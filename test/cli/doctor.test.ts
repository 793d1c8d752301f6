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
  assert.match(out, /^cuda +this build has no CUDA kernels; /m);
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
  assert.equal(r.devices, ['cpu']);
  assert.is(r.auto!.device, 'cpu');
  assert.is(r.cuda.built, false);
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

test('a driver is reported even though this build cannot use it', () => {
  const report = JSON.parse(doctor(['--json']).out) as DoctorReport;
  const text = formatReport({ ...report, cuda: { built: false, driver: 'NVRM version: 580.1' }, sharp: { error: 'not installed' } });
  assert.match(text, 'this build has no CUDA kernels; driver: NVRM version: 580.1');
  assert.match(text, /^sharp +not usable: not installed/m);
});

test('unknown flags are refused', () => {
  const { status, err } = doctor(['--jsn']);
  assert.is(status, 2);
  assert.match(err, /^theia: ERR_ARGS: .*--jsn\nhint: did you mean --json\?/);
});

test.run();
