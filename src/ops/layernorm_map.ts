import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';

/**
 * LayerNorm over whole maps: statistics over H, W and C together, affine per element (kernels/layernorm_map).
 * @param x [B,H,W,C], packed
 * @param gamma [H,W,C]
 * @param beta [H,W,C]
 * @param options relu: x is the output of a ReLU whose op leaves the gradient's masking to this one (`maskedBehind`)
 */
export function layernormMap(x: Tensor, gamma: Parameter, beta: Parameter, eps: number, options: { relu?: boolean } = {}): Tensor {
  const batch = x.shape[0]!;
  const length = batch === 0 ? 0 : x.size / batch;
  if (x.shape.slice(1).join() !== gamma.shape.join())
    throw new TheiaError(
      'ERR_SHAPE',
      `layernorm_map ${gamma.name}: expected maps of [${gamma.shape.join(',')}], got [${x.shape.join(',')}]`,
    );
  const tape = activeTape();
  const trains = tape !== undefined && (tape.reaches(x) || gamma.wantsGradient);
  const mean = trains ? Tensor.empty([batch], gamma.value.dtype, x.device) : undefined;
  const rstd = trains ? Tensor.empty([batch], gamma.value.dtype, x.device) : undefined;
  const y = Tensor.empty(x.shape, gamma.compute, x.device);
  const flat = (t: Tensor): Tensor => t.reshape([batch, length]);
  const line = (t: Tensor): Tensor => t.reshape([length]);
  dispatch('layernorm_map', { x: flat(x), gamma: line(gamma.value), beta: line(beta.value), y: flat(y), mean, rstd, eps });
  if (!trains) return y;

  tape.record([y], [x, mean, rstd], (gradients, [x_, mean_, rstd_]) => {
    const dgamma = gamma.wantsGradient ? gamma.gradient() : undefined;
    const dbeta = beta.wantsGradient ? beta.gradient() : undefined;
    if (dgamma && dbeta && dgamma.accumulate !== dbeta.accumulate)
      throw new TheiaError('ERR_AUTOGRAD', `layernorm_map: ${gamma.name} and ${beta.name} are shared differently`);
    const dx = Tensor.empty(x.shape, x.dtype, x.device);
    dispatch('layernorm_map_grad', {
      x: flat(x_!),
      gamma: line(gamma.value),
      mean: mean_!,
      rstd: rstd_!,
      dy: flat(gradients.of(y)!),
      dx: flat(dx),
      dgamma: dgamma && line(dgamma.into),
      dbeta: dbeta && line(dbeta.into),
      relu: options.relu ? 1 : 0,
      accumulate: dgamma?.accumulate ?? 0,
    });
    if (tape.reaches(x)) gradients.add(x, dx);
  });
  return y;
}
