// The encoder alone: bytes to tokens, one replayed plan a call.
import { Plan, Tensor, measureCost, tidy } from '../../src/tensor/index.js';
import { runModelBench } from '../support/model-bench.js';
import type { ModelCase } from '../support/model-bench.js';
import { pictures, student } from '../support/student.js';
import type { StudentSize } from '../support/student.js';

function encode(size: StudentSize, batch: number, floor?: number): ModelCase {
  return {
    name: `${size} batch ${batch}`,
    images: batch,
    ...(floor === undefined ? {} : { floor }),
    make() {
      const model = student(size, false);
      model.arena.seal(); // as the encoder does: weights are packed once
      const images = Tensor.from(pictures(batch), [batch, 224, 224, 3], 'uint8').retainOnly();
      const forward = (): Tensor => tidy(() => model.encode(images).tokens);
      const { flops } = measureCost(() => forward().dispose());
      const plan = Plan.record(forward);
      return {
        run: () => plan.replay(),
        flops,
        dispose() {
          plan.result.dispose();
          plan.dispose();
          images.dispose();
          model.dispose();
        },
      };
    },
  };
}

await runModelBench('encode', [
  encode('tiny', 1, 0.6),
  encode('tiny', 8),
  encode('small', 1),
  encode('small', 8),
  encode('base', 1, 0.75),
  encode('base', 8),
]);
