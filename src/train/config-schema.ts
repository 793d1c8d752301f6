import * as v from 'valibot';
import { MODEL_FIELD_SCHEMAS } from '../models/config.js';

// The description of a schema is what an error message prints as allowed; it is the only place where that is written.
const int = (least: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(least), v.description(`a whole number from ${least} up`));
const above0 = v.pipe(v.number(), v.finite(), v.gtValue(0), v.description('a number above 0'));
const from0 = v.pipe(v.number(), v.finite(), v.minValue(0), v.description('a number from 0 up'));
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1), v.description('a number from 0 to 1'));
const shareAbove0 = v.pipe(v.number(), v.gtValue(0), v.maxValue(1), v.description('a number above 0 and up to 1'));
const below1 = v.pipe(v.number(), v.minValue(0), v.ltValue(1), v.description('a number from 0 to below 1'));
const flag = v.pipe(v.boolean(), v.description('true or false'));
const text = v.pipe(v.string(), v.regex(/^[^\u0000]*$/), v.description('a string'));
const name = v.pipe(v.string(), v.regex(/^[^\u0000]+$/), v.description('a string that is not empty'));
const oneOf = <const T extends readonly string[]>(names: T) => v.pipe(v.picklist(names), v.description(`one of ${names.join(', ')}`));
const every = v.pipe(v.union([v.literal('epoch'), int(1)]), v.description('"epoch" or a number of steps from 1 up'));
const finite = v.pipe(v.number(), v.finite(), v.description('a number'));
const rgb = (each: typeof above0 | typeof finite, what: string) => v.pipe(v.tuple([each, each, each]), v.description(`three ${what}`));

export const DEVICE_PATTERN = /^(?:auto|cpu|simt|cuda(?::(?:0|[1-9]\d{0,3}))?)$/;
const device = v.pipe(v.string(), v.regex(DEVICE_PATTERN), v.description('one of auto, cpu, cuda, cuda:N, simt'));

const o = v.optional;
const m = MODEL_FIELD_SCHEMAS;

/** The keys of a backbone table that shape the backbone alone. */
export const BACKBONE_ENTRIES = {
  hidden: m.hidden,
  depth: m.depth,
  heads: m.heads,
  mlp: m.mlp,
  patch: m.patch,
  image: m.image,
  eps: m.eps,
};

/** Keys of the model config JSON that a backbone table may hold as well, and that [model] has itself. */
export const SHARED_MODEL_KEYS = [
  'tokens',
  'registers',
  'translator',
  'hidden_size_factor',
  'translator_hidden',
  'mlp_layers',
  'decoder_layers',
  'decoder_heads',
] as const;

export const PRESETS = ['tiny', 'small', 'base'] as const;

export type BackboneTable = { hidden: number; depth: number; heads: number; mlp: number; patch: number; image: number; eps: number };

/** Entries per section; the key '' holds the ones above the first section. Defaults are contract.md's. */
export const SECTIONS = {
  '': {
    seed: o(int(0), 0),
    // loadConfig replaces it by runs/<name of the file> where there is a file.
    output: o(name, 'runs/theia'),
    device: o(device, 'auto'),
    dtype: o(oneOf(['float32', 'bfloat16']), 'float32'),
    threads: o(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(1024), v.description('a whole number from 0 to 1024')), 0),
  },
  model: {
    // A table here is checked by hand (config.ts), as its keys depend on the rest of [model].
    backbone: o(v.pipe(v.unknown(), v.description(`one of ${PRESETS.join(', ')} or a table of sizes`)), 'tiny'),
    tokens: o(m.tokens, 'cls'),
    registers: o(m.registers, 0),
    translator: o(m.translator, 'lconv'),
    hidden_size_factor: o(m.hidden_size_factor, 1.0),
    translator_hidden: o(m.translator_hidden, 1024),
    mlp_layers: o(m.mlp_layers, 3),
    decoder_layers: o(m.decoder_layers, 2),
    decoder_heads: o(m.decoder_heads, 8),
    init: o(text, ''),
  },
  preprocess: {
    size: o(m.image, 224),
    filter: o(oneOf(['bilinear', 'bicubic']), 'bilinear'),
    resize: o(m.image, 224),
    crop: o(int(0), 0),
    mean: o(rgb(finite, 'numbers'), [0.5, 0.5, 0.5]),
    std: o(rgb(above0, 'numbers above 0'), [0.5, 0.5, 0.5]),
  },
  data: {
    root: o(name, 'data'),
    // Empty means that the data decides: the only dataset folder below the root.
    mix: o(v.pipe(v.record(v.string(), above0), v.description('a table of dataset folders and weights above 0')), {}),
    split: o(name, 'train'),
    teachers: o(v.pipe(v.array(v.string()), v.minLength(1), v.description('a list of at least one teacher or set name')), ['resnet50']),
    shuffle: o(flag, true),
    shuffle_buffer: o(int(1), 1024),
    normalize: o(flag, true),
    stats: o(text, ''),
    workers: o(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(256), v.description('a whole number from 0 to 256')), 2),
    max_bad: o(share, 0.001),
  },
  train: {
    epochs: o(int(1), 50),
    steps: o(int(0), 0),
    batch: o(int(1), 16),
    accumulate: o(int(1), 1),
    base_lr: o(from0, 2e-3),
    warmup_ratio: o(share, 0.1),
    warmup_steps: o(int(0), 0),
    warmup_start: o(shareAbove0, 1e-2),
    schedule: o(oneOf(['constant', 'cosine']), 'constant'),
    cosine_cycle: o(int(0), 0),
    weight_decay: o(from0, 0.01),
    betas: o(v.pipe(v.tuple([below1, below1]), v.description('two numbers from 0 to below 1')), [0.9, 0.999]),
    eps: o(above0, 1e-8),
    loss: o(oneOf(['cos_l1', 'mse']), 'cos_l1'),
    cos_weight: o(share, 0.9),
    teacher_weights: o(v.pipe(v.record(v.string(), from0), v.description('a table of teachers and weights from 0 up')), {}),
    grad_clip: o(from0, 0),
    grad_clip_warmup: o(from0, 0),
    freeze_translator_at: o(share, 0),
    random_teachers: o(int(0), 0),
    distill_cls: o(flag, false),
  },
  eval: {
    every: o(every, 'epoch'),
    fraction: o(shareAbove0, 0.1),
    split: o(name, 'val'),
  },
  checkpoint: {
    every: o(every, 'epoch'),
    keep: o(int(1), 3),
  },
} as const;

/** Tables whose keys are the user's: everything below them is a name, not a key of ours. */
export const NAME_TABLES: readonly string[] = ['data.mix', 'train.teacher_weights'];

type Output<T> = T extends v.GenericSchema ? v.InferOutput<T> : never;
type Entries<S extends keyof typeof SECTIONS> = { [K in keyof (typeof SECTIONS)[S]]: Output<(typeof SECTIONS)[S][K]> };
type Frozen<T> = T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T;

/** A checked training configuration, deep-frozen. `data.teachers` holds names only: sets are expanded. */
export type TrainConfig = Frozen<
  Entries<''> & {
    model: Omit<Entries<'model'>, 'backbone'> & { backbone: (typeof PRESETS)[number] | BackboneTable };
    preprocess: Entries<'preprocess'>;
    data: Entries<'data'>;
    train: Entries<'train'>;
    eval: Entries<'eval'>;
    checkpoint: Entries<'checkpoint'>;
  }
>;
