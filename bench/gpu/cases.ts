// The calls that a training step of a student makes, op by op, as the GPU runs them: bfloat16 products and activations, float32 residual
// stream, sums and parameter gradients. What gpu:floor predicts and gpu:check measures is this one list.
import { Tensor } from '../../src/tensor/index.js';
import type { DType, Device } from '../../src/tensor/index.js';
import type { OpArgs, OpName } from '../../src/generated/ops.js';
import { segments } from '../support/arena.js';
import { patternBfloat16, patternFloat32 } from '../support/pattern.js';
import { STUDENTS } from '../support/student.js';
import type { StudentSize } from '../support/student.js';

export interface GpuCase {
  /** e.g. "base b16 fc1" */
  name: string;
  op: OpName;
  args: () => OpArgs[OpName];
}

const TOKENS = 197;
const MAP = 16;

/** Elements of each student with its cdiv translators, as the arena holds them: to count them would take a gigabyte. test/bench holds the small ones. */
export const PARAMETERS: Readonly<Record<StudentSize, number>> = { mini: 939_072, tiny: 10_039_168, small: 36_663_808, base: 139_679_488 };

/** Makes tensors on a device, undefined or filled with values: a product of zeros needs less power, so it runs faster than real ones. */
class Maker {
  constructor(private readonly device: Device) {}
  empty(shape: readonly number[], dtype: DType = 'bfloat16'): Tensor {
    return Tensor.empty(shape, dtype, this.device);
  }
  values(shape: readonly number[], dtype: DType = 'bfloat16'): Tensor {
    const t = this.empty(shape, dtype);
    t.write(dtype === 'float32' ? patternFloat32(t.size) : patternBfloat16(t.size));
    return t;
  }
}

/**
 * The calls of one size at one batch.
 * @param filled false makes tensors of undefined contents: enough to count operations and bytes
 */
