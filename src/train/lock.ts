import { closeSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { isAlive, startOf } from './process-alive.js';

const NAME = 'lock';

/** Who holds a run folder. `start` tells processes of the same number apart (process-alive.ts). */
type Owner = { pid: number; host: string; start?: string };

/** A held lock. */
export type RunLock = { readonly path: string; release(): void };

function parseOwner(text: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, host, start } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 1 || typeof host !== 'string') return undefined;
    return typeof start === 'string' ? { pid, host, start } : { pid, host };
  } catch {
    return undefined;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(error, path, 'reading the lock');
  }
}

/** Creates the lock with its content at once, by a link; where the file system has none, by exclusive creation. False: it exists. */
function create(path: string, text: string): boolean {
  const draft = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(draft, text);
    try {
      linkSync(draft, path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EEXIST') return false;
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS' && code !== 'EMLINK') throw error;
      const fd = openSync(path, 'wx');
      writeSync(fd, text);
      closeSync(fd);
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw fileError(error, path, 'creating the lock');
  } finally {
    rmSync(draft, { force: true });
  }
}

function isStale(owner: Owner, host: string): boolean {
  if (owner.host !== host) return false; // another machine's processes cannot be seen from here
  if (!isAlive(owner.pid)) return true;
  const start = startOf(owner.pid);
  return owner.start !== undefined && start !== undefined && owner.start !== start;
}

/**
 * Keeps a second trainer out of a run folder. A lock whose process on this host is gone is taken over.
 * @throws ERR_CONFIG naming pid and host of the holder; ERR_FILE, ERR_DISK
 */
export function lockRun(runDir: string): RunLock {
  const path = join(runDir, NAME);
  const host = hostname();
  const text = `${JSON.stringify({ pid: process.pid, host, start: startOf(process.pid) })}\n`;
  // Each round ends in holding the lock, in an error, or in a stale one less; somebody else may be as quick, so a few rounds.
  for (let round = 0; round < 5; round++) {
    if (create(path, text)) {
      return {
        path,
        release() {
          if (read(path) === text) rmSync(path, { force: true });
        },
      };
    }
    const seen = read(path);
    if (seen === undefined) continue; // released in between
    const owner = parseOwner(seen);
    if (owner === undefined) {
      throw new TheiaError('ERR_CONFIG', `${path}: expected a lock with pid and host, got something else`, {
        hint: 'delete it if no trainer runs in this folder',
      });
    }
    if (!isStale(owner, host)) {
      throw new TheiaError(
        'ERR_CONFIG',
        `${runDir}: expected a run folder that is free, got one held by process ${owner.pid} on ${owner.host}`,
        {
          hint: owner.host === host ? 'wait for it, or stop it' : `delete ${path} if that process no longer runs`,
        },
      );
    }
    // Renaming takes exactly one file: if another trainer replaced the stale lock meanwhile, its own goes back.
    const taken = `${path}.${process.pid}.stale`;
    try {
      renameSync(path, taken);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw fileError(error, path, 'taking over the lock');
    }
    if (read(taken) !== seen) {
      try {
        linkSync(taken, path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError(error, path, 'giving back the lock');
      }
    }
    rmSync(taken, { force: true });
  }
  throw new TheiaError(
    'ERR_CONFIG',
    `${runDir}: expected a run folder that is free, got one that other trainers are taking at the same time`,
  );
}
