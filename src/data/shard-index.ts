import { readFileSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { writeFileWhole } from '../formats/file.js';
import { indexTar } from '../formats/tar.js';
import { sidecarPath } from './shards.js';

/** A member of a shard: bytes [offset, offset + size) of the tar file. */
export interface ShardMember {
  name: string;
  offset: number;
  size: number;
}

/** The cached form, in columns: a million members parse several times faster than as objects. */
interface CachedIndex {
  format: 1;
  /** Of the tar file; the time in nanoseconds as text, since it does not fit a number. */
  size: number;
  mtime: string;
  names: string[];
  offsets: number[];
  sizes: number[];
}

/**
 * The members of a shard. The first time the tar file is walked, header by header; the result is kept beside the dataset and used as
 * long as the tar has the same size and time. A folder that cannot be written to only costs the walk each time.
 * @throws ERR_FILE, ERR_CORRUPT naming the shard and member
 */
export async function indexShard(path: string): Promise<ShardMember[]> {
  const cache = sidecarPath(path, '.index.json');
  const before = stamp(path);
  const known = readCache(cache, before);
  if (known !== null) return known;
  const members = indexTar(path);
  // Only cached if nobody wrote to it meanwhile, else the old walk would pass for the new file's.
  const after = stamp(path);
  if (after.size !== before.size || after.mtime !== before.mtime) return members;
  const content: CachedIndex = {
    format: 1,
    ...before,
    names: members.map(({ name }) => name),
    offsets: members.map(({ offset }) => offset),
    sizes: members.map(({ size }) => size),
  };
  try {
    await mkdir(dirname(cache), { recursive: true });
    writeFileWhole(cache, (write) => write(Buffer.from(JSON.stringify(content))));
  } catch {
    // A dataset on a read-only disk is a normal thing.
  }
  return members;
}

function stamp(path: string): { size: number; mtime: string } {
  try {
    const stats = statSync(path, { bigint: true });
    return { size: Number(stats.size), mtime: String(stats.mtimeNs) };
  } catch (error) {
    throw fileError(error, path, 'opening');
  }
}

/** A cache that does not fit the tar, or is not one, is no cache: it comes from a folder that others may write to. */
function readCache(cache: string, { size, mtime }: { size: number; mtime: string }): ShardMember[] | null {
  let content: Partial<CachedIndex> | null;
  try {
    content = JSON.parse(readFileSync(cache, 'utf8')) as Partial<CachedIndex> | null;
  } catch {
    return null;
  }
  if (content === null || content.format !== 1 || content.size !== size || content.mtime !== mtime) return null;
  const { names, offsets, sizes } = content;
  if (!Array.isArray(names) || !Array.isArray(offsets) || !Array.isArray(sizes)) return null;
  if (offsets.length !== names.length || sizes.length !== names.length) return null;
  const members: ShardMember[] = [];
  for (let i = 0; i < names.length; i++) {
    const [name, offset, length] = [names[i], offsets[i], sizes[i]];
    if (typeof name !== 'string' || !Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) return null;
    if (offset < 0 || length < 0 || offset + length > size) return null;
    members.push({ name, offset, size: length });
  }
  return members;
}

/**
 * Cuts a member's name into the sample's key, which ends at the first dot of the file name, and the extension behind it, lower-cased.
 * A leading `./` is dropped, folders stay part of the key. Null for a name without a dot, or beginning with one.
 */
export function splitMemberName(name: string): { key: string; extension: string } | null {
  const path = name.startsWith('./') ? name.slice(2) : name;
  const file = path.lastIndexOf('/') + 1;
  const dot = path.indexOf('.', file);
  if (dot <= file) return null;
  return { key: path.slice(0, dot), extension: path.slice(dot + 1).toLowerCase() };
}

/** A member larger than this is not read: no sample of a dataset comes near, and the size is only a number in a file. */
const MAX_MEMBER = 1 << 30;

/** @throws ERR_CORRUPT if a member is too large to be a sample's */
export function checkMemberSize(size: number, label: string): void {
  if (size > MAX_MEMBER) throw new TheiaError('ERR_CORRUPT', `${label}: ${size} bytes, a sample's file has at most ${MAX_MEMBER}`);
}
