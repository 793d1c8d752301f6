// The bench of an op: its calls on the shapes of the model, one thread and all, each beside what the machine could do at that moment.
import { addon } from '../../src/native/load.js';
import { packedLength } from '../../src/autograd/parameter.js';
import type { OpArgs, OpName } from '../../src/generated/ops.js';
import { Tensor, costOf, countOf, dispatch, threads, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import { describeMachine } from './machine.js';
import { measure } from './measure.js';
import type { Timing } from './measure.js';
import { benchOptions } from './options.js';
import { saveResults } from './results.js';
import { Table, formatShare, formatTime } from './table.js';

export interface OpBenchCase {
  name: string;
  op: OpName;
  /** makes the tensors and returns the call's arguments; run inside `tidy` */
  args: () => OpArgs[OpName];
  /** what bounds it: arithmetic, or memory */
  against: 'peak' | 'copy';
  /** the share of the bound below which the row is marked */
  floor: number;
}

/** A case of one op. By default compute-bound and marked below 65 %. */
export function opCase<N extends OpName>(
  name: string,
  op: N,
  args: () => OpArgs[N],
  options: { against?: 'peak' | 'copy'; floor?: number } = {},
): OpBenchCase {
  const against = options.against ?? 'peak';
  return { name, op, args, against, floor: options.floor ?? (against === 'peak' ? 0.65 : 0.5) };
}

let seed = 1;

/** A tensor of values in [-1, 1): no zeros, no subnormals to slow or speed anything. */
export function random(shape: readonly number[], dtype: DType = 'float32'): Tensor {
  const values = new Float32Array(countOf(shape));
  for (let i = 0; i < values.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    values[i] = seed / 2 ** 31 - 1;
  }
  if (dtype === 'uint8')
    return Tensor.from(
      Uint8Array.from(values, (v) => (v + 1) * 127.5),
      shape,
    );
  if (dtype === 'float64') return Tensor.from(Float64Array.from(values), shape);
  if (dtype === 'bfloat16')
    return Tensor.from(
      Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16),
      shape,
      'bfloat16',
    );
  return Tensor.from(values, shape);
}

/** Weights as the panels that the ops read. */
export function panels(w: Tensor, use: 'forward' | 'backward'): Tensor {
  const packed = Tensor.empty([packedLength(w.shape, use)]);
  const flat = use === 'forward' ? w.reshape([w.shape[0]!, w.size / w.shape[0]!]) : w;
  dispatch('pack', { w: flat, packed, use });
  return packed;
}

/** One measured row, as it is saved. */
interface Row {
  name: string;
  op: string;
  threads: number;
  seconds: Timing;
  gflops: number;
  gbytes: number;
  peak_gflops: number;
  /** the register tile of the matrix product fed from L1, measured just behind the peak; null where memory is the bound */
  tile_gflops: number | null;
  copy_gbytes: number | null;
  /** of the bound, by the median and by the best sample */
  share: number;
  share_best: number;
  marked: boolean;
}

async function measureCase(c: OpBenchCase, count: number, budget: Parameters<typeof measure>[2]): Promise<Row> {
  // tidy is synchronous: the tensors are kept by hand until the case is measured.
  const made: Tensor[] = [];
  const args = tidy(() => {
    const all = c.args();
    for (const value of Object.values(all)) if (value instanceof Tensor) made.push(value);
    return all;
  });
  try {
    const cost = costOf(c.op, args);
    const peak = addon().peak(count);
    const tile = c.against === 'peak' ? addon().tilePeak(count) : null;
    const copy = c.against === 'copy' ? addon().copyBandwidth() : null;
    const seconds = await measure(c.name, () => dispatch(c.op, args), budget);
    const bound = c.against === 'peak' ? cost.flops / (peak * 1e9) : cost.bytes / (copy! * 1e9);
    return {
      name: c.name,
      op: c.op,
      threads: count,
      seconds,
      gflops: cost.flops / seconds.median / 1e9,
      gbytes: cost.bytes / seconds.median / 1e9,
      peak_gflops: peak,
      tile_gflops: tile,
      copy_gbytes: copy,
      share: bound / seconds.median,
      share_best: bound / seconds.best,
      // The best sample judges: a neighbour that took the core is not the kernel's fault.
      marked: bound / seconds.best < c.floor,
    };
  } finally {
    for (const t of made) t.dispose();
  }
}

/** Measures all cases on one thread and on all, prints a table, and saves it with --save. */
export async function runOpBench(name: string, cases: readonly OpBenchCase[]): Promise<void> {
  const options = benchOptions();
  const machine = describeMachine();
  const all = addon().machine().defaultThreads;
  const counts = options.threads > 0 ? [options.threads] : [...new Set([1, all])];
  console.log(`\n${name} on ${machine.cpu}, ${machine.instructionSet}, node ${machine.node}, load ${machine.load.toFixed(1)}`);
  const rows: Row[] = [];
  const before = threads();
  const table = new Table(['case', 'median', 'p10', 'p90', 'GFLOP/s', 'GB/s', 'bound', 'of it', 'best', 'of tile', '']);
  try {
    for (const count of counts) {
      threads(count);
      table.header(`${name}, ${count} thread${count === 1 ? '' : 's'}`);
      for (const c of cases) {
        if (!c.name.includes(options.only)) continue;
        const r = await measureCase(c, count, options.budget);
        rows.push(r);
        const bound = c.against === 'peak' ? `${r.peak_gflops.toFixed(0)} GF/s` : `${r.copy_gbytes!.toFixed(1)} GB/s`;
        table.row([
          c.name,
          formatTime(r.seconds.median),
          formatTime(r.seconds.p10),
          formatTime(r.seconds.p90),
          r.gflops.toFixed(1),
          r.gbytes.toFixed(1),
          bound,
          formatShare(r.share),
          formatShare(r.share_best),
          r.tile_gflops === null ? '' : formatShare(r.gflops / r.tile_gflops),
          r.marked ? `< ${formatShare(c.floor)}` : '',
        ]);
      }
    }
  } finally {
    threads(before);
  }
  console.log(
    `\nof it: the bound (multiply-adds in registers, or a large copy, measured just before the case) divided by the median; best: by the ` +
      `fastest sample;\nof tile: the median by what the register tile of the product reaches with its operands in L1, where loads cost clock.\nGB/s counts the least bytes the op has to move; data that fits a cache can exceed the bound.`,
  );
  if (options.save) console.log(`saved ${saveResults(name, machine, rows)}`);
}
