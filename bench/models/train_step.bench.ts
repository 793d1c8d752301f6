// A whole training step on the cdiv teachers: forward, loss, backward, gradient norm, AdamW, repacking of weights; one replayed plan.
import { measureCost } from '../../src/tensor/index.js';
import { Trainer } from '../../src/train/trainer.js';
import { runModelBench } from '../support/model-bench.js';
import type { ModelCase } from '../support/model-bench.js';
import { statisticsOf, student, trainingBatch } from '../support/student.js';
import type { StudentSize } from '../support/student.js';

function step(size: StudentSize, batch: number, floor?: number): ModelCase {
  return {
    name: `${size} batch ${batch}`,
    images: batch,
    ...(floor === undefined ? {} : { floor }),
    make() {
      const model = student(size, true);
      const trainer = new Trainer(model, { lr: 1e-4, statistics: statisticsOf(model) });
      const batches = [trainingBatch(model, batch)];
      const { flops } = measureCost(() => void trainer.step(batches));
      return {
        run: () => void trainer.step(batches),
        flops,
        dispose() {
          trainer.dispose();
          model.dispose();
        },
      };
    },
  };
}

await runModelBench('train_step', [step('tiny', 8, 0.45), step('tiny', 16), step('small', 8)]);
