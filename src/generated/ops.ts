// Written by `npm run generate` from the field lists in kernels/*/*.h. Do not edit.

import type { Tensor } from '../tensor/tensor.js';

/** Arguments of the op `add`. */
export interface AddArgs {
  /** in, float32 or float64, rank 0 to 5 */
  a: Tensor;
  /** in, float32 or float64, rank 0 to 5 */
  b: Tensor;
  /** out, float32 or float64, rank 0 to 5; may be the memory of a */
  y: Tensor;
}

/** Arguments of the op `distill_loss`. */
export interface DistillLossArgs {
  /** in, float32 or float64, rank 3 */
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
  /** in, float32 or float64, rank 3 */
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
  /** out, float32 or float64, rank 3; may be the memory of p */
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

export interface OpArgs {
  add: AddArgs;
  distill_loss: DistillLossArgs;
  distill_loss_grad: DistillLossGradArgs;
  adamw: AdamwArgs;
  grad_norm: GradNormArgs;
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
];
