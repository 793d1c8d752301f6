import * as v from 'valibot';
import { TheiaError } from '../errors.js';
import { nearest } from '../suggest.js';
import { badTeacherName, isClsTarget } from '../teachers/names.js';

export const TOKEN_KINDS = ['cls', 'nocls', 'reg'] as const;
export const TRANSLATORS = ['lconv', 'conv', 'mlp', 'linear', 'transformer'] as const;
export type TokenKind = (typeof TOKEN_KINDS)[number];
export type TranslatorKind = (typeof TRANSLATORS)[number];

/** A model with everything decided. Sizes are counts; `image` and `patch` are pixels; `teachers` keeps the order of the heads. */
export type ModelConfig = {
  hidden: number;
  depth: number;
  heads: number;
  mlp: number;
  patch: number;
  image: number;
  tokens: TokenKind;
  registers: number;
  /** LayerNorm eps of the backbone; the translators always use 1e-5 */
  eps: number;
  translator: TranslatorKind;
  hiddenSizeFactor: number;
  translatorHidden: number;
  mlpLayers: number;
  decoderLayers: number;
  decoderHeads: number;
  /** target -> [C, H, W], or [C] for a `_cls` target */
  teachers: Map<string, number[]>;
};

/** What a configuration file says; the rest comes from the tensors or from the defaults. */
export type PartialModelConfig = Partial<ModelConfig>;

type Backbone = Pick<ModelConfig, 'hidden' | 'depth' | 'heads' | 'mlp'>;

/** The DeiT shapes of the paper (model.md, "Backbone"). */
export const BACKBONES: Readonly<Record<'tiny' | 'small' | 'base', Readonly<Backbone>>> = Object.freeze({
  tiny: Object.freeze({ hidden: 192, depth: 12, heads: 3, mlp: 768 }),
  small: Object.freeze({ hidden: 384, depth: 12, heads: 6, mlp: 1536 }),
  base: Object.freeze({ hidden: 768, depth: 12, heads: 12, mlp: 3072 }),
});

/** Defaults of everything that tensors cannot tell; heads has none of its own (hidden / 64). */
export const MODEL_DEFAULTS = Object.freeze({
  patch: 16,
  image: 224,
  tokens: 'cls' as TokenKind,
  registers: 0,
  eps: 1e-12,
  translator: 'lconv' as TranslatorKind,
  hiddenSizeFactor: 1.0,
  translatorHidden: 1024,
  mlpLayers: 3,
  decoderLayers: 2,
  decoderHeads: 8,
});

/** contract.md's key -> the field of ModelConfig, in the order of the contract. */
export const MODEL_KEYS = Object.freeze({
  hidden: 'hidden',
  depth: 'depth',
  heads: 'heads',
  mlp: 'mlp',
  patch: 'patch',
  image: 'image',
  tokens: 'tokens',
  registers: 'registers',
  eps: 'eps',
  translator: 'translator',
  hidden_size_factor: 'hiddenSizeFactor',
  translator_hidden: 'translatorHidden',
  mlp_layers: 'mlpLayers',
  decoder_layers: 'decoderLayers',
  decoder_heads: 'decoderHeads',
  teachers: 'teachers',
} as const);

/** The contract's name of a field, for messages. */
export function modelKey(field: keyof ModelConfig): string {
  for (const [key, name] of Object.entries(MODEL_KEYS)) if (name === field) return key;
  return field;
}

// Sizes above this are nobody's model; below it, products of four sizes stay exact in a double.
const LARGEST = 1 << 16;
const count = (least: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(LARGEST), v.description(`a whole number from ${least} to ${LARGEST}`));
const positive = v.pipe(v.number(), v.finite(), v.gtValue(0), v.description('a number above 0'));
const oneOf = <const T extends readonly string[]>(names: T) => v.pipe(v.picklist(names), v.description(`one of ${names.join(', ')}`));

/** Schema per contract key; the description is what error messages print as allowed. Shared with the training configuration. */
export const MODEL_FIELD_SCHEMAS = {
  hidden: count(1),
  depth: count(1),
  heads: count(1),
  mlp: count(1),
  patch: count(1),
  image: count(1),
  tokens: oneOf(TOKEN_KINDS),
  registers: count(0),
  eps: positive,
  translator: oneOf(TRANSLATORS),
  hidden_size_factor: positive,
  translator_hidden: count(1),
  mlp_layers: count(1),
  decoder_layers: count(1),
  decoder_heads: count(1),
} as const;

const teacherSize = v.union([v.tuple([count(1), count(1), count(1)]), v.tuple([count(1)])]);

function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text === undefined ? typeof value : text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An own property; keys of a file must never reach the prototype. */
function own(table: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function field<T extends v.GenericSchema>(schema: T, value: unknown, where: string): v.InferOutput<T> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new TheiaError('ERR_CONFIG', `${where}: expected ${v.getDescription(schema) ?? schema.type}, got ${shown(value)}`);
}

