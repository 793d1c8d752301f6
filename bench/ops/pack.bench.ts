import { packedLength } from '../../src/autograd/parameter.js';
import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
for (const shape of [
  [576, 192],
  [768, 768],
  [3072, 768],
  [192, 3, 3, 192],
])
  for (const use of ['forward', 'backward'] as const)
    cases.push(
      opCase(`${use} ${shape.join('x')}`, 'pack', () => ({ w: random(shape), packed: Tensor.empty([packedLength(shape, use)]), use }), {
        against: 'copy',
        floor: 0.3,
      }),
    );

await runOpBench('pack', cases);
