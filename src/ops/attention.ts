import { activeTape } from '../autograd/tape.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch, sumsOf } from '../tensor/index.js';

/** The three parts of a packed projection [B,N,3D], each seen as [B,N,heads,D/heads]. */
function parts(qkv: Tensor, heads: number): [Tensor, Tensor, Tensor] {
  const [batch, tokens, wide] = qkv.shape as [number, number, number];
  const width = wide / 3;
  const view = (i: number): Tensor =>
    qkv.strided([batch, tokens, heads, width / heads], [tokens * wide, wide, width / heads, 1], qkv.offset + i * width);
  return [view(0), view(1), view(2)];
}

/**
 * Multi-head self-attention on packed queries, keys and values: softmax(q·kᵀ / sqrt(head_dim))·v (kernels/attention).
 * @param qkv [B,N,3D], packed; D a multiple of heads
 * @returns [B,N,D]
 */
export function selfAttention(qkv: Tensor, heads: number): Tensor {
  const [batch, tokens, wide] = qkv.shape as [number, number, number];
  const width = wide / 3;
  if (!Number.isInteger(width / heads))
    throw new TheiaError('ERR_SHAPE', `attention: expected [B,N,3D] with D a multiple of ${heads} heads, got [${qkv.shape.join(',')}]`);
  const scale = 1 / Math.sqrt(width / heads);
  const split = (t: Tensor): Tensor => t.reshape([batch, tokens, heads, width / heads]);
  const y = Tensor.empty([batch, tokens, width], qkv.dtype, qkv.device);
  const lse = Tensor.empty([batch, heads, tokens], sumsOf(qkv.dtype), qkv.device);
  const [q, k, v] = parts(qkv, heads);
  dispatch('attention', { q, k, v, out: split(y), lse, scale });
  const tape = activeTape();
  if (!tape?.reaches(qkv)) return y;

  tape.record([y], [qkv, y, lse], (gradients, [qkv_, y_, lse_]) => {
    const dqkv = Tensor.empty(qkv.shape, qkv.dtype, qkv.device);
    const [q_, k_, v_] = parts(qkv_!, heads);
    const [dq, dk, dv] = parts(dqkv, heads);
    dispatch('attention_grad', { q: q_, k: k_, v: v_, out: split(y_!), lse: lse_!, dout: split(gradients.of(y)!), dq, dk, dv, scale });
    gradients.add(qkv, dqkv);
  });
  return y;
}
