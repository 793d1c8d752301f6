import { TheiaError } from '../errors.js';
import { HEADS, Shapes } from './shapes.js';
import { TEACHER_SIZES, isClsTarget } from '../teachers/names.js';
import { MODEL_DEFAULTS, modelKey, type ModelConfig, type PartialModelConfig, type TokenKind, type TranslatorKind } from './config.js';

const BODY = 'backbone.model.';

/** The published files write `.` in a teacher's name as `_` inside parameter names. */
export function teacherKey(name: string): string {
  return name.replaceAll('.', '_');
}

function contradiction(field: keyof ModelConfig | string, given: unknown, found: unknown, where: string): TheiaError {
  const show = (x: unknown) => (typeof x === 'string' ? x : JSON.stringify(x));
  const name = modelKey(field as keyof ModelConfig);
  return new TheiaError('ERR_CONFIG', `${name}: the config says ${show(given)}, the weights say ${show(found)} (${where})`);
}

/** The config's value if it agrees with the tensors', else an error that names both. */
function agree<T extends number | string>(field: keyof ModelConfig, given: T | undefined, found: T, where: string): T {
  if (given !== undefined && given !== found) throw contradiction(field, given, found, where);
  return found;
}

type Body = Pick<ModelConfig, 'hidden' | 'depth' | 'heads' | 'mlp' | 'patch' | 'image' | 'tokens' | 'registers' | 'eps'>;

/** heads cannot be read off a tensor: hidden / 64 is what every published student has. */
function headsOf(hidden: number, given: number | undefined): number {
  if (given === undefined) {
    if (hidden % 64 === 0) return hidden / 64;
    throw new TheiaError('ERR_CONFIG', `heads: expected in the model config, because 64 does not divide hidden ${hidden}`, {
      hint: 'pass --config with a JSON file that holds "heads"',
    });
  }
  if (hidden % given !== 0) throw new TheiaError('ERR_CONFIG', `heads: expected a divisor of hidden ${hidden}, got ${given}`);
  return given;
}

function decoderHeadsOf(translator: TranslatorKind, width: number, given: number | undefined): number {
  const heads = given ?? MODEL_DEFAULTS.decoderHeads;
  if (translator !== 'transformer' || width % heads === 0) return heads;
  if (given !== undefined)
    throw new TheiaError('ERR_CONFIG', `decoder_heads: expected a divisor of translator_hidden ${width}, got ${given}`);
  throw new TheiaError('ERR_CONFIG', `decoder_heads: expected in the model config, because 8 does not divide translator_hidden ${width}`, {
    hint: 'pass --config with a JSON file that holds "decoder_heads"',
  });
}

function body(partial: PartialModelConfig, shapes: Shapes): Body {
  const projection = `${BODY}embeddings.patch_embeddings.projection.weight`;
  const [hidden, channels, patch, patchWidth] = shapes.get(projection, 4);
  if (channels !== 3 || patch !== patchWidth || hidden < 1 || patch < 1) {
    throw new TheiaError('ERR_CONFIG', `weights: expected ${projection} [hidden,3,patch,patch], got ${shapes.text(projection)}`);
  }
  agree('hidden', partial.hidden, hidden, shapes.text(projection));
  agree('patch', partial.patch, patch, shapes.text(projection));

  const depth = shapes.layers(`${BODY}encoder.layer.`);
  if (depth === 0) throw new TheiaError('ERR_CONFIG', `weights: expected tensors ${BODY}encoder.layer.0.*, got none`);
  agree('depth', partial.depth, depth, `layers of ${BODY}encoder.layer`);
  const widening = `${BODY}encoder.layer.0.intermediate.dense.weight`;
  const mlp = agree('mlp', partial.mlp, shapes.get(widening, 2)[0], shapes.text(widening));

  const table = `${BODY}embeddings.position_embeddings`;
  const rows = shapes.get(table, 3)[1];
  const side = Math.round(Math.sqrt(rows - 1));
  // One row is CLS's, also in models without CLS.
  if (rows < 2 || side * side !== rows - 1)
    throw new TheiaError('ERR_CONFIG', `weights: expected n*n+1 rows of positions, got ${shapes.text(table)}`);
  const image = agree('image', partial.image, side * patch, `${shapes.text(table)} and patch ${patch}`);

  const register = `${BODY}embeddings.reg_token`;
  const hasCls = shapes.has(`${BODY}embeddings.cls_token`);
  const registers = shapes.has(register) ? shapes.get(register, 3)[1] : 0;
  if (registers > 0 && !hasCls) throw new TheiaError('ERR_UNSUPPORTED', 'weights: register tokens without a CLS token are not supported');
  const found: TokenKind = registers > 0 ? 'reg' : hasCls ? 'cls' : 'nocls';
  const tokens = agree('tokens', partial.tokens, found, `cls_token ${hasCls ? 'present' : 'absent'}, ${registers} register tokens`);
  agree('registers', partial.registers, registers, registers > 0 ? shapes.text(register) : `no ${register}`);
  return {
    hidden,
    depth,
    heads: headsOf(hidden, partial.heads),
    mlp,
    patch,
    image,
    tokens,
    registers,
    eps: partial.eps ?? MODEL_DEFAULTS.eps,
  };
}

