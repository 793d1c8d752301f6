import { join } from 'node:path';
import { Arena } from '../autograd/index.js';
import type { Parameter, ParameterSpec } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import { openTfjsWeights } from '../formats/tfjs.js';
import { conv2d } from '../ops/conv2d.js';
import { linear } from '../ops/linear.js';
import { maxPool2d } from '../ops/max_pool2d.js';
import { reduce } from '../ops/reduce.js';
import { Tensor, tidy } from '../tensor/index.js';
import { single, parameterOf } from './parameters.js';
import { readResnetGraph, type Bottleneck, type ConvLayer, type ResnetGraph } from './resnet-graph.js';
import { checkWeights, convolutions, foldConv, readDense, type FoldedConv } from './resnet-weights.js';

/** What Keras' "caffe" preprocessing subtracts, as red, green, blue; nothing is divided. */
const MEAN = [123.68, 116.779, 103.939] as const;

/**
 * A Keras ResNet of bottlenecks for inference, from a TensorFlow.js layers model: a teacher. Batch norms are folded into the convolutions
 * when it is loaded. Input is RGB (the file's own order, BGR, is turned in the stem's weights).
 */
export class Resnet {
  /** Side of the input in pixels. */
  readonly size: number;
  readonly classes: number;
  /** [C,H,W] of `features`. */
  readonly featureShape: readonly [number, number, number];
  /** Multiplications and additions of `features` and `scores`, 2 a multiply-add, for one image. */
  readonly flops: { features: number; scores: number };
  readonly #graph: ResnetGraph;
  readonly #arena: Arena;

  protected constructor(graph: ResnetGraph, arena: Arena) {
    this.#graph = graph;
    this.#arena = arena;
    this.size = graph.size;
    this.classes = graph.dense.outputs;
    const cost = measure(graph);
    const [channels, side] = cost.feature;
    this.featureShape = [channels, side, side];
    this.flops = { features: cost.features, scores: cost.scores };
  }

  /**
   * @param folder with model.json and its shards
   * @throws ERR_FILE if something is missing; ERR_CORRUPT if it is another network or its weights have other names, shapes or impossible values
   */
  static load(folder: string): Resnet {
    const { graph, arena } = readNetwork(folder);
    return new Resnet(graph, arena);
  }

