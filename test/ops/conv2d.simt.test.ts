// The GPU's conv2d (kernels/conv2d/window_device.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { checkGolden, forwardCase, forwardReference, nameOf } from '../support/conv-case.js';
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
  integers,
} from '../support/conv-device.js';
import { DEVICE_DTYPES, bf16, deviceTest } from '../support/device-case.js';
import { same } from '../support/op-case.js';
import { throwsCode } from '../support/errors.js';

// Channels that are multiples of 8 (16-byte copies), of 4 and 2 (narrower ones) and odd; every kernel of the models; windows that are not
// square, padding wider than the window, strides that skip input (dx of outputs that no tap reaches), rows of the window that are one run,
// more taps than one product takes (49).
const GEOMETRIES: Geometry[] = [
  { b: 1, h: 1, w: 1, i: 1, o: 1, k: 1, stride: 1, padding: 0 },
  { b: 2, h: 5, w: 4, i: 33, o: 65, k: 1, stride: 1, padding: 0 },
  { b: 2, h: 7, w: 6, i: 3, o: 33, k: 1, stride: 2, padding: 0 },
  { b: 1, h: 4, w: 5, i: 8, o: 16, k: 1, stride: 1, padding: 1 },
  { b: 2, h: 8, w: 8, i: 8, o: 40, k: 3, stride: 1, padding: 1 },
  { b: 1, h: 7, w: 9, i: 33, o: 5, k: 3, stride: 1, padding: 0 },
  { b: 3, h: 9, w: 8, i: 20, o: 34, k: 3, stride: 2, padding: 1 },
  { b: 2, h: 7, w: 7, i: 16, o: 24, k: 4, stride: 2, padding: 1 },
  { b: 1, h: 20, w: 21, i: 3, o: 16, k: 7, stride: 2, padding: 3 },
  { b: 1, h: 6, w: 5, i: 2, o: 3, k: [2, 3], stride: 1, padding: 2 },
  { b: 2, h: 11, w: 10, i: 8, o: 8, k: 2, stride: 3, padding: 0 },
  { b: 1, h: 2, w: 9, i: 4, o: 3, k: [2, 1], stride: 5, padding: 1 },
  { b: 1, h: 10, w: 9, i: 3, o: 5, k: 8, stride: 1, padding: 1 },
  { b: 1, h: 10, w: 9, i: 8, o: 8, k: 8, stride: 2, padding: 1 },
  { b: 1, h: 16, w: 24, i: 3, o: 8, k: 8, stride: 8, padding: 0 },
];

for (const g of GEOMETRIES)
  deviceTest(`exact on integers: ${nameOf(g)}`, (device) => {
    checkForwardExact(device, g, { bias: true, residual: true, relu: true });
    for (const options of [{}, { relu: true, accumulate: true }]) checkGradientExact(device, g, options);
  });

// A translator's convolution in small. At least two tiles each way, the last ones partial, and more steps of k than stages: forward in the
// first (81 x 72 of 216), dx (243 x 8 of 648) and dw (72 x 72 of 243) in the second.
const SMALL: Geometry = { b: 1, h: 9, w: 9, i: 24, o: 72, k: 3, stride: 1, padding: 1 };
const DEEP: Geometry = { ...SMALL, b: 3, i: 8 };

deviceTest('as accurate as the plain loop', (device) => {
  checkAccuracyOn(device, SMALL, { residual: true });
  checkAccuracyOn(device, { ...SMALL, i: 33, o: 67, stride: 2 }, {});
  checkAccuracyOn(device, { b: 1, h: 9, w: 10, i: 5, o: 9, k: 8, stride: 1, padding: 2 }, { residual: true }); // sums handed on
});

deviceTest('the same bits under every schedule', (device) => {
  checkSchedulesOn(device, SMALL, DEEP);
  checkSchedulesOn(device, { ...SMALL, i: 23, o: 67 }, { ...DEEP, i: 7, o: 67, stride: 2 });
});

deviceTest('any tile and any parts of k', (device) =>
  checkAllTilesOn(device, { ...SMALL, h: 15, w: 16, i: 96, o: 480 }, { ...SMALL, b: 3, o: 136 }),
);

