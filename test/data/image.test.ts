import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeImage, decodeSampleImage, describeBytes, imageFormat, npyImages, readImages } from '../../src/data/image.js';
import { encodeNpy } from '../../src/formats/npy.js';
import { noise, noiseImage, rejects, temporaryFolder } from './fixtures.js';

const WIDTH = 40;
const HEIGHT = 30;
const picture = noiseImage(WIDTH, HEIGHT);
const raw = (channels: 1 | 2 | 3 | 4 = 3, data: Uint8Array = picture.data): Sharp =>
  sharp(data, { raw: { width: WIDTH, height: HEIGHT, channels } });

test('png and lossless webp give the pixels back exactly', async () => {
  for (const bytes of [await raw().png().toBuffer(), await raw().webp({ lossless: true }).toBuffer()]) {
    const image = await decodeImage(bytes, 'x');
    assert.is(image.width, WIDTH);
    assert.is(image.height, HEIGHT);
    assert.equal(image.data, picture.data);
  }
});

test('jpeg comes near', async () => {
  const flat = new Uint8Array(WIDTH * HEIGHT * 3).fill(90);
  const image = await decodeImage(await raw(3, flat).jpeg().toBuffer(), 'x');
  assert.ok(image.data.every((value) => Math.abs(value - 90) <= 2));
});

test('all eight EXIF orientations', async () => {
  const at = (x: number, y: number): number => picture.data[(y * WIDTH + x) * 3];
  const [r, b] = [WIDTH - 1, HEIGHT - 1];
  // For each orientation: size, and the source pixel of the upright image's top left and top right corner.
  const expected: [number, number, number, number][] = [
    [WIDTH, HEIGHT, at(0, 0), at(r, 0)],
    [WIDTH, HEIGHT, at(r, 0), at(0, 0)],
    [WIDTH, HEIGHT, at(r, b), at(0, b)],
    [WIDTH, HEIGHT, at(0, b), at(r, b)],
    [HEIGHT, WIDTH, at(0, 0), at(0, b)],
    [HEIGHT, WIDTH, at(0, b), at(0, 0)],
    [HEIGHT, WIDTH, at(r, b), at(r, 0)],
    [HEIGHT, WIDTH, at(r, 0), at(r, b)],
  ];
  for (const [i, [width, height, left, right]] of expected.entries()) {
    const orientation = i + 1;
    for (const bytes of [
      await raw().png().withMetadata({ orientation }).toBuffer(),
      await raw().webp({ lossless: true }).withMetadata({ orientation }).toBuffer(),
    ]) {
      const image = await decodeImage(bytes, 'x');
      assert.equal([image.width, image.height], [width, height], `orientation ${orientation}`);
      assert.equal([image.data[0], image.data[(width - 1) * 3]], [left, right], `orientation ${orientation}`);
    }
  }
});

test('an ICC profile changes nothing', async () => {
  const plain = await decodeImage(await raw().png().toBuffer(), 'x');
  const profiled = await raw().png().withIccProfile('p3', { attach: true }).toBuffer();
  const meta = await sharp(profiled).metadata();
  assert.ok(meta.icc, 'the test image must carry a profile');
  const kept = await sharp(profiled, { ignoreIcc: true }).removeAlpha().raw().toBuffer();
  assert.equal((await decodeImage(profiled, 'x')).data, new Uint8Array(kept));
  assert.is(plain.data.length, kept.length);
});

