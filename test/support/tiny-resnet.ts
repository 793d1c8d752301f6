import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A layer as TensorFlow.js writes it into model.json. */
export interface KerasLayer {
  name: string;
  class_name: string;
  config: Record<string, unknown>;
  inbound_nodes: [string, number, number, object][][];
}

export interface TinyModel {
  layers: KerasLayer[];
  weights: Map<string, { shape: number[]; values: Float32Array }>;
}

/** Small odd numbers, so that nothing divides anything. */
export const TINY = { size: 36, stem: 5, stages: [[4, 7, 2, 1] as const, [6, 9, 1, 2] as const, [3, 11, 1, 2] as const], classes: 13 };

/** A Keras ResNet of TINY's sizes (width, outputs, blocks, stride of each stage) with deterministic weights. */
export function tinyResnet(): TinyModel {
  const layers: KerasLayer[] = [];
  const weights: TinyModel['weights'] = new Map();
  let seed = 12345;
  const random = (): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) / 2 ** 24 - 0.5;
  };
  const weight = (name: string, shape: number[], scale: number, shift = 0): void => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random() * scale + shift);
    weights.set(name, { shape, values });
  };
  const add = (class_name: string, name: string, inputs: string[], config: Record<string, unknown> = {}): string => {
    layers.push({ name, class_name, config, inbound_nodes: inputs.length === 0 ? [] : [inputs.map((input) => [input, 0, 0, {}])] });
    return name;
  };
  let activations = 0;
  const relu = (from: string): string => add('Activation', `activation_${activations++}`, [from], { activation: 'relu' });
  const conv = (
    from: string,
    name: string,
    norm: string,
    io: [number, number],
    kernel: number,
    stride: number,
    padding: string,
  ): string => {
    weight(`${name}/kernel`, [kernel, kernel, ...io], 2 / Math.sqrt(kernel * kernel * io[0]));
    weight(`${name}/bias`, [io[1]], 0.5);
    for (const [part, scale, shift] of [
      ['gamma', 0.5, 1],
      ['beta', 1, 0],
      ['moving_mean', 1, 0],
      ['moving_variance', 0.8, 0.6],
    ] as const)
      weight(`${norm}/${part}`, [io[1]], scale, shift);
    add('Conv2D', name, [from], {
      filters: io[1],
      kernel_size: [kernel, kernel],
      strides: [stride, stride],
      dilation_rate: [1, 1],
      padding,
      activation: 'linear',
      use_bias: true,
    });
    return add('BatchNormalization', norm, [name], { axis: [3], epsilon: 1e-3, scale: true, center: true });
  };
  const pad = (from: string, name: string, by: number): string => add('ZeroPadding2D', name, [from], { padding: [[by, by], [by, by]] }); // prettier-ignore

  let at = add('InputLayer', 'input_1', [], { batch_input_shape: [null, TINY.size, TINY.size, 3] });
  at = relu(conv(pad(at, 'conv1_pad', 3), 'conv1', 'bn_conv1', [3, TINY.stem], 7, 2, 'valid'));
  // The images' values are large; the network behind expects about one.
  const stem = weights.get('conv1/kernel')!.values;
  stem.forEach((value, i) => (stem[i] = value / 64));
  at = add('MaxPooling2D', 'pool', [pad(at, 'pool1_pad', 1)], { pool_size: [3, 3], strides: [2, 2], padding: 'valid' });
  let width = TINY.stem;
  TINY.stages.forEach(([inner, outer, blocks, stride], s) => {
    for (let b = 0; b < blocks; b++) {
      const name = `${s + 2}${String.fromCharCode(97 + b)}`;
      const branch = (from: string, which: string, io: [number, number], kernel: number, step: number): string =>
        conv(from, `res${name}_branch${which}`, `bn${name}_branch${which}`, io, kernel, step, kernel === 3 ? 'same' : 'valid');
      const a = relu(branch(at, '2a', [width, inner], 1, b === 0 ? stride : 1));
      const c = branch(relu(branch(a, '2b', [inner, inner], 3, 1)), '2c', [inner, outer], 1, 1);
      const other = b === 0 ? branch(at, '1', [width, outer], 1, stride) : at;
      at = relu(add('Add', `add_${name}`, [c, other]));
      width = outer;
    }
  });
  weight('fc1000/kernel', [width, TINY.classes], 1);
  weight('fc1000/bias', [TINY.classes], 1);
  add('Dense', 'fc1000', [add('GlobalAveragePooling2D', 'avg_pool', [at])], { units: TINY.classes, activation: 'softmax', use_bias: true });
  return { layers, weights };
}

