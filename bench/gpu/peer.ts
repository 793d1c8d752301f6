// PyTorch on the same GPU, where a machine has it: its ceilings and the times of its own kernels, by peer.py.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../support/results.js';
import { STUDENTS } from '../support/student.js';
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

/** @returns what PyTorch reaches at the extent's shapes, or why it cannot be asked */
export function measurePeer(extent: Extent): Peer | { absent: string } {
  const probe = spawnSync('python3', ['-c', 'import torch; assert torch.cuda.is_available()'], { encoding: 'utf8' });
  if (probe.status !== 0) return { absent: 'no python3 with a PyTorch that sees a GPU' };
  const folder = mkdtempSync(join(tmpdir(), 'theia-peer-'));
  const out = join(folder, 'peer.json');
  try {
    const shapes = extent.opShapes.map(([size, batch]) => [size, STUDENTS[size].hidden, STUDENTS[size].heads, batch].join(':'));
    const script = join(repository(), 'bench', 'gpu', 'peer.py');
    const { status, signal } = spawnSync('python3', [script, out, ...shapes], { stdio: 'inherit', timeout: LIMIT_MS });
    if (status !== 0) return { absent: `peer.py ended with ${signal ?? `exit code ${status}`}` };
    return JSON.parse(readFileSync(out, 'utf8')) as Peer;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
