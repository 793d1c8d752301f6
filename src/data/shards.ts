import { renameSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { syncFolder, writeFileWhole } from '../formats/file.js';
import { TarWriter } from '../formats/tar.js';
import { compareBytes, hashFile } from './keys.js';

/*
 * The dataset folder of the original (model.md, "Data on disk"):
 *   <root>/<dataset>/<column>/<dataset>_<split>-NNNNNN-<split>.tar    column = "images" or a teacher's folder
 *   <root>/<dataset>/splits.json                                      samples in each split
 *   <root>/<dataset>/.shards/<column>/<shard>.json                    ours: the seal of a finished shard
 */

export const IMAGES = 'images';
export const SAMPLES_PER_SHARD = 1000;

/** The folder of a teacher: its name with `/` as `_`. @throws ERR_CONFIG if that is no plain folder name */
export function teacherColumn(teacher: string): string {
  const column = teacher.replaceAll('/', '_');
  checkPart(column, 'teacher');
  if (column === IMAGES)
    throw new TheiaError('ERR_CONFIG', `a teacher cannot be called ${JSON.stringify(teacher)}: that is the images' folder`);
  return column;
}

/** The extension of a column's members, without the first dot. */
export function memberExtension(column: string): string {
  return column === IMAGES ? 'image' : `${column.toLowerCase()}.safetensors`;
}

/** `<root>/<dataset>`. @throws ERR_CONFIG if the dataset's name is no plain folder name */
export function datasetFolder(root: string, dataset: string): string {
  checkPart(dataset, 'dataset');
  return join(root, dataset);
}

function checkPart(name: string, what: string): void {
  if (name === '' || name.startsWith('.') || /[/\\\0]/.test(name)) {
    throw new TheiaError('ERR_CONFIG', `expected the name of a ${what}'s folder, got ${JSON.stringify(name)}`);
  }
}

/** Path of shard number `index` of a column. */
export function shardPath(root: string, dataset: string, column: string, split: string, index: number): string {
  checkPart(split, 'split');
  return join(datasetFolder(root, dataset), column, `${dataset}_${split}-${String(index).padStart(6, '0')}-${split}.tar`);
}

/** All shards `*-<split>.tar` of a column, in order of their names' bytes. @throws ERR_FILE if there are none */
export async function listShards(root: string, dataset: string, column: string, split: string): Promise<string[]> {
  const folder = join(datasetFolder(root, dataset), column);
  const names = await readdir(folder).catch((error: unknown) => {
    throw fileError(error, folder, 'listing');
  });
  const shards = names.filter((name) => name.endsWith(`-${split}.tar`) && !name.startsWith('.')).sort(compareBytes);
  if (shards.length === 0) throw new TheiaError('ERR_FILE', `expected shards ${join(folder, `*-${split}.tar`)}, there are none`);
  return shards.map((name) => join(folder, name));
}

/** Where what we know about a shard is kept: `<dataset>/.shards/<column>/<shard><suffix>`. */
export function sidecarPath(shard: string, suffix: string): string {
  const column = dirname(shard);
  return join(dirname(column), '.shards', basename(column), basename(shard) + suffix);
}

/** Cuts the keys of a split, in their order, into shards. */
export function planShards(keys: readonly string[], samplesPerShard = SAMPLES_PER_SHARD): string[][] {
  if (!Number.isInteger(samplesPerShard) || samplesPerShard < 1) {
    throw new TheiaError('ERR_ARGS', `samples per shard must be a whole number from 1, got ${samplesPerShard}`);
  }
  const shards: string[][] = [];
  for (let i = 0; i < keys.length; i += samplesPerShard) shards.push(keys.slice(i, i + samplesPerShard));
  return shards;
}

/** What a finished shard is known by. */
interface Seal {
  format: 1;
  count: number;
  keys: string[];
  /** SHA-256 of the tar file. */
  sha256: string;
  /** What the shard was made from, in the writer's words. */
  source: string;
}

/**
 * Whether a shard can be taken over on `--resume`: it was finished, holds exactly these keys in this order, was made from the same
 * source and its bytes still have the checksum noted then. Anything else, a damaged note included, is false.
 * @param source as given to {@link writeShard}
 */
export async function isSealed(path: string, keys: readonly string[], source = ''): Promise<boolean> {
  let seal: Partial<Seal> | null;
  try {
    seal = JSON.parse(await readFile(sidecarPath(path, '.json'), 'utf8')) as Partial<Seal> | null;
  } catch {
    return false;
  }
  if (seal === null || seal.format !== 1 || seal.count !== keys.length || seal.source !== source || !Array.isArray(seal.keys)) return false;
  if (seal.keys.length !== keys.length || !keys.every((key, i) => seal.keys![i] === key)) return false;
  return seal.sha256 === (await hashFile(path).catch(() => ''));
}

/** One sample's part of a shard. */
export interface ShardSample {
  key: string;
  bytes: Uint8Array;
}

/**
 * Writes one shard, whole or not at all: into a temporary file, synced, renamed, then sealed for {@link isSealed}. Samples are taken one
 * by one, so only the current one is in memory. The same samples give the same bytes.
 * @param source a line that stands for everything the content depends on (teacher, options, photos); another one makes the shard stale
 * @returns the number of samples
 * @throws ERR_ARGS for a key that is not one or comes twice, ERR_DISK, ERR_FILE, and whatever the samples throw; the old shard then stays
 */
export async function writeShard(
  path: string,
  column: string,
  samples: Iterable<ShardSample> | AsyncIterable<ShardSample>,
  source = '',
): Promise<number> {
  const extension = memberExtension(column);
  const keys = new Set<string>();
  const sealPath = sidecarPath(path, '.json');
  for (const folder of [dirname(path), dirname(sealPath)]) {
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw fileError(error, folder, 'creating');
    });
  }
  const temporary = `${path}.tmp-${process.pid}`;
  const tar = TarWriter.create(temporary);
  try {
    for await (const { key, bytes } of samples) {
      if (!/^[A-Za-z0-9_-]+$/.test(key)) {
        throw new TheiaError('ERR_ARGS', `${path}: a key is made of A-Z, a-z, 0-9, _ and -, got ${JSON.stringify(key)}`);
      }
      if (keys.has(key)) throw new TheiaError('ERR_ARGS', `${path}: two samples have the key ${key}`);
      keys.add(key);
      tar.add(`${key}.${extension}`, bytes);
    }
    tar.finish({ fsync: true });
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    tar.close();
    rmSync(temporary, { force: true });
    throw error instanceof Error && 'syscall' in error ? fileError(error, path, 'writing') : error;
  }
  const seal: Seal = { format: 1, count: keys.size, keys: [...keys], sha256: await hashFile(path), source };
  writeFileWhole(sealPath, (write) => write(Buffer.from(JSON.stringify(seal))), { fsync: true });
  return keys.size;
}

