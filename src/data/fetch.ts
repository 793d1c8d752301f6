import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { writeFileWhole } from '../formats/file.js';
import { cacheFolder, type PinnedPackage } from './packages.js';
import { unpackTarball, type UnpackedFile } from './unpack.js';

/** The registry did not answer: no fault of the pin, so a check that needs the package may be skipped, saying so. */
export class RegistryUnreachableError extends TheiaError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super('ERR_FILE', message, { ...options, hint: 'the package comes from the npm registry; see `npm config get registry`' });
  }
}

export interface FetchOptions {
  /** Default {@link cacheFolder}. */
  cache?: string;
  /** Puts the package's tarball into a folder; default `npm pack`. */
  pack?: (spec: string, folder: string) => Promise<void>;
  /** Told once before something is fetched. */
  onFetch?: (spec: string) => void;
}

/** What says that a folder of the cache is whole. */
interface Marker {
  format: 1;
  integrity: string;
  files: UnpackedFile[];
}

const MARKER = 'theia-fetched.json';

/**
 * The folder of a fetched package (npm puts the files into `package/` below it). If the cache does not hold it whole, it is fetched by
 * `npm pack --ignore-scripts`, checked against the pinned hash, and unpacked by our own reader; it is neither installed nor run.
 * @throws RegistryUnreachableError (ERR_FILE) if the registry does not answer; ERR_CORRUPT if the hash is another one, the tarball is then
 * deleted; ERR_FILE if npm fails otherwise; ERR_DISK
 */
export async function fetchPackage(pin: PinnedPackage, options: FetchOptions = {}): Promise<string> {
  const { cache = cacheFolder(), pack = npmPack, onFetch } = options;
  const spec = `${pin.name}@${pin.version}`;
  const packages = join(cache, 'packages');
  const target = join(packages, `${pin.name.replaceAll('/', '+')}-${pin.version}`);
  if (await isWhole(target, pin.integrity)) return target;
  onFetch?.(spec);
  let work = '';
  try {
    await mkdir(packages, { recursive: true });
    work = await mkdtemp(join(packages, '.fetch-'));
    await pack(spec, work);
    const tarball = await onlyTarball(work, spec);
    await checkIntegrity(tarball, pin.integrity, spec);
    const folder = join(work, 'unpacked');
    await mkdir(folder);
    const files = await unpackTarball(tarball, folder);
    const marker: Marker = { format: 1, integrity: pin.integrity, files };
    writeFileWhole(join(folder, MARKER), (write) => write(Buffer.from(JSON.stringify(marker))), { fsync: true });
    await moveInto(folder, target, join(work, 'old'), pin.integrity);
  } catch (error) {
    throw error instanceof Error && 'syscall' in error ? fileError(error, target, 'fetching into') : error;
  } finally {
    if (work !== '') await rm(work, { recursive: true, force: true });
  }
  return target;
}

/** Whether a folder holds every file of the package in its size. Contents are not hashed again: the cache is the user's own. */
async function isWhole(folder: string, integrity: string): Promise<boolean> {
  let marker: Partial<Marker> | null;
  try {
    marker = JSON.parse(await readFile(join(folder, MARKER), 'utf8')) as Partial<Marker> | null;
  } catch {
    return false;
  }
  if (marker?.format !== 1 || marker.integrity !== integrity || !Array.isArray(marker.files)) return false;
  return marker.files.every((file: Partial<UnpackedFile> | null) => {
    if (typeof file?.path !== 'string') return false;
    const stats = statSync(join(folder, file.path), { throwIfNoEntry: false });
    return stats !== undefined && stats.isFile() && stats.size === file.size;
  });
}

/** Renames the new folder into its place. Another process may have done the same meanwhile; its result is as good. */
async function moveInto(folder: string, target: string, aside: string, integrity: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await rename(folder, target);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (attempt > 2 || (code !== 'ENOTEMPTY' && code !== 'EEXIST')) throw error;
    }
    if (await isWhole(target, integrity)) return;
    await rename(target, `${aside}-${attempt}`).catch(() => undefined);
  }
}

async function onlyTarball(folder: string, spec: string): Promise<string> {
  const names = await readdir(folder);
  if (names.length !== 1 || !names[0].endsWith('.tgz')) {
    throw new TheiaError('ERR_FILE', `npm pack ${spec}: expected one tarball, got ${names.length === 0 ? 'none' : names.join(', ')}`);
  }
  return join(folder, names[0]);
}

async function checkIntegrity(tarball: string, integrity: string, spec: string): Promise<void> {
  const hash = createHash('sha512');
  for await (const piece of createReadStream(tarball)) hash.update(piece as Buffer);
  const got = `sha512-${hash.digest('base64')}`;
  if (got === integrity) return;
  await rm(tarball, { force: true });
  throw new TheiaError('ERR_CORRUPT', `${spec}: expected a tarball with the hash ${integrity}, got ${got}; it was deleted`);
}

/** Error codes of npm that mean: nobody there, as opposed to an answer we do not like. */
const UNREACHABLE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ECONNABORTED|ETIMEDOUT|ESOCKETTIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENETDOWN|ERR_SOCKET_TIMEOUT|FETCH_ERROR|ENOTCACHED|E5\d\d)\b/;

/** Whether what npm wrote to stderr means that the registry did not answer. */
export function isUnreachable(stderr: string): boolean {
  return UNREACHABLE.test(/npm (?:error|ERR!) code (\S+)/.exec(stderr)?.[1] ?? '');
}

/** `npm pack` into a folder. @throws RegistryUnreachableError, or ERR_FILE with what npm said */
async function npmPack(spec: string, folder: string): Promise<void> {
  const flags = ['--ignore-scripts', '--loglevel=error', '--fetch-retries=1', '--fetch-retry-mintimeout=1000'];
  const { status, text } = await run('npm', ['pack', spec, '--pack-destination', folder, ...flags]);
  if (status === 0) return;
  const said = text.trim().split('\n').slice(0, 3).join('; ').slice(0, 400);
  if (isUnreachable(text)) throw new RegistryUnreachableError(`npm pack ${spec}: the registry cannot be reached: ${said}`);
  throw new TheiaError('ERR_FILE', `npm pack ${spec} ended with ${status ?? 'a signal'}: ${said}`);
}

function run(program: string, flags: readonly string[]): Promise<{ status: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.on('data', (piece: Buffer) => {
      if (text.length < 1 << 16) text += piece.toString();
    });
    child.on('error', (error) => reject(new TheiaError('ERR_FILE', `${program} does not start: ${error.message}`, { cause: error })));
    child.on('close', (status) => resolve({ status, text }));
  });
}
