import type { FeatureData } from './feature.js';

/** Arrays begin at multiples of this in a block: copies like it, and every element type may. */
const ALIGNMENT = 256;

const rounded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** The size of a block that arrays of so many bytes each fit into. */
export function blockBytes(arrays: readonly number[]): number {
  return arrays.reduce((sum, bytes) => sum + rounded(bytes), 0);
}

interface ArrayType<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): T;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
}

/** The arrays of one batch: in the block that was lent for it, one behind the other, and where that has no room left ordinary ones. */
export class BatchArrays {
  readonly #block: Uint8Array | null;
  #used = 0;

  /** @param block shared memory that nobody reads now; null for ordinary arrays only */
  constructor(block: Uint8Array | null) {
    this.#block = block;
  }

  /** An array whose values are undefined. */
  take<T extends FeatureData | Uint8Array>(type: ArrayType<T>, length: number): T {
    const at = this.#used;
    const bytes = length * type.BYTES_PER_ELEMENT;
    if (this.#block === null || at + bytes > this.#block.length) return new type(length);
    this.#used += rounded(bytes);
    return new type(this.#block.buffer, this.#block.byteOffset + at, length);
  }
}
