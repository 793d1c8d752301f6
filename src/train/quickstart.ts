import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { extractFeatures, type ExtractProgress, type ExtractSummary } from '../data/extract.js';
import { openTeacher, type TeacherSpec } from '../teachers/open.js';
import { CONTESTANTS, comparisonOf, compareOnHeldOut, judge, trainRandomEncoder, type Contestant, type Fits } from './compare.js';
import type { TrainConfig } from './config.js';
import { lockRun } from './lock.js';
import { runPictures } from './report-pictures.js';
import { writeReport } from './report.js';
import { runTraining, type RunEvents } from './run.js';

export interface PhotosToFeatures {
  /** folder of photographs */
  photos: string;
  teacher: TeacherSpec;
  /** stored views of each training photo; held-out ones are stored whole and once */
  views: number;
  /** share of the photos that is held out, 0 to 1 */
  heldOut: number;
  onProgress?: (progress: ExtractProgress) => void;
}

/**
 * Makes the dataset that the configuration trains on. Shards of an earlier call that still hold what would be written are kept.
 * @throws ERR_CONFIG unless the configuration names one dataset and this teacher; and what extraction and teacher throw
 */
export async function preparePhotos(config: TrainConfig, options: PhotosToFeatures): Promise<ExtractSummary> {
  const names = Object.keys(config.data.mix);
  if (names.length !== 1) throw new TheiaError('ERR_CONFIG', `data.mix: expected one dataset to make, got ${names.length}`);
  if (config.data.teachers.join() !== options.teacher.name)
    throw new TheiaError('ERR_CONFIG', `data.teachers: expected ${options.teacher.name}, got ${config.data.teachers.join(', ')}`);
  const teacher = await openTeacher(options.teacher);
  try {
    return await extractFeatures({
      images: options.photos,
      teachers: [teacher],
      root: config.data.root,
      dataset: names[0]!,
      shares: [
        { name: config.data.split, share: 1 - options.heldOut },
        { name: config.eval.split, share: options.heldOut },
      ],
      views: options.views,
      viewSplits: [config.data.split],
      resume: true,
      size: config.preprocess.size,
      filter: config.preprocess.filter,
      statisticsSplit: config.data.split,
      ...(options.onProgress ? { onProgress: options.onProgress } : {}),
    });
  } finally {
    teacher.dispose();
  }
}

/** Where the run of the control lies: beside the student's. */
export function randomRunOf(config: TrainConfig): string {
  return `${config.output}-random-encoder`;
}

/** Clears the place of a run. @throws ERR_CONFIG if a trainer is at work in it */
function replaceRun(runDir: string): void {
  if (!existsSync(runDir)) return;
  lockRun(runDir).release();
  rmSync(runDir, { recursive: true, force: true });
}

/** Trains the student; a run of an earlier quickstart in its place is replaced. */
export async function trainStudent(config: TrainConfig, events: { version?: string } & RunEvents = {}): Promise<void> {
  replaceRun(config.output);
  await runTraining(config, events);
}

/** Trains the control: the same, but for an encoder that stays random. */
export async function trainControl(config: TrainConfig, events: { version?: string } & RunEvents = {}): Promise<void> {
  replaceRun(randomRunOf(config));
  await trainRandomEncoder(config, randomRunOf(config), events);
}

export interface QuickstartResult {
  seed: number;
  teacher: string;
  fits: Fits;
  beatsAll: boolean;
  lostTo: Contestant[];
  /** explained variance of the student less that of the random encoder */
  margin: number;
  /** the same by seed, of all runs with these settings that results.jsonl knows */
  margins: Map<number, number>;
  report: string;
}

/** Measures both runs on the held-out photos, keeps the result in results.jsonl beside the runs and writes the student's report. */
export async function concludeQuickstart(config: TrainConfig): Promise<QuickstartResult> {
  const { teacher, fits } = await compareOnHeldOut(config, randomRunOf(config));
  const { beatsAll, margin, lostTo } = judge(fits);
  const path = join(dirname(config.output), 'results.jsonl');
  const margins = rememberResult(path, config, fits, margin);
  const report = await writeReport(config.output, {
    title: 'Theia-T from photographs',
    comparison: comparisonOf(fits, margins),
    pictures: (await runPictures(config, 8)) ?? [],
  });
  return { seed: config.seed, teacher, fits, beatsAll, lostTo, margin, margins, report };
}

/** Stands for everything of a configuration that makes two results comparable: all but seed, place and threads, and the data itself. */
function settingsOf(config: TrainConfig): string {
  const { seed: _seed, output: _output, threads: _threads, device: _device, ...rest } = config;
  return createHash('sha256').update(JSON.stringify(rest)).digest('hex').slice(0, 16);
}

function rememberResult(path: string, config: TrainConfig, fits: Fits, margin: number): Map<number, number> {
  const settings = `${settingsOf(config)}-${fits.get('student')!.images}`;
  const row = {
    seed: config.seed,
    settings,
    steps: config.train.steps,
    images: fits.get('student')!.images,
    explained: Object.fromEntries(CONTESTANTS.map((name) => [name, fits.get(name)!.explained])),
    cosine: Object.fromEntries(CONTESTANTS.map((name) => [name, fits.get(name)!.cosine])),
    margin,
  };
  try {
    mkdirSync(dirname(path), { recursive: true });
    appendFileSync(path, `${JSON.stringify(row)}\n`);
    return readMargins(path, settings);
  } catch (error) {
    throw fileError(error, path, 'keeping the result in');
  }
}

/** The newest margin of every seed with these settings. Lines that are none of ours are passed over. */
export function readMargins(path: string, settings: string): Map<number, number> {
  const margins = new Map<number, number>();
  if (!existsSync(path)) return margins;
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch {
      continue;
    }
    if (typeof row !== 'object' || row === null) continue;
    const { seed, settings: its, margin } = row as Record<string, unknown>;
    if (typeof seed === 'number' && its === settings && typeof margin === 'number') margins.set(seed, margin);
  }
  return margins;
}