/** Removes shards of ours from `count` on, which a longer earlier run left behind and which would double samples. */
export async function removeShardsFrom(root: string, dataset: string, column: string, split: string, count: number): Promise<string[]> {
  const folder = join(datasetFolder(root, dataset), column);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw fileError(error, folder, 'listing');
  });
  const removed: string[] = [];
  const [start, end] = [`${dataset}_${split}-`, `-${split}.tar`];
  for (const name of names.sort(compareBytes)) {
    const number = name.startsWith(start) && name.endsWith(end) ? name.slice(start.length, -end.length) : '';
    if (!/^\d{6,}$/.test(number) || Number(number) < count) continue;
    const path = join(folder, name);
    try {
      await rm(path);
      for (const suffix of ['.json', '.index.json']) await rm(sidecarPath(path, suffix), { force: true });
    } catch (error) {
      throw fileError(error, path, 'removing');
    }
    removed.push(path);
  }
  return removed;
}

/** Writes `<dataset>/splits.json`: samples in each split. */
export function writeSplits(root: string, dataset: string, counts: ReadonlyMap<string, number>): void {
  const lines = [...counts].map(([split, count]) => `${JSON.stringify(split)}: ${count}`);
  const path = join(datasetFolder(root, dataset), 'splits.json');
  writeFileWhole(path, (write) => write(Buffer.from(`{${lines.join(', ')}}\n`)), { fsync: true });
}

/** Reads splits.json. @throws ERR_FILE, or ERR_CORRUPT if it is not an object of whole numbers */
export async function readSplits(root: string, dataset: string): Promise<Map<string, number>> {
  const path = join(datasetFolder(root, dataset), 'splits.json');
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError(error, path, 'reading');
  });
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    // reported below
  }
  const entries = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? Object.entries(parsed) : null;
  if (!entries?.every(([, count]) => Number.isSafeInteger(count) && (count as number) >= 0)) {
    throw new TheiaError('ERR_CORRUPT', `${path}: expected {"split": count, ...} with whole numbers`);
  }
  return new Map(entries as [string, number][]);
}
