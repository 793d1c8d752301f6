import { TheiaError } from '../errors.js';
import type { Batch } from '../data/loader.js';
import { Stream } from '../data/order.js';
import { loadTheia } from '../models/checkpoint.js';
import type { Theia } from '../models/theia.js';
import { isClsTarget } from '../teachers/names.js';
import { meanMap, measureFits, normalisedTargets, studentPredictor, type MeasuredFit, type Predictor } from './baselines.js';
import { newestCheckpoint } from './checkpoint-dir.js';
import type { TrainConfig } from './config.js';
import type { Comparison } from './report.js';
import { buildTrainer, runTraining, type RunEvents } from './run.js';
import { makeLoader, openTrainingData, type TrainingData } from './training-data.js';

/** What answers the question; the last three are what a trained student has to beat. */
export const CONTESTANTS = ['student', 'random encoder', 'mean map', 'untrained'] as const;
export type Contestant = (typeof CONTESTANTS)[number];

/** How a page or a terminal calls them. */
export const CONTESTANT_NAMES: Readonly<Record<Contestant, string>> = {
  student: 'the student',
  'random encoder': 'encoder left random, translator trained',
  'mean map': 'mean map of the training images, no network',
  untrained: 'the student before training',
};

export type Fits = ReadonlyMap<Contestant, MeasuredFit>;

/** The control of a run: the same configuration, data and steps, but an encoder that stays as it was initialised. */
export async function trainRandomEncoder(
  config: TrainConfig,
  output: string,
  options: { version?: string } & RunEvents = {},
): Promise<void> {
  await runTraining({ ...config, output }, { ...options, freezeEncoder: true });
}

/** All images of one side, in order, each once. */
async function* everyImage(config: TrainConfig, data: TrainingData, side: 'datasets' | 'evaluation'): AsyncGenerator<Batch> {
  const datasets = data[side];
  for (const dataset of datasets) {
    const stream = new Stream({ seed: 0, sizes: [dataset.length], weights: [1], shuffle: false });
    const loader = makeLoader(config, data, { datasets: [dataset], stream, to: dataset.length, workers: 0 });
    try {
      yield* loader;
    } finally {
      await loader.close();
    }
  }
}

/**
 * Measures the student of a finished run, and what it has to beat, on the whole evaluation split. Targets are normalised with the statistics
 * of training, so nothing of the held-out images is known to anyone.
 * @param randomDir the run of {@link trainRandomEncoder}
 * @throws ERR_CONFIG without an evaluation split or a teacher with a map; ERR_FILE without a checkpoint
 */
export async function compareOnHeldOut(config: TrainConfig, randomDir: string): Promise<{ teacher: string; fits: Fits }> {
  const teacher = config.data.teachers.find((name) => !isClsTarget(name));
  if (teacher === undefined) throw new TheiaError('ERR_CONFIG', 'data.teachers: expected a teacher with a feature map to compare on');
  const data = await openTrainingData(config);
  const models: Theia[] = [];
  try {
    if (data.evaluation.length === 0)
      throw new TheiaError('ERR_CONFIG', `eval.split: expected images of ${config.eval.split} to compare on, got none`);
    const statistics = data.statistics.get(teacher);
    const maps = async function* (): AsyncGenerator<Float32Array> {
      for await (const batch of everyImage(config, data, 'datasets'))
        if (batch.keys.length > 0) yield* normalisedTargets(batch, teacher, statistics);
    };
    const mean = await meanMap(maps());
    const { mean: m, std } = config.preprocess;
    const trained = (runDir: string): Predictor => {
      const found = newestCheckpoint(runDir);
      if (found === undefined) throw new TheiaError('ERR_FILE', `${runDir}: expected a finished run, got no complete checkpoint`);
      const model = loadTheia(found.path, { normalisation: { mean: m, std } });
      models.push(model);
      return studentPredictor(model, teacher);
    };
    const untrained = buildTrainer(config, data);
    models.push(untrained.model);
    untrained.dispose();
    const predictors = new Map<Contestant, Predictor>([
      ['student', trained(config.output)],
      ['random encoder', trained(randomDir)],
      ['mean map', (batch) => batch.keys.map(() => mean)],
      ['untrained', studentPredictor(untrained.model, teacher)],
    ]);
    const fits = await measureFits(everyImage(config, data, 'evaluation'), teacher, statistics, predictors);
    return { teacher, fits: fits as Map<Contestant, MeasuredFit> };
  } finally {
    for (const model of models) model.dispose();
    data.close();
  }
}

/** Whether the student explains more than each of the others, and by how much more than the random encoder. */
export function judge(fits: ReadonlyMap<Contestant, { explained: number }>): { beatsAll: boolean; margin: number; lostTo: Contestant[] } {
  const of = (name: Contestant): number => fits.get(name)!.explained;
  const lostTo = CONTESTANTS.filter((name) => name !== 'student' && !(of('student') > of(name)));
  return { beatsAll: lostTo.length === 0, margin: of('student') - of('random encoder'), lostTo };
}

/** Mean and extent of the margins of several seeds, in words. */
export function spreadText(margins: ReadonlyMap<number, number>): string {
  const values = [...margins.values()];
  if (values.length < 2) return `one seed only (${[...margins.keys()].join()}): its spread is not known`;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `mean ${mean.toFixed(4)}, from ${low.toFixed(4)} to ${high.toFixed(4)} over seeds ${[...margins.keys()].sort((a, b) => a - b).join(', ')}`;
}

/** The comparison as a report shows it. @param margins margin over the random encoder by seed, this run's included */
export function comparisonOf(fits: Fits, margins: ReadonlyMap<number, number>): Comparison {
  const { beatsAll, margin, lostTo } = judge(fits);
  const { images } = fits.get('student')!;
  const verdict = beatsAll
    ? `The student beats all three. Margin over the random encoder: ${margin.toFixed(4)}; ${spreadText(margins)}.`
    : `The student does not beat: ${lostTo.map((name) => CONTESTANT_NAMES[name]).join('; ')}. Margin over the random encoder: ${margin.toFixed(4)}.`;
  return {
    title: 'What training was worth, on held-out images',
    text: `On ${images} images that none of them was trained on. Variance explained is 1 − Σ(p − t)² / Σt² over all positions and channels of the teacher’s features, normalised by the training images; cosine is the mean over the images.`,
    rows: CONTESTANTS.map((name) => {
      const { cosine, explained } = fits.get(name)!;
      return { name: CONTESTANT_NAMES[name], cosine, explained, main: name === 'student' };
    }),
    verdict: { ok: beatsAll, text: verdict },
  };
}
