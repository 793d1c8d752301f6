// What no kernel can beat: the operations and the bytes of a call over the ceilings of the GPU. Needs no GPU.
//   npm run gpu:floor [-- --save]
import { costOf, tidy } from '../../src/tensor/index.js';
import { saveGpuResults } from './results.js';
import { Table, formatTime } from '../support/table.js';
import { gpuCases } from './cases.js';
import { FULL } from './extent.js';

/** Ceilings that times are held against. */
export interface Ceilings {
  gpu: string;
  /** bfloat16 operations a second, dense */
  tflops: number;
  /** bytes a second of a large device-to-device copy, read and written together */
  gbytes: number;
}

/** Published measurements of an H200: what large matrix products and copies reach, not the data sheet. */
export const H200: Ceilings = { gpu: 'NVIDIA H200 (predicted)', tflops: 790, gbytes: 4300 };

/** Seconds below which a call cannot come. */
export function floorSeconds(cost: { flops: number; bytes: number }, c: Ceilings): number {
  return Math.max(cost.flops / (c.tflops * 1e12), cost.bytes / (c.gbytes * 1e9));
}

function main(): void {
  const rows: object[] = [];
  const table = new Table(['case', 'GFLOP', 'MB', 'FLOP/B', 'bound', 'floor'], 28);
  for (const [size, batch] of FULL.opShapes) {
    table.header(`Theia-${size}, batch ${batch}: the least time on an H200 (${H200.tflops} TFLOP/s bfloat16, ${H200.gbytes} GB/s)`);
    for (const c of gpuCases(size, batch, 'simt', false)) {
      const { flops, bytes } = tidy(() => costOf(c.op, c.args()));
      const seconds = floorSeconds({ flops, bytes }, H200);
      const bound = flops / (H200.tflops * 1e12) > bytes / (H200.gbytes * 1e9) ? 'math' : 'memory';
      rows.push({ case: c.name, op: c.op, flops, bytes, bound, floor_seconds: seconds });
      table.row([c.name, (flops / 1e9).toFixed(2), (bytes / 1e6).toFixed(1), (flops / bytes).toFixed(0), bound, formatTime(seconds)]);
    }
  }
  if (process.argv.includes('--save')) console.log(`saved ${saveGpuResults('gpu-floor', 'h200', { ceilings: H200, rows })}`);
}

if (process.argv[1]?.endsWith('floor.js')) main();
