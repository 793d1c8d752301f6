// The published translator heads, whole, from the ops they are made of: pad, convolutions, LayerNorm of maps, and the last linear layer as a
// 1x1 convolution. PyTorch's outputs and all its gradients.
import { test } from 'uvu';
import { Tensor, countOf, dispatch, tidy } from '../../src/tensor/index.js';
import { OpGolden } from '../support/op-golden.js';
import { SIMD_SETS, withInstructionSet } from '../support/op-case.js';

type Layer =
  | { kind: 'norm'; key: string; relu: boolean }
  | { kind: 'conv'; key: string; stride: number; padding: number; relu: boolean }
  | { kind: 'transposed'; key: string; stride: number; padding: number; outputPadding: number; relu: boolean };

const conv = (key: string, stride: number, relu: boolean): Layer => ({ kind: 'conv', key, stride, padding: 1, relu });
const transposed = (key: string, stride: number, padding: number, outputPadding: number, relu: boolean): Layer => ({
  kind: 'transposed',
  key,
  stride,
  padding,
  outputPadding,
  relu,
});
const norm = (key: string, relu: boolean): Layer => ({ kind: 'norm', key, relu });

/** The layers of `lconv_14_64` and the like; the order is in golden/README.md. */
function layersOf(name: string): Layer[] {
  const [family, from, to] = name.split('_') as [string, string, string];
  const linear = (key: string): Layer => ({ kind: 'conv', key, stride: 1, padding: 0, relu: false });
  const layers: Layer[] = from === '14' && Number(to) >= 16 ? [transposed('pad.1', 1, 0, 0, false)] : [];
  layers.push(norm('adapter.0', false));
  if (to === '7') return [...layers, conv('adapter.1', 2, true), norm('adapter.3', true), linear('adapter.5')];
  const up = to === '64';
  const stride = from === '64' ? 2 : 1;
  layers.push(up ? transposed('adapter.1', 2, 1, 0, true) : conv('adapter.1', stride, true), norm('adapter.3', true));
  layers.push(up ? transposed('adapter.4', 2, 0, 1, true) : conv('adapter.4', stride, true), norm('adapter.6', true));
  if (family === 'lconv') return [...layers, linear('adapter.8')];
  return [...layers, up ? transposed('adapter.7', 1, 1, 0, false) : conv('adapter.7', 1, false)];
}

/** The tensor with its axes in another order: axis i of the result is axis axes[i]. */
function permute(values: ArrayLike<number>, shape: readonly number[], axes: readonly number[]): Float32Array {
  const strides = shape.map((_, i) => countOf(shape.slice(i + 1)));
  const size = axes.map((a) => shape[a]!);
  return Float32Array.from({ length: values.length }, (_, n) => {
    let rest = n;
    let at = 0;
    for (let i = size.length - 1; i >= 0; i--) {
      at += (rest % size[i]!) * strides[axes[i]!]!;
      rest = Math.floor(rest / size[i]!);
    }
    return values[at]!;
  });
}

// File layouts to the engine's and back: maps [C,H,W], convolutions [O,I,h,w], transposed ones [I,O,h,w].
const TO_ENGINE = { norm: [1, 2, 0], conv: [0, 2, 3, 1], transposed: [1, 2, 3, 0] };
const TO_FILE = { norm: [2, 0, 1], conv: [0, 3, 1, 2], transposed: [3, 0, 1, 2] };

