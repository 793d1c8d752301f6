import { Tensor } from '../../src/tensor/index.js';
import { opCase, panels, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

const cases: OpBenchCase[] = [];
for (const [student, width] of [
  ['T', 192],
  ['S', 384],
  ['B', 768],
] as const)
  for (const batch of [1, 8]) {
    const images = [batch, 224, 224, 3];
    const shape = `${batch}x224x224x3->${width}`;
    cases.push(
      opCase(`${student} ${shape}`, 'patch_embed', () => {
        const w = random([width, 16, 16, 3]);
        return {
          images: random(images, 'uint8'),
          table: random([3 * 256]),
          w,
          packed: panels(w, 'forward'),
          bias: random([width]),
          positions: random([197, width]),
          cls: random([width]),
          y: Tensor.empty([batch, 197, width]),
        };
      }),
      opCase(`${student} grad ${shape}`, 'patch_embed_grad', () => ({
        images: random(images, 'uint8'),
        table: random([3 * 256]),
        dy: random([batch, 197, width]),
        dw: Tensor.empty([width, 16, 16, 3]),
        dbias: Tensor.empty([width]),
        dpositions: Tensor.empty([197, width]),
        dcls: Tensor.empty([width]),
        accumulate: 0,
      })),
    );
  }

await runOpBench('patch_embed', cases);
