// Runs the emulator's own tests (kernels/simt/selftest/), which lie in a program beside the addon, and says what became of each case.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addon, addonPath } from '../../src/native/load.js';

export type Outcome = {
  readonly case: string;
  readonly schedule: string;
  /** `wrong`: a result that must be another; a code: the emulator stopped the kernel; `broken`: a right kernel failed afterwards. */
  readonly result: 'ok' | 'wrong' | 'exception' | 'broken' | 'ERR_CUDA' | 'ERR_ARGS';
  readonly message: string;
};

export const SCHEDULES = ['forward', 'reverse', 'random:1', 'random:2', 'random:3', 'random:4', 'random:5'] as const;

/** The program; undefined where the addon was built without it (by gyp, or with THEIA_SIMT off). */
export function program(): string | undefined {
  addon();
  const file = join(dirname(addonPath()!), 'theia_simt_selftest');
  return existsSync(file) ? file : undefined;
}

/** Runs the program with these arguments. */
export function runProgram(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; stdout: string; stderr: string } {
  const { LD_PRELOAD: _, ...rest } = process.env; // a sanitizer of node's is not one of the program's
  const result = spawnSync(program()!, args, { encoding: 'utf8', env: { ...rest, THEIA_SIMT_SCHEDULE: '', ...env }, maxBuffer: 1 << 26 });
  if (result.error) throw result.error;
  return result;
}

/** What became of these cases (all, if none is named) under these schedules. */
export function outcomes(schedules: readonly string[], cases: readonly string[] = []): Outcome[] {
  const result = runProgram([...schedules.flatMap((s) => ['--schedule', s]), ...cases]);
  if (result.status !== 0) throw new Error(`theia_simt_selftest ended with ${result.status}: ${result.stderr}`);
  return result.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome);
}
