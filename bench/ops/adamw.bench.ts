import { opCase, random, runOpBench } from '../support/op-bench.js';
import { Tensor } from '../../src/tensor/index.js';
import { segments } from '../support/arena.js';

// The arenas of Theia-T and -S with their translators, and of -B alone, in elements.
const cases = [6e6, 25e6, 86e6].map((elements) => {
  const total = Math.round(elements / 16) * 16;
  return opCase(
    `${(total / 1e6).toFixed(0)} million parameters`,
    'adamw',
    () => ({
      param: random([total]),
      grad: random([total]),
      exp_avg: random([total]),
      exp_avg_sq: Tensor.from(new Float32Array(total).fill(0.5)),
      ...segments(total),
      clip_factor: Tensor.from([1]),
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
    }),
    { against: 'copy' },
  );
});

await runOpBench('adamw', cases);
