// npm run gpu:check [-- --device cuda|cuda:N] [--out FOLDER] [--only STAGE,...] [--no-build]
// npm run gpu:check -- --rehearse      tries this program out on the emulator: every stage, with next to nothing to do
// Everything that needs a GPU, in about 8 minutes: op tests on the device, parity with the CPU, determinism, compute-sanitizer where it
// works, then the time of every op and of whole models beside PyTorch on the same GPU. One table on stdout, one JSON file.
// A stage that fails or crashes is reported and hides no other. Exit code 1 if any failed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, prepareModules, root } from './support/prepare.mjs';
import { runFile } from './support/uvu.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string' },
    rehearse: { type: 'boolean', default: false },
    out: { type: 'string' },
    only: { type: 'string', default: 'tests,parity,determinism,sanitizer,kernels,models,torch' },
    'no-build': { type: 'boolean', default: false },
  },
});
const { rehearse, device = rehearse ? 'simt' : 'cuda' } = values;
const folder = values.out ?? (rehearse ? mkdtempSync(join(tmpdir(), 'theia-gpu-rehearsal-')) : join(root, 'bench', 'results'));
const wanted = values.only.split(',');
if (!values['no-build']) {
  prepareModules();
  build();
}
const env = { ...process.env, THEIA_TEST_DEVICES: device };
const work = mkdtempSync(join(tmpdir(), 'theia-gpu-check-'));
const report = { bench: 'gpu-check', device, date: new Date().toISOString(), stages: {} };
const summary = [];

function note(stage, ok, text) {
  summary.push(`${ok ? 'ok    ' : 'FAIL  '}${stage}: ${text}`);
}

/** What is tested on a device beside the ops: memory, plans, copies and their teardown, whole models, training, the commands. */
const BESIDE_OPS = ['native/devices', 'tensor/device-plan', 'models/device', 'train/history', 'cli/device'].map(
  (name) => `${name}.test.js`,
);

/** The tests' files that run on a device, some at a time: each is a process of its own with its own context. */
async function tests() {
  const ops = readdirSync(join(root, 'dist', 'test', 'ops')).filter((name) => name.endsWith('.simt.test.js'));
  const files = [...ops.map((name) => `ops/${name}`), ...BESIDE_OPS];
  const results = [];
  const waiting = rehearse ? files.slice(0, 1) : files;
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const r = await runFile(process.execPath, [join('dist', 'test', name)], { cwd: root, limit: 150, env });
      // A test that is skipped because the device cannot be used has shown nothing.
      const failed = r.failed + (r.trouble && r.failed === 0 ? 1 : 0) + r.skips.filter(({ reason }) => reason.startsWith('device ')).length;
      results.push({ file: name, passed: r.passed, failed, seconds: r.seconds });
      console.log(`${failed === 0 ? 'ok    ' : 'FAIL  '}${name}  ${r.passed} passed, ${failed} failed  ${r.seconds.toFixed(1)} s`);
      for (const { name: test, reason } of r.skips) console.log(`      SKIP ${test}: ${reason}`);
      if (failed > 0) console.log(r.output.slice(-6000).replace(/^/gm, '      '));
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, worker));
  const failed = results.reduce((n, r) => n + r.failed, 0);
  const passed = results.reduce((n, r) => n + r.passed, 0);
  report.stages.tests = { ok: failed === 0 && passed > 0, results };
  note('tests', failed === 0 && passed > 0, `${passed} passed, ${failed} failed in ${results.length} files on ${device}`);
}

/** A stage of dist/bench/gpu/check.js. */
function stage(name, limit) {
  const file = join(work, `${name}.json`);
  const args = [join('dist', 'bench', 'gpu', 'check.js'), name, device, file, ...(rehearse ? ['rehearse'] : [])];
  const { status, signal } = spawnSync(process.execPath, args, {
    cwd: root,
    env,
    stdio: 'inherit',
    timeout: limit * 1000,
  });
  const result = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { ok: false };
  const { gpu, ...rest } = result;
  if (gpu) report.gpu = gpu;
  report.stages[name] = { ...rest, ok: status === 0 && result.ok };
  note(
    name,
    status === 0 && result.ok,
    status === 0 ? `${result.rows?.length ?? 0} rows` : `ended with ${signal ?? `exit code ${status}`}`,
  );
}

