import { GOLDEN, add64, drawAt, fillHigh, fromInteger, mix64, mul64, streamBase, type U64 } from '../../src/mix64.js';

/*
 * The generator of the golden data: weights, teacher features and images as functions of (name or number, seed). Every value is exact in float32.
 */

const CHUNK = 8192;

/** Streams the upper words of a stream's entries through `take` in pieces. */
function eachChunk(name: string, seed: number, count: number, take: (words: Uint32Array, at: number) => void): void {
  const base = streamBase(name, seed);
  const words = new Uint32Array(Math.min(CHUNK, count));
  for (let at = 0; at < count; at += CHUNK) {
    const piece = words.subarray(0, Math.min(CHUNK, count - at));
    fillHigh(piece, base, at);
    take(piece, at);
  }
}

/** Values in [-a, a), a a power of two. */
export function symmetric(out: Float32Array, name: string, seed: number, a: number): Float32Array {
  const scale = a * 2 ** -23;
  eachChunk(name, seed, out.length, (words, at) => {
    for (let i = 0; i < words.length; i++) out[at + i] = ((words[i] >>> 8) - 0x800000) * scale;
  });
  return out;
}

/** Values in [0.875, 1.125). */
export function aroundOne(out: Float32Array, name: string, seed: number): Float32Array {
  eachChunk(name, seed, out.length, (words, at) => {
    for (let i = 0; i < words.length; i++) out[at + i] = 1 + ((words[i] >>> 12) - 0x80000) * 2 ** -22;
  });
  return out;
}

/** Values in [0.5, 1.5). */
export function halfToThreeHalves(out: Float32Array, name: string, seed: number): Float32Array {
  eachChunk(name, seed, out.length, (words, at) => {
    for (let i = 0; i < words.length; i++) out[at + i] = 0.5 + (words[i] >>> 12) * 2 ** -20;
  });
  return out;
}

export type ParameterKind = 'embedding' | 'bias' | 'norm' | 'matrix';

const EMBEDDINGS = ['cls_token', 'position_embeddings', 'reg_token', 'reg_pos_embed', 'decode_tokens'];

/** Which of the four rules a state-dict key falls under. */
export function parameterKind(name: string, shape: readonly number[]): ParameterKind {
  if (EMBEDDINGS.some((end) => name.endsWith(end)) || name.includes('.target_model_emb.')) return 'embedding';
  if (name.endsWith('bias')) return 'bias';
  if (name.endsWith('weight') && (shape.length === 1 || shape.length === 3)) return 'norm';
  if (name.endsWith('weight') && (shape.length === 2 || shape.length === 4)) return 'matrix';
  throw new Error(`no rule for the parameter ${name} [${shape.join(', ')}]`);
}

/** The values of a parameter, in its published shape and row-major order; `out` may be any memory of that length. */
export function parameter(name: string, shape: readonly number[], seed: number, out?: Float32Array): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = out ?? new Float32Array(count);
  if (values.length !== count) throw new Error(`parameter ${name}: ${count} values into ${values.length}`);
  switch (parameterKind(name, shape)) {
    case 'embedding':
      return symmetric(values, name, seed, 2 ** -2);
    case 'bias':
      return symmetric(values, name, seed, 2 ** -4);
    case 'norm':
      return aroundOne(values, name, seed);
    case 'matrix': {
      const fan = count / shape[0];
      let e = 0;
      while (6 * 4 ** e < fan) e++;
      return symmetric(values, name, seed, 2 ** -e);
    }
  }
}

/** Per-channel statistics of a teacher. */
export function teacherStats(teacher: string, channels: number, seed: number): { mean: Float32Array; std: Float32Array } {
  return {
    mean: symmetric(new Float32Array(channels), `stats.mean:${teacher}`, seed, 0.5),
    std: halfToThreeHalves(new Float32Array(channels), `stats.std:${teacher}`, seed),
  };
}

/** A teacher's raw feature [positions, channels]; positions is 1 for a `_cls` teacher. */
export function teacherFeature(teacher: string, positions: number, channels: number, sample: number, seed: number): Float32Array {
  const offset = symmetric(new Float32Array(channels), `feature.offset:${teacher}`, seed, 1);
  const raw = symmetric(new Float32Array(positions * channels), `feature:${teacher}:${sample}`, seed, 1);
  for (let p = 0, i = 0; p < positions; p++) for (let c = 0; c < channels; c++, i++) raw[i] += offset[c];
  return raw;
}

/** The normalised target (raw - mean) / std, computed in float64 and rounded once. */
export function teacherTarget(teacher: string, positions: number, channels: number, sample: number, seed: number): Float32Array {
  const target = teacherFeature(teacher, positions, channels, sample, seed);
  const { mean, std } = teacherStats(teacher, channels, seed);
  for (let p = 0, i = 0; p < positions; p++) for (let c = 0; c < channels; c++, i++) target[i] = (target[i] - mean[c]) / std[c];
  return target;
}

/** hi * 2^32 + lo modulo m, exact for m below 2^20. */
function remainder({ hi, lo }: U64, m: number): number {
  return ((hi % m) * 0x100000000 + lo) % m;
}

const IMAGE_STEP: U64 = { hi: 0xd1b54a32, lo: 0xd192ed03 };

/** Image number n as uint8 [height, width, channels]: gradients, four boxes, a wave and noise; channels 1 grey, 3 RGB, 4 RGBA. */
export function image(n: number, height: number, width: number, channels: 1 | 3 | 4, seed: number): Uint8Array {
  const base = mix64(add64(mul64(fromInteger(seed), GOLDEN), mul64(fromInteger(n + 1), IMAGE_STEP)));
  const r = (k: number, m: number): number => remainder(drawAt(base, k), m);
  const boxes = [16, 24, 32, 40].map((q) => ({
    x0: r(q, width),
    y0: r(q + 1, height),
    width: 1 + r(q + 2, 1 + Math.floor(width / 2)),
    height: 1 + r(q + 3, 1 + Math.floor(height / 2)),
    colour: [r(q + 4, 256), r(q + 5, 256), r(q + 6, 256)],
  }));
  const stepX = 1 + r(12, 7);
  const stepY = 1 + r(13, 7);
  const gradients = [0, 1, 2].map((c) => ({ g0: r(4 * c, 256), gx: r(4 * c + 1, 256), gy: r(4 * c + 2, 256), f: r(4 * c + 3, 4) }));
  const noise = new Uint32Array(width * 3);
  const out = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    fillHigh(noise, base, y * width * 3 + 1000);
    for (let x = 0; x < width; x++) {
      const t = (x * stepX + y * stepY) % 64;
      const wave = t < 32 ? t : 63 - t;
      const at = (y * width + x) * channels;
      for (let c = 0; c < Math.min(channels, 3); c++) {
        const { g0, gx, gy, f } = gradients[c];
        const fx = f & 1 ? width - 1 - x : x;
        const fy = f & 2 ? height - 1 - y : y;
        let v = Math.floor((g0 + Math.floor((gx * fx) / width) + Math.floor((gy * fy) / height)) / 3);
        for (const box of boxes) {
          if (x >= box.x0 && x < box.x0 + box.width && y >= box.y0 && y < box.y0 + box.height) v = Math.floor((v + 3 * box.colour[c]) / 4);
        }
        out[at + c] = Math.min(255, v + wave + (noise[x * 3 + c] >>> 27));
      }
      if (channels === 4) out[at + 3] = (7 * x + 13 * y) % 256;
    }
  }
  return out;
}
