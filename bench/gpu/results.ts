import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../support/results.js';

/** A GPU's name as part of a file name: "NVIDIA H200" -> "nvidia-h200". */
export function slug(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '') || 'unknown'
  );
}

/** Writes bench/results/<name>-<gpu>.json, with the date inside, and returns its path. */
export function saveGpuResults(name: string, gpu: string, content: object, folder = join(repository(), 'bench', 'results')): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}-${slug(gpu)}.json`);
  writeFileSync(file, `${JSON.stringify({ bench: name, date: new Date().toISOString(), ...content }, null, 1)}\n`);
  return file;
}
