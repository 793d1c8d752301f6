// Students as the model benches use them: published sizes, the cdiv teachers, made-up pictures and features.
import { newModelConfig } from '../../src/models/config-complete.js';
import { BACKBONES } from '../../src/models/config.js';
import { Theia } from '../../src/models/theia.js';
import type { TheiaOptions } from '../../src/models/theia.js';
import { TEACHER_SIZES, expandTeachers } from '../../src/teachers/names.js';
import { patternBfloat16 } from './pattern.js';
import type { StepBatch, TargetBatch, TargetStatistics } from '../../src/train/step.js';

/** The published students, and one that is small enough for the emulator. */
export const STUDENTS = { ...BACKBONES, mini: { hidden: 64, depth: 1, heads: 1, mlp: 128 } } as const;
export type StudentSize = keyof typeof STUDENTS;

export function student(size: StudentSize, training: boolean, where: Pick<TheiaOptions, 'device' | 'compute'> = {}): Theia {
  const teachers = new Map(training ? expandTeachers(['cdiv']).map((n): [string, number[]] => [n, [...TEACHER_SIZES.get(n)!]]) : []);
  return new Theia(newModelConfig({ ...STUDENTS[size], teachers }), { training, ...where });
}

/** uint8 [batch,224,224,3] without a pattern that caches could use. */
export function pictures(batch: number): Uint8Array {
  return new Uint8Array(batch * 224 * 224 * 3).map((_, i) => Math.imul(i, 2654435761) >>> 24);
}

/** A batch with bfloat16 features of every teacher, finite and varied. */
export function trainingBatch(model: Theia, batch: number): StepBatch {
  const targets = new Map(
    [...model.config.teachers].map(([name, [c, h, w]]): [string, TargetBatch] => {
      const data = patternBfloat16(batch * h! * w! * c!).slice(); // each teacher its own: one array would stay in the cache
      return [name, { data, dtype: 'bfloat16', shape: [batch, h! * w!, c!] }];
    }),
  );
  return { images: pictures(batch), size: batch, targets };
}

/** Statistics by teacher, so that normalisation is part of what is timed. */
export function statisticsOf(model: Theia): Map<string, TargetStatistics> {
  return new Map(
    [...model.config.teachers].map(([name, [c]]) => [name, { mean: new Float32Array(c!).fill(0.1), std: new Float32Array(c!).fill(1.5) }]),
  );
}
