import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

// The only one in any model here: behind the stem of the ResNet-50 teacher.
const cases: OpBenchCase[] = [];
const window = { kernel: 3, stride: 2, padding: 1 };
for (const batch of [1, 8]) {
  const shape = `${batch}x112x112x64 k3 s2`;
  const [x, y] = [
    [batch, 112, 112, 64],
    [batch, 56, 56, 64],
  ];
  cases.push(
    opCase(shape, 'max_pool2d', () => ({ x: random(x!), y: Tensor.empty(y!), ...window }), { against: 'copy' }),
    opCase(`grad ${shape}`, 'max_pool2d_grad', () => ({ x: random(x!), dy: random(y!), dx: Tensor.empty(x!), ...window }), {
      against: 'copy',
      floor: 0,
    }),
  );
}

await runOpBench('max_pool2d', cases);
