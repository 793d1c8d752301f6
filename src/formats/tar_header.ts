import { TheiaError } from '../errors.js';
import { decodeUtf8 } from './json.js';

/*
 * The 512-byte header block of a tar file (POSIX.1-1988 ustar, GNU and v7 variants) and the records of PAX headers. Numbers stand in octal text, or
 * big-endian binary with the top bit set (GNU).
 */

export const BLOCK = 512;

/** The sizes that tar data take in the file: padded to whole blocks. */
export function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

export interface TarHeader {
  name: string;
  size: number;
  /** the type flag as a character; v7's NUL is '0' */
  type: string;
}

export function corruptTar(label: string, message: string): TheiaError {
  return new TheiaError('ERR_CORRUPT', `${label}: ${message}`);
}

/** Bytes up to the first NUL. */
function field(block: Uint8Array, start: number, length: number): Uint8Array {
  const bytes = block.subarray(start, start + length);
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** A number field, or undefined if it is none or too large to be exact. */
function number(block: Uint8Array, start: number, length: number): number | undefined {
  if (block[start] & 0x80) {
    let value = block[start] & 0x7f; // 0x7f is a negative number, and the loop takes it beyond every limit
    for (let i = start + 1; i < start + length; i++) value = Math.min(value * 256 + block[i], Number.MAX_VALUE);
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const text = Buffer.from(block.buffer, block.byteOffset + start, length).toString('latin1');
  const match = /^ *([0-7]*)[ \0]*$/.exec(text);
  const value = match === null ? NaN : match[1] === '' ? 0 : parseInt(match[1], 8);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((b) => b === 0);
}

/** The checksum of a header, its own field counted as spaces. Some old writers summed signed bytes. */
function checksums(block: Uint8Array): [unsigned: number, signed: number] {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const b = i >= 148 && i < 156 ? 0x20 : block[i];
    unsigned += b;
    signed += b < 128 ? b : b - 256;
  }
  return [unsigned, signed];
}

/** @param at offset of the block in the file, for messages */
export function parseTarHeader(block: Uint8Array, at: number, label: string): TarHeader {
  const shown = JSON.stringify(Buffer.from(field(block, 0, 100)).toString('utf8'));
  const sum = number(block, 148, 8);
  if (sum === undefined || !checksums(block).includes(sum)) {
    throw corruptTar(label, `the tar header at ${at} (member ${shown}) has a wrong checksum`);
  }
  const size = number(block, 124, 12);
  if (size === undefined) throw corruptTar(label, `member ${shown} has an impossible size`);
  let name = decodeUtf8(field(block, 0, 100), label, `the name of member ${shown}`);
  // Only real ustar has the prefix field; GNU keeps other things there.
  if (Buffer.from(block.subarray(257, 263)).toString('latin1') === 'ustar\0') {
    const prefix = decodeUtf8(field(block, 345, 155), label, `the name prefix of member ${shown}`);
    if (prefix !== '') name = `${prefix}/${name}`;
  }
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156]);
  return { name, size, type };
}

/**
 * The records of a PAX header, "LENGTH key=value\n" each, LENGTH counting the whole record in bytes.
 * @param what names the header in messages
 */
export function parsePax(bytes: Uint8Array, label: string, what: string): Map<string, string> {
  const records = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 ? '' : Buffer.from(bytes.subarray(at, Math.min(space, at + 12))).toString('latin1');
    const end = at + (/^[1-9][0-9]{0,9}$/.test(digits) ? Number(digits) : NaN);
    if (!(end <= bytes.length) || end <= space + 1 || bytes[end - 1] !== 0x0a)
      throw corruptTar(label, `${what} has a malformed record at ${at}`);
    const record = decodeUtf8(bytes.subarray(space + 1, end - 1), label, what);
    const equals = record.indexOf('=');
    if (equals < 1) throw corruptTar(label, `${what} has a record without a key at ${at}`);
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at = end;
  }
  return records;
}

/** A ustar header block with fixed owner, mode and time: the same members give the same archive. */
export function encodeTarHeader(name: Uint8Array, size: number, type: '0' | 'x'): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  block.set(name, 0);
  block.write('0000644\0', 100, 'latin1');
  block.write('0000000\0', 108, 'latin1');
  block.write('0000000\0', 116, 'latin1');
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  block.write('00000000000\0', 136, 'latin1');
  block.write(type, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write('0000000\0', 329, 'latin1');
  block.write('0000000\0', 337, 'latin1');
  block.write(`${checksums(block)[0].toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** One PAX record; its length counts its own digits. */
export function encodePaxRecord(key: string, value: string): Uint8Array {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (rest + String(length).length !== length) length = rest + String(length).length;
  return Buffer.from(`${length} ${key}=${value}\n`, 'utf8');
}
