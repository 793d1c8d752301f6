import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
for (const [rows, width] of [
  [197, 192],
  [1576, 192],
  [197, 384],
  [1576, 384],
  [197, 768],
  [1576, 768],
] as const) {
  const vectors = { gamma: [width], mean: [rows], rstd: [rows] };
  cases.push(
    opCase(
      `${rows}x${width}`,
      'layernorm',
      () => ({
        x: random([rows, width]),
        gamma: random(vectors.gamma),
        beta: random(vectors.gamma),
        y: Tensor.empty([rows, width]),
        mean: Tensor.empty(vectors.mean),
        rstd: Tensor.empty(vectors.rstd),
        eps: 1e-12,
      }),
      { against: 'copy' },
    ),
    opCase(
      `grad ${rows}x${width}`,
      'layernorm_grad',
      () => ({
        x: random([rows, width]),
        gamma: random(vectors.gamma),
        mean: random(vectors.mean),
        rstd: random(vectors.rstd),
        dy: random([rows, width]),
        add: random([rows, width]),
        dx: Tensor.empty([rows, width]),
        dgamma: Tensor.empty(vectors.gamma),
        dbeta: Tensor.empty(vectors.gamma),
        accumulate: 0,
      }),
      { against: 'copy' },
    ),
  );
}

await runOpBench('layernorm', cases);
