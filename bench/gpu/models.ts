// Whole models on a GPU: the encoder from bytes on the host to tokens on the host, and the training step.
import { Encoder } from '../../src/encoder/index.js';
import { measureCost, pinShared, unpin } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';
import { Trainer } from '../../src/train/trainer.js';
import type { PendingStep } from '../../src/train/trainer.js';
import { pictures, statisticsOf, student, trainingBatch } from '../support/student.js';
import type { StepBatch } from '../../src/train/step.js';
import type { StudentSize } from '../support/student.js';

export interface ModelRow {
  case: string;
  images: number;
  /** of one call, the median */
  seconds: number;
  best: number;
  images_per_s: number;
  tflops: number;
}

/** A row from the seconds of single calls. */
export function rowOf(name: string, images: number, flops: number, times: number[]): ModelRow {
  const sorted = [...times].sort((a, b) => a - b);
  const seconds = sorted[sorted.length >> 1]!;
  return { case: name, images, seconds, best: sorted[0]!, images_per_s: images / seconds, tflops: flops / seconds / 1e12 };
}

/** Encoder.encode of frames that lie in host memory: upload, replay, download. */
export async function timeEncode(path: string, size: StudentSize, batch: number, device: Device, calls: number): Promise<ModelRow> {
  using encoder = await Encoder.load(path, { device, dtype: 'bfloat16' });
  const pixels = pictures(batch);
  const each = 224 * 224 * 3;
  const frames = Array.from({ length: batch }, (_, i) => ({ data: pixels.subarray(i * each, (i + 1) * each), width: 224, height: 224 }));
  let out: Float32Array | undefined;
  const { flops } = measureCost(() => (out = encoder.encode(frames)));
  for (let i = 0; i < 5; i++) encoder.encode(frames, { out: out! });
  const times = Array.from({ length: calls }, () => {
    const start = performance.now();
    encoder.encode(frames, { out: out! });
    return (performance.now() - start) / 1000;
  });
  return rowOf(`encode ${size} batch ${batch}`, batch, flops, times);
}

/** Copies a batch to memory that the GPU copies from by itself, where theia-train's loader builds it. */
function pinnedCopy(batch: StepBatch, device: Device): { batch: StepBatch; blocks: Uint8Array[] } {
  const blocks: Uint8Array[] = [];
  const pin = <T extends Uint8Array | Uint16Array | Float32Array>(a: T): T => {
    const block = pinShared(a.byteLength, device);
    blocks.push(block);
    block.set(new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
    return new (a.constructor as new (buffer: ArrayBufferLike, offset: number, length: number) => T)(
      block.buffer,
      block.byteOffset,
      a.length,
    );
  };
  const targets = new Map([...batch.targets].map(([name, t]) => [name, { ...t, data: pin(t.data) }]));
  return { batch: { ...batch, images: pin(batch.images), targets }, blocks };
}

/**
 * Steps behind each other, results fetched one step late.
 * @param pinned as theia-train runs; else as with batches in ordinary arrays, which the JavaScript thread copies
 */
export function timeTraining(size: StudentSize, batch: number, device: Device, steps: number, pinned: boolean): ModelRow {
  const model = student(size, true, { device, compute: 'bfloat16' });
  const trainer = new Trainer(model, { lr: 1e-4, statistics: statisticsOf(model) });
  const ordinary = trainingBatch(model, batch);
  const { batch: own, blocks } = pinned ? pinnedCopy(ordinary, device) : { batch: ordinary, blocks: [] };
  try {
    const batches = [own];
    const { flops } = measureCost(() => void trainer.step(batches));
    for (let i = 0; i < 3; i++) trainer.step(batches);
    let pending: PendingStep = trainer.submit(batches);
    const times: number[] = [];
    let last = performance.now();
    for (let i = 0; i < steps; i++) {
      const next = trainer.submit(batches);
      pending.result();
      pending = next;
      const now = performance.now();
      times.push((now - last) / 1000);
      last = now;
    }
    pending.result();
    return rowOf(`train ${size} batch ${batch}, ${pinned ? 'pinned' : 'ordinary'} memory`, batch, flops, times);
  } finally {
    for (const block of blocks) unpin(block);
    trainer.dispose();
    model.dispose();
  }
}
