import { activeTape } from '../autograd/tape.js';
import { Tensor, dispatch } from '../tensor/index.js';

/**
 * The maximum of each window of a channel-last map (kernels/max_pool2d). Outside the map counts as −infinity.
 * @param x [B,H,W,C]
 * @returns [B,OH,OW,C], OH = floor((H + 2·padding − kernel) / stride) + 1
 */
export function maxPool2d(x: Tensor, kernel: number, options: { stride?: number; padding?: number } = {}): Tensor {
  const stride = options.stride ?? kernel;
  const padding = options.padding ?? 0;
  const [batch, h, w, channels] = x.shape as [number, number, number, number];
  const side = (size: number): number => Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const y = Tensor.empty([batch, side(h), side(w), channels], x.dtype);
  dispatch('max_pool2d', { x, y, kernel, stride, padding });
  const tape = activeTape();
  if (tape?.reaches(x)) {
    tape.record([y], [x], (gradients, [x_]) => {
      const dx = Tensor.empty(x.shape, x.dtype);
      dispatch('max_pool2d_grad', { x: x_!, dy: gradients.of(y)!, dx, kernel, stride, padding });
      gradients.add(x, dx);
    });
  }
  return y;
}
