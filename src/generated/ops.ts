// Written by `npm run generate` from the field lists in kernels/*/*.h. Do not edit.

import type { Tensor } from '../tensor/tensor.js';

/** Arguments of the op `add`. */
export interface AddArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 0 to 5 */
  a: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 0 to 5 */
  b: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 0 to 5; may be the memory of a or b */
  y: Tensor;
}

/** Arguments of the op `copy`. */
export interface CopyArgs {
  /** in, float32 or float64 or bfloat16 or float16 or uint8 or int32 or int64, rank 0 to 5 */
  src: Tensor;
  /** inout, float32 or float64 or bfloat16 or float16 or uint8 or int32 or int64, rank 0 to 5 */
  dst: Tensor;
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `reduce`. */
export interface ReduceArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  x: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  y: Tensor;
  kind: 'mean' | 'max' | 'sum';
}

/** Arguments of the op `reduce_grad`. */
export interface ReduceGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  x?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  y?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dy: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  dx: Tensor;
  kind: 'mean' | 'max' | 'sum';
}

/** Arguments of the op `layernorm`. */
export interface LayernormArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  beta: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  y: Tensor;
  /** saved, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** saved, float32 or float64, rank 1 */
  rstd?: Tensor | undefined;
  eps: number;
}

/** Arguments of the op `layernorm_grad`. */
export interface LayernormGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  mean: Tensor;
  /** in, float32 or float64, rank 1 */
  rstd: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dy: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  add?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2; may be the memory of add */
  dx: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dgamma?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbeta?: Tensor | undefined;
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `layernorm_map`. */
export interface LayernormMapArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  beta: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  y: Tensor;
  /** saved, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** saved, float32 or float64, rank 1 */
  rstd?: Tensor | undefined;
  eps: number;
}

/** Arguments of the op `layernorm_map_grad`. */
export interface LayernormMapGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  mean: Tensor;
  /** in, float32 or float64, rank 1 */
  rstd: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dy: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dx: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dgamma?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbeta?: Tensor | undefined;
  /** 0 or 1 */
  relu: number;
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `attention`. */
export interface AttentionArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  q: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  k: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  v: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  out: Tensor;
  /** saved, float32 or float64, rank 3 */
  lse: Tensor;
  scale: number;
}

/** Arguments of the op `attention_grad`. */
export interface AttentionGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  q: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  k: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  v: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  out: Tensor;
  /** in, float32 or float64, rank 3 */
  lse: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dout: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dq: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dk: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dv: Tensor;
  scale: number;
}

/** Arguments of the op `preprocess`. */
export interface PreprocessArgs {
  /** in, uint8, rank 4 */
  image: Tensor;
  /** out, uint8, rank 4 */
  out: Tensor;
  filter: 'bilinear' | 'bicubic';
  height: number;
  width: number;
  top: number;
  left: number;
}

/** Arguments of the op `distill_loss`. */
export interface DistillLossArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  p: Tensor;
  /** in, float32 or float64 or bfloat16 or float16, rank 3 */
  t: Tensor;
  /** in, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  std?: Tensor | undefined;
  /** out, float32 or float64, rank 1 */
  terms: Tensor;
  /** saved, float64, rank 2 */
  stats: Tensor;
}

/** Arguments of the op `distill_loss_grad`. */
export interface DistillLossGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  p: Tensor;
  /** in, float32 or float64 or bfloat16 or float16, rank 3 */
  t: Tensor;
  /** in, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  std?: Tensor | undefined;
  /** in, float64, rank 2 */
  stats: Tensor;
  /** in, float32 or float64, rank 1 */
  weights: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 3; may be the memory of p */
  dp: Tensor;
}

