// The GPU's preprocess (kernels/preprocess/preprocess.cu): the bytes of the CPU. The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { runCase, same } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { image } from '../support/procedural.js';

interface Resize {
  from: [batch: number, height: number, width: number, channels: 1 | 3 | 4];
  to: [height: number, width: number];
  crop?: [top: number, left: number, height: number, width: number];
}

function resizeCase({ from, to, crop }: Resize, filter: 'bilinear' | 'bicubic'): OpCase<'preprocess'> {
  const [batch, height, width, channels] = from;
  const [top, left, h, w] = crop ?? [0, 0, ...to];
  const values = Array.from({ length: batch }, (_, b) => Array.from(image(b + 7, height, width, channels, 3))).flat();
  const out = [batch, h, w, channels];
  return {
    op: 'preprocess',
    tensors: {
      image: { shape: from, values, dtype: 'uint8' },
      out: { shape: out, dtype: 'uint8', values: new Uint8Array(batch * h * w * channels) },
    },
    scalars: { filter, height: to[0], width: to[1], top, left },
  };
}

const CASES: Resize[] = [
  { from: [1, 1, 1, 3], to: [3, 5] },
  { from: [1, 33, 3, 3], to: [1, 33] },
  { from: [2, 97, 71, 4], to: [32, 50] },
  { from: [1, 5, 7, 1], to: [5, 9] }, // one axis keeps its size
  { from: [3, 6, 4, 3], to: [9, 4] },
  { from: [1, 20, 45, 3], to: [20, 45] }, // both do
  { from: [2, 30, 41, 3], to: [26, 26], crop: [3, 2, 20, 21] },
  { from: [1, 20, 50, 3], to: [20, 50], crop: [2, 3, 10, 47] },
  { from: [1, 13, 399, 3], to: [40, 7], crop: [1, 1, 30, 5] },
];

deviceTest('the bytes of the CPU, for both filters, aligned or not', (device) => {
  for (const [i, resize] of CASES.entries())
    for (const filter of ['bilinear', 'bicubic'] as const) {
      const c = resizeCase(resize, filter);
      const want = runCase(c)['out']!;
      for (const shift of [0, 1]) same(runCase(c, 'float32', { device, shift })['out']!, want, `case ${i}, ${filter}, shift ${shift}`);
    }
});

deviceTest('the same under every schedule, and with more lines than blocks', (device) => {
  const c = resizeCase(CASES[2]!, 'bicubic'); // two blocks of bytes across, the second cut
  checkSchedules(device, c, ['float32']);
  if (device !== 'simt') return;
  const high = resizeCase({ from: [2, 90, 3, 1], to: [80, 2] }, 'bilinear'); // 180 and 160 lines, 64 blocks
  withEmulated({ multiprocessors: 1 }, () => same(runCase(high, 'float32', { device })['out']!, runCase(high)['out']!));
});

test.run();
