import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, countOf, dispatch } from '../tensor/index.js';

export interface LinearOptions {
  bias?: Parameter | undefined;
  /** `gelu` is the exact erf form */
  activation?: 'none' | 'relu' | 'gelu';
  /** same shape as the output; added after the activation */
  residual?: Tensor | undefined;
}

/**
 * act(x · wᵀ + bias) + residual (kernels/linear).
 * @param x [..., K] of the type that w is multiplied in; leading dimensions are rows. Rows may be strided if x is [M,K]
 * @param w [N,K]
 * @returns [..., N] of the residual's type if there is one, else of x's
 */
export function linear(x: Tensor, w: Parameter, options: LinearOptions = {}): Tensor {
  const { bias, residual } = options;
  const activation = options.activation ?? 'none';
  const [n, k] = w.shape as [number, number];
  const lead = x.shape.slice(0, -1);
  if (x.shape[x.rank - 1] !== k)
    throw new TheiaError('ERR_SHAPE', `linear ${w.name}: expected x of [...,${k}], got [${x.shape.join(',')}]`);
  const rows = countOf(lead);
  const flat = (t: Tensor, columns: number): Tensor => (t.rank === 2 ? t : t.reshape([rows, columns]));

  const tape = activeTape();
  const trains = tape !== undefined && (tape.reaches(x) || w.wantsGradient);
  const y = Tensor.empty([...lead, n], residual?.dtype ?? x.dtype, x.device);
  const slope = trains && activation === 'gelu' ? Tensor.empty([rows, n], x.dtype, x.device) : undefined;
  dispatch('linear', {
    x: flat(x, k),
    w: w.operand,
    packed: w.packed('forward'),
    bias: bias?.value,
    residual: residual && flat(residual, n),
    y: flat(y, n),
    slope,
    activation,
  });
  if (!trains) return y;
  if (activation === 'relu' && residual)
    throw new TheiaError('ERR_AUTOGRAD', 'linear: relu with a residual has no gradient: y alone does not tell the sign');

  tape.record([y], [x, activation === 'relu' ? y : undefined, slope], (gradients, [x_, y_, slope_]) => {
    const dy = gradients.of(y)!;
    const dx = tape.reaches(x) ? Tensor.empty(x.shape, x.dtype, x.device) : undefined;
    const dw = w.wantsGradient ? w.gradient() : undefined;
    const db = bias?.wantsGradient ? bias.gradient() : undefined;
    if (dw && db && dw.accumulate !== db.accumulate)
      throw new TheiaError('ERR_AUTOGRAD', `linear: ${w.name} and ${bias!.name} are shared differently`);
    dispatch('linear_grad', {
      x: flat(x_!, k),
      w: w.operand,
      packed: dx && w.packed('backward'),
      dy: flat(dy, n),
      y: y_ && flat(y_, n),
      slope: slope_,
      dx: dx && flat(dx, k),
      dw: dw?.into,
      dbias: db?.into,
      activation,
      accumulate: dw?.accumulate ?? db?.accumulate ?? 0,
    });
    if (dx) gradients.add(x, dx);
    if (residual && tape.reaches(residual)) gradients.add(residual, dy);
  });
  return y;
}
