import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';

const memory = { against: 'copy' } as const;
const cases = [
  opCase('packed 64 MB', 'copy', () => ({ src: random([1 << 24]), dst: Tensor.empty([1 << 24]), accumulate: 0 }), memory),
  opCase(
    'cast to bfloat16 8x197x768',
    'copy',
    () => ({ src: random([8, 197, 768]), dst: Tensor.empty([8, 197, 768], 'bfloat16'), accumulate: 0 }),
    memory,
  ),
  opCase(
    'cast from bfloat16 8x256x1024',
    'copy',
    () => ({ src: random([8, 256, 1024], 'bfloat16'), dst: Tensor.empty([8, 256, 1024]), accumulate: 0 }),
    memory,
  ),
  opCase(
    'drop CLS 8x196x192',
    'copy',
    () => ({ src: random([8, 197, 192]).slice(1, 1, 196), dst: Tensor.empty([8, 196, 192]), accumulate: 0 }),
    memory,
  ),
  opCase(
    'channels first to last 8x1024x16x16',
    'copy',
    () => ({ src: random([8, 1024, 256]).strided([8, 256, 1024], [1024 * 256, 1, 256]), dst: Tensor.empty([8, 256, 1024]), accumulate: 0 }),
    memory,
  ),
  opCase('add to 8x197x768', 'copy', () => ({ src: random([8, 197, 768]), dst: random([8, 197, 768]), accumulate: 1 }), memory),
];

await runOpBench('copy', cases);
