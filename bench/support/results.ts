import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpuSlug } from './machine.js';
import type { Machine } from './machine.js';

/** The repository, from dist/bench/support or bench/support. */
export function repository(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'CMakeLists.txt'))) folder = dirname(folder);
  return folder;
}

/** Writes bench/results/<name>-<cpu>.json and returns its path. */
export function saveResults(name: string, machine: Machine, rows: readonly object[]): string {
  const folder = join(repository(), 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}-${cpuSlug(machine.cpu)}.json`);
  writeFileSync(file, `${JSON.stringify({ bench: name, machine, rows }, null, 1)}\n`);
  return file;
}