  /**
   * The map that ends the second last stage, behind its ReLU (Keras' `activation_39` in ResNet-50).
   * @param images uint8 [B,size,size,3] RGB: a tensor, or the bytes of one or more images
   * @returns [B,H,W,C]; the caller's scope owns it
   */
  features(images: Tensor | Uint8Array): Tensor {
    return tidy(() => this.#stages(this.#stem(images), 0, this.#graph.stages.length - 1));
  }

  /**
   * Class probabilities.
   * @returns [B,classes], float32
   */
  scores(images: Tensor | Uint8Array): Tensor {
    return tidy(() => {
      const x = this.#stages(this.#stem(images), 0, this.#graph.stages.length);
      const [batch, h, w, channels] = x.shape as [number, number, number, number];
      const { name } = this.#graph.dense;
      const logits = linear(reduce(x.reshape([batch, h * w, channels]), 'mean'), this.#weight(name), { bias: this.#bias(name) });
      return Tensor.from(softmaxRows(logits.float32(), this.classes), [batch, this.classes]);
    });
  }

  dispose(): void {
    this.#arena.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #weight(name: string): Parameter {
    return parameterOf(this.#arena, name);
  }

  #bias(name: string): Parameter {
    return parameterOf(this.#arena, `${name}/bias`);
  }

  #conv(x: Tensor, conv: ConvLayer, activation: 'none' | 'relu', residual?: Tensor): Tensor {
    const { name, stride, padding } = conv;
    const bias = this.#bias(name);
    if (isLinear(conv)) return linear(x, this.#weight(name), { bias, activation });
    return conv2d(x, this.#weight(name), { bias, stride, padding, activation, residual });
  }

  #stem(images: Tensor | Uint8Array): Tensor {
    const { stem } = this.#graph;
    const x = this.#conv(this.#centred(images), stem, 'relu');
    // Keras pads with zeros; behind a ReLU that is the same as not counting what is outside.
    return maxPool2d(x, { kernel: 3, stride: 2, padding: 1 });
  }

  #stages(x: Tensor, from: number, to: number): Tensor {
    return this.#graph.stages
      .slice(from, to)
      .flat()
      .reduce((y, block) => tidy(() => this.#block(y, block)), x);
  }

  #block(x: Tensor, { a, b, c, shortcut }: Bottleneck): Tensor {
    const residual = shortcut ? this.#conv(x, shortcut, 'none') : x;
    return this.#conv(this.#conv(this.#conv(x, a, 'relu'), b, 'relu'), c, 'relu', residual);
  }

  /** Bytes minus the mean in float32, before the stem pads with zeros. */
  #centred(images: Tensor | Uint8Array): Tensor {
    const { size } = this;
    const length = size * size * 3;
    const isTensor = images instanceof Tensor;
    const shape = isTensor ? images.shape : [images.length / length, size, size, 3];
    if (shape.length !== 4 || !Number.isInteger(shape[0]) || shape[0]! < 1 || shape[1] !== size || shape[2] !== size || shape[3] !== 3)
      throw new TheiaError(
        'ERR_SHAPE',
        `resnet: expected images uint8 [B,${size},${size},3], got ${isTensor ? `[${shape.join(',')}]` : `${images.length} bytes`}`,
      );
    if (isTensor && images.dtype !== 'uint8') throw new TheiaError('ERR_DTYPE', `resnet: expected uint8 images, got ${images.dtype}`);
    const bytes = isTensor ? (images.data() as Uint8Array) : images;
    const values = new Float32Array(bytes.length);
    const [red, green, blue] = MEAN.map(Math.fround) as [number, number, number];
    for (let i = 0; i < bytes.length; i += 3) {
      values[i] = bytes[i]! - red;
      values[i + 1] = bytes[i + 1]! - green;
      values[i + 2] = bytes[i + 2]! - blue;
    }
    return Tensor.from(values, shape);
  }
}

/** ResNet-50 as published with Keras, ImageNet weights: features [B,14,14,1024] and 1000 scores from 224x224 images. */
export class ResNet50 extends Resnet {
  /** @throws as {@link Resnet.load}, and ERR_CORRUPT if it is a ResNet of another depth or width */
  static override load(folder: string): ResNet50 {
    const { graph, arena } = readNetwork(folder, check50);
    return new ResNet50(graph, arena);
  }
}

function check50(graph: ResnetGraph, label: string): void {
  const outline = ({ size, stem, stages, dense }: ResnetGraph): string =>
    `${size}: ${stem.outputs}; ${stages.map((s) => `${s.length} of ${s[0].b.outputs}-${s[0].c.outputs}/${s[0].a.stride}`).join(', ')}; ${dense.outputs}`;
  const wanted = '224: 64; 3 of 64-256/1, 4 of 128-512/2, 6 of 256-1024/2, 3 of 512-2048/2; 1000';
  if (outline(graph) !== wanted)
    throw new TheiaError('ERR_CORRUPT', `${label}: expected ResNet-50 (${wanted}), got a network of (${outline(graph)})`);
}

/** A 1x1 convolution over every position, without a sum to add before the ReLU. */
function isLinear({ name, kernel, stride }: ConvLayer): boolean {
  return kernel === 1 && stride === 1 && !name.endsWith('_branch2c');
}

function readNetwork(folder: string, check?: (graph: ResnetGraph, label: string) => void): { graph: ResnetGraph; arena: Arena } {
  const label = join(folder, 'model.json');
  const file = openTfjsWeights(folder);
  const graph = readResnetGraph(file.topology, label);
  check?.(graph, label);
  checkWeights(file, graph, label);
  const specs: ParameterSpec[] = [];
  // A kernel and its bias come from one reading of the file; the arena asks for them one after the other.
  const add = (name: string, shape: readonly number[], load: () => FoldedConv): void => {
    let folded: FoldedConv | undefined;
    const part = (key: string, size: readonly number[], fill: (from: FoldedConv) => Float32Array): ParameterSpec =>
      single({ key, shape: size, init: (out) => out.set(fill((folded ??= load()))) });
    specs.push(
      // Without decay all, so that the arena keeps this order.
      { ...part(name, shape, ({ weight }) => weight), decay: false },
      part(`${name}/bias`, [shape[0]!], (from) => {
        folded = undefined;
        return from.bias;
      }),
    );
  };
  for (const conv of convolutions(graph)) {
    const { name, kernel, inputs, outputs } = conv;
    const shape = isLinear(conv) ? [outputs, inputs] : [outputs, kernel, kernel, inputs];
    add(name, shape, () => foldConv(file, conv, label, conv === graph.stem));
  }
  const { dense } = graph;
  add(dense.name, [dense.outputs, dense.inputs], () => readDense(file, dense, label));
  const arena = new Arena(specs, { training: false });
  try {
    arena.initialise();
  } catch (error) {
    arena.dispose();
    throw error;
  }
  return { graph, arena };
}

/** Sizes and costs along the way: 2 · positions · outputs · taps · inputs for every convolution. */
function measure(graph: ResnetGraph): { feature: [number, number]; features: number; scores: number } {
  let side = graph.size;
  const cost = (conv: ConvLayer, at: number): number => 2 * at * at * conv.outputs * conv.kernel * conv.kernel * conv.inputs;
  const after = (conv: ConvLayer, from: number): number => Math.floor((from + 2 * conv.padding - conv.kernel) / conv.stride) + 1;
  side = after(graph.stem, side);
  let total = cost(graph.stem, side);
  side = Math.floor((side - 1) / 2) + 1;
  let feature: [number, number] = [graph.stem.outputs, side];
  let features = total;
  graph.stages.forEach((blocks, stage) => {
    for (const { a, b, c, shortcut } of blocks) {
      side = after(a, side);
      for (const conv of [a, b, c, ...(shortcut ? [shortcut] : [])]) total += cost(conv, side);
    }
    if (stage === graph.stages.length - 2) {
      feature = [blocks.at(-1)!.c.outputs, side];
      features = total;
    }
  });
  return { feature, features, scores: total + 2 * graph.dense.inputs * graph.dense.outputs };
}

/** Softmax of every row, in float64. */
export function softmaxRows(logits: Float32Array, columns: number): Float32Array {
  const out = new Float32Array(logits.length);
  for (let row = 0; row < logits.length; row += columns) {
    const values = Float64Array.from(logits.subarray(row, row + columns));
    const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const parts = values.map((v) => Math.exp(v - top));
    const sum = parts.reduce((a, b) => a + b, 0);
    for (let c = 0; c < columns; c++) out[row + c] = parts[c] / sum;
  }
  return out;
}
