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

/** Arguments of the op `conv2d`. */
export interface Conv2dArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** in, float32 or float64, rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** in, float32 or float64, rank 4 */
  residual?: Tensor | undefined;
  /** out, float32 or float64, rank 4; may be the memory of residual */
  y: Tensor;
  stride: number;
  padding: number;
  activation: 'none' | 'relu';
}

/** Arguments of the op `conv2d_grad`. */
export interface Conv2dGradArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** in, float32 or float64, rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 4 */
  dy: Tensor;
  /** in, float32 or float64, rank 4 */
  y?: Tensor | undefined;
  /** out, float32 or float64, rank 4 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 4 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  stride: number;
  padding: number;
  activation: 'none' | 'relu';
  accumulate: number;
}

/** Arguments of the op `conv_transpose2d`. */
export interface ConvTranspose2dArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** in, float32 or float64, rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** out, float32 or float64, rank 4 */
  y: Tensor;
  stride: number;
  padding: number;
  output_padding: number;
  activation: 'none' | 'relu';
}

/** Arguments of the op `conv_transpose2d_grad`. */
export interface ConvTranspose2dGradArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** in, float32 or float64, rank 4 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 4 */
  dy: Tensor;
  /** in, float32 or float64, rank 4 */
  y?: Tensor | undefined;
  /** out, float32 or float64, rank 4 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 4 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  stride: number;
  padding: number;
  output_padding: number;
  activation: 'none' | 'relu';
  accumulate: number;
}

/** Arguments of the op `max_pool2d`. */
export interface MaxPool2dArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** out, float32 or float64, rank 4 */
  y: Tensor;
  kernel: number;
  stride: number;
  padding: number;
}

/** Arguments of the op `max_pool2d_grad`. */
export interface MaxPool2dGradArgs {
  /** in, float32 or float64, rank 4 */
  x: Tensor;
  /** in, float32 or float64, rank 4 */
  dy: Tensor;
  /** out, float32 or float64, rank 4 */
  dx: Tensor;
  kernel: number;
  stride: number;
  padding: number;
}

/** Arguments of the op `linear`. */
export interface LinearArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 2 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 1 */
  bias?: Tensor | undefined;
  /** in, float32 or float64, rank 2 */
  residual?: Tensor | undefined;
  /** out, float32 or float64, rank 2; may be the memory of residual */
  y: Tensor;
  /** saved, float32 or float64, rank 2 */
  slope?: Tensor | undefined;
  activation: 'none' | 'relu' | 'gelu';
}

/** Arguments of the op `linear_grad`. */
export interface LinearGradArgs {
  /** in, float32 or float64, rank 2 */
  x: Tensor;
  /** in, float32 or float64, rank 2 */
  w: Tensor;
  /** in, float32 or float64, rank 1 */
  packed?: Tensor | undefined;
  /** in, float32 or float64, rank 2 */
  dy: Tensor;
  /** in, float32 or float64, rank 2 */
  y?: Tensor | undefined;
  /** in, float32 or float64, rank 2 */
  slope?: Tensor | undefined;
  /** out, float32 or float64, rank 2 */
  dx?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 2 */
  dw?: Tensor | undefined;
  /** accumulate, float32 or float64, rank 1 */
  dbias?: Tensor | undefined;
  activation: 'none' | 'relu' | 'gelu';
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

export interface OpArgs {
  add: AddArgs;
  conv2d: Conv2dArgs;
  conv2d_grad: Conv2dGradArgs;
  conv_transpose2d: ConvTranspose2dArgs;
  conv_transpose2d_grad: ConvTranspose2dGradArgs;
  max_pool2d: MaxPool2dArgs;
  max_pool2d_grad: MaxPool2dGradArgs;
  linear: LinearArgs;
  linear_grad: LinearGradArgs;
  pack: PackArgs;
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
];