type Heads = ReadonlyMap<string, number>;

function lastAdapter(heads: Heads, head: string): number {
  const last = heads.get(head) ?? -1;
  if (last < 0) throw new TheiaError('ERR_CONFIG', `weights: expected ${HEADS}${head}.adapter.*.weight, got none`);
  return last;
}

/** At most eight names for a message. */
function listed(names: Iterable<string>): string {
  const all = [...names];
  return all.length === 0 ? 'none' : all.length > 8 ? `${all.slice(0, 8).join(', ')}, ... (${all.length})` : all.join(', ');
}

function kindOf(shapes: Shapes, heads: Heads): TranslatorKind {
  if (shapes.has('translator.decode_tokens')) return 'transformer';
  if (!shapes.has('translator.backbone_adapter.1.weight')) return 'lconv';
  const first = heads.keys().next().value as string;
  // conv heads begin with a LayerNorm over a map (3 dimensions), mlp heads with a Linear (2).
  if (shapes.all.get(`${HEADS}${first}.adapter.0.weight`)?.length === 3) return 'conv';
  return lastAdapter(heads, first) === 0 ? 'linear' : 'mlp';
}

/** Reads a head's target size off its tensors; undefined where only C can be told (mlp, linear, transformer). */
function sizeOf(
  shapes: Shapes,
  kind: TranslatorKind,
  heads: Heads,
  head: string,
): { channels: number; size: number[] | undefined; where: string } {
  const last = lastAdapter(heads, head);
  const bias = `${HEADS}${head}.adapter.${last}.bias`;
  const channels = shapes.get(bias, 1)[0];
  const where = shapes.text(bias);
  if (kind === 'lconv' && last === 0) return { channels, size: [channels], where };
  if (kind !== 'lconv' && kind !== 'conv') return { channels, size: undefined, where };
  // The last LayerNorm has the target's height and width: before the tokens step and the Linear in lconv, right before the conv in conv.
  const norm = `${HEADS}${head}.adapter.${last - (kind === 'lconv' ? 2 : 1)}.weight`;
  const [, height, width] = shapes.get(norm, 3);
  return { channels, size: [channels, height, width], where: `${where}, ${shapes.text(norm)}` };
}

