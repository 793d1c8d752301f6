import { TheiaError } from '../errors.js';
import type { ByteSource } from './file.js';
import { decodeUtf8 } from './json.js';

export interface NpyHeader {
  descr: string;
  fortranOrder: boolean;
  shape: number[];
  dataStart: number;
}

/** Far above any header of a plain array (numpy itself refuses more than 10,000 bytes). */
const MAX_HEADER = 64 * 1024;

const MAX_RANK = 64;

const STRING = /'([^'\\\n]*)'|"([^"\\\n]*)"/y;
const INTEGER = /[0-9]{1,16}(?![0-9.eELxob_])/y;

/**
 * The header of a .npy file: magic, version, length, and a Python dict with exactly the keys descr, fortran_order and shape. Only those literals
 * are understood; nothing is evaluated.
 * @throws ERR_CORRUPT with the label of the file; ERR_UNSUPPORTED for structured dtypes
 */
export function readNpyHeader(source: ByteSource): NpyHeader {
  const { label, size } = source;
  const corrupt = (message: string): TheiaError => new TheiaError('ERR_CORRUPT', `${label}: ${message}`);

  if (size < 12) throw corrupt(`a npy file has at least 12 bytes, this has ${size}`);
  const start = source.read(0, 12, 'the npy magic');
  if (String.fromCharCode(...start.subarray(0, 6)) !== '\x93NUMPY') throw corrupt('is not a npy file: the magic bytes are missing');
  const major = start[6];
  if (major < 1 || major > 3 || start[7] !== 0) throw corrupt(`npy version ${major}.${start[7]}, versions 1.0 to 3.0 are read`);
  const view = new DataView(start.buffer);
  const lengthBytes = major === 1 ? 2 : 4;
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER) throw corrupt(`the npy header says it has ${length} bytes, at most ${MAX_HEADER} are read`);
  const headerStart = 8 + lengthBytes;
  const dataStart = headerStart + length;
  if (dataStart > size) throw corrupt(`the npy header says it has ${length} bytes, the whole file has ${size}`);

  const bytes = source.read(headerStart, length, 'the npy header');
  const text = major === 3 ? decodeUtf8(bytes, label, 'the npy header') : Buffer.from(bytes).toString('latin1');
  return { ...parseDict(text, label, corrupt), dataStart };
}

function parseDict(text: string, label: string, corrupt: (message: string) => TheiaError): Omit<NpyHeader, 'dataStart'> {
  let at = 0;
  const space = (): void => {
    while (at < text.length && ' \t\n\r'.includes(text[at])) at++;
  };
  const bad = (expected: string): TheiaError =>
    corrupt(`npy header expected ${expected} at character ${at}, came ${JSON.stringify(text.slice(at, at + 12))}`);
  const take = (char: string): boolean => {
    space();
    if (text[at] !== char) return false;
    at++;
    return true;
  };
  const match = (pattern: RegExp, expected: string): RegExpExecArray => {
    space();
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) throw bad(expected);
    at = pattern.lastIndex;
    return found;
  };
  const string = (): string => {
    const found = match(STRING, 'a string');
    return found[1] ?? found[2];
  };
  const shapeTuple = (): number[] => {
    const dims: number[] = [];
    if (!take('(')) throw bad('a tuple');
    while (!take(')')) {
      if (dims.length === MAX_RANK) throw bad(`at most ${MAX_RANK} dimensions`);
      dims.push(Number(match(INTEGER, 'a dimension')[0]));
      if (take(',')) continue;
      // (3) is a number in Python, not a tuple
      if (!take(')') || dims.length === 1) throw bad('"," or ")"');
      break;
    }
    return dims;
  };

  let descr: string | undefined;
  let fortranOrder: boolean | undefined;
  let shape: number[] | undefined;
  if (!take('{')) throw bad('"{"');
  while (!take('}')) {
    const key = string();
    if (!take(':')) throw bad('":"');
    space();
    if (key === 'descr' && descr === undefined) {
      if (text[at] === '[' || text[at] === '(') {
        throw new TheiaError('ERR_UNSUPPORTED', `${label}: npy dtype ${text.slice(at, at + 40)}: structured arrays are not read`);
      }
      descr = string();
    } else if (key === 'fortran_order' && fortranOrder === undefined) {
      fortranOrder = match(/(?:True|False)(?![A-Za-z0-9_])/y, 'True or False')[0] === 'True';
    } else if (key === 'shape' && shape === undefined) {
      shape = shapeTuple();
    } else {
      throw corrupt(`npy header has the unknown or doubled key ${JSON.stringify(key)}`);
    }
    if (!take(',')) {
      if (!take('}')) throw bad('"," or "}"');
      break;
    }
  }
  space();
  if (at !== text.length) throw bad('the end');
  if (descr === undefined || fortranOrder === undefined || shape === undefined)
    throw corrupt('npy header lacks descr, fortran_order or shape');
  return { descr, fortranOrder, shape };
}
