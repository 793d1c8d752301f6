// What an op must keep on devices with tensor cores: on `simt`, where the GPU's sources run on the CPU, and on `cuda` where there is one.
//
// The pattern (test/ops/add.simt.test.ts is the smallest example; test files of other ops are written after it):
//   1. Build cases with plain numbers, as for the CPU. `full: true` on tensors that stay float32 when activations are bfloat16.
//      Shapes: small, odd, and such that a grid has 2 blocks in each dimension, a partial last tile in each, more k-steps than stages.
//   2. deviceTest(name, (device) => ...) registers a test per device; THEIA_TEST_DEVICES=cuda,simt chooses them.
//   3. checkDeviceExact(device, case, expected, dtypes): small integers, exact in float32 and in bfloat16.
//   4. checkDeviceFloat32(device, case): at most 2x the error of the plain float32 loop of the CPU, both against float64.
//   5. checkDeviceBf16(device, case, baseline): at most 2x the error of `baseline`, both against float64. The baseline is a plain loop in
//      TypeScript over the bfloat16 inputs with the kernel's rounding points: float32 sums (Math.fround), bf16() where the kernel stores.
//   6. All three run the case again with every tensor shifted by one element (unaligned views), and twice: same bits.
//   7. checkSchedules(device, case, dtypes): the same bits under every schedule of the emulator. One small case a kernel is enough.
// Guard zones around every tensor, untouched inputs and gaps of strided views are checked by all of them. Keep a file under a few seconds.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { addon } from '../../src/native/load.js';
import { resolveDevice } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { ROUNDING, relative, roundInputs, runCase, same, toBf16 } from './op-case.js';
import type { CaseTensor, OpCase, Values } from './op-case.js';

export type DeviceDType = 'float32' | 'bfloat16';
export const DEVICE_DTYPES: readonly DeviceDType[] = ['float32', 'bfloat16'];

/** Orders in which the emulator runs blocks, warps and lanes, and lets copies land. The race detector needs one only (scripts/simt-check.mjs). */
export const SCHEDULES: readonly string[] = (process.env['THEIA_TEST_SCHEDULES'] ?? 'forward,reverse,random:1,random:2,random:3').split(
  ',',
);

const missing = new Map<string, string>();
/** The devices that tests run on: what THEIA_TEST_DEVICES lists, else simt. */
export const DEVICES: readonly Device[] = (process.env['THEIA_TEST_DEVICES'] ?? 'simt').split(',').filter((name) => {
  try {
    resolveDevice(name);
    return true;
  } catch (error) {
    if (!(error instanceof TheiaError)) throw error;
    missing.set(name, error.message);
    return false;
  }
}) as Device[];

/** A test for each device; one that this build lacks is skipped with its reason. THEIA_TEST_ONLY leaves those whose name contains it. */
export function deviceTest(name: string, fn: (device: Device) => void | Promise<void>): void {
  if (!name.includes(process.env['THEIA_TEST_ONLY'] ?? '')) return;
  for (const device of DEVICES) test(`${device}: ${name}`, () => fn(device));
  for (const [device, reason] of missing) test(`${device}: ${name}`, () => console.log(`\nSKIP ${name} on ${device}: ${reason}`));
}

/** The nearest bfloat16, for baselines. */
export const bf16 = toBf16;

/** Runs fn under a schedule of the emulator; elsewhere just runs it. */
export function withSchedule<T>(device: Device, schedule: string, fn: () => T): T {
  if (device !== 'simt') return fn();
  addon().setOption('simt', 'schedule', schedule);
  try {
    return fn();
  } finally {
    addon().setOption('simt', 'schedule', 'forward');
  }
}

/** Runs fn as if simt had another compute capability (8.0, 8.7, 9.0) or number of multiprocessors: launchers choose tiles by them. */
export function withEmulated<T>(what: { capability?: string; multiprocessors?: number }, fn: () => T): T {
  const set = (capability: string, multiprocessors: number): void => {
    addon().setOption('simt', 'capability', capability);
    addon().setOption('simt', 'multiprocessors', String(multiprocessors));
  };
  const [now] = addon().probe('simt').devices;
  set(what.capability ?? now!.capability, what.multiprocessors ?? now!.multiprocessors);
  try {
    return fn();
  } finally {
    set(now!.capability, now!.multiprocessors);
  }
}