/** memcheck and synccheck over the files that run quickly. A machine without the tool says so. */
function sanitizer() {
  if (rehearse || spawnSync('sh', ['-c', 'command -v compute-sanitizer']).status !== 0) {
    const reason = rehearse ? 'a rehearsal' : 'compute-sanitizer is not installed';
    report.stages.sanitizer = { ok: true, skipped: reason };
    return note('sanitizer', true, `skipped: ${reason}`);
  }
  const files = ['add', 'layernorm', 'linear', 'distill_loss', 'attention'].map((n) => join('dist', 'test', 'ops', `${n}.simt.test.js`));
  const rows = [];
  for (const tool of ['memcheck', 'synccheck'])
    for (const file of files.filter((f) => existsSync(join(root, f)))) {
      const run = spawnSync('compute-sanitizer', ['--tool', tool, '--error-exitcode', '9', process.execPath, file], {
        cwd: root,
        env,
        encoding: 'utf8',
        timeout: 60_000,
      });
      const late = run.error?.code === 'ETIMEDOUT';
      rows.push({ tool, file, status: late ? 'timeout' : run.status });
      if (run.status === 9) console.log(`${tool} ${file}\n${run.stdout.slice(-4000)}`);
    }
  const bad = rows.filter((r) => r.status === 9);
  report.stages.sanitizer = { ok: bad.length === 0, rows };
  note(
    'sanitizer',
    bad.length === 0,
    `${rows.length} runs, ${bad.length} with reports, ${rows.filter((r) => r.status === 'timeout').length} past a minute`,
  );
}

/** PyTorch on the same GPU, where both it and the peer's script are. */
function torch() {
  const script = ['peers', join('..', 'shared', 'peers')].map((folder) => join(root, folder, 'bench_torch.py')).find(existsSync);
  const has = !rehearse && script && spawnSync('python3', ['-c', 'import torch; assert torch.cuda.is_available()']).status === 0;
  if (!has) {
    const reason = rehearse ? 'a rehearsal' : 'no PyTorch with CUDA, or no bench_torch.py';
    report.stages.torch = { ok: true, skipped: reason };
    return note('torch', true, `skipped: ${reason}`);
  }
  const rows = [];
  const run = (sizes, modes, extra) => {
    const file = join(work, `torch-${rows.length}.json`);
    const flags = ['--sizes', sizes, '--modes', modes, '--iters', '20', '--bf16', '--json', file, ...extra];
    spawnSync('python3', [script, '--device', device, ...flags], { stdio: 'inherit', timeout: 150_000 });
    if (existsSync(file)) rows.push(...JSON.parse(readFileSync(file, 'utf8')).rows.map((r) => ({ ...r, attention: 'sdpa' })));
  };
  run('tiny,small,base', 'infer1,infer8,infer64,train16,train128', []);
  run('base', 'infer1,train128', ['--compile']);
  report.stages.torch = { ok: rows.length > 0, rows };
  note('torch', rows.length > 0, `${rows.length} rows`);
}

try {
  const run = {
    tests,
    parity: () => stage('parity', 90),
    determinism: () => stage('determinism', 60),
    sanitizer,
    kernels: () => stage('kernels', 270),
    models: () => stage('models', 180),
    torch,
  };
  for (const name of wanted) {
    if (!Object.hasOwn(run, name)) throw new Error(`--only: expected stages of ${Object.keys(run).join(', ')}, got ${name}`);
    console.log(`\n== ${name}`);
    const start = performance.now();
    await run[name]();
    report.stages[name].wall_s = (performance.now() - start) / 1000;
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
mkdirSync(folder, { recursive: true });
const slug = (report.gpu?.name ?? device).toLowerCase().replace(/[^a-z0-9]+/g, '-');
const file = join(folder, `gpu-check-${slug}.json`);
writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
console.log(`\n${summary.join('\n')}\nsaved ${file}`);
process.exitCode = summary.some((line) => line.startsWith('FAIL')) ? 1 : 0;
