/*
 * The counter-based generator behind every random number: entry i of a stream is mix64(base + (i + 1) * G), a pure function of stream and index, so
 * there is no state to save or to share. mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), G its golden-ratio increment.
 *
 * 64-bit numbers are pairs of 32-bit halves: BigInt is some fifty times slower, and a full-size model draws 10^8 values.
 */

/** An unsigned 64-bit integer as two unsigned 32-bit halves. */
export interface U64 {
  hi: number;
  lo: number;
}

const G_HI = 0x9e3779b9;
const G_LO = 0x7f4a7c15;
/** SplitMix64's increment, 2^64 / golden ratio. */
export const GOLDEN: U64 = { hi: G_HI, lo: G_LO };

const A: U64 = { hi: 0xbf58476d, lo: 0x1ce4e5b9 };
const B: U64 = { hi: 0x94d049bb, lo: 0x133111eb };
const FNV_PRIME: U64 = { hi: 0x100, lo: 0x1b3 };

export function u64(hi: number, lo: number): U64 {
  return { hi: hi >>> 0, lo: lo >>> 0 };
}

/** A non-negative safe integer as 64 bits. */
export function fromInteger(value: number): U64 {
  return u64(Math.floor(value / 0x100000000), value % 0x100000000);
}

export function add64(a: U64, b: U64): U64 {
  const lo = a.lo + b.lo;
  return u64(a.hi + b.hi + (lo > 0xffffffff ? 1 : 0), lo);
}

export function xor64(a: U64, b: U64): U64 {
  return u64(a.hi ^ b.hi, a.lo ^ b.lo);
}

/** The upper half of the 64-bit product of two 32-bit numbers, from 16-bit pieces. */
function mulHigh(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const t = (Math.imul(ah, bl) + (Math.imul(al, bl) >>> 16)) | 0;
  const w = ((t & 0xffff) + Math.imul(al, bh)) | 0;
  return (Math.imul(ah, bh) + (t >>> 16) + (w >>> 16)) | 0;
}

/** The product modulo 2^64. */
export function mul64(a: U64, b: U64): U64 {
  return u64(mulHigh(a.lo, b.lo) + Math.imul(a.hi, b.lo) + Math.imul(a.lo, b.hi), Math.imul(a.lo, b.lo));
}

function xorShift(z: U64, by: number): U64 {
  return u64(z.hi ^ (z.hi >>> by), z.lo ^ ((z.lo >>> by) | (z.hi << (32 - by))));
}

/** The finaliser of SplitMix64: a bijection in which every output bit depends on every input bit. */
export function mix64(z: U64): U64 {
  return xorShift(mul64(xorShift(mul64(xorShift(z, 30), A), 27), B), 31);
}

/** FNV-1a of the UTF-8 bytes of `text`. */
export function fnv1a64(text: string): U64 {
  let h: U64 = { hi: 0xcbf29ce4, lo: 0x84222325 };
  for (const byte of new TextEncoder().encode(text)) h = mul64(u64(h.hi, h.lo ^ byte), FNV_PRIME);
  return h;
}

/** The base of the stream `name` of a run: fnv1a64(name) xor seed * G. @param seed a non-negative safe integer */
export function streamBase(name: string, seed: number): U64 {
  return xor64(fnv1a64(name), mul64(fromInteger(seed), GOLDEN));
}

/** Entry `index` of a stream, all 64 bits. */
export function drawAt(base: U64, index: number): U64 {
  return mix64(add64(base, mul64(fromInteger(index + 1), GOLDEN)));
}

/**
 * The upper 32 bits of entries first, first + 1, ... of a stream, into the whole of `out`: what every bulk value is made of. The arithmetic of drawAt,
 * spelt out on numbers so that nothing is allocated (some 50 million values a second).
 */
export function fillHigh(out: Uint32Array, base: U64, first: number): void {
  const start = add64(base, mul64(fromInteger(first), GOLDEN));
  let hi = start.hi | 0;
  let lo = start.lo | 0;
  for (let i = 0; i < out.length; i++) {
    lo = (lo + G_LO) | 0;
    hi = (hi + G_HI + (lo >>> 0 < G_LO ? 1 : 0)) | 0;
    // z ^= z >> 30
    let l = lo ^ ((lo >>> 30) | (hi << 2));
    let h = hi ^ (hi >>> 30);
    // z *= A
    let al = l & 0xffff;
    let ah = l >>> 16;
    let t = (Math.imul(ah, 0xe5b9) + (Math.imul(al, 0xe5b9) >>> 16)) | 0;
    let w = ((t & 0xffff) + Math.imul(al, 0x1ce4)) | 0;
    h = (Math.imul(ah, 0x1ce4) + (t >>> 16) + (w >>> 16) + Math.imul(h, 0x1ce4e5b9) + Math.imul(l, 0xbf58476d)) | 0;
    l = Math.imul(l, 0x1ce4e5b9);
    // z ^= z >> 27
    l ^= (l >>> 27) | (h << 5);
    h ^= h >>> 27;
    // the upper half of z *= B; the lower one does not reach the upper bits of z ^ (z >> 31)
    al = l & 0xffff;
    ah = l >>> 16;
    t = (Math.imul(ah, 0x11eb) + (Math.imul(al, 0x11eb) >>> 16)) | 0;
    w = ((t & 0xffff) + Math.imul(al, 0x1331)) | 0;
    h = (Math.imul(ah, 0x1331) + (t >>> 16) + (w >>> 16) + Math.imul(h, 0x133111eb) + Math.imul(l, 0x94d049bb)) | 0;
    out[i] = h ^ (h >>> 31);
  }
}
