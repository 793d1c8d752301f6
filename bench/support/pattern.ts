// Values for what is timed at the sizes of a GPU: made at memory speed, since a batch of Theia-B needs gigabytes of them.

/** A prime: rows of no layer repeat each other. */
const PERIOD = 8191;

let cached = new Float32Array(0);
let cachedHalf = new Uint16Array(0);

/** Doubles what is there until all is filled: copies of whole stretches instead of a call for each element. */
function repeat<T extends Float32Array | Uint16Array>(all: T, first: ArrayLike<number>): T {
  const start = Math.min(first.length, all.length);
  for (let i = 0; i < start; i++) all[i] = first[i]!;
  for (let done = start; done < all.length; done *= 2) all.copyWithin(done, 0, Math.min(done, all.length - done));
  return all;
}

/** `size` values in [-1, 1), scattered, the same every time; a view of one growing array, not to be written to. */
export function patternFloat32(size: number): Float32Array {
  if (cached.length < size) {
    const first = Float32Array.from({ length: PERIOD }, (_, i) => ((i * 7919) % PERIOD) / (PERIOD / 2) - 1);
    cached = repeat(new Float32Array(size), first);
  }
  return cached.subarray(0, size);
}

/** The same values cut to bfloat16. */
export function patternBfloat16(size: number): Uint16Array {
  if (cachedHalf.length < size) {
    const first = new Uint32Array(patternFloat32(PERIOD).slice().buffer);
    cachedHalf = repeat(
      new Uint16Array(size),
      Uint16Array.from(first, (bits) => bits >>> 16),
    );
  }
  return cachedHalf.subarray(0, size);
}
