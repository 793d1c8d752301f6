// Whole models against the machine: the time of one call of a closure, as a share of the FMA peak measured moments before.
import { addon } from '../../src/native/load.js';
import { memory, threads } from '../../src/tensor/index.js';
import { describeMachine } from './machine.js';
import { measure } from './measure.js';
import { benchOptions } from './options.js';
import { saveResults } from './results.js';
import { Table, formatShare, formatTime } from './table.js';

export interface ModelCase {
  name: string;
  images: number;
  /** share of the peak that is asked for */
  floor?: number;
  /** builds the model; returns the closure to time, its operations, and what frees it */
  make(): { run: () => void; flops: number; dispose: () => void };
}

export async function runModelBench(name: string, cases: readonly ModelCase[]): Promise<void> {
  const options = benchOptions();
  const all = threads(options.threads);
  const machine = describeMachine();
  console.log(`${name}: ${machine.cpu}, ${machine.instructionSet}, ${all} threads, node ${machine.node}, load ${machine.load.toFixed(1)}`);
  const table = new Table(['case', 'median', 'p10', 'p90', 'images/s', 'GFLOP/s', 'peak', 'share', 'of tile', 'memory', ''], 24);
  table.header(
    "median of samples; share: GFLOP/s of the FMA peak of these threads in the same run; of tile: of the product's register tile fed from L1",
  );
  const rows: object[] = [];
  for (const c of cases.filter((x) => x.name.includes(options.only))) {
    const made = c.make();
    const peak = Math.max(...Array.from({ length: 5 }, () => addon().peak(all)));
    const tile = Math.max(...Array.from({ length: 5 }, () => addon().tilePeak(all)));
    const time = await measure(c.name, made.run, options.budget);
    const rate = made.flops / time.median / 1e9;
    const share = rate / peak;
    const bytes = memory().live;
    made.dispose();
    const mark = c.floor === undefined ? '' : share >= c.floor ? `>= ${formatShare(c.floor)}` : `below ${formatShare(c.floor)}`;
    table.row([
      c.name,
      formatTime(time.median),
      formatTime(time.p10),
      formatTime(time.p90),
      (c.images / time.median).toFixed(1),
      rate.toFixed(0),
      peak.toFixed(0),
      formatShare(share),
      formatShare(rate / tile),
      `${(bytes / 2 ** 20).toFixed(0)} MiB`,
      mark,
    ]);
    rows.push({
      case: c.name,
      images: c.images,
      seconds: time,
      gflops: made.flops / 1e9,
      peak,
      tile,
      share,
      floor: c.floor ?? null,
      bytes,
    });
  }
  if (options.save) console.log(`saved ${saveResults(name, machine, rows)}`);
}
