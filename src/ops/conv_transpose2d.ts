import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';

export interface ConvTranspose2dOptions {
  bias?: Parameter | undefined;
  stride?: number;
  padding?: number;
  outputPadding?: number;
  activation?: 'none' | 'relu';
  /** The op behind masks its gradient by this one's ReLU (layernormMap with relu), so that backward need not. */
  maskedBehind?: boolean;
}

/**
 * Transposed convolution on channel-last maps (kernels/conv_transpose2d).
 * @param x [B,H,W,I]; channels packed, the rest strided at will
 * @param w [O,kh,kw,I]: the output channel first, as in conv2d
 * @returns [B,OH,OW,O], OH = (H − 1)·stride − 2·padding + kh + outputPadding
 */
export function convTranspose2d(x: Tensor, w: Parameter, options: ConvTranspose2dOptions = {}): Tensor {
  const { bias } = options;
  const stride = options.stride ?? 1;
  const padding = options.padding ?? 0;
  const output_padding = options.outputPadding ?? 0;
  const activation = options.activation ?? 'none';
  const [batch, h, v] = x.shape as [number, number, number, number];
  const [out, kh, kw] = w.shape as [number, number, number, number];
  const length = (side: number, kernel: number): number => (side - 1) * stride - 2 * padding + kernel + output_padding;
  const y = Tensor.empty([batch, length(h, kh), length(v, kw), out], x.dtype, x.device);
  dispatch('conv_transpose2d', {
    x,
    w: w.operand,
    packed: w.packed('forward'),
    bias: bias?.value,
    y,
    stride,
    padding,
    output_padding,
    activation,
  });
  const tape = activeTape();
  if (!tape || !(tape.reaches(x) || w.wantsGradient)) return y;

  const masks = activation === 'relu' && !options.maskedBehind;
  tape.record([y], [x, masks ? y : undefined], (gradients, [x_, y_]) => {
    const dx = tape.reaches(x) ? Tensor.empty(x.shape, x.dtype, x.device) : undefined;
    const dw = w.wantsGradient ? w.gradient() : undefined;
    const dbias = bias?.wantsGradient ? bias.gradient() : undefined;
    if (dw && dbias && dw.accumulate !== dbias.accumulate)
      throw new TheiaError('ERR_AUTOGRAD', `conv_transpose2d: ${w.name} and ${bias!.name} are shared differently`);
    dispatch('conv_transpose2d_grad', {
      x: x_!,
      w: w.operand,
      packed: dx && w.packed('backward'),
      dy: gradients.of(y)!,
      y: y_,
      dx,
      dw: dw?.into,
      dbias: dbias?.into,
      stride,
      padding,
      output_padding,
      activation: masks ? 'relu' : 'none',
      accumulate: dw?.accumulate ?? 0,
    });
    if (dx) gradients.add(x, dx);
  });
  return y;
}
