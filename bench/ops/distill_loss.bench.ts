import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
for (const [batch, positions, channels] of [
  [8, 256, 1024],
  [8, 256, 1280],
  [8, 4096, 256],
  [8, 49, 2048],
] as const)
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const shape = `${batch}x${positions}x${channels} ${dtype}`;
    const inputs = () => ({
      p: random([batch, positions, channels]),
      t: random([batch, positions, channels], dtype),
      mean: random([channels]),
      std: Tensor.from(new Float32Array(channels).fill(1.5)),
    });
    cases.push(
      opCase(shape, 'distill_loss', () => ({ ...inputs(), terms: Tensor.empty([3]), stats: Tensor.empty([batch, 3], 'float64') }), {
        against: 'copy',
      }),
      opCase(
        `grad ${shape}`,
        'distill_loss_grad',
        () => ({
          ...inputs(),
          stats: Tensor.from(
            Float64Array.from({ length: batch * 3 }, (_, i) => (i % 3 === 0 ? 10 : 1000)),
            [batch, 3],
          ),
          weights: Tensor.from([0.9, 0.1, 0]),
          dp: Tensor.empty([batch, positions, channels]),
        }),
        { against: 'copy' },
      ),
    );
  }

await runOpBench('distill_loss', cases);
