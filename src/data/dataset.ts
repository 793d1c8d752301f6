import { TheiaError } from '../errors.js';
import { indexShard, splitMemberName, type ShardMember } from './shard-index.js';
import { IMAGES, listShards, memberExtension, teacherColumn } from './shards.js';
import { ShardFiles, readSample, type Sample, type SampleLocation, type Span } from './sample.js';

/** A sample that cannot be used, and why. */
export interface DamagedSample {
  key: string;
  reason: string;
}

/** At most so many damaged samples are kept by name; all are counted. */
const MAX_LISTED = 1000;

const IMAGE_EXTENSIONS = new Set(['image', 'npy', 'jpg', 'jpeg', 'png', 'webp']);

/** Where the members of one column lie, by sample. */
interface Column {
  shards: string[];
  shard: number[];
  offset: number[];
  size: number[];
}

/**
 * One split of a dataset folder: images and the features of some teachers, joined by sample key, in the order of the image shards.
 * Only names and places are in memory; `read` reads by position.
 */
export class Dataset {
  readonly name: string;
  readonly split: string;
  readonly teachers: readonly string[];
  /** The whole samples' keys, in shard order. */
  readonly keys: readonly string[];
  /** Samples left out because a part is missing or doubled: the first {@link MAX_LISTED} by name, then the count of all. */
  readonly damaged: readonly DamagedSample[];
  readonly damagedCount: number;
  readonly #columns: Column[];
  readonly #files = new ShardFiles();

  /** Made by {@link openDataset}. */
  constructor(name: string, split: string, teachers: readonly string[], join: Joined) {
    this.name = name;
    this.split = split;
    this.teachers = teachers;
    this.keys = join.keys;
    this.damaged = join.damaged;
    this.damagedCount = join.damagedCount;
    this.#columns = join.columns;
  }

  /** Number of whole samples. */
  get length(): number {
    return this.keys.length;
  }

  /** Samples found, whole or not. */
  get total(): number {
    return this.length + this.damagedCount;
  }

  /** Where sample i lies; plain data, for handing to a worker. @throws ERR_ARGS if there is no such sample */
  locate(i: number): SampleLocation {
    if (!Number.isInteger(i) || i < 0 || i >= this.length) {
      throw new TheiaError('ERR_ARGS', `${this.name}: sample ${i} of ${this.length} was asked for`);
    }
    const span = ({ shards, shard, offset, size }: Column): Span => ({ path: shards[shard[i]], offset: offset[i], size: size[i] });
    const [images, ...features] = this.#columns;
    return {
      dataset: this.name,
      key: this.keys[i],
      image: span(images),
      features: features.map((column, t) => ({ teacher: this.teachers[t], span: span(column) })),
    };
  }

