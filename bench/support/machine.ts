import { availableParallelism, cpus, loadavg } from 'node:os';
import { readFileSync } from 'node:fs';
import { addon } from '../../src/native/load.js';
import { threads } from '../../src/tensor/index.js';

/** What a number was measured on; stands beside every saved one. */
export interface Machine {
  cpu: string;
  processors: number;
  available: number;
  governor: string | null;
  /** one-minute load average at the start: how busy others kept the machine */
  load: number;
  node: string;
  bun: string | null;
  platform: string;
  instructionSet: string;
  threads: number;
  compiler: string | null;
  date: string;
}

export function describeMachine(): Machine {
  let governor: string | null = null;
  try {
    governor = readFileSync('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor', 'utf8').trim();
  } catch {
    // virtual machines have none
  }
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    processors: cpus().length,
    available: availableParallelism(),
    governor,
    load: loadavg()[0]!,
    node: process.versions.node,
    bun: process.versions['bun'] ?? null,
    platform: `${process.platform}-${process.arch}`,
    instructionSet: addon().instructionSet(),
    threads: threads(),
    compiler: addon().machine().compiler ?? null,
    date: new Date().toISOString(),
  };
}

/** The CPU's name as part of a file name. */
export function cpuSlug(cpu: string): string {
  return (
    cpu
      .toLowerCase()
      .replace(/\((r|tm)\)/g, '')
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '') || 'unknown'
  );
}