deviceTest('maps with gaps', (device) => {
  for (const gap of [8, 3]) checkStridedOn(device, { b: 2, h: 6, w: 5, i: 8, o: 16, k: 3, stride: 1, padding: 1 }, gap);
  checkStridedOn(device, { b: 2, h: 7, w: 5, i: 8, o: 16, k: 3, stride: 2, padding: 0 }, 8);
  checkStridedOn(device, { b: 2, h: 4, w: 5, i: 8, o: 16, k: 1, stride: 1, padding: 0 }, 8);
});

deviceTest('only the gradients that are asked for', (device) =>
  checkEachGradientAloneOn(device, { b: 1, h: 6, w: 6, i: 8, o: 10, k: 3, stride: 1, padding: 1 }),
);

deviceTest('NaN and infinity', (device) => checkExtremesOn(device, { b: 1, h: 6, w: 6, i: 33, o: 34, k: 3, stride: 1, padding: 1 }));

deviceTest('adds the residual in place', (device) => {
  const g: Geometry = { b: 2, h: 6, w: 6, i: 8, o: 16, k: 3, stride: 1, padding: 1 };
  const c = forwardCase(g, integers, { residual: true });
  const values = (name: string): Float32Array => Float32Array.from(c.tensors[name]!.values!);
  const want = forwardReference(g, values('x'), values('w'), undefined, values('residual'), true);
  for (const dtype of DEVICE_DTYPES)
    tidy(() => {
      const bits = (v: Float32Array): Uint16Array => new Uint16Array(v.buffer).filter((_, half) => half % 2 === 1);
      const data = (name: string): Float32Array | Uint16Array => (dtype === 'bfloat16' ? bits(values(name)) : values(name));
      const on = (name: string): Tensor => Tensor.from(data(name), c.tensors[name]!.shape, dtype, device);
      const y = on('residual');
      dispatch('conv2d', { x: on('x'), w: on('w'), residual: y, y, stride: 1, padding: 1, activation: 'relu' });
      const expected = Float32Array.from(want);
      same(y.data() as Float32Array, dtype === 'bfloat16' ? bits(expected.map(bf16)) : expected, dtype);
    });
});

for (const [name, stride, padding] of [
  ['conv2d_s1p1k3', 1, 1],
  ['conv2d_s2p1k3_even', 2, 1],
  ['conv2d_s2p1k3_odd', 2, 1],
  ['conv2d_s2p1k4', 2, 1],
  ['conv2d_s1p1k3_16', 1, 1],
  ['conv2d_s16p0k16', 16, 0],
] as const)
  deviceTest(`agrees with PyTorch: ${name}`, (device) => checkGolden(name, { stride, padding }, [['float32', { device }]]));

deviceTest('refuses mixed types', (device) =>
  tidy(() => {
    const make = (shape: number[], dtype: 'bfloat16' | 'float32' = 'bfloat16'): Tensor => Tensor.empty(shape, dtype, device);
    const maps = { x: make([1, 6, 6, 4]), w: make([8, 3, 3, 4]) };
    const scalars = { stride: 1, padding: 1, activation: 'none' } as const;
    const y = make([1, 6, 6, 8]);
    const grad = { ...maps, dy: y, accumulate: 0, ...scalars };
    throwsCode(() => dispatch('conv2d', { ...maps, y: make([1, 6, 6, 8], 'float32'), ...scalars }), 'ERR_DTYPE', "'y'", 'bfloat16');
    throwsCode(() => dispatch('conv2d', { ...maps, w: make([8, 3, 3, 4], 'float32'), y, ...scalars }), 'ERR_DTYPE', "'w'", 'bfloat16');
    throwsCode(() => dispatch('conv2d', { ...maps, bias: make([8]), y, ...scalars }), 'ERR_DTYPE', "'bias'", 'float32');
    throwsCode(() => dispatch('conv2d_grad', { ...grad, dw: make([8, 3, 3, 4]) }), 'ERR_DTYPE', "'dw'", 'float32');
    throwsCode(() => dispatch('conv2d_grad', { ...grad, dx: make([1, 6, 6, 4], 'float32') }), 'ERR_DTYPE', "'dx'", 'bfloat16');
  }),
);

test.run();
