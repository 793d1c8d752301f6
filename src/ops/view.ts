import { activeTape } from '../autograd/tape.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';
import { zero } from '../tensor/constants.js';

/** Copies and casts element by element, whatever the strides; stride 0 in the source repeats it (kernels/copy). */
export function copyInto(dst: Tensor, src: Tensor): void {
  dispatch('copy', { src, dst, accumulate: 0 });
}

/** Sets a tensor to zero, also while a plan is recorded. */
export function fillZero(t: Tensor): void {
  const repeated = zero(t.dtype, t.device).strided(
    t.shape,
    t.shape.map(() => 0),
    0,
  );
  copyInto(t, repeated);
  repeated.dispose();
}

/** The tensor itself if it is float32, else a float32 copy: what is read on the host. No gradient. */
export function asFloat32(x: Tensor): Tensor {
  if (x.dtype === 'float32') return x;
  const y = Tensor.empty(x.shape, 'float32', x.device);
  copyInto(y, x);
  return y;
}

/** The same elements under another shape. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const y = x.reshape(shape);
  const tape = activeTape();
  if (tape?.reaches(x)) {
    const before = x.shape;
    tape.record([y], [], (gradients) => gradients.add(x, gradients.of(y)!.reshape(before)));
  }
  return y;
}

/**
 * Part of every sequence as a map: tokens [B,T,D] from `first` on, seen as [B,side,side,D] without a copy.
 * Also serves single tokens: side 1.
 */
export function tokenMap(tokens: Tensor, first: number, side: number): Tensor {
  const [batch, count, width] = tokens.shape as [number, number, number];
  if (first + side * side > count)
    throw new TheiaError('ERR_SHAPE', `expected at least ${first + side * side} tokens for a ${side} x ${side} map, got ${count}`);
  const [sb, st, sd] = tokens.strides as [number, number, number];
  const y = tokens.strided([batch, side, side, width], [sb, side * st, st, sd], tokens.offset + first * st);
  const tape = activeTape();
  if (tape?.reaches(tokens)) {
    tape.record([y], [], (gradients) => {
      const dtokens = Tensor.empty([batch, count, width], tokens.dtype, tokens.device);
      fillZero(dtokens);
      const part = dtokens.strided(y.shape, [count * width, side * width, width, 1], first * width);
      copyInto(part, gradients.of(y)!);
      gradients.add(tokens, dtokens);
    });
  }
  return y;
}

/** The tensor itself if its elements lie packed, else a packed copy. */
export function packed(x: Tensor): Tensor {
  if (x.packed) return x;
  const y = Tensor.empty(x.shape, x.dtype, x.device);
  copyInto(y, x);
  const tape = activeTape();
  if (tape?.reaches(x)) tape.record([y], [], (gradients) => gradients.add(x, gradients.of(y)!));
  return y;
}
