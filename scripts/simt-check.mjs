// The GPU's kernels in the emulator under a sanitizer: a build of theia_simt.node of its own, the emulator's self-tests in it (with the bugs
// that it must report), then the ops' tests on `simt`.
//   node scripts/simt-check.mjs address            AddressSanitizer: accesses outside of tensors, of shared memory and of local arrays
//   node scripts/simt-check.mjs race               ThreadSanitizer as a race detector between the threads of a launch
//   node scripts/simt-check.mjs KIND NAME...       only tests whose path contains one of the names
//   node scripts/simt-check.mjs KIND --no-build    what is built; --self: only the self-tests; --limit S: seconds a test file may take (240)
//   node scripts/simt-check.mjs race --all         every test, not only those of schedules: seven times the plain time, on one core
// Needs what `npm run build` makes. Exit code 1 if anything failed; the last line is `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root, run } from './support/prepare.mjs';
import { runFile } from './support/uvu.mjs';

/** Self-tests with a planted bug, and what the sanitizer must say of it. */
const KINDS = {
  address: {
    sanitizer: 'address',
    library: 'libasan.so',
    environment: { ASAN_OPTIONS: 'detect_leaks=0', THEIA_TEST_GUARD: 'tight' },
    planted: {
      row_bound: /AddressSanitizer: heap-buffer-overflow/,
      shared_write: /AddressSanitizer: use-after-poison[^]*addresses\.cpp:\d+/,
      dynamic_write: /AddressSanitizer: use-after-poison[^]*addresses\.cpp:\d+/,
    },
  },
  race: {
    sanitizer: 'thread',
    library: 'libtsan.so',
    // One report a place is enough, but the places of two kernels may be the same piece of shared memory.
    environment: { TSAN_OPTIONS: 'ignore_noninstrumented_modules=1 suppress_equal_addresses=0' },
    // A race is one under every schedule, whatever the values: each kernel at its smallest shape, once (--all: the other tests too).
    fewer: { THEIA_TEST_ONLY: 'schedule', THEIA_TEST_SCHEDULES: 'random:1' },
    planted: {
      gemm_without_first_barrier: /data race .*(ldmatrix|cp_async)\.h/,
      gemm_without_trailing_barrier: /data race .*(ldmatrix|cp_async)\.h/,
      gemm_without_wait: /data race .*(ldmatrix|cp_async)\.h/,
      missing_barrier: /data race .*bugs\.cpp/,
      missing_barrier_before_reuse: /data race .*bugs\.cpp/,
      warp_synchronous: /data race .*bugs\.cpp/,
      blocks_race: /data race .*bugs\.cpp/,
    },
  },
};
const SCHEDULES = ['forward', 'reverse', 'random:1'];

const { values, positionals } = parseArgs({
  options: {
    'no-build': { type: 'boolean', default: false },
    self: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    limit: { type: 'string', default: '240' },
  },
  allowPositionals: true,
});
const kind = KINDS[positionals[0]];
if (!kind || !(Number(values.limit) > 0)) {
  console.error('usage: node scripts/simt-check.mjs address|race [--no-build] [--self] [--all] [--limit S] [NAME...]');
  process.exit(2);
}
const names = positionals.slice(1);
const out = join(root, `build-simt-${positionals[0]}`);

// Not by cmake-js: nothing here is an addon of node's, and theia.node itself is the usual one.
if (!values['no-build']) {
  const quiet = { stdio: ['ignore', 'ignore', 'inherit'] };
  const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : [];
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DTHEIA_CUDA=OFF', `-DTHEIA_SIMT_SANITIZE=${kind.sanitizer}`];
  run('cmake', ['-S', root, '-B', out, ...generator, ...options], quiet);
  run('cmake', ['--build', out, '--parallel', '2', '--target', 'theia_simt', 'theia_simt_selftest'], quiet);
}

let passed = 0;
let failed = 0;
function judge(name, trouble, output) {
  if (trouble === undefined) passed += 1;
  else failed += 1;
  console.log(trouble === undefined ? `ok    ${name}` : `FAIL  ${name}: ${trouble}\n${output.replace(/^/gm, '      ').trimEnd()}`);
}

/** Runs the self-test program; its own exit code is 0 unless the sanitizer has something to say. */
function selftest(args) {
  const result = spawnSync(join(out, 'theia_simt_selftest'), args, { encoding: 'utf8', env: { ...process.env, ...kind.environment } });
  if (result.error) throw result.error;
  return { ...result, output: result.stdout + result.stderr };
}

// Each case in a process of its own: after a launch of other block sizes the race detector's fibers are made anew, and it then takes what an
// earlier case left on the main thread's stack for a race with the next launch's arguments (seen: boxes behind large_block, clean alone).
const cases = selftest(['--list', '--right']).stdout.trim().split('\n');
if (cases.length < 20) throw new Error(`expected the self-tests' cases, got ${cases.join(', ')}`);

for (const schedule of SCHEDULES) {
  const bad = [];
  for (const name of cases) {
    const { status, output, stdout } = selftest(['--schedule', schedule, name]);
    if (status !== 0 || !stdout.includes('"result":"ok"')) bad.push(`${name} ended with ${status}\n${output}`);
  }
  const trouble = bad.length > 0 ? `${bad.length} of ${cases.length} failed` : undefined;
  judge(`${cases.length} self-tests that are right, ${schedule}`, trouble, bad.join('\n'));
  for (const [name, words] of Object.entries(kind.planted)) {
    const found = selftest(['--schedule', schedule, name]);
    const missed =
      found.status === 0 || !words.test(found.output) ? `expected a report of ${words}, ended with ${found.status}` : undefined;
    judge(`reported: ${name}, ${schedule}`, missed, found.output);
  }
}

if (!values.self) {
  const library = spawnSync('g++', [`-print-file-name=${kind.library}`], { encoding: 'utf8' }).stdout.trim();
  if (!existsSync(library)) throw new Error(`no ${kind.library} beside g++`);
  const files = readdirSync(join(root, 'test'), { recursive: true })
    .filter((name) => name.endsWith('.simt.test.ts'))
    .filter((name) => names.length === 0 || names.some((wanted) => name.includes(wanted)))
    .sort();
  const env = {
    ...process.env,
    ...kind.environment,
    ...(!values.all && kind.fewer),
    LD_PRELOAD: library,
    THEIA_SIMT: join(out, 'theia_simt.node'),
    THEIA_TEST_DEVICES: 'simt',
  };
  const one = async (name) => {
    const compiled = join('dist', 'test', name.replace(/\.ts$/, '.js'));
    const result = await runFile(process.execPath, [compiled], { cwd: root, limit: Number(values.limit), env });
    const skipped =
      result.skips.filter(({ reason }) => reason.startsWith('device simt')).length > 0 ? 'the emulator was not loaded' : undefined;
    const trouble = result.trouble ?? (result.failed > 0 ? `${result.failed} failed` : skipped);
    judge(`${name}  ${result.passed} passed  ${result.seconds.toFixed(1)} s`, trouble, result.output);
  };
  async function worker() {
    for (let name = files.shift(); name !== undefined; name = files.shift()) await one(name);
  }
  await Promise.all([worker(), worker()]);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
