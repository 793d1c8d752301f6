import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, countOf, dispatch } from '../tensor/index.js';

/**
 * LayerNorm over the last axis (kernels/layernorm). Its backward takes over what else flows into x, the residual stream's gradient.
 * The result has the type that the model computes in (gamma.compute); x may be the float32 residual stream.
 * @param x [..., D], packed
 * @param gamma [D]
 * @param beta [D]
 */
export function layernorm(x: Tensor, gamma: Parameter, beta: Parameter, eps: number): Tensor {
  const width = x.shape[x.rank - 1]!;
  const rows = countOf(x.shape.slice(0, -1));
  const flat = (t: Tensor): Tensor => (t.rank === 2 ? t : t.reshape([rows, width]));
  const tape = activeTape();
  const trains = tape !== undefined && (tape.reaches(x) || gamma.wantsGradient);
  const mean = trains ? Tensor.empty([rows], gamma.value.dtype, x.device) : undefined;
  const rstd = trains ? Tensor.empty([rows], gamma.value.dtype, x.device) : undefined;
  const y = Tensor.empty(x.shape, gamma.compute, x.device);
  dispatch('layernorm', { x: flat(x), gamma: gamma.value, beta: beta.value, y: flat(y), mean, rstd, eps });
  if (!trains) return y;

  tape.record([y], [x, mean, rstd], (gradients, [x_, mean_, rstd_]) => {
    const dgamma = gamma.wantsGradient ? gamma.gradient() : undefined;
    const dbeta = beta.wantsGradient ? beta.gradient() : undefined;
    if (dgamma && dbeta && dgamma.accumulate !== dbeta.accumulate)
      throw new TheiaError('ERR_AUTOGRAD', `layernorm: ${gamma.name} and ${beta.name} are shared differently`);
    const before = gradients.take(x);
    const dx = before?.exclusive && before.packed ? before : Tensor.empty(x.shape, x.dtype, x.device);
    dispatch('layernorm_grad', {
      x: flat(x_!),
      gamma: gamma.value,
      mean: mean_!,
      rstd: rstd_!,
      dy: flat(gradients.of(y)!),
      add: before && flat(before),
      dx: flat(dx),
      dgamma: dgamma?.into,
      dbeta: dbeta?.into,
      accumulate: dgamma?.accumulate ?? 0,
    });
    if (tape.reaches(x)) gradients.add(x, dx);
    before?.dispose();
  });
  return y;
}
