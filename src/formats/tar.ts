import { closeSync, fsyncSync, openSync } from 'node:fs';
import { TheiaError, fileError } from '../errors.js';
import { FileSource, readAt, writeAll } from './file.js';
import { decodeUtf8 } from './json.js';
import { BLOCK, corruptTar, encodePaxRecord, encodeTarHeader, isZeroBlock, padded, parsePax, parseTarHeader } from './tar_header.js';

/** A file inside an archive: `size` bytes at `offset` of the archive. */
export interface TarMember {
  name: string;
  offset: number;
  size: number;
}

/** Long names and PAX headers are small; one that is not is an attack on memory. */
const MAX_EXTENSION = 1 << 20;

const REFUSED = new Map([
  ['1', 'a hard link'],
  ['2', 'a symbolic link'],
  ['3', 'a character device'],
  ['4', 'a block device'],
  ['6', 'a fifo'],
  ['S', 'a sparse file'],
  ['D', 'a GNU dump folder'],
  ['M', 'a part of a multi-volume archive'],
]);

/** Why this cannot be the name of a member, or undefined. */
function badName(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.includes('\0')) return 'has a NUL';
  if (name.startsWith('/') || /^[A-Za-z]:[\\/]/.test(name) || name.startsWith('\\')) return 'is absolute';
  if (name.split(/[\\/]/).includes('..')) return 'goes up with ".."';
  return undefined;
}

const withoutDot = (name: string): string => name.replace(/^(?:\.\/+)+/, '');

/** What extension headers said about the member that follows them. */
interface Pending {
  name?: string;
  size?: number;
  /** the record that makes it a sparse file; kept until the member comes, so that the error can name it */
  sparse?: string;
  /** offset of the first extension header, if there was one */
  at?: number;
}

function applyPax(records: ReadonlyMap<string, string>, pending: Pending, label: string, what: string): void {
  for (const [key, value] of records) {
    if (key.startsWith('GNU.sparse.')) pending.sparse = key;
    if (key === 'path' && value !== '') pending.name = value;
    if (key === 'size' && value !== '') {
      const size = /^[0-9]{1,16}$/.test(value) ? Number(value) : NaN;
      if (!Number.isSafeInteger(size)) throw corruptTar(label, `${what} has the impossible size ${JSON.stringify(value.slice(0, 40))}`);
      pending.size = size;
    }
  }
}

/**
 * Lists the files of an archive (plain tar, ustar, GNU long names, PAX) in order. Names lose a leading `./`; folders are skipped. Nothing is unpacked:
 * links, devices, sparse files, absolute names and names with `..` are errors, as is anything cut.
 * @throws ERR_FILE when the archive cannot be read, ERR_CORRUPT naming archive and member
 */
export function indexTar(path: string): TarMember[] {
  const file = new FileSource(path);
  try {
    return indexMembers(file);
  } finally {
    file.close();
  }
}