/** Arguments of the op `adamw`. */
export interface AdamwArgs {
  /** inout, float32 or float64, rank 1 */
  param: Tensor;
  /** in, float32 or float64, rank 1 */
  grad: Tensor;
  /** inout, float32 or float64, rank 1 */
  exp_avg: Tensor;
  /** inout, float32 or float64, rank 1 */
  exp_avg_sq: Tensor;
  /** inout, bfloat16, rank 1 */
  weights?: Tensor | undefined;
  /** in, int64, rank 2 */
  segments: Tensor;
  /** in, float32 or float64, rank 2 */
  slots: Tensor;
  /** in, float32 or float64, rank 1 */
  clip_factor: Tensor;
  beta1: number;
  beta2: number;
  eps: number;
}

/** Arguments of the op `grad_norm`. */
export interface GradNormArgs {
  /** in, float32 or float64, rank 1 */
  grad: Tensor;
  /** in, int64, rank 2 */
  segments: Tensor;
  /** in, float32 or float64, rank 2 */
  slots: Tensor;
  /** in, float32 or float64, rank 1 */
  limit: Tensor;
  /** out, float64, rank 1 */
  norm: Tensor;
  /** out, float32 or float64, rank 1 */
  clip_factor: Tensor;
}

/** Arguments of the op `conv2d`. */
export interface Conv2dArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  residual?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4; may be the memory of residual */
  y: Tensor;
  stride: number;
  padding: number;
  activation: 'none' | 'relu';
}

/** Arguments of the op `conv2d_grad`. */
export interface Conv2dGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dy: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  y?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 4 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  stride: number;
  padding: number;
  activation: 'none' | 'relu';
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `conv_transpose2d`. */
export interface ConvTranspose2dArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  y: Tensor;
  stride: number;
  padding: number;
  output_padding: number;
  activation: 'none' | 'relu';
}

/** Arguments of the op `conv_transpose2d_grad`. */
export interface ConvTranspose2dGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dy: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  y?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 4 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  stride: number;
  padding: number;
  output_padding: number;
  activation: 'none' | 'relu';
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `max_pool2d`. */
export interface MaxPool2dArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  y: Tensor;
  kernel: number;
  stride: number;
  padding: number;
}

/** Arguments of the op `max_pool2d_grad`. */
export interface MaxPool2dGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dy: Tensor;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  dx: Tensor;
  kernel: number;
  stride: number;
  padding: number;
}

/** Arguments of the op `linear`. */
export interface LinearArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  residual?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2; may be the memory of residual */
  y: Tensor;
  /** saved, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  slope?: Tensor | undefined;
  activation: 'none' | 'relu' | 'gelu';
}

/** Arguments of the op `linear_grad`. */
export interface LinearGradArgs {
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  x: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dy: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  y?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  slope?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 2 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 2 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  activation: 'none' | 'relu' | 'gelu';
  /** 0 or 1 */
  accumulate: number;
}

/** Arguments of the op `pack`. */
export interface PackArgs {
  /** in, float32 or float64, rank 2 to 4 */
  w: Tensor;
  /** out, float32 or float64, rank 1 */
  packed: Tensor;
  use: 'forward' | 'backward';
}

