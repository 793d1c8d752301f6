// What conv2d and conv_transpose2d are held to on devices with tensor cores: both are the same products there.
import * as assert from 'uvu/assert';
import type { Device } from '../../src/tensor/index.js';
import { forwardCase, forwardExpected, gradientCase, gradientExpected, shapesOf } from './conv-case.js';
import type { Geometry, Options } from './conv-case.js';
import {
  DEVICE_DTYPES,
  bf16,
  checkDeviceBf16,
  checkDeviceExact,
  checkDeviceFloat32,
  checkSchedules,
  withEmulated,
  withSchedule,
} from './device-case.js';
import type { DeviceDType } from './device-case.js';
import { randomValues, runCase, same, smallIntegers } from './op-case.js';
import type { OpCase } from './op-case.js';

type Outputs = Record<string, Float64Array>;

/** Maps in bfloat16, as the kernels store them; sums of parameters stay. */
const stored = (outputs: Outputs): Outputs =>
  Object.fromEntries(Object.entries(outputs).map(([name, v]) => [name, name === 'y' || name === 'dx' ? v.map(bf16) : v]));

/** Whole values of −2 to 2: sums are exact in float32, so that a result has one right bfloat16. */
export const integers = (count: number, seed: number): Float64Array => smallIntegers(count, seed, 2);

/** Exactly these sums, rounded once. */
export function checkExactOn(device: Device, c: OpCase, expected: Outputs): void {
  checkDeviceExact(device, c, expected, ['float32']);
  checkDeviceExact(device, c, stored(expected), ['bfloat16']);
}

export function checkForwardExact(device: Device, g: Geometry, options: Options = {}): void {
  const c = forwardCase(g, integers, options);
  checkExactOn(device, c, forwardExpected(g, c));
}

export function checkGradientExact(device: Device, g: Geometry, options: Options = {}): void {
  const c = gradientCase(g, integers, options);
  checkExactOn(device, c, gradientExpected(g, c));
}

/** At most twice the error of plain loops, forward with everything in its epilogue and backward behind a ReLU. */
export function checkAccuracyOn(device: Device, g: Geometry, options: Options): void {
  const forward = forwardCase(g, randomValues, { bias: true, relu: true, ...options });
  checkDeviceFloat32(device, forward);
  checkDeviceBf16(device, forward, (c) => stored(forwardExpected(g, c, Float32Array)));
  for (const more of [{}, { relu: true, accumulate: true }]) {
    const gradient = gradientCase(g, randomValues, more);
    checkDeviceFloat32(device, gradient);
    checkDeviceBf16(device, gradient, (c) => stored(gradientExpected(g, c, Float32Array)));
  }
}

/** The same bits under every schedule. */
export function checkSchedulesOn(device: Device, forward: Geometry, gradient: Geometry): void {
  checkSchedules(device, forwardCase(forward, randomValues, { bias: true, relu: true }));
  checkSchedules(device, gradientCase(gradient, randomValues, { relu: true }));
}

/**
 * The device's size decides which tile is taken and into how many parts k is cut. Sums of integers do not depend on that, nor on the schedule;
 * that they are right is what the other tests show, for the tiles that a whole GPU takes.
 */
function checkTilesOn(
  device: Device,
  c: OpCase,
  dtypes: readonly DeviceDType[],
  emulated: readonly (readonly [number, string, string])[],
): void {
  if (device !== 'simt') return;
  for (const dtype of dtypes) {
    const want = runCase(c, dtype, { device });
    for (const [multiprocessors, capability, schedule] of emulated)
      withEmulated({ multiprocessors, capability }, () => {
        const got = withSchedule(device, schedule, () => runCase(c, dtype, { device }));
        for (const name of Object.keys(want))
          same(got[name]!, want[name]!, `${c.op} ${name}, ${dtype}, ${multiprocessors} multiprocessors`);
      });
  }
}

/** Forward and dx at a shape that takes two of the widest tile's columns, the last one partial; then all tiles of all products. */
export function checkAllTilesOn(device: Device, wide: Geometry, medium: Geometry): void {
  const one = [[1, '9.0', 'random:1']] as const;
  checkTilesOn(device, forwardCase(wide, integers), ['bfloat16'], one);
  const gradient = gradientCase({ ...wide, i: wide.o, o: wide.i }, integers);
  for (const name of ['dw', 'dbias']) delete gradient.tensors[name];
  checkTilesOn(device, gradient, ['bfloat16'], one);
  const few = [...one, [4, '8.0', 'random:2'], [8, '9.0', 'reverse']] as const;
  checkTilesOn(device, forwardCase(medium, integers, { bias: true }), DEVICE_DTYPES, few);
  checkTilesOn(device, gradientCase(medium, integers, { accumulate: true }), DEVICE_DTYPES, few);
}

/** Maps with gaps between rows, images and positions, in every tensor that is a map. */
export function checkStridedOn(device: Device, g: Geometry, gap: number): void {
  const spread = (c: OpCase): OpCase => {
    const tensors = { ...c.tensors };
    for (const name of ['x', 'y', 'dy', 'dx', 'residual'])
      if (tensors[name]) {
        const [, h, w, channels] = tensors[name].shape as [number, number, number, number];
        const position = channels + gap;
        const row = (w + 1) * position;
        tensors[name] = { ...tensors[name], strides: [h * row + gap, row, position, 1] };
      }
    return { ...c, tensors };
  };
  const forward = forwardCase(g, integers, { bias: true, relu: true });
  checkExactOn(device, spread(forward), forwardExpected(g, forward));
  for (const options of [{}, { relu: true }]) {
    const gradient = gradientCase(g, integers, options);
    checkExactOn(device, spread(gradient), gradientExpected(g, gradient));
  }
}

/** dx, dw and dbias each alone. */
export function checkEachGradientAloneOn(device: Device, g: Geometry): void {
  for (const relu of [false, true]) {
    const whole = gradientCase(g, integers, { relu });
    const expected = gradientExpected(g, whole);
    for (const name of ['dx', 'dw', 'dbias']) {
      const tensors = { ...whole.tensors };
      for (const other of ['dx', 'dw', 'dbias']) if (other !== name) delete tensors[other];
      checkExactOn(device, { ...whole, tensors }, { [name]: expected[name]! });
    }
  }
}

/** A NaN reaches what the reference says and nothing else: no tile multiplies what lies outside a map. Infinity stays what it is. */
export function checkExtremesOn(device: Device, g: Geometry): void {
  const c = forwardCase(g, integers, { bias: true, relu: true });
  const x = Float64Array.from(c.tensors['x']!.values!);
  x[Math.floor(x.length / 2)] = NaN;
  c.tensors['x']!.values = x;
  const expected = forwardExpected(g, c);
  assert.ok(expected['y']!.some(Number.isNaN) && !expected['y']!.every(Number.isNaN));
  checkExactOn(device, c, expected);
  const huge = forwardCase(g, (count) => new Float64Array(count).fill(2 ** 100));
  for (const dtype of DEVICE_DTYPES)
    same(runCase(huge, dtype, { device })['y']!, new Float64Array(shapesOf(g).y.reduce((a, b) => a * b)).fill(Infinity), dtype);
}
