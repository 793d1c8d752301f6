import { measureCost, memory, resetPeakMemory } from '../tensor/index.js';
import type { TrainConfig } from './config.js';
import { buildTrainer, runLength } from './run.js';
import type { StepBatch } from './step.js';
import { makeLoader, openTrainingData, stepBatch } from './training-data.js';

/** What a run would be, found out by doing three steps of it. */
export interface DryRun {
  parameters: number;
  tensors: number;
  /** of one image, forward and backward */
  gflopPerImage: number;
  /** native memory of a step, bytes */
  memoryBytes: number;
  samples: number;
  stepsTotal: number;
  stepsPerEpoch: number;
  targets: [string, number[]][];
  /** seconds of one step, the median of three */
  secondsPerStep: number;
  estimateSeconds: number;
}

/** Opens the data, builds the model and takes three steps whose result is thrown away. Nothing is written. */
export async function dryRun(config: TrainConfig): Promise<DryRun> {
  const data = await openTrainingData(config);
  const length = runLength(config, data.stream.epochLength);
  const trainer = buildTrainer(config, data);
  const loader = makeLoader(config, data, { datasets: data.datasets, stream: data.stream, cross: true, workers: 0 });
  try {
    const targets = [...data.targets.keys()];
    resetPeakMemory();
    const seconds: number[] = [];
    let cost = { flops: 0 };
    let images = 0;
    for (let i = 0; i < 3; i++) {
      const batches: StepBatch[] = [];
      while (batches.length < config.train.accumulate) batches.push(stepBatch((await loader.next())!, targets));
      const start = performance.now();
      const run = (): unknown => trainer.step(batches, targets);
      if (i === 0) {
        cost = measureCost(run);
        images = batches.reduce((n, b) => n + b.size, 0);
      } else run();
      seconds.push((performance.now() - start) / 1000);
    }
    const secondsPerStep = seconds.sort((a, b) => a - b)[1]!;
    return {
      parameters: trainer.model.arena.count,
      tensors: trainer.model.arena.segments.length,
      gflopPerImage: cost.flops / images / 1e9,
      memoryBytes: memory().peak,
      samples: data.stream.epochLength,
      stepsTotal: length.total,
      stepsPerEpoch: Math.ceil(data.stream.epochLength / (config.train.batch * config.train.accumulate)),
      targets: [...data.targets],
      secondsPerStep,
      estimateSeconds: secondsPerStep * length.total,
    };
  } finally {
    await loader.close();
    trainer.dispose();
    trainer.model.dispose();
    data.close();
  }
}
