import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { SafetensorsFile, parseJson, writeSafetensors } from '../formats/index.js';
import { completeConfig } from './config-complete.js';
import { parseModelConfig } from './config.js';
import type { ModelConfig, PartialModelConfig } from './config.js';
import { Theia } from './theia.js';
import type { TheiaOptions } from './theia.js';

export interface ModelFiles {
  /** the safetensors file */
  weights: string;
  /** the model config, if there is one */
  config: string | undefined;
}

/** A safetensors file, or a folder with model.safetensors and config.json as on the hub. */
export function modelFiles(path: string, config?: string): ModelFiles {
  let folder: boolean;
  try {
    folder = statSync(path).isDirectory();
  } catch (error) {
    throw fileError(error, path, 'expected weights at');
  }
  if (!folder) return { weights: path, config };
  const beside = join(path, 'config.json');
  return {
    weights: join(path, 'model.safetensors'),
    config: config ?? (statSync(beside, { throwIfNoEntry: false })?.isFile() ? beside : undefined),
  };
}

/** Reads a model config in any dialect that is understood (contract.md, encode). */
export function readModelConfig(path: string): PartialModelConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fileError(error, path, 'reading the model config');
  }
  let json: unknown;
  try {
    parseJson(text, path); // JSON.parse keeps the last of two equal keys without a word
    json = JSON.parse(text);
  } catch (error) {
    if (error instanceof TheiaError) throw error;
    throw new TheiaError('ERR_CORRUPT', `${path}: expected JSON: ${(error as Error).message}`);
  }
  return parseModelConfig(json);
}

/**
 * Builds the model that a checkpoint holds and loads it. What the config does not say is read off the tensors.
 * @throws ERR_CORRUPT naming missing, extra and mis-shaped keys; ERR_CONFIG where config and tensors contradict each other
 */
export function loadTheia(path: string, options: TheiaOptions & { config?: string } = {}): Theia {
  const files = modelFiles(path, options.config);
  const partial = files.config === undefined ? {} : readModelConfig(files.config);
  using file = SafetensorsFile.open(files.weights);
  const shapes = new Map(file.names().map((n) => [n, [...file.info(n).shape]]));
  const config = completeConfig(partial, shapes);
  const model = new Theia(config, { ...options, initialise: false });
  try {
    loadWeights(model, file, files.weights);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model;
}

/** Names in a message: a few, then how many more. */
function some(names: readonly string[]): string {
  return names.length <= 5 ? names.join(', ') : `${names.slice(0, 5).join(', ')} and ${names.length - 5} more`;
}

/**
 * Fills a model from a checkpoint with the original's key names.
 * @param only 'backbone' takes the backbone's tensors alone (DeiT checkpoints, transfer), whatever else the file holds
 * @throws ERR_CORRUPT that lists missing, extra and mis-shaped keys
 */
export function loadWeights(model: Theia, file: SafetensorsFile, label: string, only?: 'backbone'): void {
  const { arena } = model;
  const wanted = arena.segments.filter((s) => only !== 'backbone' || s.key.startsWith('backbone.'));
  const missing = wanted.filter((s) => !file.has(s.key)).map((s) => s.key);
  const extra = only ? [] : file.names().filter((n) => !arena.segment(n));
  const misshaped = wanted
    .filter((s) => file.has(s.key) && file.info(s.key).shape.join() !== s.fileShape.join())
    .map((s) => `${s.key}: expected [${s.fileShape.join(',')}], got [${file.info(s.key).shape.join(',')}]`);
  const faults = [
    ...(missing.length ? [`missing ${some(missing)}`] : []),
    ...(extra.length ? [`not of this model ${some(extra)}`] : []),
    ...(misshaped.length ? [`mis-shaped ${some(misshaped)}`] : []),
  ];
  if (faults.length > 0) throw new TheiaError('ERR_CORRUPT', `${label}: the tensors are not those of the model: ${faults.join('; ')}`);
  for (const s of wanted) arena.load(s.key, file.float32(s.key));
}

/** How the backbone's tensors are called in files that may start a student: ours, and DeiT or ViT as Hugging Face saves them. */
const BACKBONE_PREFIXES = ['backbone.model.', 'deit.', 'vit.', ''];

/**
 * Starts a model from a Theia checkpoint (the translators too, where all of them are there in the right shape) or from a DeiT/ViT one.
 * @throws ERR_CORRUPT naming what of the backbone is missing or mis-shaped
 */
export function loadInitialWeights(model: Theia, path: string): void {
  const { weights } = modelFiles(path);
  using file = SafetensorsFile.open(weights);
  const ours = 'backbone.model.';
  const prefix = BACKBONE_PREFIXES.find((p) => file.has(`${p}embeddings.position_embeddings`));
  if (prefix === undefined)
    throw new TheiaError('ERR_CORRUPT', `${weights}: expected the weights of a Theia, DeiT or ViT model, got ${some(file.names())}`);
  const { arena } = model;
  const nameOf = (key: string): string => (key.startsWith(ours) ? prefix + key.slice(ours.length) : key);
  const fits = (key: string, shape: readonly number[]): boolean =>
    file.has(nameOf(key)) && file.info(nameOf(key)).shape.join() === shape.join();
  const backbone = arena.segments.filter((s) => s.key.startsWith(ours));
  const faults = backbone
    .filter((s) => !fits(s.key, s.fileShape))
    .map(
      (s) =>
        `${nameOf(s.key)}: expected [${s.fileShape.join(',')}], got ${file.has(nameOf(s.key)) ? `[${file.info(nameOf(s.key)).shape.join(',')}]` : 'none'}`,
    );
  if (faults.length > 0) throw new TheiaError('ERR_CORRUPT', `${weights}: the backbone's tensors do not fit: ${some(faults)}`);
  const rest = arena.segments.filter((s) => !s.key.startsWith(ours));
  const all = rest.every((s) => fits(s.key, s.fileShape));
  for (const s of all ? arena.segments : backbone) arena.load(s.key, file.float32(nameOf(s.key)));
}

/** Writes a model's values under the original's key names, shapes and layouts, float32. */
export function saveWeights(model: Theia, path: string, metadata: Record<string, string> = {}): void {
  const { arena } = model;
  writeSafetensors(
    path,
    arena.segments.map((s) => ({ name: s.key, dtype: 'F32' as const, shape: [...s.fileShape], data: () => arena.export(s.key) })),
    { format: 'pt', ...metadata },
    { fsync: true },
  );
}

/** The model config beside a checkpoint, in contract.md's keys. */
export function configJson(c: ModelConfig): Record<string, unknown> {
  return {
    hidden: c.hidden,
    depth: c.depth,
    heads: c.heads,
    mlp: c.mlp,
    patch: c.patch,
    image: c.image,
    tokens: c.tokens,
    registers: c.registers,
    eps: c.eps,
    translator: c.translator,
    hidden_size_factor: c.hiddenSizeFactor,
    translator_hidden: c.translatorHidden,
    mlp_layers: c.mlpLayers,
    decoder_layers: c.decoderLayers,
    decoder_heads: c.decoderHeads,
    teachers: Object.fromEntries(c.teachers),
  };
}

/** Where a message says the model came from. */
export function modelLabel(path: string): string {
  return basename(path) === 'model.safetensors' ? basename(dirname(path)) : basename(path);
}
