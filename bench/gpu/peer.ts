// PyTorch on the same GPU, where a machine has it: its ceilings and the times of its own kernels, by peer.py.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../support/results.js';
import { STUDENTS } from '../support/student.js';
import type { Device } from '../../src/tensor/index.js';
import type { Extent } from './extent.js';

export interface Peer {
  torch: string;
  gpu: string;
  ceilings: { tflops: number; gbytes: number };
  /** `case` is a name of cases.ts, `by` the library or backend that was the best */
  rows: readonly { case: string; seconds: number; by: string }[];
}

/** PyTorch may take two minutes, its start included. */
const LIMIT_MS = 120_000;

/** The environment in which PyTorch's first GPU is this one. */
function onlyThis(device: Device): NodeJS.ProcessEnv {
  const index = Number(device.split(':')[1] ?? 0);
  const visible = process.env['CUDA_VISIBLE_DEVICES']?.split(',')[index] ?? String(index);
  return { ...process.env, CUDA_VISIBLE_DEVICES: visible };
}

/** @returns what PyTorch reaches at the extent's shapes, or why it cannot be asked */
export function measurePeer(device: Device, extent: Extent): Peer | { absent: string } {
  if (!extent.peer) return { absent: 'not asked in a rehearsal' };
  const env = onlyThis(device);
  const probe = spawnSync('python3', ['-c', 'import torch; assert torch.cuda.is_available()'], { env, timeout: 60_000 });
  if (probe.status !== 0) return { absent: 'no python3 with a PyTorch that sees a GPU' };
  const folder = mkdtempSync(join(tmpdir(), 'theia-peer-'));
  const out = join(folder, 'peer.json');
  try {
    const shapes = extent.opShapes.map(([size, batch]) => [size, STUDENTS[size].hidden, STUDENTS[size].heads, batch].join(':'));
    const script = join(repository(), 'bench', 'gpu', 'peer.py');
    const { status, signal } = spawnSync('python3', [script, out, ...shapes], { env, stdio: 'inherit', timeout: LIMIT_MS });
    if (!existsSync(out)) return { absent: `peer.py ended with ${signal ?? `exit code ${status}`}` };
    if (status !== 0) console.log(`peer.py ended with ${signal ?? `exit code ${status}`}: its rows up to there`);
    return JSON.parse(readFileSync(out, 'utf8')) as Peer;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
