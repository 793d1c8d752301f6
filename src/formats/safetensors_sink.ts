import { closeSync, ftruncateSync, openSync, realpathSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { TheiaError, fileError } from '../errors.js';
import { layOut } from './safetensors.js';
import type { Metadata, TensorToLay } from './safetensors.js';
import { STORED_SIZE } from './stored.js';

/** One write call to the system moves at most this much: libuv takes lengths as a signed 32-bit number. */
const MAX_CALL = 1 << 30;

/**
 * A safetensors file whose tensors are written piece by piece, in any order: results that do not fit into memory at once. It is made
 * beside its place and renamed by `finish`, so that it is there whole or not at all.
 */
export class SafetensorsSink {
  readonly #path: string;
  readonly #target: string;
  readonly #temporary: string;
  readonly #places = new Map<string, { begin: number; length: number; bytes: number }>();
  #fd = -1;

  /** @throws ERR_DISK or ERR_FILE when the system says no, ERR_ARGS for a doubled name, ERR_SHAPE for an impossible shape */
  constructor(path: string, tensors: Iterable<TensorToLay>, metadata?: Metadata) {
    const { order, header, size } = layOut(tensors, metadata, path);
    this.#path = path;
    this.#target = targetOf(path);
    this.#temporary = `${this.#target}.tmp-${process.pid}`;
    let begin = header.length;
    for (const { tensor, length } of order) {
      this.#places.set(tensor.name, { begin, length, bytes: STORED_SIZE.get(tensor.dtype)! });
      begin += length;
    }
    try {
      this.#fd = openSync(this.#temporary, 'w');
      ftruncateSync(this.#fd, size);
    } catch (error) {
      this.abort();
      throw fileError(error, path, 'writing');
    }
    this.#writeAt(header, 0);
  }

  /**
   * Writes values of a tensor from element `at` on.
   * @throws ERR_SHAPE if they do not lie inside it; on any error the file is given up
   */
  write(name: string, at: number, data: ArrayBufferView): void {
    const place = this.#places.get(name);
    const offset = place ? at * place.bytes : 0;
    if (!place || offset < 0 || offset + data.byteLength > place.length) {
      this.abort();
      throw new TheiaError(
        'ERR_SHAPE',
        `${this.#path}: ${data.byteLength} bytes at element ${at} do not lie inside tensor ${JSON.stringify(name)}`,
      );
    }
    this.#writeAt(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), place.begin + offset);
  }

  /** Puts the file into its place. @throws ERR_DISK or ERR_FILE */
  finish(): void {
    this.#live();
    try {
      closeSync(this.#fd);
      this.#fd = -1;
      renameSync(this.#temporary, this.#target);
    } catch (error) {
      this.abort();
      throw fileError(error, this.#path, 'writing');
    }
  }

  /** Removes what was written, unless it is finished. May be called twice. */
  abort(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    rmSync(this.#temporary, { force: true });
  }

  [Symbol.dispose](): void {
    this.abort();
  }

  #live(): void {
    if (this.#fd < 0) throw new TheiaError('ERR_DISPOSED', `${this.#path}: the file was finished or given up before`);
  }

  #writeAt(bytes: Uint8Array, position: number): void {
    this.#live();
    try {
      for (let done = 0; done < bytes.length;)
        done += writeSync(this.#fd, bytes, done, Math.min(MAX_CALL, bytes.length - done), position + done);
    } catch (error) {
      this.abort();
      throw fileError(error, this.#path, 'writing');
    }
  }
}

/** The file behind links. Pieces are written at places, so a pipe will not do. */
function targetOf(path: string): string {
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    if (old === undefined) return path;
    if (!old.isFile())
      throw new TheiaError(
        'ERR_FILE',
        `${path}: expected a regular file to write, it is ${old.isDirectory() ? 'a folder' : 'a pipe or a device'}`,
      );
    return realpathSync(path);
  } catch (error) {
    throw fileError(error, path, 'writing');
  }
}
