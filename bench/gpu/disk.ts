// theia-train as people run it: tar shards on disk, data workers, pinned batches, steps on the GPU, metrics a step late.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeFeature } from '../../src/data/feature.js';
import { IMAGES, planShards, shardPath, teacherColumn, writeShard } from '../../src/data/shards.js';
import { encodeNpy } from '../../src/formats/index.js';
import { TEACHER_SIZES, expandTeachers } from '../../src/teachers/names.js';
import type { Device } from '../../src/tensor/index.js';
import { loadConfig } from '../../src/train/config.js';
import { runTraining } from '../../src/train/run.js';
import { patternFloat32 } from '../support/pattern.js';
import { STUDENTS, pictures } from '../support/student.js';
import type { StudentSize } from '../support/student.js';
import { rowOf } from './models.js';
import type { ModelRow } from './models.js';

export interface DiskRun {
  size: StudentSize;
  batch: number;
  /** steps that are timed, behind `warmup` others */
  steps: number;
  warmup: number;
  /** of the dataset: 1.9 MB each, read again in every epoch, so mostly from the page cache */
  samples: number;
  workers: number;
}

/** A dataset as `theia features` writes it, of pictures that need no decoder and features in bfloat16. */
async function writeDataset(root: string, samples: number, teachers: readonly string[]): Promise<void> {
  const keys = Array.from({ length: samples }, (_, i) => `s${String(i).padStart(6, '0')}`);
  const picture = encodeNpy(pictures(1), [224, 224, 3]);
  const columns = new Map([[IMAGES, picture]]);
  for (const name of teachers) {
    const shape = [...TEACHER_SIZES.get(name)!] as [number, number, number];
    columns.set(teacherColumn(name), encodeFeature(patternFloat32(shape[0] * shape[1] * shape[2]), shape, { dtype: 'BF16' }));
  }
  for (const [column, bytes] of columns)
    for (const [index, shard] of planShards(keys, 64).entries())
      await writeShard(
        shardPath(root, 'disk', column, 'train', index),
        column,
        shard.map((key) => ({ key, bytes })),
      );
}

/** @param flops operations of a step, as measured elsewhere */
export async function timeTrainingFromDisk(run: DiskRun, device: Device, flops: number): Promise<ModelRow> {
  const { size, batch, steps, warmup, samples, workers } = run;
  const folder = mkdtempSync(join(tmpdir(), 'theia-disk-'));
  try {
    const teachers = expandTeachers(['cdiv']);
    await writeDataset(join(folder, 'data'), samples, teachers);
    const { hidden, depth, heads, mlp } = STUDENTS[size];
    const set = [
      `model.backbone={ hidden = ${hidden}, depth = ${depth}, heads = ${heads}, mlp = ${mlp} }`,
      `data.root=${join(folder, 'data')}`,
      `data.teachers=${JSON.stringify(teachers)}`,
      'data.normalize=false',
      `data.workers=${workers}`,
      `train.batch=${batch}`,
      `train.steps=${warmup + steps + 1}`,
      'checkpoint.every=1000000', // one at the end
      `output=${join(folder, 'run')}`,
      `device=${device}`,
      'dtype=bfloat16',
    ];
    const times: number[] = [];
    await runTraining(loadConfig({ set }), { onRow: (r) => void times.push(batch / r.images_per_s) });
    return rowOf(`train ${size} batch ${batch}, shards on disk`, batch, flops, times.slice(warmup, warmup + steps)); // the last row follows at once
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
