// How much gpu:check does of everything: on a GPU, and when the program itself is tried out.
import type { StudentSize } from '../support/student.js';
import type { DiskRun } from './disk.js';

export interface Extent {
  /** students of the stages parity and models */
  sizes: readonly StudentSize[];
  /** size and batch of the op by op tables */
  opShapes: readonly (readonly [StudentSize, number])[];
  encodeBatches: readonly number[];
  trainBatches: readonly number[];
  /** calls and steps that are timed */
  encodeCalls: number;
  trainSteps: number;
  /** training as from the command line; its size and batch are among those of `sizes` and `trainBatches` */
  disk: DiskRun;
  determinism: { size: StudentSize; batch: number; steps: number };
  /** elements of the copy and side of the product that the ceilings are measured with */
  ceilings: { copy: number; side: number };
  /** replays of a recorded sample, its calls at least and at most, and the seconds that it should last */
  replays: number;
  calls: readonly [number, number];
  sampleSeconds: number;
  /** whether PyTorch is measured beside it */
  peer: boolean;
}

export const FULL: Extent = {
  sizes: ['tiny', 'small', 'base'],
  opShapes: [
    ['tiny', 128],
    ['small', 128],
    ['base', 1],
    ['base', 16],
    ['base', 128],
  ],
  encodeBatches: [1, 8, 64],
  trainBatches: [16, 128],
  encodeCalls: 50,
  trainSteps: 30,
  disk: { size: 'base', batch: 128, steps: 20, warmup: 5, samples: 512, workers: 8 },
  determinism: { size: 'tiny', batch: 16, steps: 8 },
  ceilings: { copy: 1 << 28, side: 8192 }, // 512 MB each way in bfloat16: no cache holds it
  replays: 7,
  calls: [10, 400],
  sampleSeconds: 0.004,
  peer: true,
};

/** Every stage once through, on the emulator in half a minute. Its times mean nothing; that it ends, and with what rows, does. */
export const REHEARSAL: Extent = {
  sizes: ['mini'],
  opShapes: [['mini', 1]],
  encodeBatches: [1, 2],
  trainBatches: [1],
  encodeCalls: 2,
  trainSteps: 2,
  disk: { size: 'mini', batch: 1, steps: 2, warmup: 1, samples: 3, workers: 1 },
  determinism: { size: 'mini', batch: 1, steps: 3 },
  ceilings: { copy: 1 << 16, side: 128 },
  replays: 1,
  calls: [1, 1],
  sampleSeconds: 0.004,
  peer: false,
};
