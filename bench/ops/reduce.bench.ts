import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
for (const width of [192, 768])
  for (const kind of ['mean', 'max'] as const) {
    const x = [8, 196, width];
    const shape = `${kind} 8x196x${width}`;
    cases.push(
      opCase(shape, 'reduce', () => ({ x: random(x), y: Tensor.empty([8, width]), kind }), { against: 'copy' }),
      opCase(
        `grad ${shape}`,
        'reduce_grad',
        () => {
          const both = kind === 'max' ? { x: random(x), y: random([8, width]) } : {};
          return { ...both, dy: random([8, width]), dx: Tensor.empty(x), kind };
        },
        { against: 'copy' },
      ),
    );
  }

await runOpBench('reduce', cases);
