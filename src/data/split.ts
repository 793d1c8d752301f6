import { TheiaError } from '../errors.js';
import type { Image } from './image.js';

export interface SplitShare {
  name: string;
  /** Of all photos, 0 to 1. */
  share: number;
}

/** What the split of a photo is decided by. */
export interface SplitItem {
  /** SHA-256 of the file in hex. */
  sha256: string;
  /** {@link perceptualHash} of the photo. */
  looks: bigint;
}

/** Photos whose perceptual hashes differ in at most this many of 64 bits count as near-duplicates. */
export const NEAR_DUPLICATE_BITS = 4;

/**
 * Reads `train=0.9,val=0.1`: names of [A-Za-z0-9_-], shares that add up to 1.
 * @throws ERR_ARGS naming the part that is wrong
 */
export function parseSplit(text: string): SplitShare[] {
  const shares: SplitShare[] = [];
  for (const part of text.split(',')) {
    const [, name, number] = /^\s*([A-Za-z0-9_-]+)\s*=\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*$/.exec(part) ?? [];
    const share = Number(number);
    if (name === undefined || !(share >= 0 && share <= 1)) {
      throw new TheiaError('ERR_ARGS', `split: expected NAME=SHARE with a share from 0 to 1, got ${JSON.stringify(part)}`, {
        hint: 'for example train=0.9,val=0.1',
      });
    }
    if (name === '__proto__') throw new TheiaError('ERR_ARGS', `split: ${name} is no name of a split: it is reserved`);
    if (shares.some((other) => other.name === name))
      throw new TheiaError('ERR_ARGS', `split: ${name} is named twice in ${JSON.stringify(text)}`);
    shares.push({ name, share });
  }
  const sum = shares.reduce((total, { share }) => total + share, 0);
  if (Math.abs(sum - 1) > 1e-6)
    throw new TheiaError('ERR_ARGS', `split: the shares of ${JSON.stringify(text)} add up to ${sum}, expected 1`);
  return shares;
}

/** The split a content hash falls into: its first 48 bits as a fraction, counted off along the shares in their order. */
export function splitOfHash(sha256: string, shares: readonly SplitShare[]): string {
  const place = Number.parseInt(sha256.slice(0, 12), 16) / 2 ** 48;
  let end = 0;
  let last = '';
  for (const { name, share } of shares) {
    if (share === 0) continue;
    end += share;
    last = name;
    if (place < end) return name;
  }
  return last; // rounding of the sum
}

/**
 * A 64-bit difference hash: the photo is averaged over 9 x 8 equal boxes of grey, and a bit says whether a box is darker than its right
 * neighbour by more than 2 of 255 levels. It survives resizing, recompression and small changes of brightness. The margin of 2 keeps
 * flat areas (walls, sky) from giving bits that noise decides. Box edges fall between pixels exactly, by weights.
 */
export function perceptualHash(image: Image): bigint {
  const grey = boxGrey(image, 9, 8);
  let hash = 0n;
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) hash = (hash << 1n) | (grey[y * 9 + x + 1] - grey[y * 9 + x] > 2 ? 1n : 0n);
  }
  return hash;
}

/** Mean grey (Rec. 601) of columns x rows equal boxes. */
function boxGrey({ data, width, height }: Image, columns: number, rows: number): Float64Array {
  const sums = new Float64Array(columns * rows);
  const line = new Float64Array(columns);
  const across = boxes(width, columns);
  for (let y = 0; y < height; y++) {
    line.fill(0);
    for (let x = 0, at = y * width * 3; x < width; x++, at += 3) {
      const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      const box = across.first[x];
      const part = across.part[x];
      line[box] += grey * part;
      if (part < 1) spread(line, box, grey, x, width, columns);
    }
    for (let row = Math.floor((y * rows) / height); row < rows && row * height < (y + 1) * rows; row++) {
      const part = overlap(y, row, height, rows);
      for (let column = 0; column < columns; column++) sums[row * columns + column] += line[column] * part;
    }
  }
  const area = (width / columns) * (height / rows);
  return sums.map((sum) => sum / area);
}

/** For every pixel of a line: the first box it lies in, and how much of it does. */
function boxes(size: number, count: number): { first: Uint8Array; part: Float64Array } {
  const first = new Uint8Array(size);
  const part = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    first[i] = Math.floor((i * count) / size);
    part[i] = overlap(i, first[i], size, count);
  }
  return { first, part };
}