export function gpuCases(size: StudentSize, batch: number, device: Device, filled = true): GpuCase[] {
  const { hidden: d, heads } = STUDENTS[size];
  const m = new Maker(device);
  const v = (shape: readonly number[], dtype?: DType): Tensor => (filled ? m.values(shape, dtype) : m.empty(shape, dtype));
  const e = (shape: readonly number[], dtype?: DType): Tensor => m.empty(shape, dtype);
  const rows = batch * TOKENS;
  const cases: GpuCase[] = [];
  const add = <N extends OpName>(name: string, op: N, args: () => OpArgs[N]): void =>
    void cases.push({ name: `${size} b${batch} ${name}`, op, args });

  const dense = (name: string, n: number, k: number, kind: 'none' | 'gelu' | 'residual'): void => {
    const y: DType = kind === 'residual' ? 'float32' : 'bfloat16';
    add(name, 'linear', () => ({
      x: v([rows, k]),
      w: v([n, k]),
      bias: v([n], 'float32'),
      residual: kind === 'residual' ? v([rows, n], y) : undefined,
      y: e([rows, n], y),
      slope: kind === 'gelu' ? e([rows, n]) : undefined,
      activation: kind === 'gelu' ? 'gelu' : 'none',
    }));
    add(`${name} grad`, 'linear_grad', () => ({
      x: v([rows, k]),
      w: v([n, k]),
      dy: v([rows, n], y),
      slope: kind === 'gelu' ? v([rows, n]) : undefined,
      dx: e([rows, k]),
      dw: e([n, k], 'float32'),
      dbias: e([n], 'float32'),
      activation: kind === 'gelu' ? 'gelu' : 'none',
      accumulate: 0,
    }));
  };
  const images = (height: number, width: number): Tensor => {
    const t = e([batch, height, width, 3], 'uint8');
    if (filled) t.write(new Uint8Array(patternBfloat16(t.size).buffer, 0, t.size));
    return t;
  };
  add('patch_embed', 'patch_embed', () => ({
    images: images(224, 224),
    table: v([3 * 256], 'float32'),
    w: v([d, 16, 16, 3]),
    bias: v([d], 'float32'),
    positions: v([TOKENS, d], 'float32'),
    cls: v([d], 'float32'),
    y: e([batch, TOKENS, d], 'float32'),
  }));
  add('patch_embed grad', 'patch_embed_grad', () => ({
    images: images(224, 224),
    table: v([3 * 256], 'float32'),
    dy: v([batch, TOKENS, d], 'float32'),
    dw: e([d, 16, 16, 3], 'float32'),
    dbias: e([d], 'float32'),
    dpositions: e([TOKENS, d], 'float32'),
    dcls: e([d], 'float32'),
    accumulate: 0,
  }));
  add('preprocess', 'preprocess', () => ({
    image: images(480, 640),
    out: e([batch, 224, 224, 3], 'uint8'),
    filter: 'bilinear',
    height: 224,
    width: 224,
    top: 0,
    left: 0,
  }));
  add('layernorm', 'layernorm', () => ({
    x: v([rows, d], 'float32'),
    gamma: v([d], 'float32'),
    beta: v([d], 'float32'),
    y: e([rows, d]),
    mean: e([rows], 'float32'),
    rstd: e([rows], 'float32'),
    eps: 1e-12,
  }));
  add('layernorm grad', 'layernorm_grad', () => ({
    x: v([rows, d], 'float32'),
    gamma: v([d], 'float32'),
    mean: v([rows], 'float32'),
    rstd: v([rows], 'float32'),
    dy: v([rows, d]),
    add: v([rows, d], 'float32'),
    dx: e([rows, d], 'float32'),
    dgamma: e([d], 'float32'),
    dbeta: e([d], 'float32'),
    accumulate: 0,
  }));
  dense('qkv', 3 * d, d, 'none');
  const head = d / heads;
  const parts = (t: Tensor): Tensor[] =>
    [0, 1, 2].map((i) => t.strided([batch, TOKENS, heads, head], [TOKENS * 3 * d, 3 * d, head, 1], i * d));
  add('attention', 'attention', () => {
    const [q, k, w] = parts(v([batch, TOKENS, 3 * d])) as [Tensor, Tensor, Tensor];
    return { q, k, v: w, out: e([batch, TOKENS, heads, head]), lse: e([batch, heads, TOKENS], 'float32'), scale: head ** -0.5 };
  });
  add('attention grad', 'attention_grad', () => {
    const [q, k, w] = parts(v([batch, TOKENS, 3 * d])) as [Tensor, Tensor, Tensor];
    const [dq, dk, dv] = parts(e([batch, TOKENS, 3 * d])) as [Tensor, Tensor, Tensor];
    const out = v([batch, TOKENS, heads, head]);
    return {
      q,
      k,
      v: w,
      out,
      lse: v([batch, heads, TOKENS], 'float32'),
      dout: v([batch, TOKENS, heads, head]),
      dq,
      dk,
      dv,
      scale: head ** -0.5,
    };
  });
  dense('proj', d, d, 'residual');
  dense('fc1', 4 * d, d, 'gelu');
  dense('fc2', d, 4 * d, 'residual');

  // a translator of the default path: 14 x 14 -> 16 x 16, two 3 x 3 convolutions between LayerNorms over maps, a linear layer
  const map = (side: number): number[] => [batch, side, side, d];
  add('pad', 'conv_transpose2d', () => ({
    x: v(map(14)),
    w: v([d, 3, 3, d]),
    bias: v([d], 'float32'),
    y: e(map(16)),
    stride: 1,
    padding: 0,
    output_padding: 0,
    activation: 'none',
  }));
  add('pad grad', 'conv_transpose2d_grad', () => ({
    x: v(map(14)),
    w: v([d, 3, 3, d]),
    dy: v(map(16)),
    dx: e(map(14)),
    dw: e([d, 3, 3, d], 'float32'),
    dbias: e([d], 'float32'),
    stride: 1,
    padding: 0,
    output_padding: 0,
    activation: 'none',
    accumulate: 0,
  }));
  add('conv', 'conv2d', () => ({
    x: v(map(MAP)),
    w: v([d, 3, 3, d]),
    bias: v([d], 'float32'),
    y: e(map(MAP)),
    stride: 1,
    padding: 1,
    activation: 'relu',
  }));
  add('conv grad', 'conv2d_grad', () => ({
    x: v(map(MAP)),
    w: v([d, 3, 3, d]),
    dy: v(map(MAP)),
    dx: e(map(MAP)),
    dw: e([d, 3, 3, d], 'float32'),
    dbias: e([d], 'float32'),
    stride: 1,
    padding: 1,
    activation: 'none',
    accumulate: 0,
  }));
  const length = MAP * MAP * d;
  add('layernorm_map', 'layernorm_map', () => ({
    x: v([batch, length]),
    gamma: v([length], 'float32'),
    beta: v([length], 'float32'),
    y: e([batch, length]),
    mean: e([batch], 'float32'),
    rstd: e([batch], 'float32'),
    eps: 1e-5,
  }));
  add('layernorm_map grad', 'layernorm_map_grad', () => ({
    x: v([batch, length]),
    gamma: v([length], 'float32'),
    mean: v([batch], 'float32'),
    rstd: v([batch], 'float32'),
    dy: v([batch, length]),
    dx: e([batch, length]),
    dgamma: e([length], 'float32'),
    dbeta: e([length], 'float32'),
    relu: 1,
    accumulate: 0,
  }));
  const features = [batch, MAP * MAP, 1024];
  add('loss', 'distill_loss', () => ({
    p: v(features),
    t: v(features),
    mean: v([1024], 'float32'),
    std: v([1024], 'float32'),
    terms: e([3], 'float32'),
    stats: e([batch, 3], 'float64'),
  }));
  add('loss grad', 'distill_loss_grad', () => ({
    p: v(features),
    t: v(features),
    mean: v([1024], 'float32'),
    std: v([1024], 'float32'),
    stats: filled ? Tensor.from(new Float64Array(3 * batch).fill(1e4), [batch, 3], 'float64', device) : e([batch, 3], 'float64'),
    weights: v([3], 'float32'),
    dp: e(features),
  }));
  const parameters = PARAMETERS[size];
  add('grad_norm', 'grad_norm', () => ({
    grad: v([parameters], 'float32'),
    ...segments(parameters, device),
    limit: v([1], 'float32'),
    norm: e([1], 'float64'),
    clip_factor: e([1], 'float32'),
  }));
  // Squares of gradients are not negative, whatever the pattern says: the moments start from zeros.
  const zeros = (): Tensor => (filled ? Tensor.zeros([parameters], 'float32', device) : e([parameters], 'float32'));
  add('adamw', 'adamw', () => ({
    param: v([parameters], 'float32'),
    grad: v([parameters], 'float32'),
    exp_avg: zeros(),
    exp_avg_sq: zeros(),
    weights: e([parameters]),
    ...segments(parameters, device),
    clip_factor: v([1], 'float32'),
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
  }));
  return cases;
}