function teachersOf(partial: PartialModelConfig, shapes: Shapes, kind: TranslatorKind, heads: Heads): Map<string, number[]> {
  const known = new Map<string, string>();
  for (const name of partial.teachers?.keys() ?? TEACHER_SIZES.keys()) known.set(teacherKey(name), name);
  if (partial.teachers !== undefined) {
    for (const name of partial.teachers.keys()) {
      if (!heads.has(teacherKey(name))) {
        const there = listed(heads.keys());
        throw new TheiaError(
          'ERR_CONFIG',
          `teachers: the config names ${name}, the weights have no ${HEADS}${teacherKey(name)} (heads there: ${there})`,
        );
      }
    }
  }
  const found = new Map<string, number[]>();
  for (const head of heads.keys()) {
    // Without a config a dot that became _ cannot be told from an underscore; the parameter's spelling is then the name.
    const name = known.get(head) ?? head;
    const given = partial.teachers?.get(name);
    if (partial.teachers !== undefined && given === undefined) {
      const named = listed(partial.teachers.keys());
      throw new TheiaError('ERR_CONFIG', `teachers: the weights have a head ${head}, the config does not name it (named there: ${named})`);
    }
    const { channels, size, where } = sizeOf(shapes, kind, heads, head);
    const published = TEACHER_SIZES.get(name);
    const used = size ?? given ?? (published === undefined ? undefined : [...published]);
    if (used === undefined) {
      throw new TheiaError(
        'ERR_CONFIG',
        `teachers.${name}: expected [C,H,W] in the model config, because ${kind} tensors do not tell H and W`,
        {
          hint: `pass --config with a JSON file that holds "teachers": {"${name}": [${channels}, H, W]}`,
        },
      );
    }
    if (given !== undefined && given.join() !== used.join()) throw contradiction(`teachers.${name}`, given, used, where);
    if (used[0] !== channels) throw contradiction(`teachers.${name}`, used, [channels, ...used.slice(1)], where);
    found.set(name, used);
  }
  // The config's order is the order of heads, losses and outputs; a file sorted by name must not change it.
  if (partial.teachers === undefined) return found;
  return new Map([...partial.teachers.keys()].map((name) => [name, found.get(name) as number[]]));
}

type TranslatorPart = Pick<
  ModelConfig,
  'translator' | 'hiddenSizeFactor' | 'translatorHidden' | 'mlpLayers' | 'decoderLayers' | 'decoderHeads' | 'teachers'
>;

/** A factor that gives exactly `wide` under the published `int(hidden * factor)`. */
function factorOf(hidden: number, wide: number): number {
  return Math.trunc(hidden * (wide / hidden)) === wide ? wide / hidden : (wide + 0.5) / hidden;
}

function translatorFrom(partial: PartialModelConfig, shapes: Shapes, hidden: number, heads: Heads): TranslatorPart {
  const found = kindOf(shapes, heads);
  // An mlp of one layer and linear are the same tensors.
  const same = found === 'linear' && partial.translator === 'mlp' ? 'mlp' : found;
  const translator = agree('translator', partial.translator, same, `tensors of ${HEADS}*`);
  const teachers = teachersOf(partial, shapes, translator, heads);
  let hiddenSizeFactor = partial.hiddenSizeFactor ?? MODEL_DEFAULTS.hiddenSizeFactor;
  let translatorHidden = partial.translatorHidden ?? MODEL_DEFAULTS.translatorHidden;
  let mlpLayers = translator === 'linear' ? 1 : (partial.mlpLayers ?? MODEL_DEFAULTS.mlpLayers);
  let decoderLayers = partial.decoderLayers ?? MODEL_DEFAULTS.decoderLayers;

  if (translator === 'lconv') {
    for (const name of teachers.keys()) {
      if (isClsTarget(name)) continue;
      const norm = `${HEADS}${teacherKey(name)}.adapter.3.weight`;
      const wide = shapes.get(norm, 3)[0];
      if (partial.hiddenSizeFactor === undefined) hiddenSizeFactor = factorOf(hidden, wide);
      else if (Math.trunc(hidden * hiddenSizeFactor) !== wide) {
        throw contradiction('hiddenSizeFactor', hiddenSizeFactor, wide / hidden, shapes.text(norm));
      }
    }
  } else {
    const adapter = 'translator.backbone_adapter.1.weight';
    translatorHidden = agree('translatorHidden', partial.translatorHidden, shapes.get(adapter, 2)[0], shapes.text(adapter));
  }
  if (translator === 'mlp' || translator === 'linear') {
    for (const head of heads.keys()) {
      // Linear layers sit at 0, 2, 4, ... with ReLU between them.
      const layers = lastAdapter(heads, head) / 2 + 1;
      mlpLayers = agree('mlpLayers', partial.mlpLayers, layers, `${HEADS}${head}.adapter`);
    }
  }
  if (translator === 'transformer') {
    const layers = shapes.layers('translator.translator_stem.layers.');
    decoderLayers = agree('decoderLayers', partial.decoderLayers, layers, 'translator.translator_stem.layers');
  }
  const decoderHeads = decoderHeadsOf(translator, translatorHidden, partial.decoderHeads);
  return { translator, hiddenSizeFactor, translatorHidden, mlpLayers, decoderLayers, decoderHeads, teachers };
}

