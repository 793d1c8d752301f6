import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { TheiaError, fileError } from '../errors.js';
import { syncFolder, writeAll } from '../formats/file.js';

/** The three loss terms, averaged as model.md "Loss" says. */
export type LossTerms = { cos: number; l1: number; mse: number };

/** One line of metrics.jsonl. */
export type MetricsRow = LossTerms & {
  /** from 1 */
  step: number;
  /** from 0 */
  epoch: number;
  /** the rate that this step used */
  lr: number;
  loss: number;
  /** before clipping; null only in an evaluation, which has no gradient */
  grad_norm: number | null;
  /** in the order of the configuration */
  teachers: ReadonlyMap<string, LossTerms>;
  images_per_s: number;
  /** seconds */
  wall_s: number;
  /** name of the evaluated split; absent in a training line */
  split?: string;
};

const LONGEST_LINE = 1 << 24;
const CHUNK = 1 << 16;

/**
 * A metrics line without its newline, keys in the contract's order.
 * @throws ERR_NONFINITE naming the field: JSON has no NaN, and JSON.stringify would write null for it
 */
export function metricsLine(row: MetricsRow): string {
  const number = (value: number, field: string): string => {
    if (!Number.isFinite(value)) {
      throw new TheiaError('ERR_NONFINITE', `metrics of step ${row.step}: expected a finite ${field}, got ${value}`);
    }
    return JSON.stringify(value);
  };
  const terms = (from: LossTerms, prefix: string): string =>
    (['cos', 'l1', 'mse'] as const).map((term) => `"${term}":${number(from[term], prefix + term)}`).join(',');
  // Written by hand: an object would put a teacher named like a number first, and one named __proto__ nowhere.
  const teachers = [...row.teachers].map(([name, own]) => `${JSON.stringify(name)}:{${terms(own, `${name}/`)}}`);
  const norm = row.grad_norm === null && row.split !== undefined ? 'null' : number(row.grad_norm ?? NaN, 'grad_norm');
  return (
    `{"step":${number(row.step, 'step')},"epoch":${number(row.epoch, 'epoch')},"lr":${number(row.lr, 'lr')},"loss":${number(row.loss, 'loss')},` +
    `${terms(row, '')},"grad_norm":${norm},"teachers":{${teachers.join(',')}},` +
    `"images_per_s":${number(row.images_per_s, 'images_per_s')},"wall_s":${number(row.wall_s, 'wall_s')}` +
    `${row.split === undefined ? '' : `,"split":${JSON.stringify(row.split)}`}}`
  );
}

/** Calls `line` for every line, newline included; the last one may lack it. Reads in pieces, as a long run's file is large. */
export function eachLine(fd: number, line: (bytes: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  const chunk = Buffer.alloc(CHUNK);
  for (let at = 0; ;) {
    const n = readSync(fd, chunk, 0, CHUNK, at);
    if (n === 0) break;
    at += n;
    rest = Buffer.concat([rest, chunk.subarray(0, n)]);
    let from = 0;
    for (let end = rest.indexOf(10, from); end >= 0; end = rest.indexOf(10, from)) {
      line(rest.subarray(from, end + 1));
      from = end + 1;
    }
    rest = rest.subarray(from);
    if (rest.length > LONGEST_LINE)
      throw new TheiaError('ERR_CORRUPT', `metrics: expected lines of at most ${LONGEST_LINE} bytes, got a longer one`);
  }
  if (rest.length > 0) line(rest);
}

/** The step of a whole line, or undefined when it is torn or no metrics line. */
function stepOf(line: Buffer): number | undefined {
  if (line[line.length - 1] !== 10) return undefined;
  try {
    const row: unknown = JSON.parse(line.toString('utf8'));
    if (typeof row !== 'object' || row === null || !Object.hasOwn(row, 'step')) return undefined;
    const step = (row as { step: unknown }).step;
    return typeof step === 'number' && Number.isSafeInteger(step) ? step : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Drops the lines of later steps, and what a crash tore, by writing the rest anew beside the file and renaming it.
 * @throws ERR_CORRUPT when a line between good ones is none: that is damage, not a crash
 */
function cutBack(path: string, lastStep: number): void {
  // One name for all: the run is locked, and what a crash left is overwritten.
  const temporary = `${path}.tmp`;
  let from: number | undefined;
  let to: number | undefined;
  try {
    from = openSync(path, 'r');
    to = openSync(temporary, 'w');
    let number = 0;
    let broken = 0;
    eachLine(from, (line) => {
      number++;
      const step = stepOf(line);
      if (step === undefined) broken ||= number;
      else if (step <= lastStep) {
        if (broken > 0) throw new TheiaError('ERR_CORRUPT', `${path}: expected a metrics line, got something else in line ${broken}`);
        writeAll(to as number, line, temporary);
      }
    });
    fsyncSync(to);
    closeSync(to);
    to = undefined;
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    if (to !== undefined) closeSync(to);
    to = undefined;
    rmSync(temporary, { force: true });
    throw fileError(error, path, 'cutting back');
  } finally {
    if (from !== undefined) closeSync(from);
  }
}

/** Appends lines to metrics.jsonl. Each line is one write; it is not synced, since a resume cuts what a crash tore. */
export class MetricsWriter {
  #fd: number | undefined;

  constructor(
    readonly path: string,
    fd: number,
  ) {
    this.#fd = fd;
  }

  /** @throws ERR_NONFINITE (nothing is written), ERR_DISK */
  append(row: MetricsRow): void {
    if (this.#fd === undefined) throw new TheiaError('ERR_DISPOSED', `${this.path}: expected an open metrics file, got a closed one`);
    writeAll(this.#fd, Buffer.from(`${metricsLine(row)}\n`), this.path);
  }

  /** Syncs and closes; a second call does nothing. */
  close(): void {
    const fd = this.#fd;
    if (fd === undefined) return;
    this.#fd = undefined;
    try {
      if (fstatSync(fd).isFile()) fsyncSync(fd);
    } catch (error) {
      throw fileError(error, this.path, 'syncing');
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * Opens metrics.jsonl for appending.
 * @param cutAfterStep on a resume: the checkpoint's step, behind which everything is dropped first. Without it the run is new, and a
 *   file with lines in it is an error.
 * @throws ERR_CONFIG when a new run finds an old one, ERR_CORRUPT, ERR_DISK, ERR_FILE
 */
export function openMetrics(path: string, cutAfterStep?: number): MetricsWriter {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size > 0 && cutAfterStep === undefined) {
    throw new TheiaError('ERR_CONFIG', `${path}: expected a folder without a run, got one with metrics`, {
      hint: 'go on with --resume, or choose another output',
    });
  }
  if (size > 0) cutBack(path, cutAfterStep as number);
  try {
    return new MetricsWriter(path, openSync(path, 'a'));
  } catch (error) {
    throw fileError(error, path, 'opening');
  }
}
