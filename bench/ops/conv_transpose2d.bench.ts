import { Tensor } from '../../src/tensor/index.js';
import { opCase, panels, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
function convTranspose(
  label: string,
  batch: number,
  side: number,
  width: number,
  stride: number,
  padding: number,
  outputPadding: number,
): void {
  const out = (side - 1) * stride - 2 * padding + 3 + outputPadding;
  const shape = `${batch}x${side}->${out}x${width}`;
  const common = { stride, padding, output_padding: outputPadding, activation: outputPadding || padding ? 'relu' : 'none' } as const;
  cases.push(
    opCase(`${label} ${shape}`, 'conv_transpose2d', () => {
      const w = random([width, 3, 3, width]);
      const x = random([batch, side, side, width]);
      return { x, w, packed: panels(w, 'forward'), bias: random([width]), y: Tensor.empty([batch, out, out, width]), ...common };
    }),
    opCase(`${label} grad ${shape}`, 'conv_transpose2d_grad', () => {
      const w = random([width, 3, 3, width]);
      return {
        x: random([batch, side, side, width]),
        w,
        packed: panels(w, 'backward'),
        dy: random([batch, out, out, width]),
        y: random([batch, out, out, width]),
        dx: Tensor.empty([batch, side, side, width]),
        dw: Tensor.empty([width, 3, 3, width]),
        dbias: Tensor.empty([width]),
        ...common,
        accumulate: 0,
      };
    }),
  );
}

for (const batch of [1, 8]) {
  convTranspose('pad', batch, 14, 192, 1, 0, 0);
  convTranspose('up 1', batch, 16, 192, 2, 1, 0);
  convTranspose('up 2', batch, 31, 192, 2, 0, 1);
}
convTranspose('pad', 1, 14, 768, 1, 0, 0);

await runOpBench('conv_transpose2d', cases);
