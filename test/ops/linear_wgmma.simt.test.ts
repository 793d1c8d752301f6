// The products that Hopper's tensor cores take from boxes of the copy engine (kernels/gemm/device/wgmma_core.cuh): linear layers and
// convolutions without stride. Nothing chooses these tiles by itself, so the environment asks for them.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon } from '../../src/native/load.js';
import type { Device } from '../../src/tensor/index.js';
import { checkForwardExact, checkGradientExact } from '../support/conv-device.js';
import type { Geometry } from '../support/conv-case.js';
import { checkDeviceBf16, checkDeviceExact, checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { withTile } from '../support/gemm-tile.js';
import { backward, expectedBackward, expectedForward, forward, gradientsOver, plainForward } from '../support/linear-case.js';
import type { Make, Options, Size } from '../support/linear-case.js';
import { randomValues, runCase, same, smallIntegers } from '../support/op-case.js';

/** [number, m, n] of the tiles; k comes in steps of 64, four of them under way. */
const TILES = [
  [6, 128, 128],
  [7, 128, 256],
] as const;

/** wgmma that fn issued on simt with this tile alone; undefined on a GPU, which does not say. */
function products(device: Device, tile: number, fn: () => void): number | undefined {
  if (device === 'simt') addon().count('simt', 'wgmma');
  withTile(tile, fn);
  return device === 'simt' ? addon().count('simt', 'wgmma') : undefined;
}

function withWgmma(device: Device, tile: number, fn: () => void): void {
  const count = products(device, tile, fn);
  if (count !== undefined) assert.ok(count > 0, `tile ${tile} was not taken`);
}

const one: Make = (count, seed) => smallIntegers(count, seed, 1);

deviceTest('exact on integers: two blocks each way, partial tiles, k longer than the stages and not a multiple of a step', (device) => {
  for (const [tile, m, n] of TILES)
    withWgmma(device, tile, () => {
      const f = forward([m + 9, n + 12, 6 * 64 + 40], one, { bias: true, activation: 'relu', residual: true, full: ['y'] });
      checkDeviceExact(device, f, { y: expectedForward(f) }, ['bfloat16']);
    });
});

deviceTest('exact on integers: gradients, whose operands are not along k', (device) => {
  for (const [tile, m, n] of TILES) {
    for (const [name, b] of gradientsOver(5 * 64 + 8, m, n, one, { accumulate: true }))
      withWgmma(device, tile, () => checkDeviceExact(device, b, { [name]: expectedBackward(b)[name]! }, ['bfloat16']));
  }
  for (const [tile] of TILES)
    withWgmma(device, tile, () => {
      const b = backward(forward([3, 16, 72], one, { activation: 'relu', bias: true }), {}, one);
      checkDeviceExact(device, b, expectedBackward(b), ['bfloat16']);
      checkSchedules(device, backward(forward([70, 72, 136], randomValues, { activation: 'gelu' })), ['bfloat16']);
    });
});

deviceTest('exact on integers: small and odd sizes, every epilogue', (device) => {
  for (const size of [
    [1, 1, 8],
    [3, 33, 64],
    [130, 7, 72],
    [65, 40, 136],
    [2, 131, 320],
  ] as Size[])
    for (const options of [{}, { bias: true, activation: 'relu' }, { residual: true, full: ['y'] }] satisfies Options[])
      for (const [tile] of TILES)
        withWgmma(device, tile, () => {
          const f = forward(size, one, options);
          checkDeviceExact(device, f, { y: expectedForward(f) }, ['bfloat16']);
        });
});

deviceTest('k in parts', (device) => {
  withEmulated({ multiprocessors: 132 }, () =>
    withWgmma(device, 6, () => {
      const f = forward([9, 17, 2504], one, { bias: true, residual: true, full: ['y'] });
      checkDeviceExact(device, f, { y: expectedForward(f) }, ['bfloat16']);
    }),
  );
});

deviceTest('as accurate as a plain loop in bfloat16', (device) => {
  for (const [tile] of TILES)
    withWgmma(device, tile, () => {
      const size: Size = [70, 72, 456];
      checkDeviceBf16(device, forward(size, randomValues, { bias: true, residual: true, full: ['y'] }), plainForward);
      const make: Make = (count, seed) => randomValues(count, seed).map((v) => (seed === 2 ? (v * 3) / Math.sqrt(size[2]) : v));
      checkDeviceBf16(device, forward(size, make, { activation: 'gelu', bias: true }), plainForward);
    });
});

deviceTest('the same bits under every schedule', (device) => {
  for (const [tile, m, n] of TILES)
    withWgmma(device, tile, () => checkSchedules(device, forward([m + 1, n + 8, 6 * 64 + 8]), ['bfloat16']));
});

deviceTest('rows of x with gaps between them', (device) => {
  withWgmma(device, 6, () => {
    const f = forward([19, 32, 72], one, { bias: true });
    const { x, w } = f.tensors;
    const spread = { ...f, tensors: { ...f.tensors, x: { ...x!, strides: [88, 1] }, w: { ...w!, strides: [80, 1] } } };
    same(runCase(spread, 'bfloat16', { device })['y']!, expectedForward(f));
  });
});

deviceTest('taken where the environment asks for it, the operands allow it and the GPU has it; else a tile that fits', (device) => {
  if (device !== 'simt') return;
  const f = forward([19, 32, 72], one);
  const run = (): void => same(runCase(f, 'bfloat16', { device })['y']!, expectedForward(f));
  const none = (size: Size): void => {
    const g = forward(size, one);
    assert.is(
      products(device, 6, () => same(runCase(g, 'bfloat16', { device })['y']!, expectedForward(g))),
      0,
    );
  };
  assert.ok(products(device, 6, run)! > 0);
  for (const capability of ['8.0', '8.7']) withEmulated({ capability }, () => assert.is(products(device, 6, run), 0));
  none([19, 32, 0]);
  none([19, 32, 36]); // rows of 72 bytes
  assert.is(
    products(device, 6, () => void runCase(f, 'bfloat16', { device, shift: 1 })),
    0,
  );
  addon().count('simt', 'wgmma');
  run();
  assert.is(addon().count('simt', 'wgmma'), 0);
});

// Boxes of positions: several images to a tile and a last tile of fewer, rows of an image cut, rows longer than a tile; 1x1 with padding; a
// transposed convolution by parity, which writes every second row and column.
const GEOMETRIES: Geometry[] = [
  { b: 8, h: 5, w: 4, i: 64, o: 24, k: 3, stride: 1, padding: 1 },
  { b: 2, h: 12, w: 15, i: 64, o: 136, k: 3, stride: 1, padding: 1 },
  { b: 1, h: 2, w: 135, i: 64, o: 8, k: 3, stride: 1, padding: 1 },
  { b: 1, h: 4, w: 5, i: 128, o: 16, k: 1, stride: 1, padding: 1 },
  { b: 2, h: 7, w: 6, i: 64, o: 16, k: 3, stride: 1, padding: 0, outputPadding: 0 },
  { b: 2, h: 5, w: 6, i: 64, o: 16, k: 3, stride: 2, padding: 1, outputPadding: 1 },
];

// Input gradients: channels of y in steps of 64.
const GRADIENTS: Geometry[] = [
  { b: 2, h: 6, w: 7, i: 136, o: 64, k: 3, stride: 1, padding: 1 },
  { b: 3, h: 4, w: 5, i: 16, o: 64, k: 1, stride: 1, padding: 0 },
  { b: 2, h: 7, w: 5, i: 24, o: 128, k: 3, stride: 2, padding: 1 },
  { b: 2, h: 6, w: 5, i: 8, o: 64, k: 3, stride: 1, padding: 1, outputPadding: 0 },
];
for (const g of GRADIENTS)
  deviceTest(`gradients of ${g.b}x${g.h}x${g.w}x${g.i} -> ${g.o}, window ${g.k}, stride ${g.stride}`, (device) =>
    withWgmma(device, 6, () => checkGradientExact(device, g)),
  );

for (const g of GEOMETRIES) {
  const transposed = g.outputPadding !== undefined;
  const name = `${g.b}x${g.h}x${g.w}x${g.i} -> ${g.o}, window ${g.k}, stride ${g.stride}`;
  deviceTest(`${transposed ? 'transposed ' : ''}convolution, exact on integers: ${name}`, (device) => {
    const options = transposed ? { bias: true, relu: true } : { bias: true, relu: true, residual: true };
    withWgmma(device, transposed ? 7 : 6, () => checkForwardExact(device, g, options));
  });
}

test.run();
