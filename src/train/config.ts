import { basename, extname } from 'node:path';
import { stringify } from 'smol-toml';
import * as v from 'valibot';
import { TheiaError } from '../errors.js';
import { BACKBONES, MODEL_FIELD_SCHEMAS, MODEL_KEYS, type PartialModelConfig } from '../models/config.js';
import { newModelConfig } from '../models/config-complete.js';
import { nearest } from '../suggest.js';
import { clsTarget, expandTeachers, isClsTarget } from '../teachers/names.js';
import { applySetting, isReserved, isTable, parseText, readToml, type Table } from './config-input.js';
import {
  BACKBONE_ENTRIES,
  NAME_TABLES,
  PRESETS,
  SECTIONS,
  SHARED_MODEL_KEYS,
  type BackboneTable,
  type TrainConfig,
} from './config-schema.js';

export type { BackboneTable, TrainConfig } from './config-schema.js';

const SECTION_NAMES = Object.keys(SECTIONS).filter((name) => name !== '') as Exclude<keyof typeof SECTIONS, ''>[];

function shown(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? typeof value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

function unknownKey(path: string, key: string, known: readonly string[]): TheiaError {
  const near = nearest(key, known);
  const full = path === '' ? key : `${path}.${key}`;
  const place = path === '' ? 'the top level' : `[${path}]`;
  return new TheiaError(
    'ERR_CONFIG',
    known.length === 0
      ? `unknown key ${full}; names in ${place} are yours, but this one is empty or reserved`
      : `unknown key ${full}; known in ${place} are ${known.join(', ')}`,
    {
      hint: near === undefined ? undefined : `did you mean ${path === '' ? near : `${path}.${near}`}?`,
    },
  );
}

function wrong(path: string, schema: v.GenericSchema, value: unknown): TheiaError {
  const inner = schema.type === 'optional' ? (schema as unknown as { wrapped: v.GenericSchema }).wrapped : schema;
  return new TheiaError('ERR_CONFIG', `${path}: expected ${v.getDescription(inner) ?? inner.type}, got ${shown(value)}`);
}

/** Checks one section: unknown keys first, then each value. Own keys only, so nothing is found on a prototype. */
function checkSection(
  path: string,
  entries: Readonly<Record<string, v.GenericSchema>>,
  table: Table,
  alsoKnown: readonly string[] = [],
): Table {
  const known = [...Object.keys(entries), ...alsoKnown];
  for (const key of Object.keys(table)) if (!known.includes(key)) throw unknownKey(path, key, known);
  const out = Object.create(null) as Table;
  for (const [key, schema] of Object.entries(entries)) {
    const full = path === '' ? key : `${path}.${key}`;
    const value = table[key];
    if (NAME_TABLES.includes(full) && isTable(value)) {
      for (const name of Object.keys(value)) if (name === '' || isReserved(name)) throw unknownKey(full, name, []);
    }
    const result = v.safeParse(schema, value);
    if (!result.success) throw wrong(full, schema, value);
    // The user's names get a table without a prototype again.
    out[key] = NAME_TABLES.includes(full) ? Object.assign(Object.create(null), result.output) : result.output;
  }
  return out;
}

/** newModelConfig, whose complaints name the keys of a model config JSON, in the terms of this file. */
function modelConfig(partial: PartialModelConfig): ReturnType<typeof newModelConfig> {
  try {
    return newModelConfig(partial);
  } catch (error) {
    const key = error instanceof TheiaError ? /^(decoder_)?heads(?=:)/.exec(error.message) : null;
    if (key === null) throw error;
    const { code, message } = error as TheiaError;
    throw new TheiaError(
      code,
      `${key[1] === undefined ? 'model.backbone' : 'model'}.${message.replace('in the model config, ', 'a value, ')}`,
      {
        cause: error,
      },
    );
  }
}

/** Reads model.backbone when it is a table: its own sizes, and the keys that [model] has as well, which move there. */
function checkBackbone(table: Table, model: Table, written: Table, size: number): BackboneTable {
  const path = 'model.backbone';
  if (Object.hasOwn(table, 'teachers')) throw new TheiaError('ERR_CONFIG', `${path}.teachers: teachers are named in data.teachers`);
  const shared = Object.fromEntries(SHARED_MODEL_KEYS.map((key) => [key, v.optional(MODEL_FIELD_SCHEMAS[key])]));
  const own = Object.fromEntries(Object.entries(BACKBONE_ENTRIES).map(([key, schema]) => [key, v.optional(schema)]));
  const got = checkSection(path, { ...own, ...shared }, table);
  for (const key of SHARED_MODEL_KEYS) {
    if (got[key] === undefined) continue;
    if (Object.hasOwn(written, key) && written[key] !== got[key]) {
      throw new TheiaError(
        'ERR_CONFIG',
        `${path}.${key}: expected the same as model.${key} (${shown(written[key])}), got ${shown(got[key])}`,
      );
    }
    model[key] = got[key];
  }
  for (const key of ['hidden', 'depth']) {
    if (got[key] === undefined) throw wrong(`${path}.${key}`, BACKBONE_ENTRIES[key as 'hidden'], undefined);
  }
  const partial: PartialModelConfig = {};
  for (const key of Object.keys(BACKBONE_ENTRIES) as (keyof BackboneTable)[]) partial[key] = got[key] as number | undefined;
  partial.image ??= size;
  const { hidden, depth, heads, mlp, patch, image, eps } = modelConfig(partial);
  return { hidden, depth, heads, mlp, patch, image, eps };
}

/** What makes sense key by key but not together. */
function checkTogether(config: TrainConfig): void {
  const bad = (message: string, hint?: string): TheiaError => new TheiaError('ERR_CONFIG', message, { hint });
  const { model, preprocess, data, train } = config;
  if ((model.tokens === 'reg') !== model.registers > 0) {
    throw bad(
      `model.registers: expected ${model.tokens === 'reg' ? 'at least 1' : '0'} with model.tokens ${model.tokens}, got ${model.registers}`,
    );
  }
  const { size, resize, crop } = preprocess;
  const patch = typeof model.backbone === 'string' ? 16 : model.backbone.patch;
  if (size % patch !== 0) throw bad(`preprocess.size: expected a multiple of the patch ${patch}, got ${size}`);
  if (typeof model.backbone !== 'string' && model.backbone.image !== size) {
    throw bad(`preprocess.size: expected the same as model.backbone.image (${model.backbone.image}), got ${size}`);
  }
  if (crop === 0 && resize !== size) {
    throw bad(
      `preprocess.resize: expected preprocess.size (${size}) without a crop, got ${resize}`,
      `set preprocess.crop = ${size} to cut it out`,
    );
  }
  if (crop !== 0 && crop !== size) throw bad(`preprocess.crop: expected 0 or preprocess.size (${size}), got ${crop}`);
  const targets = new Set(data.teachers);
  if (train.distill_cls) for (const name of data.teachers) if (!isClsTarget(name)) targets.add(clsTarget(name));
  if ([...targets].some(isClsTarget)) {
    const why = train.distill_cls ? 'train.distill_cls' : `data.teachers ${[...targets].find(isClsTarget)}`;
    if (model.tokens === 'nocls') throw bad(`${why}: expected a model with a CLS token, got model.tokens nocls`);
    if (model.translator !== 'lconv')
      throw bad(`${why}: expected model.translator lconv, which alone has CLS heads, got ${model.translator}`);
  }
  for (const name of Object.keys(train.teacher_weights)) {
    if (!targets.has(name)) throw unknownKey('train.teacher_weights', name, [...targets]);
  }
  if (train.random_teachers > data.teachers.length) {
    throw bad(
      `train.random_teachers: expected at most the ${data.teachers.length} teachers of data.teachers, got ${train.random_teachers}`,
    );
  }
  modelOf(config); // heads, decoder heads
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}

/**
 * Reads a training configuration: the file or the text, then every setting on top, then contract.md's defaults.
 * @param source.file a TOML file; without file and text everything takes its default
 * @param source.text TOML
 * @param source.set `key.path=value` pairs; a value that is not TOML is taken as a string
 * @returns frozen; `output` is named after the file unless written, sets in `data.teachers` are expanded, `preprocess.size` and `resize` follow a backbone's `image`
 * @throws ERR_CONFIG naming the key and what is allowed; ERR_FILE when the file cannot be read
 */
export function loadConfig(source: { file?: string; text?: string; set?: readonly string[] }): TrainConfig {
  const input = source.file !== undefined ? readToml(source.file) : parseText(source.text ?? '', 'configuration');
  const isSection = (path: string) => (SECTION_NAMES as string[]).includes(path);
  for (const setting of source.set ?? []) applySetting(input, setting, isSection);

  const top = Object.create(null) as Table;
  for (const key of Object.keys(input)) if (!isSection(key)) top[key] = input[key];
  const config = checkSection('', SECTIONS[''], top, SECTION_NAMES);
  const written = Object.create(null) as Record<string, Table>;
  for (const name of SECTION_NAMES) {
    const table = Object.hasOwn(input, name) ? input[name] : (Object.create(null) as Table);
    if (!isTable(table)) throw new TheiaError('ERR_CONFIG', `${name}: expected a table [${name}], got ${shown(table)}`);
    written[name] = table;
    config[name] = checkSection(name, SECTIONS[name], table);
  }

  if (source.file !== undefined && !Object.hasOwn(top, 'output')) config.output = `runs/${basename(source.file, extname(source.file))}`;

  const { model, preprocess, data } = config as Record<string, Table>;
  const backbone = model.backbone;
  // One size is enough: the others follow it unless they are written.
  if (isTable(backbone) && typeof backbone.image === 'number' && !Object.hasOwn(written.preprocess, 'size')) {
    preprocess.size = v.is(MODEL_FIELD_SCHEMAS.image, backbone.image) ? backbone.image : preprocess.size;
  }
  if (preprocess.crop === 0 && !Object.hasOwn(written.preprocess, 'resize')) preprocess.resize = preprocess.size;
  if (isTable(backbone)) model.backbone = checkBackbone(backbone, model, written.model, preprocess.size as number);
  else if (!(PRESETS as readonly unknown[]).includes(backbone)) throw wrong('model.backbone', SECTIONS.model.backbone, backbone);
  if (model.translator === 'linear') {
    if (Object.hasOwn(written.model, 'mlp_layers') && model.mlp_layers !== 1) {
      throw new TheiaError('ERR_CONFIG', `model.mlp_layers: expected 1 with model.translator linear, got ${shown(model.mlp_layers)}`);
    }
    model.mlp_layers = 1;
  }
  data.teachers = expandTeachers(data.teachers as string[]);
  const checked = deepFreeze(config) as unknown as TrainConfig;
  checkTogether(checked);
  return checked;
}

/** The model that a configuration asks for, without teachers: their sizes come from the data. */
export function modelOf(config: TrainConfig): ReturnType<typeof newModelConfig> {
  const { model, preprocess } = config;
  const partial: PartialModelConfig = typeof model.backbone === 'string' ? { ...BACKBONES[model.backbone] } : { ...model.backbone };
  for (const key of SHARED_MODEL_KEYS) Object.assign(partial, { [MODEL_KEYS[key]]: model[key] });
  return modelConfig({ ...partial, image: preprocess.size });
}

/** The configuration as TOML with every key written out; loadConfig of it gives the same configuration. */
export function resolvedToml(config: TrainConfig): string {
  return stringify(config);
}

/** Keys that a resumed run may change; everything else would make it another run. */
const MAY_DIFFER = ['output', 'device', 'threads', 'data.workers', 'train.epochs', 'train.steps', 'eval', 'checkpoint'];

/** Leaf key path -> value as text. */
function leaves(value: unknown, path: string, out: Map<string, string>): Map<string, string> {
  if (isTable(value)) for (const key of Object.keys(value)) leaves(value[key], path === '' ? key : `${path}.${key}`, out);
  else out.set(path, shownWhole(value));
  return out;
}

function shownWhole(value: unknown): string {
  return JSON.stringify(value) ?? 'undefined';
}

/**
 * The keys, with both values, in which two configurations differ though a resumed run must not.
 * @returns lines such as `train.batch: 16 -> 32`; empty when the run may go on
 */
export function diffForResume(before: TrainConfig, after: TrainConfig): string[] {
  const a = leaves(before, '', new Map());
  const b = leaves(after, '', new Map());
  const lines: string[] = [];
  for (const key of new Set([...a.keys(), ...b.keys()])) {
    if (MAY_DIFFER.some((allowed) => key === allowed || key.startsWith(`${allowed}.`))) continue;
    if (a.get(key) !== b.get(key)) lines.push(`${key}: ${a.get(key) ?? 'not set'} -> ${b.get(key) ?? 'not set'}`);
  }
  return lines;
}
