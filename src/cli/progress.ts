/** The part of a stream that a progress display needs; process.stderr is one. */
export type ProgressStream = { write(text: string): unknown; isTTY?: boolean; columns?: number };

export type ProgressState = { loss: number; imagesPerS: number };

/** 75 -> 1:15, 3675 -> 1:01:15. */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-:--';
  const s = Math.max(0, Math.round(seconds));
  const two = (x: number) => String(x).padStart(2, '0');
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes}:${two(s % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
}

/**
 * Progress of a run on stderr: a terminal gets one line that is drawn over, a pipe gets plain lines, few of them. Nothing here decides
 * about the run, so a clock in it is harmless.
 */
export class Progress {
  readonly #total: number;
  readonly #first: number;
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  readonly #pause: number;
  readonly #begin: number;
  #last = -Infinity;
  #drawn = false;

  /**
   * @param options.total steps of the whole run
   * @param options.first steps that were done before (a resume); they do not count for the time left
   * @param options.everyMs least time between two outputs; default 100 on a terminal, 10000 elsewhere
   * @param options.now milliseconds
   */
  constructor(options: { total: number; first?: number; stream?: ProgressStream; everyMs?: number; now?: () => number }) {
    this.#total = options.total;
    this.#first = options.first ?? 0;
    this.#stream = options.stream ?? process.stderr;
    this.#now = options.now ?? (() => performance.now());
    this.#pause = options.everyMs ?? (this.#stream.isTTY ? 100 : 10_000);
    this.#begin = this.#now();
  }

  /** @param step steps done so far; the first and the last are always shown */
  update(step: number, state: ProgressState): void {
    const now = this.#now();
    if (now - this.#last < this.#pause && step < this.#total) return;
    this.#last = now;
    const done = step - this.#first;
    const left = done > 0 ? (((now - this.#begin) / 1000) * (this.#total - step)) / done : NaN;
    const numbers = `loss ${state.loss.toFixed(4)}  ${state.imagesPerS.toFixed(1)} images/s  ${clock(left)} left`;
    if (!this.#stream.isTTY) {
      this.#stream.write(`step ${step}/${this.#total}  ${numbers}\n`);
      return;
    }
    const text = `${step}/${this.#total}  ${numbers}`;
    const columns = this.#stream.columns ?? 80;
    const width = Math.min(40, columns - text.length - 4);
    const filled = Math.round((width * step) / Math.max(1, this.#total));
    const bar = width < 5 ? '' : `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] `;
    // Cut to the terminal: a line that wraps cannot be drawn over.
    this.#stream.write(`\r${(bar + text).slice(0, columns - 1)}\x1b[K`);
    this.#drawn = true;
  }

  /** A message of its own line, above the bar. */
  note(text: string): void {
    this.#stream.write(`${this.#drawn ? '\r\x1b[K' : ''}${text}\n`);
    this.#drawn = false;
  }

  /** Ends the drawn line. */
  finish(): void {
    if (this.#drawn) this.#stream.write('\n');
    this.#drawn = false;
  }
}
