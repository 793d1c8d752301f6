import { TheiaError } from '../errors.js';

/** A JSON value whose objects are Maps: no key of a file ever becomes a property of an object. */
export type Json = null | boolean | number | string | Json[] | Map<string, Json>;

/** Deep enough for every real header, far from the end of the stack. */
const MAX_DEPTH = 64;

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/**
 * Strict JSON (RFC 8259) in which a key that comes twice in one object is an error: JSON.parse keeps the last one without a word, so two
 * readers of one file could see two different things.
 * @param label stands in front of every message
 * @throws ERR_CORRUPT with the position, or the name of the doubled key
 */
export function parseJson(text: string, label: string): Json {
  let at = 0;

  const fail = (expected: string): TheiaError => {
    const got = at < text.length ? JSON.stringify(text.slice(at, at + 12)) : 'the end';
    return new TheiaError('ERR_CORRUPT', `${label}: JSON expected ${expected} at character ${at}, came ${got}`);
  };
  const space = (): void => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };
  const string = (): string => {
    const start = at++;
    for (;;) {
      const c = text.charCodeAt(at);
      if (c === 0x22) break;
      if (!(c >= 0x20)) throw fail('a closed string without control characters');
      at += c === 0x5c ? 2 : 1;
    }
    at++;
    try {
      return JSON.parse(text.slice(start, at)) as string;
    } catch {
      at = start;
      throw fail('a string with valid escapes');
    }
  };
  const word = (spelling: string, value: Json): Json => {
    if (!text.startsWith(spelling, at)) throw fail('a value');
    at += spelling.length;
    return value;
  };
  const value = (depth: number): Json => {
    if (depth > MAX_DEPTH) throw fail(`at most ${MAX_DEPTH} levels`);
    switch (text[at]) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string();
      case 't':
        return word('true', true);
      case 'f':
        return word('false', false);
      case 'n':
        return word('null', null);
    }
    NUMBER.lastIndex = at;
    if (!NUMBER.test(text)) throw fail('a value');
    const start = at;
    at = NUMBER.lastIndex;
    return Number(text.slice(start, at));
  };
  const object = (depth: number): Map<string, Json> => {
    const map = new Map<string, Json>();
    at++;
    space();
    if (text[at] === '}') {
      at++;
      return map;
    }
    for (;;) {
      if (text[at] !== '"') throw fail('a key in quotes');
      const key = string();
      if (map.has(key)) throw new TheiaError('ERR_CORRUPT', `${label}: the key ${JSON.stringify(key)} comes twice in one JSON object`);
      space();
      if (text[at] !== ':') throw fail(`":" after the key ${JSON.stringify(key)}`);
      at++;
      space();
      map.set(key, value(depth + 1));
      space();
      if (text[at] === '}') {
        at++;
        return map;
      }
      if (text[at] !== ',') throw fail('"," or "}"');
      at++;
      space();
    }
  };
  const array = (depth: number): Json[] => {
    const list: Json[] = [];
    at++;
    space();
    if (text[at] === ']') {
      at++;
      return list;
    }
    for (;;) {
      list.push(value(depth + 1));
      space();
      if (text[at] === ']') {
        at++;
        return list;
      }
      if (text[at] !== ',') throw fail('"," or "]"');
      at++;
      space();
    }
  };

  space();
  const result = value(0);
  space();
  if (at !== text.length) throw fail('the end');
  return result;
}

/** UTF-8 to text; bytes that are not UTF-8 are ERR_CORRUPT instead of becoming U+FFFD. */
export function decodeUtf8(bytes: Uint8Array, label: string, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new TheiaError('ERR_CORRUPT', `${label}: ${what} is not valid UTF-8`, { cause: error });
  }
}
