import { activeTape } from '../autograd/tape.js';
import { Tensor, dispatch } from '../tensor/index.js';

export interface MaxPool2dOptions {
  /** side of the window */
  kernel: number;
  /** the kernel's size if left out */
  stride?: number;
  /** at most half the kernel; counts as minus infinity */
  padding?: number;
}

/**
 * The maximum of each window of channel-last maps (kernels/max_pool2d). NaN wins.
 * @param x [B,H,W,C]; channels packed, the rest strided at will
 * @returns [B,OH,OW,C], OH = floor((H + 2·padding − kernel) / stride) + 1
 * @throws ERR_ARGS, ERR_SHAPE
 */
export function maxPool2d(x: Tensor, options: MaxPool2dOptions): Tensor {
  const { kernel, stride = kernel, padding = 0 } = options;
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  // What no window fits, or no number of windows describes, becomes an empty map: the addon's checks then say what is wrong.
  const length = (size: number): number => {
    const n = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    return n > 0 && Number.isFinite(n) ? n : 0;
  };
  const y = Tensor.empty([batch, length(height), length(width), channels], x.dtype, x.device);
  dispatch('max_pool2d', { x, y, kernel, stride, padding });
  const tape = activeTape();
  if (!tape?.reaches(x)) return y;

  tape.record([y], [x], (gradients, [x_]) => {
    const dx = Tensor.empty(x.shape, x.dtype, x.device);
    dispatch('max_pool2d_grad', { x: x_!, dy: gradients.of(y)!, dx, kernel, stride, padding });
    gradients.add(x, dx);
  });
  return y;
}
