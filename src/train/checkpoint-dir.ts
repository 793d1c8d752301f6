import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, type Dirent } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { syncFolder } from '../formats/file.js';
import { isAlive } from './process-alive.js';

const FOLDER = 'checkpoints';
const FILES = ['model.safetensors', 'optimizer.safetensors', 'state.json'] as const;
const STATE_FORMAT = 1;
const LARGEST_STATE = 1 << 24;

/** One complete checkpoint of a run. */
export type Checkpoint = { path: string; step: number };

function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

function stepOf(name: string): number | undefined {
  const match = /^step-(\d{8,15})$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

function entries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError(error, folder, 'listing');
  }
}

/**
 * Reads a checkpoint's state.json.
 * @throws ERR_CORRUPT naming the file that is missing or not what it should be
 */
export function readCheckpointState(path: string): Record<string, unknown> {
  for (const name of FILES) {
    const info = statSync(join(path, name), { throwIfNoEntry: false });
    if (info === undefined || !info.isFile() || info.size === 0) {
      throw new TheiaError('ERR_CORRUPT', `${path}: expected a checkpoint with ${FILES.join(', ')}, got no ${name}`);
    }
    if (name === 'state.json' && info.size > LARGEST_STATE) {
      throw new TheiaError('ERR_CORRUPT', `${join(path, name)}: expected at most ${LARGEST_STATE} bytes, got ${info.size}`);
    }
  }
  const file = join(path, 'state.json');
  let state: unknown;
  try {
    state = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) throw new TheiaError('ERR_CORRUPT', `${file}: expected JSON: ${error.message}`, { cause: error });
    throw fileError(error, file, 'reading');
  }
  const format =
    typeof state === 'object' && state !== null && Object.hasOwn(state, 'format') ? (state as { format: unknown }).format : undefined;
  if (format !== STATE_FORMAT)
    throw new TheiaError('ERR_CORRUPT', `${file}: expected "format": ${STATE_FORMAT}, got ${JSON.stringify(format)}`);
  return state as Record<string, unknown>;
}

function isComplete(path: string): boolean {
  try {
    readCheckpointState(path);
    return true;
  } catch {
    return false;
  }
}

/** Complete checkpoints of a run, oldest first. */
export function listCheckpoints(runDir: string): Checkpoint[] {
  const folder = join(runDir, FOLDER);
  const found: Checkpoint[] = [];
  for (const entry of entries(folder)) {
    const step = stepOf(entry.name);
    if (step !== undefined && entry.isDirectory() && isComplete(join(folder, entry.name)))
      found.push({ path: join(folder, entry.name), step });
  }
  return found.sort((a, b) => a.step - b.step);
}

/** The complete checkpoint of the highest step, if there is one. */
export function newestCheckpoint(runDir: string): Checkpoint | undefined {
  return listCheckpoints(runDir).at(-1);
}

/**
 * Finds what `--resume DIR` means.
 * @param dir a run folder (its newest complete checkpoint) or one checkpoint
 * @returns the run folder too, where the checkpoint lies in one; a checkpoint copied elsewhere has none
 * @throws ERR_FILE when there is nothing, ERR_CORRUPT when the checkpoint named is not whole
 */
export function resolveResume(dir: string): Checkpoint & { runDir: string | undefined } {
  const path = resolve(dir);
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw new TheiaError('ERR_FILE', `--resume: expected a folder, got none at ${dir}`);
  const step = stepOf(basename(path));
  const isOne = step !== undefined || FILES.some((name) => statSync(join(path, name), { throwIfNoEntry: false }) !== undefined);
  if (isOne) {
    const state = readCheckpointState(path);
    const inRun = step !== undefined && basename(dirname(path)) === FOLDER;
    const written = Object.hasOwn(state, 'step') ? state.step : undefined;
    const own = step ?? (typeof written === 'number' && Number.isSafeInteger(written) && written >= 0 ? written : undefined);
    if (own === undefined)
      throw new TheiaError('ERR_CORRUPT', `${join(path, 'state.json')}: expected a step, got ${JSON.stringify(written)}`);
    return { path, step: own, runDir: inRun ? dirname(dirname(path)) : undefined };
  }
  const newest = newestCheckpoint(path);
  if (newest !== undefined) return { ...newest, runDir: path };
  throw new TheiaError('ERR_FILE', `--resume: expected a run folder with a complete checkpoint, got ${dir} without one`, {
    hint: `a complete one is ${FOLDER}/step-NNNNNNNN with ${FILES.join(', ')}; a run that ended before its first one starts anew in another output, or here once the folder is deleted`,
  });
}

