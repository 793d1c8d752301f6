import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';

export interface Conv2dOptions {
  bias?: Parameter | undefined;
  stride?: number;
  padding?: number;
  activation?: 'none' | 'relu';
  /** [B,OH,OW,O], added before the activation */
  residual?: Tensor | undefined;
  /** The op behind masks its gradient by this one's ReLU (layernormMap with relu), so that backward need not. */
  maskedBehind?: boolean;
}

/**
 * Convolution on channel-last maps (kernels/conv2d).
 * @param x [B,H,W,I]; channels packed, the rest strided at will
 * @param w [O,kh,kw,I]
 * @returns [B,OH,OW,O], OH = floor((H + 2·padding − kh) / stride) + 1
 */
export function conv2d(x: Tensor, w: Parameter, options: Conv2dOptions = {}): Tensor {
  const { bias, residual } = options;
  const stride = options.stride ?? 1;
  const padding = options.padding ?? 0;
  const activation = options.activation ?? 'none';
  const [batch, h, v] = x.shape as [number, number, number, number];
  const [out, kh, kw] = w.shape as [number, number, number, number];
  const y = Tensor.empty(
    [batch, Math.floor((h + 2 * padding - kh) / stride) + 1, Math.floor((v + 2 * padding - kw) / stride) + 1, out],
    x.dtype,
    x.device,
  );
  dispatch('conv2d', { x, w: w.operand, packed: w.packed('forward'), bias: bias?.value, residual, y, stride, padding, activation });
  const tape = activeTape();
  if (!tape || !(tape.reaches(x) || w.wantsGradient)) return y;

  const masks = activation === 'relu' && !options.maskedBehind;
  tape.record([y], [x, masks ? y : undefined], (gradients, [x_, y_]) => {
    const dy = gradients.of(y)!;
    const dx = tape.reaches(x) ? Tensor.empty(x.shape, x.dtype, x.device) : undefined;
    const dw = w.wantsGradient ? w.gradient() : undefined;
    const dbias = bias?.wantsGradient ? bias.gradient() : undefined;
    if (dw && dbias && dw.accumulate !== dbias.accumulate)
      throw new TheiaError('ERR_AUTOGRAD', `conv2d: ${w.name} and ${bias!.name} are shared differently`);
    if (residual && tape.reaches(residual)) throw new TheiaError('ERR_UNSUPPORTED', 'conv2d: the gradient of a residual is not built');
    dispatch('conv2d_grad', {
      x: x_!,
      w: w.operand,
      packed: dx && w.packed('backward'),
      dy,
      y: y_,
      dx,
      dw: dw?.into,
      dbias: dbias?.into,
      stride,
      padding,
      activation: masks ? 'relu' : 'none',
      accumulate: dw?.accumulate ?? 0,
    });
    if (dx) gradients.add(x, dx);
  });
  return y;
}