/** The translator of a model whose tensors do not exist (a new one) or hold no heads (a bare encoder). */
function translatorDefault(partial: PartialModelConfig, teachers: Map<string, number[]>): TranslatorPart {
  const translator = partial.translator ?? MODEL_DEFAULTS.translator;
  const translatorHidden = partial.translatorHidden ?? MODEL_DEFAULTS.translatorHidden;
  return {
    translator,
    hiddenSizeFactor: partial.hiddenSizeFactor ?? MODEL_DEFAULTS.hiddenSizeFactor,
    translatorHidden,
    mlpLayers: translator === 'linear' ? 1 : (partial.mlpLayers ?? MODEL_DEFAULTS.mlpLayers),
    decoderLayers: partial.decoderLayers ?? MODEL_DEFAULTS.decoderLayers,
    decoderHeads: decoderHeadsOf(translator, translatorHidden, partial.decoderHeads),
    teachers,
  };
}

/**
 * Fills in what a configuration leaves open from the tensors of a checkpoint (models-detail.md 1.1), and checks the rest against them.
 * @param tensors file key -> shape, as published (OIHW); keys that are not the model's are ignored here
 * @throws ERR_CONFIG naming both sides where config and tensors contradict, or the field that neither tells
 */
export function completeConfig(partial: PartialModelConfig, tensors: ReadonlyMap<string, readonly number[]>): ModelConfig {
  const shapes = new Shapes(tensors);
  const backbone = body(partial, shapes);
  const heads = shapes.heads();
  if (heads.size > 0) return { ...backbone, ...translatorFrom(partial, shapes, backbone.hidden, heads) };
  for (const name of partial.teachers?.keys() ?? []) {
    throw new TheiaError('ERR_CONFIG', `teachers: the config names ${name}, the weights have no ${HEADS}* at all`);
  }
  return { ...backbone, ...translatorDefault(partial, new Map()) };
}

/**
 * A model to be made from nothing: what is left open takes its default (mlp: 4 * hidden).
 * @throws ERR_CONFIG where a size is missing or sizes do not fit each other
 */
export function newModelConfig(partial: PartialModelConfig): ModelConfig {
  const { hidden, depth } = partial;
  if (hidden === undefined || depth === undefined) {
    throw new TheiaError('ERR_CONFIG', `${hidden === undefined ? 'hidden' : 'depth'}: expected in the model config, got none`);
  }
  const patch = partial.patch ?? MODEL_DEFAULTS.patch;
  const image = partial.image ?? MODEL_DEFAULTS.image;
  if (image % patch !== 0) throw new TheiaError('ERR_CONFIG', `image: expected a multiple of patch ${patch}, got ${image}`);
  const tokens = partial.tokens ?? MODEL_DEFAULTS.tokens;
  const registers = partial.registers ?? MODEL_DEFAULTS.registers;
  if ((tokens === 'reg') !== registers > 0) {
    throw new TheiaError(
      'ERR_CONFIG',
      `registers: expected ${tokens === 'reg' ? 'at least 1' : '0'} with tokens ${tokens}, got ${registers}`,
    );
  }
  const eps = partial.eps ?? MODEL_DEFAULTS.eps;
  const heads = headsOf(hidden, partial.heads);
  const backbone: Body = { hidden, depth, heads, mlp: partial.mlp ?? 4 * hidden, patch, image, tokens, registers, eps };
  return { ...backbone, ...translatorDefault(partial, new Map(partial.teachers)) };
}
