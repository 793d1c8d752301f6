import { join } from 'node:path';
import { TheiaError } from '../errors.js';
import { decodeImage, type Image } from './image.js';
import { assignKeys, hashFile, listImages, readKeys, removeDuplicates, viewKey, type KeyRecord, type SourceImage } from './keys.js';
import { datasetFolder } from './shards.js';
import { assignSplits, perceptualHash, type SplitShare } from './split.js';
import { applyView, imageView } from './views.js';

/** A sample to be written: one view of one photo. */
export interface PlannedSample {
  key: string;
  /** below the folder of images */
  path: string;
  sha256: string;
  view: number;
}

export interface ExtractPlan {
  /** Samples of each split, in the order they are stored; a split may have none. */
  splits: Map<string, PlannedSample[]>;
  records: KeyRecord[];
  /** Photos that are used. */
  photos: number;
  /** Photos that were passed over, and why. */
  skipped: { path: string; reason: string }[];
  /** Photos with the content of another one. */
  duplicates: { path: string; of: string }[];
  /** The samples' images are in the dataset already: nothing but features is written. */
  inPlace: boolean;
  /** The sample's image in its own resolution. */
  load: (sample: PlannedSample) => Promise<Image>;
  close: () => void;
}

export interface PlanOptions {
  images: string;
  root: string;
  dataset: string;
  shares: readonly SplitShare[];
  views: number;
  /** The splits whose photos are stored in all views, those of others whole and once; default all splits. */
  viewSplits?: readonly string[];
  /** Photos that keys.jsonl of the dataset names keep their split. */
  keepSplits: boolean;
  /** Why a sample of this key cannot be used, if so. */
  missing: (key: string) => string | undefined;
  onPhoto?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Photos decoded at the same time. */
const SIDE_BY_SIDE = 4;

/** @throws ERR_ABORTED if the work was called off */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TheiaError('ERR_ABORTED', 'features: called off');
}

/**
 * Decides which samples a dataset gets: lists the photos, reads each once (its hash, and whether it can be decoded), drops doubles, and
 * gives keys and splits. A pure function of the photos' names and contents, and of keys.jsonl if `keepSplits`.
 * @throws ERR_FILE if the folder cannot be read or holds no usable photo
 */
export async function planExtraction(options: PlanOptions): Promise<ExtractPlan> {
  const { images, root, dataset, shares, views, viewSplits, keepSplits, missing, onPhoto, signal } = options;
  const listing = await listImages(images);
  const skipped = [...listing.skipped];
  const found = listing.images;
  const hashed: SourceImage[] = [];
  for (const path of found) {
    checkAborted(signal);
    hashed.push({ path, sha256: await hashFile(join(images, path)) });
  }
  const { kept, duplicates } = removeDuplicates(hashed);

  const looks = new Map<SourceImage, bigint>();
  let done = 0;
  const scan = async (photo: SourceImage): Promise<void> => {
    try {
      looks.set(photo, perceptualHash(await decodeImage(join(images, photo.path))));
    } catch (error) {
      // A photo that cannot be decoded is left out; a missing decoder or a failing disk is no photo's fault.
      if (!(error instanceof TheiaError) || (error.code !== 'ERR_CORRUPT' && error.code !== 'ERR_FILE')) throw error;
      skipped.push({ path: photo.path, reason: error.message });
    }
    onPhoto?.(++done, kept.length);
  };
  for (let i = 0; i < kept.length; i += SIDE_BY_SIDE) {
    checkAborted(signal);
    await Promise.all(kept.slice(i, i + SIDE_BY_SIDE).map(scan));
  }

  // Keys are given before features are missed, so that a photo's key does not depend on which features exist.
  const readable = kept.filter((photo) => looks.has(photo));
  const keys = assignKeys(readable, views);
  const usable = readable.flatMap((photo, i) => {
    const lack = Array.from({ length: views }, (_, k) => missing(viewKey(keys[i], k))).find((reason) => reason !== undefined);
    if (lack !== undefined) skipped.push({ path: photo.path, reason: lack });
    return lack === undefined ? [{ photo, key: keys[i] }] : [];
  });
  if (usable.length === 0) {
    const reasons = skipped.slice(0, 3).map(({ path, reason }) => `${path}: ${reason}`);
    throw new TheiaError(
      'ERR_FILE',
      `${images}: expected photos (JPEG, PNG, WebP), found none to use${reasons.length > 0 ? `: ${reasons.join('; ')}` : ''}`,
    );
  }
  const before = keepSplits ? await readKeys(join(datasetFolder(root, dataset), 'keys.jsonl')) : null;
  const sides = assignSplits(
    usable.map(({ photo }) => ({ sha256: photo.sha256, looks: looks.get(photo)! })),
    shares,
    new Map((before ?? []).map(({ sha256, split }) => [sha256, split])),
  );

  const splits = new Map<string, PlannedSample[]>(shares.map(({ name }) => [name, []]));
  const records: KeyRecord[] = [];
  usable.forEach(({ photo, key }, i) => {
    const stored = viewSplits === undefined || viewSplits.includes(sides[i]) ? views : 1;
    for (let view = 0; view < stored; view++) {
      const sample = { key: viewKey(key, view), path: photo.path, sha256: photo.sha256, view };
      splits.get(sides[i])!.push(sample);
      const { path, sha256 } = photo;
      records.push({ key: sample.key, path, sha256, split: sides[i], ...(view > 0 ? { view } : {}) });
    }
  });
  const load: ExtractPlan['load'] = async ({ path, sha256, view }) => {
    const image = await decodeImage(join(images, path));
    return applyView(image, imageView(sha256, view, image.width, image.height));
  };
  return { splits, records, photos: usable.length, skipped, duplicates, inPlace: false, load, close: () => undefined };
}