/** Writes model.json and its weights in two shards, cut in the middle of one. */
export function writeModel(folder: string, { layers, weights }: TinyModel): void {
  mkdirSync(folder, { recursive: true });
  const bytes = Buffer.concat([...weights.values()].map(({ values }) => Buffer.from(values.buffer)));
  const cut = Math.floor(bytes.length / 8) * 4 + 4;
  writeFileSync(join(folder, 'w1.bin'), bytes.subarray(0, cut));
  writeFileSync(join(folder, 'w2.bin'), bytes.subarray(cut));
  const manifest = [...weights].map(([name, { shape }]) => ({ name, shape, dtype: 'float32' }));
  const topology = { model_config: { class_name: 'Model', config: { layers } } };
  const model = { modelTopology: topology, weightsManifest: [{ paths: ['w1.bin', 'w2.bin'], weights: manifest }] };
  writeFileSync(join(folder, 'model.json'), JSON.stringify(model));
}

/** A map [H,W,C] of doubles. */
export interface Map3 {
  h: number;
  w: number;
  c: number;
  data: Float64Array;
}

/** Evaluates a model layer by layer in plain double arithmetic, each layer as Keras defines it. @param image float [H,W,3] as the file wants it */
export function evaluate({ layers, weights }: TinyModel, image: Map3): Map<string, Map3> {
  const done = new Map<string, Map3>();
  const make = (h: number, w: number, c: number, value: (y: number, x: number, k: number) => number): Map3 => {
    const data = new Float64Array(h * w * c);
    for (let y = 0, at = 0; y < h; y++) for (let x = 0; x < w; x++) for (let k = 0; k < c; k++) data[at++] = value(y, x, k);
    return { h, w, c, data };
  };
  const at = (m: Map3, y: number, x: number, k: number): number =>
    y < 0 || x < 0 || y >= m.h || x >= m.w ? 0 : m.data[(y * m.w + x) * m.c + k];
  const values = (name: string): Float32Array => weights.get(name)!.values;
  for (const { name, class_name, config, inbound_nodes } of layers) {
    const [a, b] = (inbound_nodes[0] ?? []).map(([input]) => done.get(input)!);
    const layer = (): Map3 => {
      switch (class_name) {
        case 'InputLayer':
          return image;
        case 'ZeroPadding2D': {
          const by = (config.padding as number[][])[0][0];
          return make(a.h + 2 * by, a.w + 2 * by, a.c, (y, x, k) => at(a, y - by, x - by, k));
        }
        case 'Conv2D': {
          const [kernel, bias] = [values(`${name}/kernel`), values(`${name}/bias`)];
          const size = (config.kernel_size as number[])[0];
          const stride = (config.strides as number[])[0];
          const outputs = config.filters as number;
          const before = config.padding === 'same' ? (size - 1) / 2 : 0;
          const side = (n: number): number => Math.floor((n + 2 * before - size) / stride) + 1;
          return make(side(a.h), side(a.w), outputs, (y, x, o) => {
            let sum = bias[o];
            for (let i = 0; i < size; i++)
              for (let j = 0; j < size; j++)
                for (let k = 0; k < a.c; k++)
                  sum += at(a, y * stride + i - before, x * stride + j - before, k) * kernel[((i * size + j) * a.c + k) * outputs + o];
            return sum;
          });
        }
        case 'BatchNormalization': {
          const [gamma, beta, mean, variance] = ['gamma', 'beta', 'moving_mean', 'moving_variance'].map((part) =>
            values(`${name}/${part}`),
          );
          const epsilon = config.epsilon as number;
          return make(a.h, a.w, a.c, (y, x, k) => ((at(a, y, x, k) - mean[k]) / Math.sqrt(variance[k] + epsilon)) * gamma[k] + beta[k]);
        }
        case 'Activation':
          return make(a.h, a.w, a.c, (y, x, k) => Math.max(0, at(a, y, x, k)));
        case 'MaxPooling2D':
          return make(Math.floor((a.h - 3) / 2) + 1, Math.floor((a.w - 3) / 2) + 1, a.c, (y, x, k) => {
            let top = -Infinity;
            for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) top = Math.max(top, at(a, 2 * y + i, 2 * x + j, k));
            return top;
          });
        case 'Add':
          return make(a.h, a.w, a.c, (y, x, k) => at(a, y, x, k) + at(b, y, x, k));
        case 'GlobalAveragePooling2D':
          return make(1, 1, a.c, (_y, _x, k) => {
            let sum = 0;
            for (let i = k; i < a.data.length; i += a.c) sum += a.data[i];
            return sum / (a.h * a.w);
          });
        case 'Dense': {
          const [kernel, bias] = [values(`${name}/kernel`), values(`${name}/bias`)];
          const logits = Array.from(bias, (value, o) => a.data.reduce((sum, v, k) => sum + v * kernel[k * bias.length + o], value));
          const top = Math.max(...logits);
          const sum = logits.reduce((total, v) => total + Math.exp(v - top), 0);
          return make(1, 1, bias.length, (_y, _x, k) => Math.exp(logits[k] - top) / sum);
        }
        default:
          throw new Error(class_name);
      }
    };
    done.set(name, layer());
  }
  return done;
}
