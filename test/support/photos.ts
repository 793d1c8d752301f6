import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { smoothImage } from '../data/fixtures.js';

/** Writes one smooth picture as PNG, or as JPEG by the extension. Returns its bytes. */
export async function writePhoto(folder: string, path: string, seed: number, width = 40, height = 30): Promise<Buffer> {
  const raw = { raw: { width, height, channels: 3 as const } };
  const image = sharp(smoothImage(width, height, seed).data, raw);
  const bytes = await (path.endsWith('.png') ? image.png() : image.jpeg({ quality: 90 })).toBuffer();
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), bytes);
  return bytes;
}
