import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { configJson, saveWeights } from '../../src/models/checkpoint.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { parseModelConfig } from '../../src/models/config.js';
import { Theia } from '../../src/models/theia.js';
import { image } from './procedural.js';

/** A student that is small and still has every kind of part: CLS, a padded 16x16 head and a head on the CLS token. */
export function tinyModel(changes: Record<string, unknown> = {}, seed = 3): Theia {
  const json = { hidden: 32, depth: 2, heads: 2, mlp: 64, teachers: { 'mini/vit.16': [8, 16, 16], 'mini/vit.16_cls': [8] }, ...changes };
  return new Theia(newModelConfig(parseModelConfig(json)), { seed });
}

/** Writes a model as a folder, as on the hub. */
export function saveModel(model: Theia, folder: string): string {
  mkdirSync(folder, { recursive: true });
  saveWeights(model, join(folder, 'model.safetensors'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(configJson(model.config)));
  return folder;
}

/** `count` images of the generator, one behind the other: uint8 [count,height,width,3]. */
export function pictures(count: number, height = 224, width = 224): Uint8Array {
  const size = height * width * 3;
  const out = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) out.set(image(i, height, width, 3, 5), i * size);
  return out;
}

/** Runs body in a fresh folder that is removed afterwards. */
export async function inFolder<T>(body: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const program = fileURLToPath(new URL('../../../bin/theia.mjs', import.meta.url));

export interface Ran {
  status: number | null;
  stdout: string;
  /** without the line about --device auto */
  stderr: string;
}

/** Runs the program in a child. */
export function theia(...argv: string[]): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...argv], { encoding: 'utf8', maxBuffer: 1 << 26 });
  return { status, stdout, stderr: stderr.replace(/^device auto: .*\n/, '') };
}
