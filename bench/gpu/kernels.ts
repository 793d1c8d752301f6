// Times single calls on a GPU: each call is recorded some hundred times into one plan, which is one graph launch, so that the host's part
// is not what is measured. Operands stay where they are: what fits the L2 cache is read from there, as behind its producer in a real step.
import { Plan, Tensor, costOf, dispatch, synchronize, tidy } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import type { GpuCase } from './cases.js';
import { floorSeconds } from './floor.js';
import type { Ceilings } from './floor.js';

export interface KernelRow {
  case: string;
  op: string;
  /** of one call: the median and the best of the replays */
  seconds: number;
  best: number;
  tflops: number;
  gbytes: number;
  floor_seconds: number;
  /** floor / seconds */
  share: number;
}

const REPLAYS = 7;
const SAMPLE_SECONDS = 0.004;

/** Seconds of each of some replays of fn, recorded `calls` times over. */
export function timeReplays(device: Device, calls: number, fn: () => void, replays = REPLAYS): number[] {
  using plan = Plan.record(() => {
    for (let i = 0; i < calls; i++) fn();
  });
  plan.replay(); // builds the graph
  synchronize(device);
  return Array.from({ length: replays }, () => {
    const start = performance.now();
    plan.replay();
    synchronize(device);
    return (performance.now() - start) / 1000 / calls;
  }).sort((a, b) => a - b);
}

export function timeKernel(c: GpuCase, device: Device, ceilings: Ceilings): KernelRow {
  return tidy(() => {
    const args = c.args();
    const cost = costOf(c.op, args);
    const call = (): void => dispatch(c.op, args);
    call();
    const estimate = timeReplays(device, 10, call, 3)[0]!;
    const calls = Math.max(10, Math.min(400, Math.ceil(SAMPLE_SECONDS / Math.max(estimate, 1e-6))));
    const times = timeReplays(device, calls, call);
    const seconds = times[times.length >> 1]!;
    const floor = floorSeconds(cost, ceilings);
    return {
      case: c.name,
      op: c.op,
      seconds,
      best: times[0]!,
      tflops: cost.flops / seconds / 1e12,
      gbytes: cost.bytes / seconds / 1e9,
      floor_seconds: floor,
      share: floor / seconds,
    };
  });
}

/** A large device copy and a large matrix product of this engine: what the rest of the run is held against. */
export function measureCeilings(device: Device, gpu: string): Ceilings {
  return tidy(() => {
    const n = 1 << 28; // 512 MB each way in bfloat16: no cache holds it
    const src = Tensor.zeros([n], 'bfloat16', device);
    const dst = Tensor.empty([n], 'bfloat16', device);
    const copy = timeReplays(device, 4, () => dispatch('copy', { src, dst, accumulate: 0 }))[0]!;
    const side = 8192;
    const x = Tensor.zeros([side, side], 'bfloat16', device);
    const w = Tensor.zeros([side, side], 'bfloat16', device);
    const y = Tensor.empty([side, side], 'bfloat16', device);
    const product = timeReplays(device, 2, () => dispatch('linear', { x, w, y, activation: 'none' }))[0]!;
    return { gpu, gbytes: (2 * 2 * n) / copy / 1e9, tflops: (2 * side ** 3) / product / 1e12 };
  });
}
