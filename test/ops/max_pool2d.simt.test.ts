// The GPU's max_pool2d (kernels/max_pool2d/max_pool2d.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { countOf } from '../../src/tensor/index.js';
import { checkDeviceExact, checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';
import { POOLS, expectedGradient, forwardCase, gradientCase, nameOf, outShape, winners } from '../support/pool-case.js';
import type { Pool } from '../support/pool-case.js';

// Windows that leave rows and columns out; two blocks across, the second cut.
const MORE: Pool[] = [
  { b: 2, h: 6, w: 7, c: 24, kernel: 3, stride: 5, padding: 1 },
  { b: 1, h: 5, w: 22, c: 64, kernel: 3, stride: 1, padding: 1 },
];

for (const p of [...POOLS, ...MORE])
  deviceTest(`takes the maximum and gives its gradient to the first one: ${nameOf(p)}`, (device) => {
    const x = smallIntegers(p.b * p.h * p.w * p.c, 1, 2); // most windows have several maxima
    const dy = smallIntegers(countOf(outShape(p)), 2);
    checkDeviceExact(device, forwardCase(p, x), { y: winners(p, x).map((at) => x[at]!) });
    checkDeviceExact(device, gradientCase(p, x, dy), { dx: expectedGradient(p, x, dy) });
  });

deviceTest('NaN wins, the last one takes the gradient; minus infinity is a value like any other', (device) => {
  for (const c of [18, 24]) {
    const p: Pool = { b: 1, h: 4, w: 4, c, kernel: 3, stride: 1, padding: 1 };
    const x = smallIntegers(16 * c, 3);
    x[(1 * 4 + 1) * c + 2] = NaN;
    x[(1 * 4 + 2) * c + 2] = NaN;
    for (let i = 0; i < 16; i++) x[i * c + 17] = -Infinity;
    x[(3 * 4 + 3) * c] = Infinity;
    const dy = smallIntegers(16 * c, 4);
    checkDeviceExact(device, forwardCase(p, x), { y: winners(p, x).map((at) => x[at]!) });
    checkDeviceExact(device, gradientCase(p, x, dy), { dx: expectedGradient(p, x, dy) });
  }
});

deviceTest('reads and writes strided maps', (device) => {
  // Maps of 24 channels of which 16 take part, and rows longer than needed: vectors; shifted by an element: single ones.
  const p: Pool = { b: 2, h: 6, w: 6, c: 16, kernel: 3, stride: 2, padding: 1 };
  const x = smallIntegers(p.b * 36 * 16, 1);
  const dy = smallIntegers(countOf(outShape(p)), 2);
  const apart = (rows: number): number[] => [(rows + 1) * rows * 24, (rows + 1) * 24, 24, 1];
  const forward = forwardCase(p, x);
  const backward = gradientCase(p, x, dy);
  for (const t of [forward.tensors['x']!, backward.tensors['x']!, backward.tensors['dx']!]) t.strides = apart(6);
  for (const t of [forward.tensors['y']!, backward.tensors['dy']!]) t.strides = apart(3);
  checkDeviceExact(device, forward, { y: winners(p, x).map((at) => x[at]!) });
  checkDeviceExact(device, backward, { dx: expectedGradient(p, x, dy) });
});

deviceTest('the same bits under every schedule, and with more lines than blocks', (device) => {
  const p = MORE[1]!;
  const x = randomValues(p.b * p.h * p.w * p.c, 1);
  const dy = randomValues(countOf(outShape(p)), 2);
  checkSchedules(device, forwardCase(p, x));
  checkSchedules(device, gradientCase(p, x, dy));
  if (device !== 'simt') return;
  const high: Pool = { b: 3, h: 40, w: 1, c: 3, kernel: 1, stride: 1, padding: 0 }; // 120 lines, 64 blocks
  const values = smallIntegers(120 * 3, 5);
  withEmulated({ multiprocessors: 1 }, () => {
    same(runCase(forwardCase(high, values), 'float32', { device })['y']!, values);
    same(runCase(gradientCase(high, values, values), 'float32', { device })['dx']!, values);
  });
});

test.run();
