// One stage of gpu:check in a process of its own: node dist/bench/gpu/check.js STAGE DEVICE OUT.json [rehearse]
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Encoder } from '../../src/encoder/index.js';
import { configJson, saveWeights } from '../../src/models/checkpoint.js';
import type { Device } from '../../src/tensor/index.js';
import { cudaDevices, resolveDevice } from '../../src/tensor/index.js';
import { Trainer } from '../../src/train/trainer.js';
import { Table, formatShare, formatTime } from '../support/table.js';
import { pictures, statisticsOf, student, trainingBatch } from '../support/student.js';
import type { StudentSize } from '../support/student.js';
import { gpuCases } from './cases.js';
import { FULL, REHEARSAL } from './extent.js';
import type { Extent } from './extent.js';
import type { Ceilings } from './floor.js';
import { measureCeilings, timeKernel } from './kernels.js';
import type { KernelRow } from './kernels.js';
import { timeEncode, timeTraining } from './models.js';
import type { ModelRow } from './models.js';
import { timeTrainingFromDisk } from './disk.js';
import { measurePeer } from './peer.js';
import type { Peer } from './peer.js';

/** What the rows were measured on. */
function gpuOf(device: Device): { name: string } {
  return cudaDevices().devices.find((d) => d.device === device) ?? { name: device };
}