test('grey is replicated, alpha dropped without blending, 16 bits cut to their high byte', async () => {
  const grey = noise(WIDTH * HEIGHT, 3);
  const fromGrey = await decodeImage(await raw(1, grey).toColourspace('b-w').png().toBuffer(), 'grey');
  assert.is((await sharp(await raw(1, grey).toColourspace('b-w').png().toBuffer()).metadata()).channels, 1);
  assert.ok(grey.every((value, i) => [0, 1, 2].every((c) => fromGrey.data[i * 3 + c] === value)));

  const rgba = noise(WIDTH * HEIGHT * 4, 4);
  for (let i = 3; i < rgba.length; i += 8) rgba[i] = 0;
  const fromRgba = await decodeImage(await raw(4, rgba).png().toBuffer(), 'rgba');
  assert.ok(fromRgba.data.every((value, i) => value === rgba[Math.floor(i / 3) * 4 + (i % 3)]));

  const deep = Uint16Array.from({ length: WIDTH * HEIGHT * 3 }, (_, i) => (i * 7919) & 0xffff);
  const deepPng = await sharp(deep, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
    .toColourspace('rgb16')
    .png()
    .toBuffer();
  assert.is((await sharp(deepPng).metadata()).depth, 'ushort');
  const fromDeep = await decodeImage(deepPng, 'deep');
  assert.ok(fromDeep.data.every((value, i) => value === deep[i] >> 8));
});

test('CMYK becomes RGB', async () => {
  const bytes = await raw(3, new Uint8Array(WIDTH * HEIGHT * 3).fill(255))
    .toColourspace('cmyk')
    .jpeg()
    .toBuffer();
  assert.is((await sharp(bytes).metadata()).channels, 4);
  const image = await decodeImage(bytes, 'cmyk');
  assert.is(image.data.length, WIDTH * HEIGHT * 3);
  assert.ok(
    image.data.every((value) => value > 240),
    'white stays white',
  );
});

test('truncated files are errors at every length', async () => {
  for (const [name, bytes] of [
    ['jpeg', await raw().jpeg().toBuffer()],
    ['progressive jpeg', await raw().jpeg({ progressive: true }).toBuffer()],
    ['png', await raw().png().toBuffer()],
    ['webp', await raw().webp().toBuffer()],
  ] as const) {
    for (let length = 16; length < bytes.length - 1; length += Math.ceil(bytes.length / 12)) {
      await rejects(() => decodeImage(bytes.subarray(0, length), 'cut.img'), 'ERR_CORRUPT', /^cut\.img: damaged or truncated/);
    }
    await rejects(() => decodeImage(bytes.subarray(0, bytes.length - 2), name), 'ERR_CORRUPT', /truncated/);
  }
});

test('other formats are named, whatever the file is called', async () => {
  const folder = temporaryFolder();
  const gif = await raw().gif().toBuffer();
  const path = join(folder, 'photo.jpg');
  writeFileSync(path, gif);
  await rejects(() => decodeImage(path), 'ERR_FILE', /photo\.jpg: expected JPEG, PNG or WebP, got GIF/);
  const tiff = await raw().tiff().toBuffer();
  await rejects(() => decodeImage(tiff, 'a'), 'ERR_FILE', /got TIFF/);
  await rejects(() => decodeImage(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), 'a'), 'ERR_FILE', /got SVG/);
  await rejects(() => decodeImage(new Uint8Array(0), 'a'), 'ERR_FILE', /an empty file/);
  await rejects(() => decodeImage(new Uint8Array([1, 2, 3]), 'a'), 'ERR_FILE', /bytes 010203/);
  await rejects(() => decodeImage(join(folder, 'absent.png')), 'ERR_FILE', /absent\.png/);
  assert.is(imageFormat(gif), null);
  assert.is(describeBytes(await raw().webp().toBuffer()), 'WEBP');
});

test('more than 64 megapixels are refused before they are decoded', async () => {
  const big = await sharp({ create: { width: 8001, height: 8000, channels: 3, background: '#123' } })
    .png()
    .toBuffer();
  await rejects(() => decodeImage(big, 'big.png'), 'ERR_CORRUPT', /big\.png: more than 64 megapixels/);
});

test('npy images, one and several', async () => {
  const one = npyImages(encodeNpy(noise(4 * 5 * 3), [4, 5, 3]), 'one');
  assert.equal([one.length, one[0].width, one[0].height], [1, 5, 4]);
  const data = noise(2 * 4 * 5 * 3);
  const path = join(temporaryFolder(), 'two.npy');
  writeFileSync(path, encodeNpy(data, [2, 4, 5, 3]));
  const two = await readImages(path);
  assert.equal(two[1].data, data.subarray(60));
  await rejects(() => npyImages(encodeNpy(new Float32Array(12), [2, 2, 3]), 'f'), 'ERR_DTYPE', /f: expected uint8/);
  await rejects(() => npyImages(encodeNpy(new Uint8Array(16), [2, 2, 4]), 'f'), 'ERR_SHAPE', /\[2, 2, 4\]/);
  await rejects(() => npyImages(encodeNpy(new Uint8Array(0), [0, 2, 3]), 'f'), 'ERR_SHAPE', /\[0, 2, 3\]/);
});

test('sample images: npy in RGB, grey and RGBA, and compressed ones', async () => {
  const grey = await decodeSampleImage(encodeNpy(Uint8Array.of(1, 2), [1, 2]), 's');
  assert.equal(grey.data, Uint8Array.of(1, 1, 1, 2, 2, 2));
  const rgba = await decodeSampleImage(encodeNpy(Uint8Array.of(1, 2, 3, 0), [1, 1, 4]), 's');
  assert.equal(rgba.data, Uint8Array.of(1, 2, 3));
  assert.equal((await decodeSampleImage(await raw().png().toBuffer(), 's')).data, picture.data);
  await rejects(() => decodeSampleImage(encodeNpy(new Uint8Array(10), [1, 2, 5]), 's'), 'ERR_SHAPE', /\[1, 2, 5\]/);
});

test.run();
