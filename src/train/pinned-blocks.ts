import { TheiaError } from '../errors.js';
import { pinShared, unpin } from '../tensor/index.js';
import type { Device } from '../tensor/index.js';

/** What of a Transfer (src/tensor) is needed here. */
interface Upload {
  /** waits until the memory may be changed */
  done(): void;
}

/**
 * Memory for the loader's batches that a GPU copies from by itself. Pinning is slow, so blocks are used again, in turn; there get to be as
 * many as there are batches in flight. Where no more can be had the others go round, and the loader builds the remaining batches in
 * ordinary arrays, which the JavaScript thread copies at every step; `onNotice` hears that once.
 */
export class PinnedBlocks {
  private readonly all: Uint8Array[] = [];
  private readonly free: Uint8Array[] = [];
  private exhausted = false;

  /**
   * @param bytes of a block
   * @param memory stands in for the device's in tests
   */
  constructor(
    private readonly bytes: number,
    private readonly device: Device,
    private readonly onNotice: (text: string) => void,
    private readonly memory = { pinShared, unpin },
  ) {}

  /** A block that nobody reads or writes, its contents undefined; null if there is none and no more can be had. */
  lend(): Uint8Array | null {
    const block = this.free.shift();
    if (block || this.exhausted) return block ?? null;
    try {
      const made = this.memory.pinShared(this.bytes, this.device);
      this.all.push(made);
      return made;
    } catch (error) {
      if (!(error instanceof TheiaError)) throw error;
      this.exhausted = true;
      const had = this.all.length === 0 ? 'no batch is' : `${this.all.length} batches at a time are`;
      this.onNotice(`${had} built in pinned memory, the others are copied once more on their way to ${this.device}: ${error.message}`);
      return null;
    }
  }

  /** Takes blocks back when everything that reads them is over; waits for it. */
  giveBack(blocks: readonly (Uint8Array | null)[], uploads: readonly Upload[]): void {
    for (const upload of uploads) upload.done();
    for (const block of blocks) if (block) this.free.push(block);
  }

  /** Nobody may write to a block any more, lent or not; uploads under way are waited for. */
  dispose(): void {
    this.free.length = 0;
    for (const block of this.all.splice(0)) this.memory.unpin(block);
  }
}
