import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';

const cases = [1, 1576 * 192, 1576 * 768, 1 << 24].map((count) =>
  opCase(`${count} elements`, 'add', () => ({ a: random([count]), b: random([count]), y: Tensor.empty([count]) }), {
    against: 'copy',
    // one element measures the call from JavaScript, not memory
    floor: count === 1 ? 0 : 0.5,
  }),
);

await runOpBench('add', cases);
