// One test file as a process of its own, and what its output says.
import { spawn } from 'node:child_process';

/** The numbers of uvu's closing lines; undefined if they are not there (the file crashed or ran no test). */
export function closingLines(output) {
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '');
  const last = (word) => {
    const all = [...plain.matchAll(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'gm'))];
    return all.length === 0 ? undefined : Number(all[all.length - 1][1]);
  };
  const total = last('Total');
  const passed = last('Passed');
  const skipped = last('Skipped') ?? 0;
  return total === undefined || passed === undefined ? undefined : { total, passed, skipped };
}

/** The `SKIP name: reason` lines of a test's output. */
export function skipLines(output) {
  return [...output.matchAll(/^SKIP (.+?): (.+)$/gm)].map(([, name, reason]) => ({ name, reason }));
}

const running = new Set();
for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    for (const child of running) killGroup(child);
    process.exit(signal === 'SIGINT' ? 130 : 143);
  });

function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL'); // a test's own children too
  } catch {
    // gone already
  }
}

/**
 * Runs one file and judges it.
 * @returns {Promise<{passed: number, failed: number, skips: {name: string, reason: string}[], trouble?: string, output: string, seconds: number}>}
 *   `trouble` says what went wrong besides failed tests: a crash, no tests, the time limit
 */
export function runFile(program, args, { cwd, limit, env = process.env }) {
  return new Promise((done) => {
    const start = performance.now();
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    running.add(child);
    let output = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      killGroup(child);
    }, limit * 1000);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
    const finish = (code, signal, error) => {
      if (!running.delete(child)) return;
      clearTimeout(timer);
      killGroup(child);
      const seconds = (performance.now() - start) / 1000;
      const counts = closingLines(output) ?? { total: 0, passed: 0, skipped: 0 };
      const skips = skipLines(output);
      let failed = counts.total - counts.passed - counts.skipped;
      let trouble;
      if (error) trouble = error.message;
      else if (late) trouble = `ran longer than ${limit} s`;
      else if (signal) trouble = `ended by ${signal}`;
      else if (code !== 0 && failed === 0) trouble = `ended with exit code ${code}`;
      else if (counts.total === 0) trouble = 'ran no test';
      if (trouble) failed += 1;
      for (let i = skips.length; i < counts.skipped; i++)
        skips.push({ name: args[args.length - 1], reason: 'skipped by the test without a reason' });
      // A test that printed SKIP and returned counts as passed for uvu; it checked nothing.
      const unchecked = new Set(skips.map((s) => s.name)).size - Math.min(counts.skipped, skips.length);
      const passed = Math.max(0, counts.passed - Math.max(0, unchecked));
      done({ passed, failed, skips, trouble, output, seconds });
    };
    child.on('error', (error) => finish(null, null, error));
    child.on('close', (code, signal) => finish(code, signal));
  });
}