/**
 * Reads the sizes of the teachers' features.
 * @returns target -> [C, H, W] or [C], in the order of the file
 * @throws ERR_CONFIG naming the target
 */
export function parseTeachers(value: unknown, where: string): Map<string, number[]> {
  if (!isTable(value)) throw new TheiaError('ERR_CONFIG', `${where}: expected a table of names and sizes [C,H,W], got ${shown(value)}`);
  const out = new Map<string, number[]>();
  for (const name of Object.keys(value)) {
    const bad = badTeacherName(name);
    if (bad !== undefined) throw new TheiaError('ERR_CONFIG', `${where}: ${JSON.stringify(name)} is no teacher name: ${bad}`);
    const size = v.safeParse(teacherSize, value[name]);
    if (!size.success || (size.output.length === 1) !== isClsTarget(name)) {
      const allowed = isClsTarget(name) ? '[C], as the name ends in _cls' : '[C,H,W]';
      throw new TheiaError(
        'ERR_CONFIG',
        `${where}.${name}: expected ${allowed} with whole numbers from 1 to ${LARGEST}, got ${shown(value[name])}`,
      );
    }
    out.set(name, [...size.output]);
  }
  return out;
}

/** contract.md's own keys. */
function parseOwn(json: Record<string, unknown>): PartialModelConfig {
  const out: PartialModelConfig = {};
  for (const key of Object.keys(json)) {
    if (key === 'teachers') {
      out.teachers = parseTeachers(json[key], key);
    } else if (Object.hasOwn(MODEL_FIELD_SCHEMAS, key)) {
      const name = key as keyof typeof MODEL_FIELD_SCHEMAS;
      Object.assign(out, { [MODEL_KEYS[name]]: field(MODEL_FIELD_SCHEMAS[name], json[key], name) });
    } else {
      const near = nearest(key, Object.keys(MODEL_KEYS));
      throw new TheiaError(
        'ERR_CONFIG',
        `unknown key ${JSON.stringify(key)} in the model config; known are ${Object.keys(MODEL_KEYS).join(', ')}`,
        {
          hint: near === undefined ? undefined : `did you mean ${near}?`,
        },
      );
    }
  }
  return out;
}

/** Whether an optional hub field is absent or null, which mean the same in TheiaConfig. */
const absent = (value: unknown): value is undefined | null => value === undefined || value === null;

/** The `TheiaConfig` of the hub. It may carry any field of a transformers config besides; those are not ours to judge. */
function parseHub(json: Record<string, unknown>): PartialModelConfig {
  const name = String(json.backbone);
  // The original tests for these substrings in this order; the published checkpoints have no prefix.
  const shape = /^(reg-|nocls-)?facebook\/deit-(tiny|small|base)-patch16-224$/.exec(name);
  if (shape === null) {
    throw new TheiaError(
      'ERR_UNSUPPORTED',
      `backbone: expected [reg-|nocls-]facebook/deit-{tiny,small,base}-patch16-224, got ${shown(name)}`,
    );
  }
  for (const key of ['feature_neck', 'forward_neck']) {
    const value = own(json, key);
    if (!absent(value) && value !== false) {
      throw new TheiaError('ERR_UNSUPPORTED', `${key}: a model with a neck is not supported, expected false, got ${shown(value)}`);
    }
  }
  // How to reduce tokens is asked for at the encoder (the hub's own code ignores this field); only nonsense is refused.
  const reduce = own(json, 'feature_reduce_method');
  const methods = ['none', 'cls', 'mean_pooling', 'max_pooling', 'identity'];
  if (!absent(reduce) && !methods.includes(String(reduce))) {
    throw new TheiaError('ERR_UNSUPPORTED', `feature_reduce_method: expected null or one of ${methods.join(', ')}, got ${shown(reduce)}`);
  }
  const out: PartialModelConfig = { ...BACKBONES[shape[2] as keyof typeof BACKBONES], patch: 16, eps: 1e-12 };
  out.tokens = shape[1] === 'reg-' ? 'reg' : shape[1] === 'nocls-' ? 'nocls' : 'cls';
  const registers = own(json, 'num_reg_tokens');
  const written = absent(registers) ? 0 : field(MODEL_FIELD_SCHEMAS.registers, registers, 'num_reg_tokens');
  // A reg- backbone whose config says 0 was built with the class's own default, which the tensors show.
  if (out.tokens !== 'reg') out.registers = written;
  else if (written > 0) out.registers = written;
  const image = own(json, 'image_size') ?? own(json, 'iamge_size');
  out.image = absent(image) ? MODEL_DEFAULTS.image : field(MODEL_FIELD_SCHEMAS.image, image, 'image_size');
  const translator = own(json, 'translator_type');
  if (!absent(translator)) {
    if (!(TRANSLATORS as readonly unknown[]).includes(translator)) {
      throw new TheiaError('ERR_UNSUPPORTED', `translator_type: expected one of ${TRANSLATORS.join(', ')}, got ${shown(translator)}`);
    }
    out.translator = translator as TranslatorKind;
  }
  const factor = own(json, 'translator_hidden_size_factor');
  if (!absent(factor)) out.hiddenSizeFactor = field(MODEL_FIELD_SCHEMAS.hidden_size_factor, factor, 'translator_hidden_size_factor');
  const sizes = own(json, 'target_feature_sizes');
  if (!absent(sizes)) out.teachers = parseTeachers(sizes, 'target_feature_sizes');
  return out;
}

