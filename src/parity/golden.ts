import { readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { parseJson } from '../formats/index.js';
import type { Json } from '../formats/index.js';
import { isGradient } from './compare.js';
import type { Tolerances } from './compare.js';

/** The float32 rows of the tolerance table of the golden data's README. */
const TABLE = {
  /** times PyTorch's own float32 error */
  factor: 20,
  forwardFloor: 1e-5,
  gradientFloor: 2e-5,
  /** where ReLU inputs lie within rounding of zero: one flipped sign moves the gradients of a whole head */
  gradientWithFlips: 5e-2,
  gradientMedianWithFlips: 5e-3,
  zeroGradient: 1e-6,
} as const;

/** What a manifest says about one golden file. */
export interface GoldenFacts {
  /** PyTorch's own float32 error by tensor */
  float32Error: ReadonlyMap<string, number>;
  /** number of ReLU inputs closer to zero than 3e-6 */
  nearZero: number;
}

const NO_FACTS: GoldenFacts = { float32Error: new Map(), nearZero: 0 };
/** Real ones are below a megabyte. */
const LARGEST_MANIFEST = 1 << 26;

function entry(json: Json | undefined, key: string): Json | undefined {
  return json instanceof Map ? json.get(key) : undefined;
}

/** Reads the facts about one file out of a manifest; undefined if the manifest does not name the file. */
export function goldenFacts(manifest: Json, file: string): GoldenFacts | undefined {
  const found = entry(entry(manifest, 'files'), file);
  if (!(found instanceof Map)) return undefined;
  const float32Error = new Map<string, number>();
  const tensors = entry(found, 'tensors');
  if (tensors instanceof Map)
    for (const [name, t] of tensors) {
      const error = entry(t, 'f32_rel_err');
      if (typeof error === 'number' && error >= 0) float32Error.set(name, error);
    }
  const nearZero = entry(entry(found, 'relu'), 'below_3e_6');
  return { float32Error, nearZero: typeof nearZero === 'number' ? nearZero : 0 };
}

/**
 * Looks a reference file up in the manifest.json of each folder, the first that names it wins.
 * @param folders where manifests may be: beside the reference first
 * @returns undefined where no manifest knows the file
 * @throws ERR_CORRUPT if a manifest that is there is no JSON
 */
export function findGoldenFacts(reference: string, folders: readonly string[]): GoldenFacts | undefined {
  for (const folder of folders) {
    const path = join(folder, 'manifest.json');
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats?.isFile()) continue;
    if (stats.size > LARGEST_MANIFEST)
      throw new TheiaError('ERR_CORRUPT', `${path}: expected a manifest of at most ${LARGEST_MANIFEST} bytes, got ${stats.size}`);
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      throw fileError(error, path, 'reading');
    }
    const facts = goldenFacts(parseJson(text, path), basename(reference));
    if (facts) return facts;
  }
  return undefined;
}

/** The tolerance table for a file; without facts its floors. */
export function goldenTolerances(facts: GoldenFacts = NO_FACTS): Tolerances {
  const limit = (name: string, floor: number): number => Math.max(TABLE.factor * (facts.float32Error.get(name) ?? 0), floor);
  const flips = facts.nearZero > 0;
  return {
    limit: (name) => {
      if (!isGradient(name)) return limit(name, TABLE.forwardFloor);
      return flips ? TABLE.gradientWithFlips : limit(name, TABLE.gradientFloor);
    },
    zeroGradient: TABLE.zeroGradient,
    ...(flips ? { gradientMedian: TABLE.gradientMedianWithFlips } : {}),
  };
}
