import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { writeFileWhole } from '../formats/file.js';
import { describeBytes, imageFormat } from './image.js';

/** A photo below a folder: its path relative to it ('/' between the parts) and the SHA-256 of its bytes in hex. */
export interface SourceImage {
  path: string;
  sha256: string;
}

export interface Listing {
  /** Relative paths, sorted by their UTF-8 bytes. */
  images: string[];
  /** What was passed over, and why. */
  skipped: { path: string; reason: string }[];
}

/**
 * Lists the JPEG, PNG and WebP files below a folder, recursively, recognised by their first bytes.
 * Symbolic links are not followed (a link inside the folder names a file that is listed anyway, one out of it is not the folder's);
 * they and files of other kinds are reported in `skipped`.
 * @throws ERR_FILE if the folder or a file in it cannot be read
 */
export async function listImages(root: string): Promise<Listing> {
  const images: string[] = [];
  const skipped: Listing['skipped'] = [];
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const entries = await readdir(join(root, folder), { withFileTypes: true }).catch((error: unknown) => {
      throw fileError(error, join(root, folder!), 'listing');
    });
    for (const entry of entries) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.name.includes('\ufffd')) skipped.push({ path, reason: 'the file name is not UTF-8' });
      else if (entry.isSymbolicLink()) skipped.push({ path, reason: 'a symbolic link' });
      else if (entry.isDirectory()) folders.push(path);
      else if (!entry.isFile()) skipped.push({ path, reason: 'not a regular file' });
      else {
        const start = await readStart(join(root, path));
        if (imageFormat(start)) images.push(path);
        else skipped.push({ path, reason: `not JPEG, PNG or WebP but ${describeBytes(start)}` });
      }
    }
  }
  return { images: images.sort(compareBytes), skipped: skipped.sort((a, b) => compareBytes(a.path, b.path)) };
}

/** Order by UTF-8 bytes; JavaScript's own `<` orders by UTF-16 units, which puts emoji before U+E000..U+FFFF. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

async function readStart(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path, 'r');
    try {
      const bytes = new Uint8Array(16);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      return bytes.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(error, path, 'reading');
  }
}

/** SHA-256 of a file in hex, read in pieces. @throws ERR_FILE */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  } catch (error) {
    throw fileError(error, path, 'reading');
  }
  return hash.digest('hex');
}

/** Keeps the first of every content, in the order given. `duplicates` says which kept path each dropped one equals. */
export function removeDuplicates(images: readonly SourceImage[]): { kept: SourceImage[]; duplicates: { path: string; of: string }[] } {
  const first = new Map<string, string>();
  const kept: SourceImage[] = [];
  const duplicates: { path: string; of: string }[] = [];
  for (const image of images) {
    const of = first.get(image.sha256);
    if (of !== undefined) duplicates.push({ path: image.path, of });
    else {
      first.set(image.sha256, image.path);
      kept.push(image);
    }
  }
  return { kept, duplicates };
}

/** The key a path asks for: without extension, every character outside [A-Za-z0-9_-] replaced by `_`. */
export function pathKey(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  const stem = dot > 0 ? path.slice(0, path.length - name.length + dot) : path;
  return stem.replace(/[^A-Za-z0-9_-]/gu, '_');
}

/** The sample key of view k of an image; view 0 carries the image's own key. */
export function viewKey(key: string, k: number): string {
  return k === 0 ? key : `${key}-view${k}`;
}

/**
 * Gives every image its key: {@link pathKey}, and where two images (or views of theirs) would share one, the first 8 hex digits of the
 * content's SHA-256 are appended to all of them, so that the keys do not depend on the order of listing. Should even that be taken,
 * more digits are.
 * @param views how many views each image is stored in
 * @returns one key for each image, in order; they and all their view keys differ
 */
export function assignKeys(images: readonly SourceImage[], views = 1): string[] {
  const wanted = images.map((image) => pathKey(image.path));
  for (let digits = 0; ; digits = digits === 0 ? 8 : digits * 2) {
    const owner = new Map<string, number>();
    const clashing = new Set<number>();
    wanted.forEach((key, i) => {
      for (let k = 0; k < views; k++) {
        const other = owner.get(viewKey(key, k));
        if (other === undefined) owner.set(viewKey(key, k), i);
        else clashing.add(i).add(other);
      }
    });
    if (clashing.size === 0) return wanted;
    if (digits >= 64) throw new TheiaError('ERR_ARGS', 'two images have the same content and key', { hint: 'remove duplicates first' });
    const next = digits === 0 ? 8 : digits * 2;
    for (const i of clashing) wanted[i] = pathKey(images[i].path) + images[i].sha256.slice(0, next);
  }
}

/** One line of keys.jsonl: which photo a sample was made from. */
export interface KeyRecord {
  key: string;
  path: string;
  /** Of the photo's file, so views of one photo share it. */
  sha256: string;
  split: string;
  /** Number of the view; absent means 0, the whole photo. */
  view?: number;
}

/** Writes `<dataset>/keys.jsonl`, whole or not at all. @throws ERR_DISK, ERR_FILE */
export async function writeKeys(file: string, records: readonly KeyRecord[]): Promise<void> {
  await mkdir(dirname(file), { recursive: true }).catch((error: unknown) => {
    throw fileError(error, dirname(file), 'creating');
  });
  const lines = records.map(({ key, path, sha256, split, view }) => `${JSON.stringify({ key, path, sha256, split, view })}\n`);
  writeFileWhole(file, (write) => write(Buffer.from(lines.join(''))), { fsync: true });
}

/** Reads keys.jsonl; null if there is none. @throws ERR_CORRUPT naming the line */
export async function readKeys(file: string): Promise<KeyRecord[] | null> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw fileError(error, file, 'reading');
  });
  if (text === null) return null;
  const records: KeyRecord[] = [];
  text.split('\n').forEach((line, i) => {
    if (line === '') return;
    const record = parseJson(line) as Partial<Record<keyof KeyRecord, unknown>> | null;
    const { key, path, sha256, split, view } = record ?? {};
    const viewOk = view === undefined || (Number.isInteger(view) && (view as number) >= 0);
    if (!viewOk || typeof key !== 'string' || typeof path !== 'string' || typeof sha256 !== 'string' || typeof split !== 'string') {
      throw new TheiaError('ERR_CORRUPT', `${file}: line ${i + 1} is not {"key", "path", "sha256", "split"}`);
    }
    records.push(view === undefined ? { key, path, sha256, split } : { key, path, sha256, split, view: view as number });
  });
  return records;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
