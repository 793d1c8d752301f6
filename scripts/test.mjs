// npm test: installs what is missing, builds, and runs every test file as a process of its own.
//   npm test -- NAME...       only files whose path contains one of the names
//   npm test -- --list        prints the files and runs nothing
//   npm test -- --no-build    runs what is built
//   npm test -- --exec PROG   runs the files with another runtime (a path to Bun)
//   npm test -- --limit S     seconds a file may take (240)
// The last line is `N passed, N failed`; the line before it counts what was skipped, with reasons. Exit code 1 if anything failed.
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, sep } from 'node:path';
import { parseArgs } from 'node:util';
import { build, prepareModules, root } from './support/prepare.mjs';
import { runFile } from './support/uvu.mjs';

const { values, positionals } = parseArgs({
  options: {
    list: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    exec: { type: 'string', default: process.execPath },
    limit: { type: 'string', default: '240' },
  },
  allowPositionals: true,
});
const limit = Number(values.limit);
if (!(limit > 0)) throw new Error(`--limit: expected seconds, got ${values.limit}`);

/** Sources decide what runs: the compiled file of a deleted test is never looked at. */
const files = readdirSync(join(root, 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => join('test', name).split(sep).join('/'))
  .filter((name) => positionals.length === 0 || positionals.some((wanted) => name.includes(wanted)))
  .sort();

if (values.list) {
  console.log(files.join('\n'));
  process.exit(0);
}

function end(passed, failed, skips) {
  for (const { name, reason } of skips) console.log(`SKIP ${name}: ${reason}`);
  const reasons = new Map();
  for (const { reason } of skips) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const most = [...reasons].sort((a, b) => b[1] - a[1]).map(([reason, n]) => (n === 1 ? reason : `${reason} (${n} times)`));
  const list = most.slice(0, 3).join('; ') + (most.length > 3 ? `; and ${most.length - 3} other reasons, see above` : '');
  console.log(`${skips.length} skipped${list && `: ${list}`}`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}

if (files.length === 0) {
  console.error(`no test file's path contains ${positionals.join(' or ')}`);
  end(0, 1, []);
} else {
  let built = true;
  try {
    if (!values['no-build']) {
      prepareModules();
      build();
    }
  } catch (error) {
    built = false;
    console.error(error.message);
    end(0, 1, []);
  }
  if (built) await runAll();
}

async function runAll() {
  let passed = 0;
  let failed = 0;
  const skips = [];
  const waiting = [...files];
  async function worker() {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const compiled = join('dist', name.replace(/\.ts$/, '.js'));
      const result = existsSync(join(root, compiled))
        ? await runFile(values.exec, [compiled], { cwd: root, limit })
        : { passed: 0, failed: 1, skips: [], trouble: `${compiled} is not built`, output: '', seconds: 0 };
      passed += result.passed;
      failed += result.failed;
      skips.push(...result.skips);
      const counts = `${result.passed} passed${result.skips.length ? `, ${result.skips.length} skipped` : ''}`;
      if (result.failed === 0) console.log(`ok    ${name}  ${counts}  ${result.seconds.toFixed(1)} s`);
      else {
        const what = [result.failed > (result.trouble ? 1 : 0) && `${result.failed - (result.trouble ? 1 : 0)} failed`, result.trouble];
        console.log(`FAIL  ${name}  ${counts}, ${what.filter(Boolean).join(', ')}  ${result.seconds.toFixed(1)} s`);
        console.log(result.output.replace(/^/gm, '      ').trimEnd());
      }
    }
  }
  // Two at a time: the ops' tests use the thread pool themselves, and some hold 1 GB.
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  end(passed, failed, skips);
}
