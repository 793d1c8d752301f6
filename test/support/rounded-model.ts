// The plain same-precision measure of a whole model in bfloat16: the float32 model of the CPU, whose tensors are rounded to bfloat16 at the
// places where the GPU's kernels store bfloat16. Sums stay float32.
import type { OpName } from '../../src/generated/ops.js';
import type { Theia } from '../../src/models/theia.js';
import { Tensor, dispatch } from '../../src/tensor/index.js';
import { observeDispatch } from '../../src/tensor/dispatch.js';

/** The tensors that each op stores as bfloat16, but those that belong to the float32 residual stream (below). */
const STORED: Partial<Record<OpName, readonly string[]>> = {
  layernorm: ['y'],
  layernorm_map: ['y'],
  layernorm_map_grad: ['dx'],
  linear: ['y', 'slope'],
  linear_grad: ['dx'],
  attention: ['out'],
  attention_grad: ['dq', 'dk', 'dv'],
  conv2d: ['y'],
  conv2d_grad: ['dx'],
  conv_transpose2d: ['y'],
  conv_transpose2d_grad: ['dx'],
  distill_loss_grad: ['dp'],
};

/** A tensor's elements to the nearest bfloat16, through a copy of that type. */
export function roundTensor(t: Tensor): void {
  using narrow = Tensor.empty(t.shape, 'bfloat16');
  dispatch('copy', { src: t, dst: narrow, accumulate: 0 });
  dispatch('copy', { src: narrow, dst: t, accumulate: 0 });
}

/**
 * Runs fn, in which a float32 model on the CPU is run immediately (no plan), with the roundings of a bfloat16 run.
 * The model's matrix weights are rounded for good.
 */
export function roundingAsBfloat16<T>(model: Theia, fn: () => T): T {
  for (const p of model.arena.parameters.values()) {
    const matrix = p.shape.length === 4 || (p.shape.length === 2 && !/position_embeddings|reg_/.test(p.name));
    if (matrix) roundTensor(p.value);
  }
  model.arena.version += 1;
  roundTensor(Reflect.get(model, 'table') as Tensor); // what pixels become
  return observeDispatch((name, args) => {
    const fields = STORED[name];
    if (!fields) return;
    const tensors = args as unknown as Record<string, Tensor | undefined>;
    for (const field of fields) {
      const t = tensors[field];
      // With a residual, y is the float32 residual stream.
      if (t && !(name === 'linear' && field === 'y' && tensors['residual'])) roundTensor(t);
    }
  }, fn);
}