/** @param masking who applies the ReLU's mask in backward: the op of the ReLU itself, or the norm behind it */
function runHead(golden: OpGolden, name: string, masking: 'own' | 'behind', label: string): void {
  const layers = layersOf(name);
  const parameter = (key: string, axes?: readonly number[]): Tensor => {
    const shape = golden.shape(`${name}/in/${key}`);
    const full = shape.length === 2 ? [...shape, 1, 1] : shape; // a linear layer
    const values = golden.values(`${name}/in/${key}`);
    return axes
      ? Tensor.from(
          permute(values, full, axes),
          axes.map((a) => full[a]!),
        )
      : Tensor.from(Float32Array.from(values));
  };
  const [, tokens, channels] = golden.shape(`${name}/in/x`) as [number, number, number];
  const side = Math.sqrt(tokens);
  let x = Tensor.from(Float32Array.from(golden.values(`${name}/in/x`)), [1, side, side, channels]);
  const backward: ((dy: Tensor) => Tensor)[] = [];
  const flat = (t: Tensor): Tensor => t.reshape([1, t.size]);
  const line = (t: Tensor): Tensor => t.reshape([t.size]);

  for (const layer of layers) {
    const input = x;
    const w = parameter(`${layer.key}.weight`, TO_ENGINE[layer.kind]);
    const bias = parameter(`${layer.key}.bias`, layer.kind === 'norm' ? TO_ENGINE.norm : undefined);
    const dw = Tensor.empty(w.shape);
    const dbias = Tensor.empty(bias.shape);
    const compareParameters = (): void => {
      const back = TO_FILE[layer.kind];
      golden.compare(`${name}/din/${layer.key}.weight`, permute(dw.float32(), dw.shape, back), label);
      const b = layer.kind === 'norm' ? permute(dbias.float32(), dbias.shape, back) : dbias.float32();
      golden.compare(`${name}/din/${layer.key}.bias`, b, label);
    };
    if (layer.kind === 'norm') {
      const [y, mean, rstd] = [Tensor.empty(x.shape), Tensor.empty([1]), Tensor.empty([1])];
      dispatch('layernorm_map', { x: flat(x), gamma: line(w), beta: line(bias), y: flat(y), mean, rstd, eps: 1e-5 });
      backward.push((dy) => {
        const dx = Tensor.empty(input.shape);
        const relu = layer.relu && masking === 'behind' ? 1 : 0;
        const grads = { dy: flat(dy), dx: flat(dx), dgamma: line(dw), dbeta: line(dbias), relu, accumulate: 0 };
        dispatch('layernorm_map_grad', { x: flat(input), gamma: line(w), mean, rstd, ...grads });
        compareParameters();
        return dx;
      });
      x = y;
      continue;
    }
    const { stride, padding } = layer;
    const [, h] = x.shape as [number, number];
    const [o, k] = w.shape as [number, number];
    const out =
      layer.kind === 'conv' ? Math.floor((h + 2 * padding - k) / stride) + 1 : (h - 1) * stride - 2 * padding + k + layer.outputPadding;
    const y = Tensor.empty([1, out, out, o]);
    const activation = layer.relu ? 'relu' : 'none';
    if (layer.kind === 'conv') dispatch('conv2d', { x, w, bias, y, stride, padding, activation });
    else dispatch('conv_transpose2d', { x, w, bias, y, stride, padding, output_padding: layer.outputPadding, activation });
    backward.push((dy) => {
      const dx = Tensor.empty(input.shape);
      const masks = masking === 'own' ? activation : 'none';
      const args = { x: input, w, dy, y, dx, dw, dbias, stride, padding, activation: masks, accumulate: 0 } as const;
      if (layer.kind === 'conv') dispatch('conv2d_grad', args);
      else dispatch('conv_transpose2d_grad', { ...args, output_padding: layer.outputPadding });
      compareParameters();
      return dx;
    });
    x = y;
  }
  golden.compare(`${name}/out/y`, x.float32(), label);
  let d = Tensor.from(Float32Array.from(golden.values(`${name}/dout/y`)), x.shape);
  for (const step of backward.reverse()) d = step(d);
  golden.compare(`${name}/din/x`, d.float32(), label);
}

const golden = OpGolden.open('ops_heads.safetensors', 'translator heads');
for (const name of golden?.cases(/^l?conv_/) ?? [])
  test(`head ${name}: outputs and gradients are PyTorch's`, () => {
    for (const set of [...SIMD_SETS, 'plain'])
      for (const masking of ['own', 'behind'] as const)
        withInstructionSet(set, () => tidy(() => runHead(golden!, name, masking, `on ${set}, mask by ${masking}`)));
  });

test.run();