/** The case with the values that a dtype can hold, so that all precisions start from equal numbers. */
export function roundCase<N extends OpCase['op']>(c: OpCase<N>, dtype: DeviceDType): OpCase<N> {
  const rounded = roundInputs(c);
  if (dtype === 'float32') return rounded;
  const tensors: Record<string, CaseTensor> = {};
  for (const [name, t] of Object.entries(rounded.tensors)) {
    const kept = t.values === undefined || t.dtype !== undefined || t.full;
    tensors[name] = kept ? t : { ...t, values: Float64Array.from(t.values as ArrayLike<number>, toBf16) };
  }
  return { ...rounded, tensors };
}

/** Runs it aligned, again, and with all tensors shifted by an element; the first two must give the same bits. */
function runAll(device: Device, c: OpCase, dtype: DeviceDType): { label: string; got: Record<string, Values> }[] {
  const first = runCase(c, dtype, { device });
  const again = runCase(c, dtype, { device });
  for (const name of Object.keys(first)) same(again[name]!, first[name]!, `${c.op} ${name} on ${device} ${dtype}, run again`);
  return [
    { label: `${device} ${dtype}`, got: first },
    { label: `${device} ${dtype}, unaligned`, got: runCase(c, dtype, { device, shift: 1 }) },
  ];
}

/** Exactly these numbers, in each dtype: small integers, whose sums are exact in float32 and whose results bfloat16 can hold. */
export function checkDeviceExact(
  device: Device,
  c: OpCase,
  expected: Record<string, ArrayLike<number>>,
  dtypes: readonly DeviceDType[] = DEVICE_DTYPES,
): void {
  for (const dtype of dtypes)
    for (const { label, got } of runAll(device, c, dtype))
      for (const [name, want] of Object.entries(expected)) same(got[name]!, want, `${c.op} ${name} on ${label}`);
}

function checkErrors(
  device: Device,
  c: OpCase,
  dtype: DeviceDType,
  exact: Record<string, Values>,
  baseline: Record<string, ArrayLike<number>>,
  names: readonly string[],
): void {
  for (const { label, got } of runAll(device, c, dtype))
    for (const name of names) {
      const limit = Math.max(2 * relative(baseline[name]!, exact[name]!), ROUNDING);
      const error = relative(got[name]!, exact[name]!);
      assert.ok(error <= limit, `${c.op} ${name} on ${label}: relative error ${error} is above ${limit}`);
    }
}

/** float32: at most twice the error of the plain float32 loop of the CPU, both against float64. */
export function checkDeviceFloat32(device: Device, c: OpCase): void {
  const rounded = roundCase(c, 'float32');
  const exact = runCase(rounded, 'float64');
  checkErrors(device, rounded, 'float32', exact, runCase(rounded, 'float32', 'plain'), Object.keys(exact));
}

/**
 * bfloat16: at most twice the error of a plain loop of the same precision, both against float64.
 * @param baseline the plain loop: from the case (inputs already rounded) to the outputs that are to be judged
 */
export function checkDeviceBf16(device: Device, c: OpCase, baseline: (c: OpCase) => Record<string, ArrayLike<number>>): void {
  const rounded = roundCase(c, 'bfloat16');
  const plain = baseline(rounded);
  checkErrors(device, rounded, 'bfloat16', runCase(rounded, 'float64'), plain, Object.keys(plain));
}

/** The same bits under every schedule of the emulator. */
export function checkSchedules(device: Device, c: OpCase, dtypes: readonly DeviceDType[] = DEVICE_DTYPES): void {
  for (const dtype of dtypes) {
    const rounded = roundCase(c, dtype);
    const first = runCase(rounded, dtype, { device });
    for (const schedule of SCHEDULES) {
      const got = withSchedule(device, schedule, () => runCase(rounded, dtype, { device }));
      for (const name of Object.keys(first)) same(got[name]!, first[name]!, `${c.op} ${name} on ${device} ${dtype}, schedule ${schedule}`);
    }
  }
}