/** The `config` objects of golden/manifest.json. Their other keys (seeds, samples, ...) describe the data, not the model. */
function parseManifest(json: Record<string, unknown>, backbone: Record<string, unknown>): PartialModelConfig {
  const out: PartialModelConfig = {};
  for (const key of ['hidden', 'depth', 'heads', 'mlp', 'patch', 'image', 'registers', 'eps'] as const) {
    const value = own(backbone, key);
    if (!absent(value)) out[key] = field(MODEL_FIELD_SCHEMAS[key], value, `backbone.${key}`);
  }
  const channels = own(backbone, 'channels');
  if (!absent(channels) && channels !== 3) {
    throw new TheiaError('ERR_UNSUPPORTED', `backbone.channels: expected 3, got ${shown(channels)}`);
  }
  const cls = own(backbone, 'cls');
  if (!absent(cls)) {
    const has = field(v.pipe(v.boolean(), v.description('true or false')), cls, 'backbone.cls');
    if (!has && (out.registers ?? 0) > 0) {
      throw new TheiaError(
        'ERR_UNSUPPORTED',
        `backbone: registers without a CLS token are not supported, got cls false and registers ${out.registers}`,
      );
    }
    out.tokens = (out.registers ?? 0) > 0 ? 'reg' : has ? 'cls' : 'nocls';
  }
  const translator = own(json, 'translator');
  if (!absent(translator)) out.translator = field(MODEL_FIELD_SCHEMAS.translator, translator, 'translator');
  const args = own(json, 'translator_args');
  if (!absent(args)) {
    if (!isTable(args)) throw new TheiaError('ERR_CONFIG', `translator_args: expected a table, got ${shown(args)}`);
    const names = {
      hidden_size_factor: 'hidden_size_factor',
      translator_hidden_size: 'translator_hidden',
      translator_n_layer: 'mlp_layers',
      translator_n_layers: 'decoder_layers',
      translator_n_heads: 'decoder_heads',
    } as const;
    for (const key of Object.keys(args)) {
      if (key === 'dropout') continue; // inference has none, and the trainer never applies it
      if (!Object.hasOwn(names, key))
        throw new TheiaError('ERR_CONFIG', `translator_args.${key}: unknown key; known are ${Object.keys(names).join(', ')}, dropout`);
      const ours = names[key as keyof typeof names];
      out[MODEL_KEYS[ours]] = field(MODEL_FIELD_SCHEMAS[ours], args[key], `translator_args.${key}`);
    }
  }
  const teachers = own(json, 'teachers');
  if (!absent(teachers)) out.teachers = parseTeachers(teachers, 'teachers');
  return out;
}

/** What can be told without tensors: fields that exclude each other. */
function checkPartial(config: PartialModelConfig): PartialModelConfig {
  const { tokens, registers, translator, mlpLayers } = config;
  if (tokens !== undefined && tokens !== 'reg' && (registers ?? 0) > 0) {
    throw new TheiaError('ERR_CONFIG', `registers: expected 0 with tokens ${tokens}, got ${registers}`, {
      hint: 'register tokens need tokens "reg"',
    });
  }
  if (tokens === 'reg' && registers === 0) throw new TheiaError('ERR_CONFIG', 'registers: expected at least 1 with tokens reg, got 0');
  if (translator === 'linear' && mlpLayers !== undefined && mlpLayers !== 1) {
    throw new TheiaError('ERR_CONFIG', `mlp_layers: expected 1 with translator linear, got ${mlpLayers}`, {
      hint: 'use translator "mlp" for more layers',
    });
  }
  if (tokens === 'nocls') {
    for (const name of config.teachers?.keys() ?? []) {
      if (isClsTarget(name)) throw new TheiaError('ERR_CONFIG', `teachers.${name}: a _cls target needs a CLS token, got tokens nocls`);
    }
  }
  return config;
}

/**
 * Understands three kinds of model configuration: contract.md's keys, the hub's `config.json` (backbone is a name) and the `config`
 * objects of golden/manifest.json (backbone is a table).
 * @param json a parsed JSON document
 * @throws ERR_CONFIG naming the key and what is allowed; ERR_UNSUPPORTED for a published feature that is not built
 */
export function parseModelConfig(json: unknown): PartialModelConfig {
  if (!isTable(json)) throw new TheiaError('ERR_CONFIG', `model config: expected a JSON object, got ${shown(json)}`);
  const backbone = own(json, 'backbone');
  if (typeof backbone === 'string') return checkPartial(parseHub(json));
  if (isTable(backbone)) return checkPartial(parseManifest(json, backbone));
  return checkPartial(parseOwn(json));
}
