import type { Arena, Parameter, ParameterSpec, SegmentSpec } from '../autograd/index.js';
import { engineShape } from '../autograd/index.js';
import type { FileLayout } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import type { Initialiser } from './init.js';

/** A tensor of the checkpoint as a model lists it. */
export interface Entry {
  key: string;
  /** shape in the checkpoint */
  shape: readonly number[];
  init: Initialiser;
  layout?: FileLayout;
  teacher?: string;
}

/**
 * No decay for tensors of at most one dimension and for biases; the [C,H,W] weights of map LayerNorms do decay, as in the original
 * (golden/README.md, AdamW).
 */
export function decays(key: string, shape: readonly number[]): boolean {
  return shape.length > 1 && !key.endsWith('.bias');
}

function segment(e: Entry): SegmentSpec {
  return {
    key: e.key,
    fileShape: e.shape,
    layout: e.layout ?? 'same',
    init: (out) => e.init(out, e.key, e.shape),
    ...(e.teacher === undefined ? {} : { teacher: e.teacher }),
  };
}

/** A parameter that is one checkpoint tensor. @param shape what ops see, if not the checkpoint's shape in the engine's layout */
export function single(e: Entry, shape?: readonly number[]): ParameterSpec {
  return { name: e.key, shape: shape ?? engineShape(e.shape, e.layout ?? 'same'), decay: decays(e.key, e.shape), segments: [segment(e)] };
}

/** Several checkpoint tensors of one shape [N,...] that ops see as one [count·N,...]: query, key and value. */
export function fused(name: string, entries: readonly Entry[]): ParameterSpec {
  const first = entries[0]!;
  return {
    name,
    shape: [entries.length * first.shape[0]!, ...first.shape.slice(1)],
    decay: decays(first.key, first.shape),
    segments: entries.map(segment),
  };
}

/** A parameter by name; a missing one is a mistake of the model's code. */
export function parameterOf(arena: Arena, name: string): Parameter {
  const p = arena.parameters.get(name);
  if (!p) throw new TheiaError('ERR_INTERNAL', `the model declares no parameter ${name}`);
  return p;
}
