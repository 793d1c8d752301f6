import type { ExtractProgress } from '../data/extract.js';
import { clock, type ProgressStream } from './progress.js';

/** Progress of `features` on stderr: a line that is drawn over on a terminal, few plain lines elsewhere. */
export class FeatureProgress {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  #phase = '';
  #begin = 0;
  #last = -Infinity;
  #drawn = false;

  constructor(options: { stream?: ProgressStream; now?: () => number } = {}) {
    this.#stream = options.stream ?? process.stderr;
    this.#now = options.now ?? (() => performance.now());
  }

  update({ phase, done, total }: ExtractProgress): void {
    const now = this.#now();
    if (phase !== this.#phase) {
      this.finish();
      this.#phase = phase;
      this.#begin = now;
      this.#last = -Infinity;
    }
    const pause = this.#stream.isTTY ? 100 : 10_000;
    if (now - this.#last < pause && done < total) return;
    this.#last = now;
    const seconds = (now - this.#begin) / 1000;
    const rate = done > 1 && seconds > 0 ? `  ${(done / seconds).toFixed(1)}/s  ${clock((seconds / done) * (total - done))} left` : '';
    const text = `features: ${phase.replace(/[^\x20-\x7e]/g, '?')} ${done}/${total}${rate}`;
    if (!this.#stream.isTTY) {
      this.#stream.write(`${text}\n`);
      return;
    }
    this.#stream.write(`\r${text.slice(0, (this.#stream.columns ?? 80) - 1)}\x1b[K`);
    this.#drawn = true;
  }

  /** A message of its own line. */
  note(text: string): void {
    this.finish();
    this.#stream.write(`features: ${text}\n`);
  }

  finish(): void {
    if (this.#drawn) this.#stream.write('\n');
    this.#drawn = false;
  }
}
