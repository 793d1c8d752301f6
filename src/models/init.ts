import { truncatedNormalFill, uniform } from '../random.js';

/** Fills a checkpoint tensor with initial values; any permutation of the axes is as good. Pure function of (seed, key). */
export type Initialiser = (out: Float32Array, key: string, shape: readonly number[]) => void;

/** Initial values by kind, all drawn from one seed. */
export interface Initialisers {
  zeros: Initialiser;
  ones: Initialiser;
  /** normal with standard deviation 0.02, as HF's ViT starts its linear layers and embeddings (cut at ±2, which at 0.02 cuts nothing) */
  normal: Initialiser;
  /** PyTorch's default of Linear and Conv: uniform within 1/sqrt(fan-in); the translators start so */
  fanIn: (fan: number) => Initialiser;
}

export function initialisers(seed: number): Initialisers {
  return {
    zeros: (out) => void out.fill(0),
    ones: (out) => void out.fill(1),
    normal: (out, key) => truncatedNormalFill(out, seed, `init:${key}`, 0.02, 100),
    fanIn: (fan) => (out, key) => {
      const bound = 1 / Math.sqrt(fan);
      for (let i = 0; i < out.length; i++) out[i] = (2 * uniform(seed, `init:${key}`, i) - 1) * bound;
    },
  };
}
