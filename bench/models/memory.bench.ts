// Resident memory of training: what a Theia-T step at batch 16 takes, and that many steps take no more.
//   npm run bench -- memory --samples 500        500 steps at batch 4 (default 60)
import { memory } from '../../src/tensor/index.js';
import { Trainer } from '../../src/train/trainer.js';
import { describeMachine } from '../support/machine.js';
import { benchOptions } from '../support/options.js';
import { saveResults } from '../support/results.js';
import { statisticsOf, student, trainingBatch } from '../support/student.js';

const MIB = 2 ** 20;
const options = benchOptions();
const steps = options.budget.samples === 30 ? 60 : options.budget.samples;
const resident = (): number => process.memoryUsage().rss / MIB;
const rows: object[] = [];

function run(batch: number, count: number): void {
  const model = student('tiny', true);
  const trainer = new Trainer(model, { lr: 1e-4, statistics: statisticsOf(model) });
  const batches = [trainingBatch(model, batch)];
  const marks: { step: number; rss: number; live: number; buffers: number }[] = [];
  for (let step = 1; step <= count; step++) {
    trainer.step(batches);
    if (step === 5 || step === count || step % Math.ceil(count / 5) === 0)
      marks.push({ step, rss: resident(), live: memory().live / MIB, buffers: memory().buffers });
  }
  for (const m of marks)
    console.log(
      `tiny batch ${batch}, step ${String(m.step).padStart(4)}: ${m.rss.toFixed(0)} MiB resident, ${m.live.toFixed(0)} MiB native, ${m.buffers} buffers`,
    );
  rows.push({ batch, steps: count, marks });
  trainer.dispose();
  model.dispose();
}

run(16, 6);
run(4, steps);
if (options.save) console.log(`saved ${saveResults('memory', describeMachine(), rows)}`);