  /**
   * Reads and decodes sample i: the image at its own size, features as stored.
   * @throws ERR_CORRUPT, ERR_SHAPE, ERR_DTYPE, ERR_FILE naming the sample
   */
  read(i: number): Promise<Sample> {
    return readSample(this.locate(i), this.#files);
  }

  /**
   * @param maxBad the share of samples that may be damaged
   * @param found damaged samples found on reading, to be counted with those found on opening
   * @throws ERR_CORRUPT naming the first few, if there are more
   */
  checkDamaged(maxBad: number, found: readonly DamagedSample[] = []): void {
    const bad = this.damagedCount + found.length;
    if (bad === 0 || bad <= maxBad * this.total) return;
    const examples = [...found, ...this.damaged].slice(0, 5).map(({ key, reason }) => `${key}: ${reason}`);
    const share = `${bad} of ${this.total} samples are damaged, data.max_bad allows a share of ${maxBad}`;
    throw new TheiaError('ERR_CORRUPT', `dataset ${this.name}, split ${this.split}: ${share}: ${examples.join('; ')}`);
  }

  /** Closes the shards that `read` opened; a later `read` opens them again. */
  close(): void {
    this.#files.close();
  }
}

interface Joined {
  keys: string[];
  damaged: DamagedSample[];
  damagedCount: number;
  columns: Column[];
}

/**
 * Opens `<root>/<dataset>` for one split: indexes its shards (see {@link indexShard}) and joins images and features by key.
 * A sample is whole if it has exactly one image and exactly one feature file of every teacher; the others are in `damaged`.
 * @param teachers names as the model uses them; the folder is the name with `/` as `_`
 * @throws ERR_FILE if the folder, a teacher's folder or shards of the split are missing; ERR_CORRUPT for a broken tar, or if no sample is whole
 */
export async function openDataset(root: string, dataset: string, split: string, teachers: readonly string[]): Promise<Dataset> {
  const join = new Join();
  for (const column of [IMAGES, ...teachers.map(teacherColumn)]) {
    const shards = await listShards(root, dataset, column, split);
    join.startColumn(column, shards);
    for (let s = 0; s < shards.length; s++) join.add(s, await indexShard(shards[s]));
  }
  const result = join.finish();
  const opened = new Dataset(dataset, split, [...teachers], result);
  if (opened.length === 0) opened.checkDamaged(0);
  if (opened.length === 0) throw new TheiaError('ERR_CORRUPT', `dataset ${dataset}, split ${split}: its shards hold no samples`);
  return opened;
}

/** Brings the columns together, image shards first. Samples are numbered as their images come. */
class Join {
  readonly #keys: string[] = [];
  readonly #number = new Map<string, number>();
  /** Reasons, by sample number; and by key where there is no image. */
  readonly #bad = new Map<number, string>();
  readonly #orphans = new Map<string, string>();
  readonly #columns: (Column & { name: string; strange: string })[] = [];

  startColumn(name: string, shards: string[]): void {
    // Filled at once: features may come in any order, and an array written with gaps becomes a slow one.
    const empty = (): number[] => new Array<number>(this.#keys.length).fill(-1);
    this.#columns.push({ name, shards, shard: empty(), offset: empty(), size: empty(), strange: '' });
  }

  add(shard: number, members: readonly ShardMember[]): void {
    const column = this.#columns[this.#columns.length - 1];
    const images = column.name === IMAGES;
    const wanted = memberExtension(column.name);
    for (const { name, offset, size } of members) {
      const parts = splitMemberName(name);
      if (parts === null) continue;
      const { key, extension } = parts;
      if (images ? !IMAGE_EXTENSIONS.has(extension) : extension !== wanted && extension !== 'safetensors') {
        column.strange ||= name;
        continue;
      }
      let number = this.#number.get(key);
      if (number === undefined && images) {
        number = this.#keys.push(key) - 1;
        this.#number.set(key, number);
      } else if (number === undefined) {
        this.#orphans.set(key, `features in ${column.name} but no image`);
        continue;
      } else if (column.offset[number] >= 0) {
        this.#bad.set(number, `more than one member in ${column.name}`);
        continue;
      }
      column.shard[number] = shard;
      column.offset[number] = offset;
      column.size[number] = size;
    }
  }

  finish(): Joined {
    const columns = this.#columns.map(({ shards }): Column => ({ shards, shard: [], offset: [], size: [] }));
    const joined: Joined = { keys: [], damaged: [], damagedCount: 0, columns };
    const reject = (key: string, reason: string): void => {
      if (joined.damagedCount++ < MAX_LISTED) joined.damaged.push({ key, reason });
    };
    this.#keys.forEach((key, i) => {
      const missing = this.#columns.find((column) => column.offset[i] < 0);
      const reason = this.#bad.get(i) ?? (missing && lacking(missing));
      if (reason !== undefined) return reject(key, reason);
      joined.keys.push(key);
      columns.forEach((column, c) => {
        column.shard.push(this.#columns[c].shard[i]);
        column.offset.push(this.#columns[c].offset[i]);
        column.size.push(this.#columns[c].size[i]);
      });
    });
    for (const [key, reason] of this.#orphans) reject(key, reason);
    return joined;
  }
}

function lacking({ name, strange }: { name: string; strange: string }): string {
  const other = strange === '' ? '' : `; members such as ${strange} were passed over`;
  return `an image but no ${memberExtension(name)} in ${name}${other}`;
}
