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

/** Arguments of the op `layernorm`. */
export interface LayernormArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  beta: Tensor;
  /** out, float32 or float64, rank 2 */
  y: Tensor;
  /** saved, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** saved, float32 or float64, rank 1 */
  rstd?: Tensor | undefined;
  eps: number;
}

/** Arguments of the op `layernorm_grad`. */
export interface LayernormGradArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  mean: Tensor;
  /** in, float32 or float64, rank 1 */
  rstd: Tensor;
  /** in, float32 or float64, rank 2 */
  dy: Tensor;
  /** in, float32 or float64, rank 2 */
  add?: Tensor | undefined;
  /** out, float32 or float64, rank 2; may be the memory of add */
  dx: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dgamma?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbeta?: Tensor | undefined;
  accumulate: number;
}

/** Arguments of the op `layernorm_map`. */
export interface LayernormMapArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  beta: Tensor;
  /** out, float32 or float64, rank 2 */
  y: Tensor;
  /** saved, float32 or float64, rank 1 */
  mean?: Tensor | undefined;
  /** saved, float32 or float64, rank 1 */
  rstd?: Tensor | undefined;
  eps: number;
}

/** Arguments of the op `layernorm_map_grad`. */
export interface LayernormMapGradArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 1 */
  gamma: Tensor;
  /** in, float32 or float64, rank 1 */
  mean: Tensor;
  /** in, float32 or float64, rank 1 */
  rstd: Tensor;
  /** in, float32 or float64, rank 2 */
  dy: Tensor;
  /** out, float32 or float64, rank 2 */
  dx: Tensor;
  /** accumulate, float32 or float64, rank 1 */
  dgamma?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbeta?: Tensor | undefined;
  relu: number;
  accumulate: number;
}

/** Arguments of the op `preprocess`. */
export interface PreprocessArgs {
  /** in, uint8, rank 4 */
  image: Tensor;
  /** out, uint8, rank 4 */
  out: Tensor;
  filter: 'bilinear' | 'bicubic';
}

export interface OpArgs {
  add: AddArgs;
  layernorm: LayernormArgs;
  layernorm_grad: LayernormGradArgs;
  layernorm_map: LayernormMapArgs;
  layernorm_map_grad: LayernormMapGradArgs;
  preprocess: PreprocessArgs;
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
    name: 'preprocess',
    fields: [
      { name: 'image', kind: 'tensor', role: 'in', optional: false },
      { name: 'out', kind: 'tensor', role: 'out', optional: false },
      { name: 'filter', kind: 'choice', role: 'scalar', optional: false, choices: ['bilinear', 'bicubic'] },
    ],
  },
];