/** Moves a folder out of its name first, so that a half-deleted one is never taken for a checkpoint. */
function remove(path: string): void {
  const away = join(dirname(path), `.tmp-gone-${basename(path)}-${process.pid}`);
  rmSync(away, { recursive: true, force: true });
  renameSync(path, away);
  rmSync(away, { recursive: true, force: true });
}

/**
 * Deletes what dead processes left: temporary folders. A checkpoint that was set aside to be replaced (`.old-`) goes back to its
 * name if the new one never came.
 */
export function cleanStale(runDir: string): void {
  const folder = join(runDir, FOLDER);
  for (const entry of entries(folder)) {
    const match = /^\.(tmp|old)-(.*)-(\d+)$/.exec(entry.name);
    if (match === null) continue;
    const pid = Number(match[3]);
    // Only one trainer owns a run (lock.ts), and it never calls this in the middle of a write: its own number means an earlier life.
    if (pid !== process.pid && isAlive(pid)) continue;
    const path = join(folder, entry.name);
    try {
      const home = join(folder, match[2]);
      if (match[1] === 'old' && statSync(home, { throwIfNoEntry: false }) === undefined) renameSync(path, home);
      else rmSync(path, { recursive: true, force: true });
    } catch (error) {
      throw fileError(error, path, 'cleaning up');
    }
  }
}

/** Deletes the checkpoints after a step: a run resumed from an older one takes another way, and the newest must be on it. */
export function discardCheckpointsAfter(runDir: string, step: number): void {
  for (const checkpoint of listCheckpoints(runDir)) {
    if (checkpoint.step <= step) continue;
    try {
      remove(checkpoint.path);
    } catch (error) {
      throw fileError(error, checkpoint.path, 'deleting');
    }
  }
}

/** Syncs every file below a folder, then the folder. */
function syncTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      syncTree(path);
      continue;
    }
    const fd = openSync(path, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
  syncFolder(folder);
}

/**
 * Writes `checkpoints/step-NNNNNNNN/` whole or not at all: into a temporary folder beside it, synced, renamed, parent synced. Then
 * prunes the oldest complete ones down to `keep`.
 * @param write puts model.safetensors, optimizer.safetensors and state.json into the folder it is given
 * @returns the folder
 * @throws ERR_DISK when the disk is full or failing: the temporary folder is gone, older checkpoints stay
 */
export function writeCheckpoint(runDir: string, step: number, write: (tmp: string) => void, options: { keep: number }): string {
  if (!Number.isSafeInteger(step) || step < 0) throw new TheiaError('ERR_ARGS', `checkpoint: expected a step from 0 up, got ${step}`);
  const folder = join(runDir, FOLDER);
  const target = join(folder, folderName(step));
  const temporary = join(folder, `.tmp-${folderName(step)}-${process.pid}`);
  const aside = join(folder, `.old-${folderName(step)}-${process.pid}`);
  cleanStale(runDir);
  try {
    mkdirSync(folder, { recursive: true });
    mkdirSync(temporary);
    write(temporary);
    readCheckpointState(temporary);
    syncTree(temporary);
    const replaces = statSync(target, { throwIfNoEntry: false }) !== undefined;
    if (replaces) renameSync(target, aside);
    renameSync(temporary, target);
    syncFolder(folder);
    if (replaces) rmSync(aside, { recursive: true, force: true });
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (statSync(target, { throwIfNoEntry: false }) === undefined && statSync(aside, { throwIfNoEntry: false }) !== undefined)
      renameSync(aside, target);
    // What the operating system said becomes ERR_DISK or ERR_FILE; a mistake in `write` stays what it is.
    if (error instanceof TheiaError || (error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw fileError(error, target, 'writing the checkpoint');
  }
  prune(runDir, step, options.keep);
  return target;
}

function prune(runDir: string, written: number, keep: number): void {
  const all = listCheckpoints(runDir);
  const spare = all.filter((checkpoint) => checkpoint.step !== written).reverse();
  for (const checkpoint of spare.slice(Math.max(0, keep - 1))) {
    try {
      remove(checkpoint.path);
    } catch (error) {
      throw fileError(error, checkpoint.path, 'deleting');
    }
  }
}
