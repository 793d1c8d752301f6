import { TheiaError } from '../errors.js';
import type { TfjsWeights } from '../formats/tfjs.js';
import type { ConvLayer, ResnetGraph } from './resnet-graph.js';

/** A convolution with its batch norm folded in. */
export interface FoldedConv {
  /** [O,kh,kw,I] */
  weight: Float32Array;
  /** [O] */
  bias: Float32Array;
}

/** Checks names and shapes of all weights of a network before any is read; the functions below rely on it. @throws ERR_CORRUPT */
export function checkWeights(file: TfjsWeights, graph: ResnetGraph, label: string): void {
  const wanted = new Map<string, readonly number[]>();
  for (const conv of convolutions(graph)) {
    const { name, norm, kernel, inputs, outputs } = conv;
    wanted.set(`${name}/kernel`, [kernel, kernel, inputs, outputs]);
    wanted.set(`${name}/bias`, [outputs]);
    for (const part of ['gamma', 'beta', 'moving_mean', 'moving_variance']) wanted.set(`${norm}/${part}`, [outputs]);
  }
  wanted.set(`${graph.dense.name}/kernel`, [graph.dense.inputs, graph.dense.outputs]);
  wanted.set(`${graph.dense.name}/bias`, [graph.dense.outputs]);
  for (const [name, shape] of wanted) {
    const found = file.info(name).shape;
    if (found.join() !== shape.join())
      throw new TheiaError('ERR_CORRUPT', `${label}: weight ${name}: expected [${shape.join(',')}], got [${found.join(',')}]`);
  }
  const extra = file.names().find((name) => !wanted.has(name));
  if (extra !== undefined) throw new TheiaError('ERR_CORRUPT', `${label}: weight ${JSON.stringify(extra)} is not of this network`);
}

/** All convolutions, in the order they are computed. */
export function convolutions(graph: ResnetGraph): ConvLayer[] {
  const blocks = graph.stages.flat().flatMap(({ a, b, c, shortcut }) => (shortcut ? [a, b, shortcut, c] : [a, b, c]));
  return [graph.stem, ...blocks];
}

/**
 * Reads a convolution, folds its batch norm (statistics of the file) into it in float64, and turns the kernel from [kh,kw,I,O] to the
 * engine's [O,kh,kw,I].
 * @param reverse the file's input channels are in the opposite order to ours (BGR, the stem)
 * @throws ERR_CORRUPT for a variance below zero or values that are not finite
 */
export function foldConv(file: TfjsWeights, conv: ConvLayer, label: string, reverse = false): FoldedConv {
  const { name, norm, epsilon, kernel, inputs, outputs } = conv;
  const source = file.float32(`${name}/kernel`);
  const [own, gamma, beta, mean, variance] = [
    `${name}/bias`,
    `${norm}/gamma`,
    `${norm}/beta`,
    `${norm}/moving_mean`,
    `${norm}/moving_variance`,
  ].map((part) => file.float32(part));
  const scale = new Float64Array(outputs);
  const bias = new Float32Array(outputs);
  for (let o = 0; o < outputs; o++) {
    if (!(variance[o] >= 0)) throw new TheiaError('ERR_CORRUPT', `${label}: ${norm}/moving_variance: channel ${o} is ${variance[o]}`);
    scale[o] = gamma[o] / Math.sqrt(variance[o] + epsilon);
    bias[o] = (own[o] - mean[o]) * scale[o] + beta[o];
    if (!Number.isFinite(bias[o]) || !Number.isFinite(scale[o]))
      throw new TheiaError('ERR_CORRUPT', `${label}: ${norm}: channel ${o} has values that are not finite`);
  }
  const weight = new Float32Array(source.length);
  const taps = kernel * kernel;
  let at = 0;
  for (let tap = 0; tap < taps; tap++) {
    for (let i = 0; i < inputs; i++) {
      const to = tap * inputs + (reverse ? inputs - 1 - i : i);
      for (let o = 0; o < outputs; o++) weight[o * taps * inputs + to] = source[at++] * scale[o];
    }
  }
  if (!weight.every(Number.isFinite)) throw new TheiaError('ERR_CORRUPT', `${label}: ${name}/kernel has values that are not finite`);
  return { weight, bias };
}

/** The dense layer: kernel [I,O] in the file, [O,I] here. */
export function readDense(file: TfjsWeights, { name, inputs, outputs }: ResnetGraph['dense'], label: string): FoldedConv {
  const source = file.float32(`${name}/kernel`);
  const bias = file.float32(`${name}/bias`);
  const weight = new Float32Array(source.length);
  for (let i = 0, at = 0; i < inputs; i++) for (let o = 0; o < outputs; o++) weight[o * inputs + i] = source[at++];
  if (!weight.every(Number.isFinite) || !bias.every(Number.isFinite))
    throw new TheiaError('ERR_CORRUPT', `${label}: ${name} has values that are not finite`);
  return { weight, bias };
}
