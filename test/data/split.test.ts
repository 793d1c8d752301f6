import { createHash } from 'node:crypto';
import sharp, { type Sharp } from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeImage, type Image } from '../../src/data/image.js';
import { assignSplits, nearDuplicateGroups, parseSplit, perceptualHash, splitOfHash, type SplitItem } from '../../src/data/split.js';
import { noise, rejects, smoothImage } from './fixtures.js';

const sha = (text: string): string => createHash('sha256').update(text).digest('hex');
const shares = parseSplit('train=0.8,val=0.2');

/** Hashes far from one another: 64 random bits. */
function distinct(i: number): bigint {
  return noise(8, i * 2654435761 + 17).reduce((hash, byte) => (hash << 8n) | BigInt(byte), 0n);
}

function bits(a: bigint, b: bigint): number {
  return [...(a ^ b).toString(2)].filter((bit) => bit === '1').length;
}

test('parseSplit', async () => {
  assert.equal(parseSplit('train=0.9,val=0.1'), [
    { name: 'train', share: 0.9 },
    { name: 'val', share: 0.1 },
  ]);
  assert.equal(parseSplit('all=1'), [{ name: 'all', share: 1 }]);
  assert.is(parseSplit('a=.1, b=0.2 ,c=7e-1').length, 3);
  for (const [text, message] of [
    ['train', /NAME=SHARE/],
    ['train=2', /NAME=SHARE/],
    ['train=-0.1,val=1.1', /NAME=SHARE/],
    ['train=0.5,val=0.4', /add up to 0\.9/],
    ['a=0.5,a=0.5', /a is named twice/],
    ['a/b=1', /NAME=SHARE/],
    ['', /NAME=SHARE/],
    ['a=1,', /NAME=SHARE/],
    ['a=NaN', /NAME=SHARE/],
  ] as const) {
    await rejects(() => parseSplit(text), 'ERR_ARGS', message);
  }
  await rejects(() => parseSplit('__proto__=1'), 'ERR_ARGS', /reserved/);
});

test('the shares come out, and a share of 0 gets none', () => {
  const counts = new Map<string, number>();
  const three = parseSplit('train=0.8,test=0,val=0.2');
  for (let i = 0; i < 5000; i++) {
    const split = splitOfHash(sha(String(i)), three);
    counts.set(split, (counts.get(split) ?? 0) + 1);
  }
  assert.is(counts.get('test'), undefined);
  assert.ok(Math.abs(counts.get('val')! - 1000) < 120, String(counts.get('val')));
  assert.is(splitOfHash('f'.repeat(64), parseSplit('a=0.3333333,b=0.3333333,c=0.3333333')), 'c');
});

test('the perceptual hash survives resizing and recompression and tells photos apart', async () => {
  const reload = async (image: Image, change: (s: Sharp) => Sharp): Promise<Image> => {
    const { width, height } = image;
    return decodeImage(await change(sharp(image.data, { raw: { width, height, channels: 3 } })).toBuffer(), 'x');
  };
  const hashes: bigint[] = [];
  for (let seed = 1; seed <= 12; seed++) {
    const image = smoothImage(160, 120, seed);
    const hash = perceptualHash(image);
    hashes.push(hash);
    for (const change of [
      (s: Sharp) => s.jpeg({ quality: 60 }),
      (s: Sharp) => s.resize(97, 61, { fit: 'fill' }).png(),
      (s: Sharp) => s.resize(400, 300).webp({ quality: 70 }),
    ]) {
      const other = perceptualHash(await reload(image, change));
      assert.ok(bits(hash, other) <= 4, `seed ${seed}: ${bits(hash, other)} bits`);
    }
  }
  const far = hashes.flatMap((a, i) => hashes.slice(i + 1).map((b) => bits(a, b)));
  assert.ok(Math.min(...far) > 4, `closest different photos: ${Math.min(...far)} bits`);
});

