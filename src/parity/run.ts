import { Tape } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import { distillLoss } from '../ops/distill_loss.js';
import { Tensor, tidy } from '../tensor/index.js';
import { combineLosses, termWeights } from '../train/loss.js';
import type { LossOptions } from '../train/loss.js';
import type { LossTerms } from '../train/metrics.js';
import { teacherKey } from '../models/config-complete.js';
import { REDUCE_METHODS } from '../models/theia.js';
import type { ReduceMethod, Theia } from '../models/theia.js';
import type { OwnTensor } from './compare.js';

/** The paper's loss, which reference files are made with. */
const LOSS: LossOptions = { kind: 'cos_l1', cosWeight: 0.9, teacherWeights: new Map() };
const TERMS = ['mse', 'cos', 'l1'] as const;
type Term = (typeof TERMS)[number];

/** What a name in a reference file asks for. */
type Wanted =
  | { kind: 'tokens' | 'main' | 'grad_tokens' }
  | { kind: 'hidden'; index: number }
  | { kind: 'reduce'; method: ReduceMethod }
  | { kind: 'pred'; teacher: string }
  | { kind: 'term'; term: Term; teacher: string | undefined }
  | { kind: 'grad'; key: string };

/** The model's name of a teacher: as it stands, or spelt as in parameter names (`.` as `_`), which is all that tensors alone tell. */
function teacherOf(model: Theia, name: string): string | undefined {
  return model.teachers.find((t) => t === name) ?? model.teachers.find((t) => teacherKey(t) === teacherKey(name));
}

/** What a name asks of this model; undefined if the model has no such thing. */
function wantedOf(model: Theia, name: string): Wanted | undefined {
  const { config } = model;
  if (name === 'tokens') return { kind: name };
  if (name === 'grad_tokens') return model.teachers.length > 0 ? { kind: name } : undefined;
  if (name === 'loss/main') return model.teachers.length > 0 ? { kind: 'main' } : undefined;
  const slash = name.indexOf('/');
  const [head, rest] = [name.slice(0, slash), name.slice(slash + 1)];
  switch (slash < 0 ? '' : head) {
    case 'hidden': {
      const index = /^(0|[1-9]\d{0,5})$/.test(rest) ? Number(rest) : Infinity;
      return index <= config.depth ? { kind: 'hidden', index } : undefined;
    }
    case 'reduce': {
      // The published code drops a real token of models without CLS; ours takes all of them (contract of `--reduce`).
      const method = REDUCE_METHODS.find((m) => m === rest);
      return method === undefined || config.tokens === 'nocls' ? undefined : { kind: 'reduce', method };
    }
    case 'pred': {
      const teacher = teacherOf(model, rest);
      return teacher === undefined ? undefined : { kind: 'pred', teacher };
    }
    case 'loss': {
      const term = TERMS.find((t) => rest === t || rest.startsWith(`${t}/`));
      if (term === undefined || model.teachers.length === 0) return undefined;
      if (rest === term) return { kind: 'term', term, teacher: undefined };
      const teacher = teacherOf(model, rest.slice(term.length + 1));
      return teacher === undefined ? undefined : { kind: 'term', term, teacher };
    }
    case 'grad':
      return model.arena.segment(rest) && model.teachers.length > 0 ? { kind: 'grad', key: rest } : undefined;
    default:
      return undefined;
  }
}

/** Teachers whose targets a name needs. */
function targetsOf(model: Theia, w: Wanted): string[] {
  if (w.kind === 'term' && w.teacher !== undefined) return [w.teacher];
  return w.kind === 'term' || w.kind === 'main' || w.kind === 'grad' || w.kind === 'grad_tokens' ? model.teachers : [];
}

/** What it takes to answer for the names of a reference file. */
export interface ParityPlan {
  /** names that are compared, in the file's order */
  compared: string[];
  /** names that the model has no counterpart of */
  notCompared: string[];
  /** teachers whose targets are needed */
  targets: string[];
  /** whether the model must hold gradients */
  gradients: boolean;
}

/** Sorts the names of a reference file. `images` is input and in neither list. */
export function planParity(model: Theia, names: readonly string[]): ParityPlan {
  const compared: string[] = [];
  const notCompared: string[] = [];
  const targets = new Set<string>();
  for (const name of names) {
    if (name === 'images') continue;
    const w = wantedOf(model, name);
    if (!w) {
      notCompared.push(name);
      continue;
    }
    compared.push(name);
    for (const t of targetsOf(model, w)) targets.add(t);
  }
  return { compared, notCompared, targets: model.teachers.filter((t) => targets.has(t)), gradients: compared.some(needsGradients) };
}

/** Whether a name of a reference file can only be answered by a model built with `training: true`. */
export function needsGradients(name: string): boolean {
  return name.startsWith('grad/') || name === 'grad_tokens';
}

/** A normalised target of one teacher. */
export interface ParityTarget {
  shape: readonly number[];
  values: Float32Array;
}

/** The target of a teacher under whichever spelling of its name the file has. */
export function targetName(teacher: string, names: readonly string[]): string | undefined {
  return names.find((n) => n === teacher) ?? names.find((n) => teacherKey(n) === teacherKey(teacher));
}

