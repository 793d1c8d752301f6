import { Tensor } from '../../src/tensor/index.js';
import { segments } from '../support/arena.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';

const cases = [6e6, 25e6, 86e6].map((elements) => {
  const total = Math.round(elements / 16) * 16;
  return opCase(
    `${(total / 1e6).toFixed(0)} million parameters`,
    'grad_norm',
    () => ({
      grad: random([total]),
      ...segments(total),
      limit: Tensor.from([1]),
      norm: Tensor.empty([1], 'float64'),
      clip_factor: Tensor.empty([1]),
    }),
    { against: 'copy' },
  );
});

await runOpBench('grad_norm', cases);
