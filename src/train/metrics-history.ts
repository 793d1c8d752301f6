import { closeSync, openSync } from 'node:fs';
import { fileError } from '../errors.js';
import { eachLine } from './metrics.js';

/** The fields that are drawn. */
export const CURVES = ['loss', 'cos', 'l1', 'mse', 'lr', 'grad_norm', 'images_per_s', 'wall_s'] as const;
export type Curve = (typeof CURVES)[number];

/** One line of metrics.jsonl in columns: what a report draws of a run of any length. */
export class History {
  readonly step: number[] = [];
  readonly columns = new Map<Curve, number[]>(CURVES.map((name) => [name, []]));
  /** cosine loss by teacher, where the lines name several */
  readonly teachers = new Map<string, { cos: number[]; l1: number[]; mse: number[] }>();

  get length(): number {
    return this.step.length;
  }

  column(name: Curve): number[] {
    return this.columns.get(name)!;
  }

  /** Adds a line; what is missing or no number becomes NaN, which charts leave out. */
  add(row: Record<string, unknown>): void {
    const before = this.length;
    this.step.push(number(row, 'step'));
    for (const name of CURVES) this.column(name).push(number(row, name));
    const teachers = Object.hasOwn(row, 'teachers') ? row['teachers'] : undefined;
    if (typeof teachers !== 'object' || teachers === null) return;
    for (const [name, terms] of Object.entries(teachers)) {
      if (typeof terms !== 'object' || terms === null) continue;
      let own = this.teachers.get(name);
      if (own === undefined) {
        if (this.teachers.size >= 64) continue;
        this.teachers.set(name, (own = { cos: [], l1: [], mse: [] }));
      }
      for (const term of ['cos', 'l1', 'mse'] as const) {
        while (own[term].length < before) own[term].push(NaN); // not drawn in the steps before
        own[term].push(number(terms as Record<string, unknown>, term));
      }
    }
  }
}

function number(row: Record<string, unknown>, key: string): number {
  const value = Object.hasOwn(row, key) ? row[key] : undefined;
  return typeof value === 'number' ? value : NaN;
}

export interface RunHistory {
  train: History;
  /** by split */
  evaluations: Map<string, History>;
}

/**
 * Reads metrics.jsonl. A line that is no JSON object with a step is passed over: a crash may have torn the last one.
 * @throws ERR_FILE if it cannot be read
 */
export function readHistory(path: string): RunHistory {
  const train = new History();
  const evaluations = new Map<string, History>();
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    eachLine(fd, (bytes) => {
      let row: unknown;
      try {
        row = JSON.parse(bytes.toString('utf8'));
      } catch {
        return;
      }
      if (typeof row !== 'object' || row === null || !Number.isSafeInteger(number(row as Record<string, unknown>, 'step'))) return;
      const { split } = row as { split?: unknown };
      if (typeof split !== 'string') return train.add(row as Record<string, unknown>);
      let history = evaluations.get(split);
      if (history === undefined) {
        if (evaluations.size >= 16) return;
        evaluations.set(split, (history = new History()));
      }
      history.add(row as Record<string, unknown>);
    });
  } catch (error) {
    throw fileError(error, path, 'reading the metrics');
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  return { train, evaluations };
}

/**
 * Means over a window that grows with the run (a fiftieth of it), centred.
 * @returns as long as the input; NaN entries are left out of the means
 */
export function smoothed(values: readonly number[]): number[] {
  const half = Math.max(1, Math.floor(values.length / 100));
  const sums = [0];
  const counts = [0];
  values.forEach((v, i) => {
    const finite = Number.isFinite(v);
    sums.push(sums[i]! + (finite ? v : 0));
    counts.push(counts[i]! + Number(finite));
  });
  return values.map((_, i) => {
    const from = Math.max(0, i - half);
    const to = Math.min(values.length, i + half + 1);
    return (sums[to]! - sums[from]!) / (counts[to]! - counts[from]!);
  });
}