/**
 * Runs the model on the images and gives the tensors that the names ask for, one after the other (each may be let go before the next).
 * Gradients are those of 0.9 · cos + 0.1 · smooth-L1, evenly over the model's teachers.
 * @param images [B,H,W,3] uint8 of the model's size
 * @param targets by teacher: [B,H·W,C], or [B,C] of a `_cls` target
 * @throws ERR_SHAPE naming a target that does not fit
 */
export function* runParity(
  model: Theia,
  images: { data: Uint8Array; shape: readonly number[] },
  targets: ReadonlyMap<string, ParityTarget>,
  plan: ParityPlan,
): Generator<[string, OwnTensor]> {
  const wanted = plan.compared.map((name) => ({ name, what: wantedOf(model, name)! }));
  const computed = tidy(() =>
    compute(
      model,
      images,
      targets,
      wanted.map((w) => w.what),
      plan.gradients,
    ),
  );
  try {
    for (const { name, what } of wanted) yield [name, answer(model, computed, what)];
  } finally {
    for (const t of [computed.tokens, ...computed.hidden, computed.gradTokens]) t?.dispose();
  }
}

interface Computed {
  tokens: Tensor;
  hidden: Tensor[];
  /** copied out, because backward puts the gradients in their place */
  predictions: Map<string, OwnTensor>;
  terms: Map<string, LossTerms>;
  gradTokens: Tensor | undefined;
}

function compute(
  model: Theia,
  images: { data: Uint8Array; shape: readonly number[] },
  targets: ReadonlyMap<string, ParityTarget>,
  wanted: readonly Wanted[],
  gradients: boolean,
): Computed {
  const shown = new Set(wanted.flatMap((w) => (w.kind === 'pred' ? [w.teacher] : [])));
  const teachers = model.teachers.filter((t) => targets.has(t) || shown.has(t));
  const pixels = Tensor.from(images.data, images.shape, 'uint8', model.device);
  const predictions = new Map<string, OwnTensor>();
  const forward = () => {
    const { tokens, hidden } = model.encode(
      pixels,
      wanted.some((w) => w.kind === 'hidden'),
    );
    const losses = new Map<string, Tensor>();
    for (const [teacher, p] of teachers.length > 0 ? model.predict(tokens, teachers) : []) {
      if (shown.has(teacher)) predictions.set(teacher, whole(p));
      const target = targets.get(teacher);
      if (target) losses.set(teacher, loss(model, teacher, p, target));
    }
    return { tokens, hidden, losses };
  };
  if (!gradients) {
    const { losses, ...rest } = forward();
    return { ...rest, predictions, terms: termsOf(losses), gradTokens: undefined };
  }
  const { arena } = model;
  if (!arena.gradients) throw new TheiaError('ERR_AUTOGRAD', 'parity: the model was built for inference and has no gradients');
  // A parameter that no gradient reaches has the gradient zero.
  arena.gradients.write(new Float32Array(arena.gradients.size));
  arena.beginGradients();
  const tape = new Tape();
  const { losses, ...rest } = tape.run(forward);
  const [gradTokens] = tape.backward([], [rest.tokens]);
  return { ...rest, predictions, terms: termsOf(losses), gradTokens };
}

function loss(model: Theia, teacher: string, p: Tensor, target: ParityTarget): Tensor {
  if (target.shape.join() !== p.shape.join())
    throw new TheiaError(
      'ERR_SHAPE',
      `target ${teacher}: expected [${p.shape.join(',')}] as the model predicts, got [${target.shape.join(',')}]`,
    );
  const values = Float32Array.from(termWeights(teacher, model.teachers.length, LOSS));
  const weights = Tensor.from(values, [3], 'float32', model.device);
  return distillLoss(p, { features: Tensor.from(target.values, p.shape, 'float32', model.device) }, weights);
}

function termsOf(losses: ReadonlyMap<string, Tensor>): Map<string, LossTerms> {
  return new Map(
    [...losses].map(([teacher, t]) => {
      const [cos, l1, mse] = t.float32();
      return [teacher, { cos: cos!, l1: l1!, mse: mse! }];
    }),
  );
}

function whole(t: Tensor): OwnTensor {
  return { shape: t.shape, values: t.float32() };
}

function answer(model: Theia, c: Computed, w: Wanted): OwnTensor {
  const scalar = (x: number): OwnTensor => ({ shape: [], values: Float64Array.of(x) });
  switch (w.kind) {
    case 'tokens':
      return whole(c.tokens);
    case 'hidden':
      return whole(c.hidden[w.index]!);
    case 'reduce': {
      using reduced = model.represent(c.tokens, w.method);
      return whole(reduced);
    }
    case 'pred':
      return c.predictions.get(w.teacher)!;
    case 'main':
      return scalar(combineLosses(c.terms, LOSS).loss);
    case 'term':
      return scalar(w.teacher === undefined ? combineLosses(c.terms, LOSS)[w.term] : c.terms.get(w.teacher)![w.term]);
    case 'grad':
      return { shape: model.arena.segment(w.key)!.fileShape, values: model.arena.export(w.key, model.arena.gradients) };
    case 'grad_tokens':
      return c.gradTokens ? whole(c.gradTokens) : { shape: c.tokens.shape, values: new Float32Array(c.tokens.size) };
  }
}
