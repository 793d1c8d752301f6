import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the reference data are: see requireGolden. */

function repoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  // dist/test/support when compiled, test/support when a runtime reads TypeScript itself
  while (!existsSync(join(folder, 'package.json'))) {
    const up = dirname(folder);
    if (up === folder) throw new Error('no package.json above the tests');
    folder = up;
  }
  return folder;
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

function goldenDirs(): string[] {
  const set = process.env.THEIA_GOLDEN;
  if (set && !isFolder(set)) throw new Error(`THEIA_GOLDEN=${set}: no such folder`);
  const root = repoRoot();
  const dirs = [join(root, '..', 'shared', 'golden'), join(root, 'test', 'fixtures', 'golden')];
  return (set ? [set, ...dirs] : dirs).filter(isFolder);
}

/** The folder golden data are read from first: $THEIA_GOLDEN, else shared/golden beside the repository, else test/fixtures/golden in it. */
export function goldenDir(): string | undefined {
  return goldenDirs()[0];
}

/** The path of a golden file in the first of these folders that has it. */
export function goldenFile(name: string): string | undefined {
  return goldenDirs()
    .map((dir) => join(dir, name))
    .find((path) => existsSync(path));
}

/**
 * As goldenFile; where the file is absent a line says that the test is skipped.
 * @throws when it is absent and THEIA_REQUIRE_GOLDEN=1
 */
export function requireGolden(name: string, testName: string): string | undefined {
  const path = goldenFile(name);
  if (path !== undefined) return path;
  const reason = `no golden file ${name} in ${goldenDirs().join(' or ') || '$THEIA_GOLDEN, ../shared/golden or test/fixtures/golden'}`;
  if (process.env.THEIA_REQUIRE_GOLDEN === '1') throw new Error(`${testName}: ${reason}, and THEIA_REQUIRE_GOLDEN=1`);
  // uvu leaves its row of dots open; the newline gives the line a start of its own.
  console.log(`\nSKIP ${testName}: ${reason}`);
  return undefined;
}

export interface GoldenTensor {
  kind: 'input' | 'output';
  dtype: string;
  /** of the whole tensor, also where only samples are stored */
  shape: number[];
  /** set if only some entries are stored: their number */
  sampled?: number;
  l2?: number;
  mean?: number;
  abs_max?: number;
  f32_rel_err?: number;
  f32_max_abs_err?: number;
  value?: number;
}

export interface GoldenEntry {
  config: Record<string, unknown>;
  tensors: Record<string, GoldenTensor>;
  relu?: { below_1e_6: number; below_3e_6: number; below_1e_5: number };
  [key: string]: unknown;
}

export interface ParameterVector {
  seed: number;
  shape: number[];
  kind: 'embedding' | 'bias' | 'norm' | 'matrix';
  first5: number[];
  last: number;
  sum: number;
}

export interface ImageVector {
  seed: number;
  first12: number[];
  last6: number[];
  sum: number;
  weighted: number;
}

export interface FeatureVector {
  seed: number;
  sample: number;
  tokens: number;
  channels: number;
  first5: number[];
  last: number;
  sum: number;
  mean5: number[];
  std5: number[];
}

export interface GoldenManifest {
  generator_vectors: {
    fnv1a64: Record<string, string>;
    parameters: Record<string, ParameterVector>;
    images: Record<string, ImageVector>;
    features: Record<string, FeatureVector>;
  };
  files: Record<string, GoldenEntry>;
}

let parsed: { path: string; manifest: GoldenManifest } | undefined;

/** manifest.json, or undefined where there is no golden data. */
export function manifest(): GoldenManifest | undefined {
  const path = goldenFile('manifest.json');
  if (path === undefined) return undefined;
  if (parsed?.path !== path) parsed = { path, manifest: JSON.parse(readFileSync(path, 'utf8')) as GoldenManifest };
  return parsed.manifest;
}

/** ||x - ref|| / ||ref|| in float64. Both zero is 0, only the reference zero is Infinity; a NaN in x gives NaN. */
export function relativeError(x: ArrayLike<number>, ref: ArrayLike<number>): number {
  if (x.length !== ref.length) throw new Error(`relativeError: ${x.length} values against ${ref.length}`);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < ref.length; i++) {
    difference += (x[i] - ref[i]) ** 2;
    norm += ref[i] ** 2;
  }
  if (difference === 0) return 0;
  return Math.sqrt(difference) / Math.sqrt(norm);
}

/** The flat indices at which a tensor of `numel` entries is stored when `wanted` samples were asked for: floor(k * numel / count). */
export function sampleIndices(numel: number, wanted: number): number[] {
  const count = Math.min(wanted, numel);
  // k * numel is below 2^53, and the quotient's remainder makes the division exact
  return Array.from({ length: count }, (_, k) => (k * numel - ((k * numel) % count)) / count);
}