function indexMembers(file: FileSource): TarMember[] {
  const { label, size: total } = file;
  const members: TarMember[] = [];
  let pending: Pending = {};
  let at = 0;
  if (total === 0) throw corruptTar(label, 'a tar file has at least one block of 512 bytes, this is empty');
  while (at < total) {
    if (at + BLOCK > total) throw corruptTar(label, `the archive is cut inside the header at ${at}, after ${lastOf(members)}`);
    const block = file.read(at, BLOCK, `the tar header at ${at}`);
    if (isZeroBlock(block)) {
      const next = at + BLOCK;
      if (next + BLOCK <= total && !isZeroBlock(file.read(next, BLOCK, 'the end'))) {
        throw corruptTar(label, `one zero block at ${at}, after ${lastOf(members)}, and then more data`);
      }
      break;
    }
    const header = parseTarHeader(block, at, label);
    const name = pending.name ?? header.name;
    const what = `member ${JSON.stringify(name)}`;
    const isFile = header.type === '0' || header.type === '7';
    // A PAX size speaks of the file that follows, not of the extension headers between.
    const size = isFile || header.type === '5' ? (pending.size ?? header.size) : header.size;
    const offset = at + BLOCK;
    // Before the size is judged, so that a device is called a device.
    const refused = REFUSED.get(header.type);
    if (pending.sparse !== undefined && isFile)
      throw corruptTar(label, `${what} is a sparse file (${pending.sparse}); only plain files are read`);
    if (refused !== undefined) throw corruptTar(label, `${what} is ${refused}; only files are read`);
    if (size > total - offset || padded(size) > total - offset) {
      throw corruptTar(label, `${what} at ${at} needs ${size} bytes and their padding, the archive has ${total - offset} left`);
    }
    const first = pending.at ?? at;
    const extension = (): Uint8Array => {
      if (size > MAX_EXTENSION)
        throw corruptTar(label, `the extension header at ${at} has ${size} bytes, at most ${MAX_EXTENSION} are read`);
      return file.read(offset, size, `the extension header at ${at}`);
    };
    switch (header.type) {
      case 'L': {
        const bytes = extension();
        const end = bytes.indexOf(0);
        const long = decodeUtf8(end < 0 ? bytes : bytes.subarray(0, end), label, `the long name at ${at}`);
        pending = { ...pending, name: pending.name ?? long, at: first };
        break;
      }
      case 'K': // the long target of a link; the link itself is refused when it comes
        extension();
        pending.at = first;
        break;
      case 'x':
        pending.at = first;
        applyPax(
          parsePax(extension(), label, `the PAX header at ${at}`),
          pending,
          label,
          `the PAX header at ${at}, after ${lastOf(members)},`,
        );
        break;
      case 'g': {
        const global: Pending = {};
        const where = `the global PAX header at ${at}`;
        applyPax(parsePax(extension(), label, where), global, label, where);
        if (global.sparse !== undefined) throw corruptTar(label, `${where} makes every member a sparse file (${global.sparse})`);
        if (global.name !== undefined || global.size !== undefined) throw corruptTar(label, `${where} gives every member one name or size`);
        break;
      }
      case '0':
      case '5':
      case '7': {
        // v7 tar marks a folder by the slash at the end of its name only.
        const folder = header.type === '5' || name.endsWith('/');
        const plain = withoutDot(name);
        const bad = folder && /^\.?\/*$/.test(plain) && !name.startsWith('/') ? undefined : badName(plain);
        if (bad !== undefined) throw corruptTar(label, `the name of ${what} ${bad}`);
        if (folder && size !== 0) throw corruptTar(label, `${what} is a folder with ${size} bytes of data`);
        if (!folder) members.push({ name: plain, offset, size });
        pending = {};
        break;
      }
      default:
        throw corruptTar(label, `${what} has the unknown type ${JSON.stringify(header.type)}; only files are read`);
    }
    at = offset + padded(size);
  }
  if (pending.at !== undefined)
    throw corruptTar(label, `the archive ends behind the extension header at ${pending.at}, its member is cut off`);
  return members;
}

function lastOf(members: readonly TarMember[]): string {
  const last = members.at(-1);
  return last === undefined ? 'the start' : `member ${JSON.stringify(last.name)}`;
}

/**
 * The bytes of a member in own memory.
 * @param fd the open archive
 * @param label what messages call the archive
 * @throws ERR_CORRUPT when the archive was cut since it was indexed
 */
export function readMember(fd: number, member: TarMember, label = 'the archive'): Uint8Array {
  return readAt(fd, member.offset, member.size, label, `member ${JSON.stringify(member.name)}`);
}

/** The largest size that fits the octal field of a header. */
const MAX_OCTAL = 0o77777777777;

/**
 * Writes an archive member by member: ustar, with PAX headers for long or non-ASCII names and huge sizes. Time, owner and mode are fixed, so the same
 * members give the same bytes.
 */
export class TarWriter {
  readonly #label: string;
  #fd: number;
  readonly #owned: boolean;
  #size = 0;

  /** @param fd open for writing at the place the archive starts; it stays the caller's to close. @param label what messages call it */
  constructor(fd: number, label: string, owned = false) {
    this.#fd = fd;
    this.#label = label;
    this.#owned = owned;
  }

  /** Creates the file (or empties it); `finish` closes it. */
  static create(path: string): TarWriter {
    try {
      return new TarWriter(openSync(path, 'w'), path, true);
    } catch (error) {
      throw fileError(error, path, 'creating');
    }
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#size;
  }

  #write(bytes: Uint8Array): void {
    if (this.#fd < 0) throw new TheiaError('ERR_DISPOSED', `${this.#label}: the archive is finished`);
    writeAll(this.#fd, bytes, this.#label);
    this.#size += bytes.length;
    const rest = padded(bytes.length) - bytes.length;
    if (rest > 0) writeAll(this.#fd, new Uint8Array(rest), this.#label);
    this.#size += rest;
  }

  /**
   * Appends one file. Returns where its bytes lie.
   * @throws ERR_ARGS for a name a reader would refuse, ERR_DISK or ERR_FILE when the system says no
   */
  add(name: string, bytes: Uint8Array): TarMember {
    const bad = name.endsWith('/') ? 'ends with "/"' : name !== withoutDot(name) ? 'starts with "./"' : badName(name);
    if (bad !== undefined) throw new TheiaError('ERR_ARGS', `${this.#label}: the name of member ${JSON.stringify(name)} ${bad}`);
    const encoded = Buffer.from(name, 'utf8');
    const plain = encoded.length <= 100 && encoded.every((b) => b < 0x80);
    const records: Uint8Array[] = [];
    if (!plain) records.push(encodePaxRecord('path', name));
    if (bytes.length > MAX_OCTAL) records.push(encodePaxRecord('size', String(bytes.length)));
    if (records.length > 0) {
      const pax = Buffer.concat(records);
      this.#write(encodeTarHeader(Buffer.from('PaxHeader'), pax.length, 'x'));
      this.#write(pax);
    }
    // Readers without PAX see a name that is cut; those with it never look.
    const short = plain ? encoded : Buffer.from(name.replace(/[^\x20-\x7e]/g, '_').slice(0, 100), 'latin1');
    this.#write(encodeTarHeader(short, bytes.length > MAX_OCTAL ? 0 : bytes.length, '0'));
    const offset = this.#size;
    this.#write(bytes);
    return { name, offset, size: bytes.length };
  }

  /** Writes the end of the archive; closes the file if `create` opened it. */
  finish(options: { fsync?: boolean } = {}): void {
    try {
      this.#write(new Uint8Array(2 * BLOCK));
      if (options.fsync) fsyncSync(this.#fd);
    } catch (error) {
      throw fileError(error, this.#label, 'writing');
    } finally {
      this.close();
    }
  }

  /** Closes the file without an end, for error paths. May be called twice, and after `finish`. */
  close(): void {
    if (this.#fd >= 0 && this.#owned) closeSync(this.#fd);
    this.#fd = -1;
  }
}
