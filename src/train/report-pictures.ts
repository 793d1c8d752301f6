import { componentColours, componentRange, enlarge, heatPicture, type Picture } from '../analysis/colour.js';
import { principalComponents, projectRows } from '../analysis/pca.js';
import type { Batch } from '../data/loader.js';
import { Stream } from '../data/order.js';
import { loadTheia } from '../models/checkpoint.js';
import type { Theia } from '../models/theia.js';
import { isClsTarget } from '../teachers/names.js';
import { FitMeter, normalisedTargets, predictBatch } from './baselines.js';
import { newestCheckpoint } from './checkpoint-dir.js';
import type { TrainConfig } from './config.js';
import type { TargetStatistics } from './step.js';
import { makeLoader, openTrainingData } from './training-data.js';

/** Share of the values at either end of the colour scale that are clipped. */
const TRIM = 0.01;

/** One held-out image and what teacher and student see in it; all pictures of one size. */
export interface ReportPhoto {
  key: string;
  cosine: number;
  explained: number;
  photo: Picture;
  teacher: Picture;
  student: Picture;
  /** L2 norms of the student's tokens */
  norms: Picture;
}

/** Pictures for one teacher. */
export interface TeacherPictures {
  teacher: string;
  /** share of the shown features' variance that each of the three colours stands for */
  shares: number[];
  /** what the two ends of the norms' colours stand for */
  norms: { low: number; high: number };
  photos: ReportPhoto[];
}

/** Rows that a basis is computed from, at most: more change nothing that an eye could see. */
const MOST_ROWS = 4096;

/**
 * Pictures of images that the student was not trained on. The colours of all maps of a teacher are on one basis (principal components of its normalised features in
 * the shown images) and one scale (from its 1st to its 99th percentile there), so equal colours mean equal features.
 * @param targets teacher -> [C,H,W]; `_cls` targets have no map and are passed over
 * @param statistics by teacher, as in training
 * @param reference normalised maps by teacher that basis and scale come from instead of the shown ones
 */
export async function collectPictures(
  model: Theia,
  batches: AsyncIterable<Batch> | Iterable<Batch>,
  targets: ReadonlyMap<string, readonly number[]>,
  statistics: ReadonlyMap<string, TargetStatistics>,
  reference: ReadonlyMap<string, readonly Float32Array[]> = new Map(),
): Promise<TeacherPictures[]> {
  const maps = [...targets].filter(([name, shape]) => !isClsTarget(name) && shape.length === 3 && model.teachers.includes(name));
  const names = maps.map(([name]) => name);
  const seen: Seen[] = [];
  for await (const batch of batches) {
    if (batch.keys.length === 0) continue;
    const { features, tokens } = predictBatch(model, batch.pixels, batch.keys.length, names);
    const wanted = new Map(names.map((name) => [name, normalisedTargets(batch, name, statistics.get(name))]));
    batch.keys.forEach((key, i) => {
      const { data, width, height } = batch.images[i]!;
      seen.push({
        key,
        photo: { data: data.slice(), width, height },
        norms: tokenNorms(tokens[i]!, model.config.hidden),
        predicted: new Map(names.map((name) => [name, features.get(name)![i]!])),
        wanted: new Map(names.map((name) => [name, wanted.get(name)![i]!])),
      });
    });
  }
  if (seen.length === 0) return [];
  return maps.map(([name, shape]) => teacherPictures(name, shape as [number, number, number], seen, reference.get(name)));
}

interface Seen {
  key: string;
  photo: Picture;
  norms: Float64Array;
  predicted: Map<string, Float32Array>;
  wanted: Map<string, Float32Array>;
}