/** The rest of a pixel that reaches over the end of its first box, into one further box or (in tiny images) several. */
function spread(line: Float64Array, box: number, grey: number, x: number, width: number, columns: number): void {
  for (let next = box + 1; next < columns && next * width < (x + 1) * columns; next++)
    line[next] += grey * overlap(x, next, width, columns);
}

/** Length of pixel i's share in box b, when `size` pixels are cut into `count` boxes. */
function overlap(i: number, b: number, size: number, count: number): number {
  const from = Math.max(i, (b * size) / count);
  const to = Math.min(i + 1, ((b + 1) * size) / count);
  return Math.max(0, to - from);
}

/**
 * Puts every photo into a split. Photos that are near-duplicates (perceptual hashes at most {@link NEAR_DUPLICATE_BITS} bits apart),
 * directly or through others, form a group and go to one side.
 *
 * The rule: a photo that has a side already (`previous`, from keys.jsonl) keeps it, always. The new photos of a group follow its
 * member of smallest SHA-256 among those that have a side; if none has, the group goes where {@link splitOfHash} puts its smallest
 * SHA-256. So without `previous` the result is a function of the contents alone, whatever their names and order, and adding photos
 * that resemble no other moves none. Only a new near-duplicate of smaller hash can move its group, and with `previous` nothing moves.
 * @returns the split's name for each item, in order
 */
export function assignSplits(
  items: readonly SplitItem[],
  shares: readonly SplitShare[],
  previous: ReadonlyMap<string, string> = new Map(),
): string[] {
  const names = new Set(shares.map(({ name }) => name));
  const sideOf = (i: number): string | undefined => {
    const side = previous.get(items[i].sha256);
    return side !== undefined && names.has(side) ? side : undefined;
  };
  const group = nearDuplicateGroups(items.map(({ looks }) => looks));
  const leader = new Map<number, number>();
  group.forEach((root, i) => {
    const best = leader.get(root);
    if (best === undefined) return void leader.set(root, i);
    const settled = Number(sideOf(i) !== undefined) - Number(sideOf(best) !== undefined);
    if (settled > 0 || (settled === 0 && items[i].sha256 < items[best].sha256)) leader.set(root, i);
  });
  return items.map((_, i) => {
    const lead = leader.get(group[i])!;
    return sideOf(i) ?? sideOf(lead) ?? splitOfHash(items[lead].sha256, shares);
  });
}

/**
 * Groups hashes that are connected by steps of at most {@link NEAR_DUPLICATE_BITS} bits.
 * Two hashes that differ in at most 4 bits agree in one of 5 bands of bits, so only hashes that share a band are compared.
 * @returns for each hash the index of one member that stands for its group
 */
export function nearDuplicateGroups(hashes: readonly bigint[]): Uint32Array {
  const parent = Uint32Array.from(hashes, (_, i) => i);
  const find = (i: number): number => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const low = Uint32Array.from(hashes, (hash) => Number(hash & 0xffffffffn));
  const high = Uint32Array.from(hashes, (hash) => Number(hash >> 32n));
  // Equal hashes are merged first and compared once: a thousand blank photos must not be a million pairs.
  const seen = new Map<bigint, number>();
  const distinct: number[] = [];
  hashes.forEach((hash, i) => {
    const first = seen.get(hash);
    if (first !== undefined) parent[i] = first;
    else {
      seen.set(hash, i);
      distinct.push(i);
    }
  });
  const bands = NEAR_DUPLICATE_BITS + 1;
  for (let band = 0; band < bands; band++) {
    const from = Math.floor((64 * band) / bands);
    const width = BigInt(Math.floor((64 * (band + 1)) / bands) - from);
    const buckets = new Map<number, number[]>();
    for (const i of distinct) {
      const bits = Number(BigInt.asUintN(Number(width), hashes[i] >> BigInt(from)));
      const bucket = buckets.get(bits);
      if (bucket === undefined) {
        buckets.set(bits, [i]);
        continue;
      }
      for (const j of bucket) {
        if (bitCount(low[i] ^ low[j]) + bitCount(high[i] ^ high[j]) <= NEAR_DUPLICATE_BITS) parent[find(i)] = find(j);
      }
      bucket.push(i);
    }
  }
  return parent.map((_, i) => find(i));
}

function bitCount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
