import { TheiaError } from './errors.js';
import { drawAt, streamBase, type U64 } from './mix64.js';
import { portableCosTurn, portableLog, portableSinTurn } from './portable_math.js';

/*
 * Random numbers as pure functions of (seed, purpose, index): a resumed run, another number of workers or another runtime sees the same ones, and no
 * generator state is saved. Two purposes are two independent streams.
 */

export { drawAt, fnv1a64, mix64, streamBase, type U64 } from './mix64.js';

const TWO_M53 = 2 ** -53;

function base(seed: number, purpose: string): U64 {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new TheiaError('ERR_ARGS', `expected a seed that is an integer from 0 to 2^53 - 1, came ${seed}`);
  return streamBase(purpose, seed);
}

function uniformAt(stream: U64, index: number): number {
  const { hi, lo } = drawAt(stream, index);
  return (hi * 0x200000 + (lo >>> 11)) * TWO_M53;
}

/** A number in [0, 1) with 53 random bits. @param index an integer from 0 to 2^53 - 2 */
export function uniform(seed: number, purpose: string, index: number): number {
  return uniformAt(base(seed, purpose), index);
}

/** Box-Muller: entries 2j and 2j + 1 are the two coordinates made of uniforms 2j and 2j + 1. */
function radius(stream: U64, pair: number): number {
  // 1 - u is in (0, 1]: ln is finite
  return Math.sqrt(-2 * portableLog(1 - uniformAt(stream, 2 * pair)));
}

function normalAt(stream: U64, index: number): number {
  const pair = Math.floor(index / 2);
  const turn = uniformAt(stream, 2 * pair + 1);
  return radius(stream, pair) * (index % 2 === 0 ? portableCosTurn(turn) : portableSinTurn(turn));
}

/** A number of the standard normal distribution. @param index an integer from 0 to 2^53 - 2 */
export function normal(seed: number, purpose: string, index: number): number {
  return normalAt(base(seed, purpose), index);
}

/** Redraws of an element take indices this far apart, beyond the length of any tensor. */
const RETRY = 2 ** 45;

/**
 * Fills `out` with normal numbers of mean 0 and standard deviation `std`, redrawn until they lie within `bound` standard deviations. Element i depends on
 * (seed, purpose, i) only: it is std * normal at i + t * 2^45 for the first t = 0, 1, ... that is inside.
 */
export function truncatedNormalFill(out: Float32Array, seed: number, purpose: string, std: number, bound = 2): void {
  if (!(bound > 0)) throw new TheiaError('ERR_ARGS', `expected a bound above 0 standard deviations, came ${bound}`);
  const stream = base(seed, purpose);
  const place = (i: number, first: number): void => {
    let value = first;
    for (let t = 1; !(Math.abs(value) <= bound) && t < 128; t++) value = normalAt(stream, i + t * RETRY);
    // After 128 redraws (a bound near 0) the nearest value inside.
    out[i] = std * Math.max(-bound, Math.min(bound, value));
  };
  for (let i = 0; i < out.length; i += 2) {
    const r = radius(stream, i / 2);
    const turn = uniformAt(stream, i + 1);
    place(i, r * portableCosTurn(turn));
    if (i + 1 < out.length) place(i + 1, r * portableSinTurn(turn));
  }
}

/** The numbers 0 .. n - 1 in random order (Fisher-Yates, each swap from its own index of the stream). @param n below 2^32 */
export function permutation(n: number, seed: number, purpose: string): Uint32Array {
  if (!Number.isInteger(n) || n < 0 || n >= 2 ** 32) throw new TheiaError('ERR_ARGS', `expected a length from 0 to 2^32 - 1, came ${n}`);
  const stream = base(seed, purpose);
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(uniformAt(stream, i) * (i + 1));
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}
