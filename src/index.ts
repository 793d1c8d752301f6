// What `import ... from 'theia-native'` gives. `theia-native/encoder` gives the encoder alone, without the trainer.
//
// Training in ten lines, from any iterable of batches (test/library.test.ts runs this):
//
//     import { Theia, Trainer, newModelConfig, saveWeights, type StepBatch } from 'theia-native';
//
//     async function* batches(): AsyncGenerator<StepBatch> {
//       for (const { frames, features } of myRecordings)
//         yield { images: frames, size: 8, targets: new Map([['mine', { data: features, dtype: 'float32', shape: [8, 196, 64] }]]) };
//     }
//     const config = newModelConfig({ hidden: 192, depth: 12, teachers: new Map([['mine', [64, 14, 14]]]) });
//     using model = new Theia(config, { training: true, seed: 1 });
//     using trainer = new Trainer(model, { lr: 5e-4 });
//     for await (const { step, loss } of trainer.train(batches())) console.log(step, loss);
//     saveWeights(model, 'student.safetensors');

export { ERROR_CODES, TheiaError } from './errors.js';
export type { ErrorCode } from './errors.js';
export { packageVersion } from './version.js';

// Tensors
export {
  Plan,
  Tensor,
  cudaDevices,
  keep,
  memory,
  pinnedArray,
  readLater,
  resetPeakMemory,
  resolveDevice,
  synchronize,
  threads,
  tidy,
  trimMemory,
  writeLater,
} from './tensor/index.js';
export type { CudaDevice, DType, Device, Fetch, Transfer, TypedArray } from './tensor/index.js';

// Ops
export { selfAttention } from './ops/attention.js';
export { conv2d } from './ops/conv2d.js';
export { convTranspose2d } from './ops/conv_transpose2d.js';
export { distillLoss } from './ops/distill_loss.js';
export type { DistillTarget } from './ops/distill_loss.js';
export { layernorm } from './ops/layernorm.js';
export { layernormMap } from './ops/layernorm_map.js';
export { linear } from './ops/linear.js';
export { maxPool2d } from './ops/max_pool2d.js';
export { patchEmbed } from './ops/patch_embed.js';
export { byteTable, preprocess } from './ops/preprocess.js';
export type { ResizeFilter } from './ops/preprocess.js';
export { reduce } from './ops/reduce.js';
export { packed, reshape, tokenMap } from './ops/view.js';

// Autograd
export { Arena, Gradients, Parameter, Tape } from './autograd/index.js';
export type { FileLayout, ParameterSpec, Segment, SegmentSpec } from './autograd/index.js';

// The model and its files
export { Theia, REDUCE_METHODS } from './models/theia.js';
export type { Normalisation, ReduceMethod, TheiaOptions } from './models/theia.js';
export type { VitOutput } from './models/vit.js';
export { configJson, loadTheia, loadWeights, readModelConfig, saveWeights } from './models/checkpoint.js';
export { newModelConfig, completeConfig } from './models/config-complete.js';
export { BACKBONES, MODEL_DEFAULTS, parseModelConfig } from './models/config.js';
export type { ModelConfig, PartialModelConfig } from './models/config.js';
export { judge, measure, uniformTolerances } from './parity/compare.js';
export type { OwnTensor, ParityRow, ReferenceTensor, Tolerances } from './parity/compare.js';
export { planParity, runParity } from './parity/run.js';
export type { ParityPlan, ParityTarget } from './parity/run.js';
export { findGoldenFacts, goldenTolerances } from './parity/golden.js';
export { parseSafetensors, SafetensorsFile, writeSafetensors } from './formats/index.js';

// Running it
export { Encoder, FRAME_FORMATS } from './encoder/index.js';
export type { EncoderOptions, EncoderOutput, EncoderRequest, Frame, FrameFormat } from './encoder/index.js';

// Training it
export { AdamW } from './optim/adamw.js';
export type { AdamWOptions } from './optim/adamw.js';
export { Trainer } from './train/trainer.js';
export type { StepResult, TrainerOptions } from './train/trainer.js';
export { TrainStep } from './train/step.js';
export type { StepBatch, TargetBatch, TargetStatistics } from './train/step.js';
export { averageTerms, combineLosses, termWeights } from './train/loss.js';
export type { LossOptions, Losses } from './train/loss.js';
export type { LossTerms, MetricsRow } from './train/metrics.js';
export { loadConfig, resolvedToml } from './train/config.js';
export type { TrainConfig } from './train/config.js';
export { runTraining } from './train/run.js';
export type { RunEvents, RunResult } from './train/run.js';
export { resolveResume } from './train/checkpoint-dir.js';
export type { Checkpoint } from './train/checkpoint-dir.js';