/** Runs fn with a folder that holds a freshly initialised student of the size. */
async function withStudent<T>(size: StudentSize, fn: (path: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'theia-gpu-'));
  try {
    using model = student(size, false);
    saveWeights(model, join(folder, 'model.safetensors'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify(configJson(model.config)));
    return await fn(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return ab / Math.sqrt(aa * bb);
}

/** Tokens of two pictures on the GPU against the CPU's float32 ones. bfloat16 has to keep a cosine above 0.999. */
async function parity(device: Device, extent: Extent): Promise<{ ok: boolean; rows: object[] }> {
  const rows: { size: string; dtype: string; cosine: number; ok: boolean }[] = [];
  for (const size of extent.sizes)
    await withStudent(size, async (path) => {
      const pixels = pictures(2);
      const frames = [0, 1].map((i) => ({ data: pixels.subarray(i * 150528, (i + 1) * 150528), width: 224, height: 224 }));
      using cpu = await Encoder.load(path, { device: 'cpu' });
      const want = cpu.encode(frames);
      for (const dtype of ['float32', 'bfloat16'] as const) {
        using gpu = await Encoder.load(path, { device, dtype });
        const value = cosine(gpu.encode(frames), want);
        rows.push({ size, dtype, cosine: value, ok: value > (dtype === 'float32' ? 0.999999 : 0.999) });
      }
    });
  for (const r of rows)
    console.log(`parity ${r.size} ${r.dtype}: cosine with the CPU's float32 tokens ${r.cosine.toFixed(7)} ${r.ok ? 'ok' : 'FAILS'}`);
  return { ok: rows.every((r) => r.ok), rows };
}

/** Two training runs from one seed give the same weights and the same losses, bit for bit, and the loss falls. */
function determinism(device: Device, extent: Extent): { ok: boolean; rows: object[] } {
  const { size, batch, steps } = extent.determinism;
  const run = (): { hash: string; losses: number[] } => {
    const model = student(size, true, { device, compute: 'bfloat16' });
    const trainer = new Trainer(model, { lr: 1e-3, statistics: statisticsOf(model) });
    try {
      const batches = [trainingBatch(model, batch)];
      const losses = Array.from({ length: steps }, () => trainer.step(batches).loss);
      const hash = createHash('sha256').update(model.arena.values.float32()).digest('hex');
      return { hash, losses };
    } finally {
      trainer.dispose();
      model.dispose();
    }
  };
  const [a, b] = [run(), run()];
  const same = a.hash === b.hash && a.losses.join() === b.losses.join();
  const last = a.losses[steps - 1]!;
  const falls = last < a.losses[0]!;
  console.log(
    `determinism: ${steps} steps of Theia-${size} twice: ${same ? 'the same bits' : 'DIFFERENT'}; loss ${a.losses[0]} -> ${last}`,
  );
  return { ok: same && falls, rows: [a, b] };
}

/** The higher of both: what this engine's own product and copy do not reach is no ceiling. */
function ceilingsOf(own: Ceilings, peer: Peer | { absent: string }): Ceilings {
  if ('absent' in peer) return own;
  return { gpu: own.gpu, tflops: Math.max(own.tflops, peer.ceilings.tflops), gbytes: Math.max(own.gbytes, peer.ceilings.gbytes) };
}

function kernels(device: Device, extent: Extent): { ok: boolean; rows: object[]; own: Ceilings; ceilings: Ceilings; peer: object } {
  const { name } = gpuOf(device);
  const peer = measurePeer(device, extent);
  const own = measureCeilings(device, name, extent);
  const ceilings = ceilingsOf(own, peer);
  console.log(`this engine: product ${own.tflops.toFixed(0)} TFLOP/s, copy ${own.gbytes.toFixed(0)} GB/s`);
  if ('absent' in peer) console.log(`no times of PyTorch beside these: ${peer.absent}`);
  const theirs = new Map('absent' in peer ? [] : peer.rows.map((r) => [r.case, r]));
  const rows: (KernelRow | { case: string; error: string })[] = [];
  let ok = true;
  const table = new Table(['case', 'median', 'best', 'TFLOP/s', 'GB/s', 'floor', 'share', 'wgmma', 'PyTorch'], 28);
  for (const [size, batch] of extent.opShapes) {
    table.header(
      `Theia-${size}, batch ${batch}, bfloat16; floor at ${ceilings.tflops.toFixed(0)} TFLOP/s, ${ceilings.gbytes.toFixed(0)} GB/s`,
    );
    for (const c of gpuCases(size, batch, device)) {
      try {
        const r = timeKernel(c, device, ceilings, extent);
        const other = theirs.get(c.name);
        rows.push(r);
        const wgmma = Object.values(r.wgmma);
        table.row([
          c.name,
          formatTime(r.seconds),
          formatTime(r.best),
          r.tflops.toFixed(1),
          r.gbytes.toFixed(0),
          formatTime(r.floor_seconds),
          formatShare(r.share),
          wgmma.length > 0 ? formatTime(Math.min(...wgmma)) : '',
          other ? `${formatTime(other.seconds)} ${other.by}` : '',
        ]);
      } catch (error) {
        ok = false;
        rows.push({ case: c.name, error: String(error) });
        table.row([c.name, `FAILS: ${String(error)}`]);
      }
    }
  }
  return { ok, rows, own, ceilings, peer };
}

async function models(device: Device, extent: Extent): Promise<{ ok: boolean; rows: ModelRow[] }> {
  const rows: ModelRow[] = [];
  const table = new Table(['case', 'median', 'best', 'images/s', 'TFLOP/s'], 40);
  table.header('end to end, bfloat16: pictures and features from host memory or disk, tokens and losses back to it');
  const note = (r: ModelRow): void => {
    rows.push(r);
    table.row([r.case, formatTime(r.seconds), formatTime(r.best), r.images_per_s.toFixed(0), r.tflops.toFixed(1)]);
  };
  for (const size of extent.sizes)
    await withStudent(size, async (path) => {
      for (const batch of extent.encodeBatches) note(await timeEncode(path, size, batch, device, extent.encodeCalls));
    });
  for (const size of extent.sizes)
    for (const batch of extent.trainBatches)
      for (const pinned of [true, false]) note(timeTraining(size, batch, device, extent.trainSteps, pinned));
  const { size, batch } = extent.disk;
  const same = rows.find((r) => r.case.startsWith(`train ${size} batch ${batch},`))!;
  note(await timeTrainingFromDisk(extent.disk, device, same.tflops * 1e12 * same.seconds));
  return { ok: true, rows };
}

const [stage, where, out, how] = process.argv.slice(2);
const device = resolveDevice(where ?? 'cuda');
const stages: Record<string, (d: Device, e: Extent) => { ok: boolean } | Promise<{ ok: boolean }>> = {
  parity,
  determinism,
  kernels,
  models,
};
const run = Object.hasOwn(stages, stage ?? '') ? stages[stage!] : undefined;
if (!run || out === undefined) throw new Error(`expected a stage of ${Object.keys(stages).join(', ')}, a device and a file, got ${stage}`);
const result = await run(device, how === 'rehearse' ? REHEARSAL : FULL);
writeFileSync(out, JSON.stringify({ gpu: gpuOf(device), ...result }));
process.exitCode = result.ok ? 0 : 1;
