import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { SafetensorsFile, writeSafetensors } from '../formats/index.js';
import { configJson, loadWeights, saveWeights } from '../models/checkpoint.js';
import { packageVersion } from '../version.js';
import type { Trainer } from './trainer.js';
import { readCheckpointState } from './checkpoint-dir.js';

/** What a run needs besides weights and moments to go on where it stopped. */
export interface RunState {
  /** optimiser steps taken */
  step: number;
  /** number of the stream's next sample */
  position: number;
  /** seconds of training behind it */
  wallS: number;
  /** samples of each dataset: with others the order would be another */
  sizes: number[];
}

/** Writes the three files of a checkpoint into a folder. */
export function saveCheckpoint(folder: string, trainer: Trainer, state: RunState): void {
  const { model, optimizer } = trainer;
  const { arena } = model;
  saveWeights(model, join(folder, 'model.safetensors'), { theia_native: packageVersion() });
  const moments = (['exp_avg', 'exp_avg_sq'] as const).flatMap((name) =>
    arena.segments.map((s) => ({
      name: `${name}.${s.key}`,
      dtype: 'F32' as const,
      shape: [...s.fileShape],
      data: () => arena.export(s.key, name === 'exp_avg' ? optimizer.expAvg : optimizer.expAvgSq),
    })),
  );
  writeSafetensors(join(folder, 'optimizer.safetensors'), moments);
  const json = {
    format: 1,
    step: state.step,
    position: state.position,
    wall_s: state.wallS,
    sizes: state.sizes,
    version: packageVersion(),
    model: configJson(model.config),
    steps: [...optimizer.stepCounts()],
  };
  writeFileSync(join(folder, 'state.json'), JSON.stringify(json, null, 1));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(configJson(model.config), null, 2));
}

const whole = (v: unknown): v is number => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0;

/**
 * Takes over a checkpoint: weights, moments, step counts.
 * @throws ERR_CORRUPT naming file and field
 */
export function restoreCheckpoint(folder: string, trainer: Trainer): RunState {
  const { model, optimizer } = trainer;
  const where = join(folder, 'state.json');
  const json = readCheckpointState(folder);
  const bad = (what: string): TheiaError => new TheiaError('ERR_CORRUPT', `${where}: expected ${what}`);
  const { step, position, wall_s: wallS, sizes, steps } = json;
  if (!whole(step)) throw bad('step as a whole number');
  if (!whole(position)) throw bad('position as a whole number');
  if (typeof wallS !== 'number' || !Number.isFinite(wallS)) throw bad('wall_s as a number');
  if (!Array.isArray(sizes) || !sizes.every(whole)) throw bad('sizes as a list of whole numbers');
  if (!Array.isArray(steps) || !steps.every((s): s is [string, number] => Array.isArray(s) && typeof s[0] === 'string' && whole(s[1])))
    throw bad('steps as a list of names and whole numbers');
  const weights = join(folder, 'model.safetensors');
  using file = SafetensorsFile.open(weights);
  loadWeights(model, file, weights);
  const path = join(folder, 'optimizer.safetensors');
  using moments = SafetensorsFile.open(path);
  for (const s of model.arena.segments)
    for (const name of ['exp_avg', 'exp_avg_sq']) {
      const key = `${name}.${s.key}`;
      if (!moments.has(key) || moments.info(key).shape.join() !== s.fileShape.join())
        throw new TheiaError(
          'ERR_CORRUPT',
          `${path}: expected ${key} of [${s.fileShape.join(',')}], got ${moments.has(key) ? `[${moments.info(key).shape.join(',')}]` : 'none'}`,
        );
    }
  optimizer.restore(new Map(steps), (name, key) => moments.float32(`${name}.${key}`));
  trainer.steps = step;
  return { step, position, wallS, sizes: sizes as number[] };
}

/** The resolved configuration of a run folder. */
export function readRunConfig(runDir: string): string {
  const path = join(runDir, 'config.toml');
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fileError(error, path, 'reading the run’s configuration');
  }
}
