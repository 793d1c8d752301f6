import {
  closeSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';
import { TheiaError, fileError } from '../errors.js';

/** One read or write call to the system moves at most this much: libuv takes lengths as a signed 32-bit number. */
const MAX_CALL = 1 << 30;

/** Bytes with a length that can be read at any place: a file or memory. `label` stands in every message about it. */
export interface ByteSource {
  readonly label: string;
  readonly size: number;
  /** Own memory, starting at an address good for any element type. `what` names the part in messages. */
  read(offset: number, length: number, what: string): Uint8Array;
}

/** Own zeroed memory, or ERR_OOM saying what it was for. */
export function allocate(length: number, label: string, what: string): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new TheiaError('ERR_OOM', `${label}: no memory for ${what} of ${length} bytes`, { cause: error });
  }
}

/**
 * Reads exactly `length` bytes at `offset`, whatever the size of the file.
 * @throws ERR_CORRUPT when the file ends before (it was cut after it was opened), ERR_FILE or ERR_DISK when the system says no
 */
export function readAt(fd: number, offset: number, length: number, label: string, what: string): Uint8Array {
  const out = allocate(length, label, what);
  let done = 0;
  while (done < length) {
    let got: number;
    try {
      got = readSync(fd, out, done, Math.min(MAX_CALL, length - done), offset + done);
    } catch (error) {
      throw fileError(error, label, `reading ${what} of`);
    }
    if (got === 0)
      throw new TheiaError('ERR_CORRUPT', `${label}: ${what} needs ${length} bytes at ${offset}, the file ended after ${done}`);
    done += got;
  }
  return out;
}

/** A regular file, read by position into own memory (never mapped: a mapped file that somebody cuts kills the process). */
export class FileSource implements ByteSource {
  readonly label: string;
  readonly size: number;
  #fd: number;

  /** @throws ERR_FILE when there is no such file, it cannot be read, or it is a folder, a pipe or a device */
  constructor(path: string) {
    this.label = path;
    let fd: number | undefined;
    let stats: Stats;
    try {
      // Opening a pipe waits for its writer, so the kind of file is asked for before, and once more behind the open.
      stats = statSync(path);
      if (stats.isFile()) {
        fd = openSync(path, 'r');
        stats = fstatSync(fd);
      }
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      throw fileError(error, path, 'opening');
    }
    if (fd === undefined || !stats.isFile()) {
      if (fd !== undefined) closeSync(fd);
      throw new TheiaError(
        'ERR_FILE',
        `${path}: expected a regular file, it is ${stats.isDirectory() ? 'a folder' : 'a pipe or a device'}`,
      );
    }
    this.#fd = fd;
    this.size = stats.size;
  }

  /** The open file descriptor; it belongs to this object. */
  get fd(): number {
    if (this.#fd < 0) throw new TheiaError('ERR_DISPOSED', `${this.label}: the file was closed before it was read`);
    return this.#fd;
  }

  read(offset: number, length: number, what: string): Uint8Array {
    return readAt(this.fd, offset, length, this.label, what);
  }

  /** May be called twice. */
  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** Bytes that are in memory already. Reads are copies, so that they are aligned and outlive the buffer. */
export class MemorySource implements ByteSource {
  readonly label: string;
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, label: string) {
    this.label = label;
    this.size = bytes.byteLength;
    this.#bytes = bytes;
  }

  read(offset: number, length: number, what: string): Uint8Array {
    // A detached buffer has length 0 by now: the length is read again at every call.
    if (offset + length > this.#bytes.byteLength) {
      throw new TheiaError('ERR_CORRUPT', `${this.label}: ${what} needs ${length} bytes at ${offset}, there are ${this.#bytes.byteLength}`);
    }
    const out = allocate(length, this.label, what);
    out.set(this.#bytes.subarray(offset, offset + length));
    return out;
  }
}

/** Writes all of `data` at the file's current position. @throws ERR_DISK on a full or failing disk, else ERR_FILE */
export function writeAll(fd: number, data: ArrayBufferView, label: string): void {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let done = 0;
  try {
    while (done < bytes.length) done += writeSync(fd, bytes, done, Math.min(MAX_CALL, bytes.length - done));
  } catch (error) {
    throw fileError(error, label, 'writing');
  }
}

/** Makes the name of a new or renamed file in `folder` survive a power cut. */
export function syncFolder(folder: string): void {
  try {
    const fd = openSync(folder, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw fileError(error, folder, 'syncing');
  }
}

/**
 * Writes a file whole or not at all: into a temporary file beside it, which is then renamed; on any error it is removed and the old file stays.
 * A path that is a pipe or a device is written to directly.
 * @param body calls `write` as often as it likes
 * @param options.fsync wait until the bytes and the name are on the disk
 */
export function writeFileWhole(
  path: string,
  body: (write: (data: ArrayBufferView) => void) => void,
  options: { fsync?: boolean } = {},
): void {
  let target = path;
  let direct = false;
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    if (old !== undefined) {
      target = realpathSync(path);
      direct = !old.isFile();
    }
  } catch (error) {
    throw fileError(error, path, 'writing');
  }
  const temporary = direct ? target : `${target}.tmp-${process.pid}`;
  let fd = -1;
  try {
    fd = openSync(temporary, 'w');
    body((data) => writeAll(fd, data, path));
    if (options.fsync) fsyncSync(fd);
    closeSync(fd);
    fd = -1;
    if (!direct) renameSync(temporary, target);
    if (!direct && options.fsync) syncFolder(dirname(target));
  } catch (error) {
    const opened = fd >= 0;
    if (opened) closeSync(fd);
    if (!direct) rmSync(temporary, { force: true });
    // What the body threw by itself (not a system call) is its caller's business.
    throw error instanceof Error && 'syscall' in error ? fileError(error, path, 'writing') : error;
  }
}