/** Arguments of the op `patch_embed`. */
export interface PatchEmbedArgs {
  /** in, uint8, rank 4 */
  images: Tensor;
  /** in, float32 or float64, rank 1 */
  table: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias: Tensor;
  /** in, float32 or float64, rank 2 */
  positions: Tensor;
  /** in, float32 or float64, rank 1 */
  cls?: Tensor | undefined;
  /** in, float32 or float64, rank 2 */
  registers?: Tensor | undefined;
  /** in, float32 or float64, rank 2 */
  register_positions?: Tensor | undefined;
  /** out, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  y: Tensor;
}

/** Arguments of the op `patch_embed_grad`. */
export interface PatchEmbedGradArgs {
  /** in, uint8, rank 4 */
  images: Tensor;
  /** in, float32 or float64, rank 1 */
  table: Tensor;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 4 */
  w?: Tensor | undefined;
  /** in, float32 or float64 or bfloat16 (cuda and simt), rank 3 */
  dy: Tensor;
  /** accumulate, float32 or float64, rank 4 */
  dw: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dbias: Tensor;
  /** accumulate, float32 or float64, rank 2 */
  dpositions: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dcls?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 2 */
  dregisters?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 2 */
  dregister_positions?: Tensor | undefined;
  /** 0 or 1 */
  accumulate: number;
}

export interface OpArgs {
  add: AddArgs;
  copy: CopyArgs;
  reduce: ReduceArgs;
  reduce_grad: ReduceGradArgs;
  layernorm: LayernormArgs;
  layernorm_grad: LayernormGradArgs;
  layernorm_map: LayernormMapArgs;
  layernorm_map_grad: LayernormMapGradArgs;
  attention: AttentionArgs;
  attention_grad: AttentionGradArgs;
  preprocess: PreprocessArgs;
  distill_loss: DistillLossArgs;
  distill_loss_grad: DistillLossGradArgs;
  adamw: AdamwArgs;
  grad_norm: GradNormArgs;
  conv2d: Conv2dArgs;
  conv2d_grad: Conv2dGradArgs;
  conv_transpose2d: ConvTranspose2dArgs;
  conv_transpose2d_grad: ConvTranspose2dGradArgs;
  max_pool2d: MaxPool2dArgs;
  max_pool2d_grad: MaxPool2dGradArgs;
  linear: LinearArgs;
  linear_grad: LinearGradArgs;
  pack: PackArgs;
  patch_embed: PatchEmbedArgs;
  patch_embed_grad: PatchEmbedGradArgs;
}

export type OpName = keyof OpArgs;

export type Role = 'in' | 'out' | 'inout' | 'saved' | 'accumulate' | 'scalar';

/** One argument of an op: how it is written into the call area, and what it is for. */
export interface Field {
  readonly name: string;
  readonly kind: 'tensor' | 'int' | 'float' | 'choice';
  readonly role: Role;
  readonly optional: boolean;
  readonly choices?: readonly string[];
}

/** All ops in the order of kernels/ops.def: the position is the number that the addon knows the op by. */
export const OPS: readonly { readonly name: OpName; readonly fields: readonly Field[] }[] = [
  {
    name: 'add',
    fields: [
      { name: 'a', kind: 'tensor', role: 'in', optional: false },
      { name: 'b', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
    ],
  },
  {
    name: 'copy',
    fields: [
      { name: 'src', kind: 'tensor', role: 'in', optional: false },
      { name: 'dst', kind: 'tensor', role: 'inout', optional: false },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'reduce',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'kind', kind: 'choice', role: 'scalar', optional: false, choices: ['mean', 'max', 'sum'] },
    ],
  },
  {
    name: 'reduce_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: true },
      { name: 'y', kind: 'tensor', role: 'in', optional: true },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'dx', kind: 'tensor', role: 'out', optional: false },
      { name: 'kind', kind: 'choice', role: 'scalar', optional: false, choices: ['mean', 'max', 'sum'] },
    ],
  },
  {
    name: 'layernorm',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'gamma', kind: 'tensor', role: 'in', optional: false },
      { name: 'beta', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'mean', kind: 'tensor', role: 'saved', optional: true },
      { name: 'rstd', kind: 'tensor', role: 'saved', optional: true },
      { name: 'eps', kind: 'float', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'layernorm_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'gamma', kind: 'tensor', role: 'in', optional: false },
      { name: 'mean', kind: 'tensor', role: 'in', optional: false },
      { name: 'rstd', kind: 'tensor', role: 'in', optional: false },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'add', kind: 'tensor', role: 'in', optional: true },
      { name: 'dx', kind: 'tensor', role: 'out', optional: false },
      { name: 'dgamma', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dbeta', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'layernorm_map',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'gamma', kind: 'tensor', role: 'in', optional: false },
      { name: 'beta', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'mean', kind: 'tensor', role: 'saved', optional: true },
      { name: 'rstd', kind: 'tensor', role: 'saved', optional: true },
      { name: 'eps', kind: 'float', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'layernorm_map_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'gamma', kind: 'tensor', role: 'in', optional: false },
      { name: 'mean', kind: 'tensor', role: 'in', optional: false },
      { name: 'rstd', kind: 'tensor', role: 'in', optional: false },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'dx', kind: 'tensor', role: 'out', optional: false },
      { name: 'dgamma', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dbeta', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'relu', kind: 'int', role: 'scalar', optional: false },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'attention',
    fields: [
      { name: 'q', kind: 'tensor', role: 'in', optional: false },
      { name: 'k', kind: 'tensor', role: 'in', optional: false },
      { name: 'v', kind: 'tensor', role: 'in', optional: false },
      { name: 'out', kind: 'tensor', role: 'out', optional: false },
      { name: 'lse', kind: 'tensor', role: 'saved', optional: false },
      { name: 'scale', kind: 'float', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'attention_grad',
    fields: [
      { name: 'q', kind: 'tensor', role: 'in', optional: false },
      { name: 'k', kind: 'tensor', role: 'in', optional: false },
      { name: 'v', kind: 'tensor', role: 'in', optional: false },
      { name: 'out', kind: 'tensor', role: 'in', optional: false },
      { name: 'lse', kind: 'tensor', role: 'in', optional: false },
      { name: 'dout', kind: 'tensor', role: 'in', optional: false },
      { name: 'dq', kind: 'tensor', role: 'out', optional: false },
      { name: 'dk', kind: 'tensor', role: 'out', optional: false },
      { name: 'dv', kind: 'tensor', role: 'out', optional: false },
      { name: 'scale', kind: 'float', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'preprocess',
    fields: [
      { name: 'image', kind: 'tensor', role: 'in', optional: false },
      { name: 'out', kind: 'tensor', role: 'out', optional: false },
      { name: 'filter', kind: 'choice', role: 'scalar', optional: false, choices: ['bilinear', 'bicubic'] },
      { name: 'height', kind: 'int', role: 'scalar', optional: false },
      { name: 'width', kind: 'int', role: 'scalar', optional: false },
      { name: 'top', kind: 'int', role: 'scalar', optional: false },
      { name: 'left', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'distill_loss',
    fields: [
      { name: 'p', kind: 'tensor', role: 'in', optional: false },
      { name: 't', kind: 'tensor', role: 'in', optional: false },
      { name: 'mean', kind: 'tensor', role: 'in', optional: true },
      { name: 'std', kind: 'tensor', role: 'in', optional: true },
      { name: 'terms', kind: 'tensor', role: 'out', optional: false },
      { name: 'stats', kind: 'tensor', role: 'saved', optional: false },
    ],
  },
  {
    name: 'distill_loss_grad',
    fields: [
      { name: 'p', kind: 'tensor', role: 'in', optional: false },
      { name: 't', kind: 'tensor', role: 'in', optional: false },
      { name: 'mean', kind: 'tensor', role: 'in', optional: true },
      { name: 'std', kind: 'tensor', role: 'in', optional: true },
      { name: 'stats', kind: 'tensor', role: 'in', optional: false },
      { name: 'weights', kind: 'tensor', role: 'in', optional: false },
      { name: 'dp', kind: 'tensor', role: 'out', optional: false },
    ],
  },
  {
    name: 'adamw',
    fields: [
      { name: 'param', kind: 'tensor', role: 'inout', optional: false },
      { name: 'grad', kind: 'tensor', role: 'in', optional: false },
      { name: 'exp_avg', kind: 'tensor', role: 'inout', optional: false },
      { name: 'exp_avg_sq', kind: 'tensor', role: 'inout', optional: false },
      { name: 'weights', kind: 'tensor', role: 'inout', optional: true },
      { name: 'segments', kind: 'tensor', role: 'in', optional: false },
      { name: 'slots', kind: 'tensor', role: 'in', optional: false },
      { name: 'clip_factor', kind: 'tensor', role: 'in', optional: false },
      { name: 'beta1', kind: 'float', role: 'scalar', optional: false },
      { name: 'beta2', kind: 'float', role: 'scalar', optional: false },
      { name: 'eps', kind: 'float', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'grad_norm',
    fields: [
      { name: 'grad', kind: 'tensor', role: 'in', optional: false },
      { name: 'segments', kind: 'tensor', role: 'in', optional: false },
      { name: 'slots', kind: 'tensor', role: 'in', optional: false },
      { name: 'limit', kind: 'tensor', role: 'in', optional: false },
      { name: 'norm', kind: 'tensor', role: 'out', optional: false },
      { name: 'clip_factor', kind: 'tensor', role: 'out', optional: false },
    ],
  },
  {
    name: 'conv2d',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'bias', kind: 'tensor', role: 'in', optional: true },
      { name: 'residual', kind: 'tensor', role: 'in', optional: true },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu'] },
    ],
  },
  {
    name: 'conv2d_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'in', optional: true },
      { name: 'dx', kind: 'tensor', role: 'out', optional: true },
      { name: 'dw', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dbias', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu'] },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'conv_transpose2d',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'bias', kind: 'tensor', role: 'in', optional: true },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'output_padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu'] },
    ],
  },
  {
    name: 'conv_transpose2d_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'in', optional: true },
      { name: 'dx', kind: 'tensor', role: 'out', optional: true },
      { name: 'dw', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dbias', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'output_padding', kind: 'int', role: 'scalar', optional: false },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu'] },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'max_pool2d',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'kernel', kind: 'int', role: 'scalar', optional: false },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'max_pool2d_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'dx', kind: 'tensor', role: 'out', optional: false },
      { name: 'kernel', kind: 'int', role: 'scalar', optional: false },
      { name: 'stride', kind: 'int', role: 'scalar', optional: false },
      { name: 'padding', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'linear',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'bias', kind: 'tensor', role: 'in', optional: true },
      { name: 'residual', kind: 'tensor', role: 'in', optional: true },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
      { name: 'slope', kind: 'tensor', role: 'saved', optional: true },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu', 'gelu'] },
    ],
  },
  {
    name: 'linear_grad',
    fields: [
      { name: 'x', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'y', kind: 'tensor', role: 'in', optional: true },
      { name: 'slope', kind: 'tensor', role: 'in', optional: true },
      { name: 'dx', kind: 'tensor', role: 'out', optional: true },
      { name: 'dw', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dbias', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'activation', kind: 'choice', role: 'scalar', optional: false, choices: ['none', 'relu', 'gelu'] },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
  {
    name: 'pack',
    fields: [
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'out', optional: false },
      { name: 'use', kind: 'choice', role: 'scalar', optional: false, choices: ['forward', 'backward'] },
    ],
  },
  {
    name: 'patch_embed',
    fields: [
      { name: 'images', kind: 'tensor', role: 'in', optional: false },
      { name: 'table', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: false },
      { name: 'packed', kind: 'tensor', role: 'in', optional: true },
      { name: 'bias', kind: 'tensor', role: 'in', optional: false },
      { name: 'positions', kind: 'tensor', role: 'in', optional: false },
      { name: 'cls', kind: 'tensor', role: 'in', optional: true },
      { name: 'registers', kind: 'tensor', role: 'in', optional: true },
      { name: 'register_positions', kind: 'tensor', role: 'in', optional: true },
      { name: 'y', kind: 'tensor', role: 'out', optional: false },
    ],
  },
  {
    name: 'patch_embed_grad',
    fields: [
      { name: 'images', kind: 'tensor', role: 'in', optional: false },
      { name: 'table', kind: 'tensor', role: 'in', optional: false },
      { name: 'w', kind: 'tensor', role: 'in', optional: true },
      { name: 'dy', kind: 'tensor', role: 'in', optional: false },
      { name: 'dw', kind: 'tensor', role: 'accumulate', optional: false },
      { name: 'dbias', kind: 'tensor', role: 'accumulate', optional: false },
      { name: 'dpositions', kind: 'tensor', role: 'accumulate', optional: false },
      { name: 'dcls', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dregisters', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'dregister_positions', kind: 'tensor', role: 'accumulate', optional: true },
      { name: 'accumulate', kind: 'int', role: 'scalar', optional: false },
    ],
  },
];
