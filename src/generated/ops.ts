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

/** Arguments of the op `attention`. */
export interface AttentionArgs {
  /** in, float32 or float64, rank 4 */
  q: Tensor;
  /** in, float32 or float64, rank 4 */
  k: Tensor;
  /** in, float32 or float64, rank 4 */
  v: Tensor;
  /** out, float32 or float64, rank 4 */
  out: Tensor;
  /** saved, float32 or float64, rank 3 */
  lse: Tensor;
  scale: number;
}

/** Arguments of the op `attention_grad`. */
export interface AttentionGradArgs {
  /** in, float32 or float64, rank 4 */
  q: Tensor;
  /** in, float32 or float64, rank 4 */
  k: Tensor;
  /** in, float32 or float64, rank 4 */
  v: Tensor;
  /** in, float32 or float64, rank 4 */
  out: Tensor;
  /** in, float32 or float64, rank 3 */
  lse: Tensor;
  /** in, float32 or float64, rank 4 */
  dout: Tensor;
  /** out, float32 or float64, rank 4 */
  dq: Tensor;
  /** out, float32 or float64, rank 4 */
  dk: Tensor;
  /** out, float32 or float64, rank 4 */
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
}

export interface OpArgs {
  add: AddArgs;
  attention: AttentionArgs;
  attention_grad: AttentionGradArgs;
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
    ],
  },
];
