import { readFileSync, statSync } from 'node:fs';
import { TomlDate, TomlError, parse } from 'smol-toml';
import { TheiaError, fileError } from '../errors.js';

/** A TOML table without a prototype, so that no key of a file can mean anything but itself. */
export type Table = { [key: string]: unknown };

const LARGEST_FILE = 1 << 20;
// The configuration itself is 3 deep; what is far deeper was made to exhaust the stack.
const DEEPEST = 16;

export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof TomlDate) && !(value instanceof Date);
}

/** Names that every object has: never a key of a configuration. */
export function isReserved(key: string): boolean {
  return key === '__proto__' || key === 'constructor' || key === 'prototype';
}

/** Copies parsed TOML into tables without a prototype. Reserved keys become own properties here, and unknown keys in the check. */
function bare(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth > DEEPEST) throw new TheiaError('ERR_CONFIG', `expected tables and lists at most ${DEEPEST} deep, got deeper ones`);
  if (Array.isArray(value)) return value.map((item) => bare(item, depth + 1));
  if (!isTable(value)) return value;
  const out = Object.create(null) as Table;
  for (const key of Object.keys(value)) out[key] = bare(value[key], depth + 1);
  return out;
}

/**
 * Reads TOML.
 * @param where the file's name, for messages
 * @throws ERR_CONFIG with line and column
 */
export function parseText(text: string, where: string): Table {
  try {
    return bare(parse(text)) as Table;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split('\n', 1)[0].replace(/^Invalid TOML document: /, '');
    throw new TheiaError('ERR_CONFIG', `${where}: expected TOML, line ${error.line} column ${error.column}: ${reason}`, { cause: error });
  }
}

/** @throws ERR_FILE when it cannot be read, ERR_CONFIG when it is no configuration */
export function readToml(file: string): Table {
  let text: string;
  try {
    if (statSync(file).size > LARGEST_FILE) throw new TheiaError('ERR_CONFIG', `${file}: expected a configuration of at most 1 MiB`);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw fileError(error, file, 'reading the configuration');
  }
  return parseText(text, file);
}

/** Splits `a."b.c".d=value` at its first `=` and its dots outside quotes; undefined when it is not of that form. */
function splitSetting(setting: string): { path: string[]; value: string } | undefined {
  const path: string[] = [];
  let at = 0;
  for (;;) {
    const quoted = /^"([^"]*)"|^'([^']*)'/.exec(setting.slice(at));
    const part = quoted === null ? /^[^.="']*/.exec(setting.slice(at))?.[0] : quoted[0];
    const key = quoted === null ? part?.trim() : (quoted[1] ?? quoted[2]);
    if (part === undefined || key === undefined || key === '') return undefined;
    if (path.push(key) > DEEPEST) return undefined;
    at += part.length;
    if (setting[at] === '=') return { path, value: setting.slice(at + 1) };
    if (setting[at] !== '.') return undefined;
    at++;
  }
}

/** A TOML value, or the text itself when it is none (so that `--set output=runs/a` needs no quotes inside quotes). */
function settingValue(text: string): unknown {
  try {
    const table = parse(`value = ${text}`);
    // More keys than the one mean that the text went on behind the value: then it is a string.
    const keys = Object.keys(table);
    if (keys.length === 1 && keys[0] === 'value') return bare(table.value);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
  }
  return text;
}

/**
 * Writes one `--set key.path=value` into a table.
 * @param isSection whether a path is a table of known keys, which has to be set key by key
 * @throws ERR_CONFIG naming the setting
 */
export function applySetting(root: Table, setting: string, isSection: (path: string) => boolean): void {
  const parts = splitSetting(setting);
  if (parts === undefined) {
    throw new TheiaError('ERR_CONFIG', `--set: expected key.path=value, got ${JSON.stringify(setting)}`, {
      hint: 'a name that holds dots needs quotes: data.mix."my.data"=1',
    });
  }
  const { path, value } = parts;
  const full = path.join('.');
  if (isSection(full)) throw new TheiaError('ERR_CONFIG', `--set ${full}: expected the path of a value, got that of a section`);
  let table = root;
  for (const key of path.slice(0, -1)) {
    // Reserved names are reported by the check of unknown keys; here they only must not be walked into.
    if (!Object.hasOwn(table, key)) table[key] = Object.create(null);
    const next = table[key];
    if (!isTable(next)) throw new TheiaError('ERR_CONFIG', `--set ${full}: expected a table at ${key}, got ${JSON.stringify(next)}`);
    table = next;
  }
  table[path[path.length - 1]] = settingValue(value);
}