function teacherPictures(
  teacher: string,
  [channels, height, width]: [number, number, number],
  seen: readonly Seen[],
  reference: readonly Float32Array[] = seen.map((s) => s.wanted.get(teacher)!),
): TeacherPictures {
  const basis = principalComponents(sampledRows(reference, channels), channels, Math.min(3, channels));
  // A teacher of one or two channels leaves the other colours at their middle.
  const project = (map: Float32Array): Float64Array => spread(projectRows(basis, map), basis.components.length);
  const projected = seen.map((s) => project(s.wanted.get(teacher)!));
  const range = componentRange(reference.map(project), 3, TRIM);
  let [low, high] = [Infinity, -Infinity];
  for (const { norms } of seen) for (const n of norms) [low, high] = [Math.min(low, n), Math.max(high, n)];
  const photos = seen.map((s, i): ReportPhoto => {
    const meter = new FitMeter();
    const { cosine, explained } = meter.add(s.predicted.get(teacher)!, s.wanted.get(teacher)!);
    const { photo } = s;
    const large = (p: Picture): Picture => enlarge(p, photo.width, photo.height);
    const side = Math.sqrt(s.norms.length);
    return {
      key: s.key,
      cosine,
      explained,
      photo,
      teacher: large(componentColours(projected[i]!, width, height, range)),
      student: large(componentColours(project(s.predicted.get(teacher)!), width, height, range)),
      norms: large(heatPicture(s.norms, side, side, low, high)),
    };
  });
  return { teacher, shares: basis.variances.map((v) => (basis.total > 0 ? v / basis.total : 0)), norms: { low, high }, photos };
}

function spread(rows: Float64Array, components: number): Float64Array {
  if (components === 3) return rows;
  const out = new Float64Array((rows.length / components) * 3);
  for (let i = 0; i < rows.length; i++) out[Math.floor(i / components) * 3 + (i % components)] = rows[i]!;
  return out;
}

/** Rows of all maps behind each other, every n-th of them where they are many. */
function sampledRows(maps: readonly Float32Array[], channels: number): Float32Array {
  const perMap = maps[0]!.length / channels;
  const stride = Math.max(1, Math.ceil((perMap * maps.length) / MOST_ROWS));
  const rows: Float32Array[] = [];
  for (const map of maps) for (let i = 0; i < perMap; i += stride) rows.push(map.subarray(i * channels, (i + 1) * channels));
  const out = new Float32Array(rows.length * channels);
  rows.forEach((row, i) => out.set(row, i * channels));
  return out;
}

/** L2 norm of each token. @param tokens [N*D] */
function tokenNorms(tokens: Float32Array, width: number): Float64Array {
  const norms = new Float64Array(tokens.length / width);
  for (let i = 0; i < tokens.length; i++) norms[Math.floor(i / width)]! += tokens[i]! ** 2;
  return norms.map(Math.sqrt);
}

/**
 * Pictures of a run: its newest checkpoint on images of its evaluation split, drawn at random by the run's seed.
 * @returns undefined where the run has no checkpoint or no evaluation split
 */
export async function runPictures(config: TrainConfig, count = 6): Promise<TeacherPictures[] | undefined> {
  const checkpoint = newestCheckpoint(config.output);
  if (checkpoint === undefined) return undefined;
  const data = await openTrainingData(config);
  let model: Theia | undefined;
  try {
    const sizes = data.evaluation.map((d) => d.length);
    if (sizes.length === 0) return undefined;
    const { mean, std } = config.preprocess;
    model = loadTheia(checkpoint.path, { normalisation: { mean, std } });
    const weights = data.weights.slice(0, sizes.length);
    const stream = new Stream({ seed: config.seed, sizes, weights, shuffle: true, buffer: config.data.shuffle_buffer });
    const loader = makeLoader(config, data, {
      datasets: data.evaluation,
      stream,
      to: Math.min(count, stream.epochLength),
      workers: 0,
    });
    try {
      return await collectPictures(model, loader, data.targets, data.statistics);
    } finally {
      await loader.close();
    }
  } finally {
    model?.dispose();
    data.close();
  }
}
