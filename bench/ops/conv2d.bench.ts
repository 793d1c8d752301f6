import { Tensor } from '../../src/tensor/index.js';
import { opCase, panels, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
function conv(label: string, batch: number, side: number, from: number, to: number, kernel: number, stride: number, padding: number): void {
  const out = Math.floor((side + 2 * padding - kernel) / stride) + 1;
  const shape = `${batch}x${side}x${side}x${from}->${to} k${kernel} s${stride}`;
  const common = { stride, padding, activation: 'relu' } as const;
  cases.push(
    opCase(`${label} ${shape}`, 'conv2d', () => {
      const w = random([to, kernel, kernel, from]);
      const x = random([batch, side, side, from]);
      return { x, w, packed: panels(w, 'forward'), bias: random([to]), y: Tensor.empty([batch, out, out, to]), ...common };
    }),
    opCase(`${label} grad ${shape}`, 'conv2d_grad', () => {
      const w = random([to, kernel, kernel, from]);
      return {
        x: random([batch, side, side, from]),
        w,
        packed: panels(w, 'backward'),
        dy: random([batch, out, out, to]),
        y: random([batch, out, out, to]),
        dx: Tensor.empty([batch, side, side, from]),
        dw: Tensor.empty([to, kernel, kernel, from]),
        dbias: Tensor.empty([to]),
        ...common,
        accumulate: 0,
      };
    }),
  );
}

for (const batch of [1, 8]) {
  conv('lconv 16', batch, 16, 192, 192, 3, 1, 1);
  conv('lconv 14->7', batch, 14, 192, 192, 4, 2, 1);
}
conv('lconv 16', 1, 16, 768, 768, 3, 1, 1);
// The ResNet-50 teacher: its stem and one 3x3 of each stage.
conv('resnet stem', 1, 224, 3, 64, 7, 2, 3);
conv('resnet 2', 1, 56, 64, 64, 3, 1, 1);
conv('resnet 3', 1, 28, 128, 128, 3, 1, 1);
conv('resnet 4', 1, 14, 256, 256, 3, 1, 1);
conv('resnet 5', 1, 7, 512, 512, 3, 1, 1);

await runOpBench('conv2d', cases);
