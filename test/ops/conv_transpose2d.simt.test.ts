// The GPU's conv_transpose2d (kernels/conv2d/window_device.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { checkGolden, nameOf } from '../support/conv-case.js';
import type { Geometry } from '../support/conv-case.js';
import {
  checkAccuracyOn,
  checkAllTilesOn,
  checkEachGradientAloneOn,
  checkExtremesOn,
  checkForwardExact,
  checkGradientExact,
  checkSchedulesOn,
  checkStridedOn,
} from '../support/conv-device.js';
import { deviceTest } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';

// The translators' four (14 -> 16, 16 -> 16, 16 -> 31, 31 -> 64) at small size, then what no model has: a window as wide as the stride,
// strides wider than the window (outputs that no tap reaches), windows that are not square, wide padding, more taps than one product takes.
const GEOMETRIES: Geometry[] = [
  { b: 1, h: 1, w: 1, i: 1, o: 1, k: 1, stride: 1, padding: 0, outputPadding: 0 },
  { b: 2, h: 7, w: 7, i: 8, o: 40, k: 3, stride: 1, padding: 0, outputPadding: 0 },
  { b: 2, h: 7, w: 6, i: 33, o: 5, k: 3, stride: 1, padding: 1, outputPadding: 0 },
  { b: 2, h: 8, w: 8, i: 20, o: 33, k: 3, stride: 2, padding: 1, outputPadding: 0 },
  { b: 1, h: 9, w: 9, i: 16, o: 24, k: 3, stride: 2, padding: 0, outputPadding: 1 },
  { b: 2, h: 5, w: 4, i: 9, o: 65, k: 1, stride: 1, padding: 0, outputPadding: 0 },
  { b: 1, h: 4, w: 5, i: 3, o: 33, k: 4, stride: 4, padding: 0, outputPadding: 0 },
  { b: 1, h: 5, w: 6, i: 8, o: 8, k: 4, stride: 2, padding: 1, outputPadding: 0 },
  { b: 2, h: 4, w: 3, i: 3, o: 5, k: 1, stride: 3, padding: 0, outputPadding: 2 },
  { b: 1, h: 4, w: 3, i: 8, o: 8, k: [2, 1], stride: 3, padding: 1, outputPadding: 2 },
  { b: 1, h: 6, w: 7, i: 2, o: 3, k: [2, 3], stride: 2, padding: 1, outputPadding: 1 },
  { b: 1, h: 9, w: 8, i: 2, o: 3, k: 2, stride: 1, padding: 3, outputPadding: 0 },
  { b: 1, h: 4, w: 5, i: 3, o: 4, k: 8, stride: 1, padding: 2, outputPadding: 0 },
  { b: 1, h: 3, w: 5, i: 8, o: 8, k: 16, stride: 2, padding: 4, outputPadding: 1 },
];

for (const g of GEOMETRIES)
  deviceTest(`exact on integers: ${nameOf(g)}`, (device) => {
    checkForwardExact(device, g, { bias: true, relu: true });
    for (const options of [{}, { relu: true, accumulate: true }]) checkGradientExact(device, g, options);
  });

// At least two tiles each way, the last ones partial, and more steps of k than stages: forward in the first two (in each of the parities'
// products 81 or more rows, 72 columns, k from 208 on), dx and dw (k = 162) in the third.
const UP: Geometry = { b: 1, h: 9, w: 9, i: 208, o: 72, k: 3, stride: 2, padding: 0, outputPadding: 1 };
const PAD: Geometry = { b: 1, h: 8, w: 8, i: 24, o: 72, k: 3, stride: 1, padding: 0, outputPadding: 0 };
const DEEP: Geometry = { ...UP, b: 3, i: 72, o: 24 };

deviceTest('as accurate as the plain loop', (device) => {
  checkAccuracyOn(device, { ...UP, i: 40 }, {});
  checkAccuracyOn(device, { ...PAD, i: 33, o: 67 }, {});
});

deviceTest('the same bits under every schedule', (device) => {
  checkSchedulesOn(device, UP, DEEP);
  checkSchedulesOn(device, { ...PAD, i: 23, o: 67 }, { ...PAD, b: 2, i: 67, o: 7 });
});

deviceTest('any tile and any parts of k', (device) =>
  checkAllTilesOn(device, { ...PAD, h: 13, w: 14, i: 96, o: 480 }, { ...UP, b: 3, i: 24, o: 136 }),
);

deviceTest('maps with gaps', (device) => {
  for (const gap of [8, 3]) checkStridedOn(device, { b: 2, h: 6, w: 5, i: 8, o: 16, k: 3, stride: 2, padding: 1, outputPadding: 0 }, gap);
  checkStridedOn(device, { b: 2, h: 4, w: 5, i: 8, o: 16, k: 3, stride: 1, padding: 0, outputPadding: 0 }, 8);
});

deviceTest('only the gradients that are asked for', (device) =>
  checkEachGradientAloneOn(device, { b: 1, h: 5, w: 6, i: 8, o: 10, k: 3, stride: 2, padding: 1, outputPadding: 0 }),
);

deviceTest('NaN and infinity', (device) =>
  checkExtremesOn(device, { b: 1, h: 5, w: 5, i: 33, o: 34, k: 3, stride: 2, padding: 1, outputPadding: 0 }),
);

for (const [name, stride, padding, outputPadding] of [
  ['conv_transpose2d_k3_s1p0', 1, 0, 0],
  ['conv_transpose2d_k3_s1p0_small', 1, 0, 0],
  ['conv_transpose2d_k3_s2p1', 2, 1, 0],
  ['conv_transpose2d_k3_s2p1_small', 2, 1, 0],
  ['conv_transpose2d_k3_s2p0op1', 2, 0, 1],
  ['conv_transpose2d_k3_s2p0op1_small', 2, 0, 1],
  ['conv_transpose2d_k3_s1p1', 1, 1, 0],
] as const)
  deviceTest(`agrees with PyTorch: ${name}`, (device) => checkGolden(name, { stride, padding, outputPadding }, [['float32', { device }]]));

deviceTest('refuses mixed types', (device) =>
  tidy(() => {
    const make = (shape: number[], dtype: 'bfloat16' | 'float32' = 'bfloat16'): Tensor => Tensor.empty(shape, dtype, device);
    const scalars = { stride: 2, padding: 1, output_padding: 0, activation: 'none' } as const;
    const maps = { x: make([1, 4, 4, 4]), w: make([8, 3, 3, 4]), ...scalars };
    const y = make([1, 7, 7, 8]);
    throwsCode(() => dispatch('conv_transpose2d', { ...maps, y: make([1, 7, 7, 8], 'float32') }), 'ERR_DTYPE', "'y'", 'bfloat16');
    throwsCode(() => dispatch('conv_transpose2d', { ...maps, bias: make([8]), y }), 'ERR_DTYPE', "'bias'", 'float32');
    throwsCode(() => dispatch('conv_transpose2d_grad', { ...maps, dy: y, dbias: make([8]), accumulate: 0 }), 'ERR_DTYPE', "'dbias'");
  }),
);

test.run();
