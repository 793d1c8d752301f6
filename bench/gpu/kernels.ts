// Times single calls on a GPU: each call is recorded some hundred times into one plan, which is one graph launch, so that the host's part
// is not what is measured. Operands stay where they are: what fits the L2 cache is read from there, as behind its producer in a real step.
import { Plan, Tensor, costOf, dispatch, synchronize, tidy } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { patternBfloat16 } from '../support/pattern.js';
import type { GpuCase } from './cases.js';
import type { Extent } from './extent.js';
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
  /** medians with the tiles of sm_90a, by number: whether kWgmmaShapes should list the call. One that cannot take them repeats `seconds` */
  wgmma: Record<string, number>;
}

/** Tiles of kernels/gemm/device/tiles.cuh that nothing but THEIA_GEMM_TILE chooses as yet, and the ops that have a matrix product. */
const WGMMA_TILES = ['6', '7'];
const PRODUCTS = /^(linear|conv2d|conv_transpose2d)(_grad)?$/;

/** Seconds of each of some replays of fn, recorded `calls` times over. */
export function timeReplays(device: Device, calls: number, fn: () => void, replays: number): number[] {
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

/** Sorted seconds of one call, from samples that last long enough. */
function timeCall(device: Device, call: () => void, extent: Extent): number[] {
  const estimate = timeReplays(device, extent.calls[0], call, Math.min(3, extent.replays))[0]!;
  const calls = Math.max(extent.calls[0], Math.min(extent.calls[1], Math.ceil(extent.sampleSeconds / Math.max(estimate, 1e-6))));
  return timeReplays(device, calls, call, extent.replays);
}

/** Runs fn with only this tile of the matrix product; where a call cannot take it, the others are chosen from as usual. */
function withTile<T>(tile: string, fn: () => T): T {
  process.env['THEIA_GEMM_TILE'] = tile;
  try {
    return fn();
  } finally {
    delete process.env['THEIA_GEMM_TILE'];
  }
}

const median = (sorted: readonly number[]): number => sorted[sorted.length >> 1]!;

export function timeKernel(c: GpuCase, device: Device, ceilings: Ceilings, extent: Extent): KernelRow {
  return tidy(() => {
    const args = c.args();
    const cost = costOf(c.op, args);
    const call = (): void => dispatch(c.op, args);
    call();
    const times = timeCall(device, call, extent);
    const seconds = median(times);
    const floor = floorSeconds(cost, ceilings);
    const wgmma = PRODUCTS.test(c.op)
      ? WGMMA_TILES.map((tile) => [tile, median(withTile(tile, () => timeCall(device, call, extent)))] as const)
      : [];
    return {
      case: c.name,
      op: c.op,
      seconds,
      best: times[0]!,
      tflops: cost.flops / seconds / 1e12,
      gbytes: cost.bytes / seconds / 1e9,
      floor_seconds: floor,
      share: floor / seconds,
      wgmma: Object.fromEntries(wgmma),
    };
  });
}

/** A large device copy and a large matrix product of this engine: what the rest of the run is held against. */
export function measureCeilings(device: Device, gpu: string, extent: Extent): Ceilings {
  return tidy(() => {
    const { copy: n, side } = extent.ceilings;
    const filled = (shape: number[]): Tensor => {
      const t = Tensor.empty(shape, 'bfloat16', device);
      t.write(patternBfloat16(t.size));
      return t;
    };
    const src = filled([n]);
    const dst = Tensor.empty([n], 'bfloat16', device);
    const copy = timeReplays(device, 4, () => dispatch('copy', { src, dst, accumulate: 0 }), extent.replays)[0]!;
    const [x, w] = [filled([side, side]), filled([side, side])];
    const y = Tensor.empty([side, side], 'bfloat16', device);
    const product = timeReplays(device, 2, () => dispatch('linear', { x, w, y, activation: 'none' }), extent.replays)[0]!;
    return { gpu, gbytes: (2 * 2 * n) / copy / 1e9, tflops: (2 * side ** 3) / product / 1e12 };
  });
}
