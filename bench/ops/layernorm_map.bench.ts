import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
// The maps of the translators: sides 16, 31 and 64 (towards SAM), 7 (towards ResNet), width of the student.
for (const [batch, side, width] of [
  [1, 16, 192],
  [8, 16, 192],
  [8, 16, 768],
  [1, 64, 192],
  [8, 31, 192],
  [8, 64, 192],
  [8, 7, 192],
] as const) {
  const length = side * side * width;
  const shape = `${batch}x${side}x${side}x${width}`;
  cases.push(
    opCase(
      shape,
      'layernorm_map',
      () => ({
        x: random([batch, length]),
        gamma: random([length]),
        beta: random([length]),
        y: Tensor.empty([batch, length]),
        mean: Tensor.empty([batch]),
        rstd: Tensor.empty([batch]),
        eps: 1e-5,
      }),
      { against: 'copy' },
    ),
    opCase(
      `grad ${shape}`,
      'layernorm_map_grad',
      () => ({
        x: random([batch, length]),
        gamma: random([length]),
        mean: random([batch]),
        rstd: random([batch]),
        dy: random([batch, length]),
        dx: Tensor.empty([batch, length]),
        dgamma: Tensor.empty([length]),
        dbeta: Tensor.empty([length]),
        relu: 1,
        accumulate: 0,
      }),
      { against: 'copy' },
    ),
  );
}

await runOpBench('layernorm_map', cases);
