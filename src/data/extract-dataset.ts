import { createHash } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { TheiaError } from '../errors.js';
import { openDataset, type Dataset } from './dataset.js';
import type { ExtractPlan, PlannedSample } from './extract-plan.js';
import { readKeys, type KeyRecord } from './keys.js';
import { ShardFiles } from './sample.js';
import { IMAGES, readSplits } from './shards.js';

/** Whether a folder is a dataset (image shards and splits.json) and not a folder of photos. */
export function isDatasetFolder(folder: string): boolean {
  if (!statSync(join(folder, 'splits.json'), { throwIfNoEntry: false })?.isFile()) return false;
  try {
    return readdirSync(join(folder, IMAGES)).some((name) => name.endsWith('.tar'));
  } catch {
    return false;
  }
}

/**
 * Takes the samples of a dataset as they are stored, in their splits and order: for features of one more teacher. Where the result goes
 * into the same dataset, its images, keys.jsonl and splits.json stay as they are.
 * @throws ERR_FILE, ERR_CORRUPT as {@link openDataset} and readSplits
 */
export async function planFromDataset(folder: string, target: string, missing: (key: string) => string | undefined): Promise<ExtractPlan> {
  const [root, name] = [dirname(resolve(folder)), basename(resolve(folder))];
  const known = new Map((await readKeys(join(folder, 'keys.jsonl')))?.map((record) => [record.key, record]));
  const splits: ExtractPlan['splits'] = new Map();
  const records: KeyRecord[] = [];
  const skipped: ExtractPlan['skipped'] = [];
  const places = new Map<PlannedSample, { dataset: Dataset; index: number }>();
  const opened: Dataset[] = [];
  const files = new ShardFiles();
  const close = (): void => {
    for (const dataset of opened) dataset.close();
    files.close();
  };
  try {
    for (const [split, count] of await readSplits(root, name)) {
      const samples: PlannedSample[] = [];
      splits.set(split, samples);
      if (count === 0) continue;
      const dataset = await openDataset(root, name, split, []);
      opened.push(dataset);
      for (const { key, reason } of dataset.damaged) skipped.push({ path: key, reason });
      dataset.keys.forEach((key, index) => {
        const lack = missing(key);
        if (lack !== undefined) return void skipped.push({ path: key, reason: lack });
        const record = known.get(key);
        const sha256 =
          record?.sha256 ??
          createHash('sha256')
            .update(files.read(dataset.locate(index).image, key))
            .digest('hex');
        const sample = { key, path: record?.path ?? key, sha256, view: record?.view ?? 0 };
        samples.push(sample);
        places.set(sample, { dataset, index });
        records.push({ key, path: sample.path, sha256, split, ...(sample.view > 0 ? { view: sample.view } : {}) });
      });
    }
    if (records.length === 0) throw new TheiaError('ERR_FILE', `${folder}: expected samples that can be used, found none`);
  } catch (error) {
    close();
    throw error;
  }
  const load: ExtractPlan['load'] = async (sample) => {
    const { dataset, index } = places.get(sample)!;
    return (await dataset.read(index)).image;
  };
  return { splits, records, photos: records.length, skipped, duplicates: [], inPlace: resolve(folder) === resolve(target), load, close };
}