test('the perceptual hash of a ramp, and of images smaller than its grid', () => {
  const ramp = (width: number, height: number, sign: 1 | -1): Image => {
    const data = new Uint8Array(width * height * 3);
    for (let i = 0; i < data.length; i++) {
      const x = Math.floor(i / 3) % width;
      data[i] = Math.round(((sign > 0 ? x : width - 1 - x) * 255) / Math.max(1, width - 1));
    }
    return { data, width, height, channels: 3 };
  };
  assert.is(perceptualHash(ramp(90, 80, 1)), 2n ** 64n - 1n);
  assert.is(perceptualHash(ramp(90, 80, -1)), 0n);
  assert.is(perceptualHash(ramp(9, 3, 1)), 2n ** 64n - 1n);
  assert.is(perceptualHash(ramp(1, 1, 1)), 0n);
  assert.is(perceptualHash({ data: new Uint8Array(300).fill(77), width: 10, height: 10, channels: 3 }), 0n);
});

test('groups: within 4 bits, through others, equal ones; checked against all pairs', () => {
  const hashes: bigint[] = [];
  for (let i = 0; i < 60; i++) {
    const base = distinct(i);
    hashes.push(base);
    if (i % 3 === 0) hashes.push(base ^ 0b1111n, base ^ (0b1111n << 60n), base);
    if (i % 5 === 0) hashes.push(base ^ 0b1111_1000_0000n, base ^ 0x8000_0000_8000_8001n);
  }
  const groups = nearDuplicateGroups(hashes);
  const slow = hashes.map((_, i) => i);
  for (let changed = true; changed;) {
    changed = false;
    for (let i = 0; i < hashes.length; i++) {
      for (let j = 0; j < i; j++) {
        if (slow[i] === slow[j] || bits(hashes[i], hashes[j]) > 4) continue;
        const low = Math.min(slow[i], slow[j]);
        slow[i] = slow[j] = low;
        changed = true;
      }
    }
  }
  for (let i = 0; i < hashes.length; i++) {
    for (let j = 0; j < i; j++) assert.is(groups[i] === groups[j], slow[i] === slow[j], `${i} and ${j}`);
  }
});

test('near-duplicates lie on one side, and the order of the photos does not matter', () => {
  const items: SplitItem[] = [];
  for (let i = 0; i < 200; i++) {
    const looks = distinct(i);
    for (let copy = 0; copy < 3; copy++) items.push({ sha256: sha(`${i}/${copy}`), looks: looks ^ (1n << BigInt(copy)) });
  }
  const sides = assignSplits(items, shares);
  for (let i = 0; i < items.length; i += 3) assert.ok(sides[i] === sides[i + 1] && sides[i] === sides[i + 2]);
  assert.ok(sides.includes('train') && sides.includes('val'));
  assert.equal(assignSplits([...items].reverse(), shares), [...sides].reverse());
});

test('adding photos that resemble no other moves none', () => {
  const items = Array.from({ length: 300 }, (_, i): SplitItem => ({ sha256: sha(String(i)), looks: distinct(i) }));
  const before = assignSplits(items.slice(0, 200), shares);
  assert.equal(assignSplits(items, shares).slice(0, 200), before);
});

test('with the sides known from before, even a new near-duplicate moves none and follows', () => {
  const old = Array.from({ length: 100 }, (_, i): SplitItem => ({ sha256: sha(String(i)), looks: distinct(i) }));
  const before = assignSplits(old, shares);
  const previous = new Map(old.map(({ sha256 }, i) => [sha256, before[i]]));
  const copies = old.map(({ looks }, i): SplitItem => ({ sha256: sha(`copy ${i}`), looks: looks ^ 3n }));
  const after = assignSplits([...copies, ...old], shares, previous);
  assert.equal(after.slice(100), before);
  assert.equal(after.slice(0, 100), before);
  // A photo that resembles two on different sides leaves both where they are.
  const [a, b] = [before.indexOf('train'), before.indexOf('val')];
  const bridge: SplitItem[] = [
    { sha256: old[a].sha256, looks: 0n },
    { sha256: old[b].sha256, looks: 0xffn },
    { sha256: sha('bridge'), looks: 0xfn },
  ];
  assert.equal(assignSplits(bridge, shares, previous).slice(0, 2), ['train', 'val']);
  // A side that no longer exists is forgotten.
  assert.equal(
    assignSplits(old, parseSplit('only=1'), previous),
    old.map(() => 'only'),
  );
});

test.run();
