// Are the kernels' tests good enough? Takes one barrier, wait, commit, mask or bound at a time out of a GPU kernel, compiles what is made of
// it for the emulator, and runs the op's tests on `simt`: some test must fail. A mutant that passes them goes to the sanitizers' builds
// (bounds to AddressSanitizer, the others to the race detector). What survives that too must have its reason in test/simt/mutants.json.
//   npm run mutate                        all kernels: hours on two cores
//   npm run mutate -- NAME...             sources whose path contains one of the names
//   npm run mutate -- --every N           only every Nth mutant;  --list: prints them and runs nothing;  --limit S: seconds a test may take
//   npm run mutate -- --new               only those that the table does not have, or has without a reason
// Needs `npm run build` with ninja, and for the second round `node scripts/simt-check.mjs` of both kinds. --no-sanitizers leaves that out,
// --only-sanitizers is that alone.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { keyOf, mutantHeader, mutantsOf } from './support/mutants.mjs';
import { root } from './support/prepare.mjs';
import { runFile } from './support/uvu.mjs';

/** Sources and the tests that must notice. The first failing test ends a mutant. */
const SUBJECTS = [
  // Without what runs on the host: choosing a variant is not wrong when it chooses another.
  // `first` is the unit that is enough for the first test: most mutants end there, and its siblings need not be compiled.
  { folder: 'kernels/gemm/device', tests: ['linear', 'conv2d', 'patch_embed', 'conv_transpose2d', 'linear_wgmma'], first: 'mma_plain' },
  { folder: 'kernels/attention', tests: ['attention'] },
  { folder: 'kernels/distill_loss', tests: ['distill_loss'] },
];
const BUILDS = {
  plain: { out: 'build' },
  race: {
    out: 'build-simt-race',
    library: 'libtsan.so',
    env: {
      TSAN_OPTIONS: 'ignore_noninstrumented_modules=1 suppress_equal_addresses=0',
      THEIA_TEST_ONLY: 'schedule', // every kernel, once, as scripts/simt-check.mjs does it
      THEIA_TEST_SCHEDULES: 'random:1',
    },
  },
  address: { out: 'build-simt-address', library: 'libasan.so', env: { ASAN_OPTIONS: 'detect_leaks=0', THEIA_TEST_GUARD: 'tight' } },
};

const { values, positionals } = parseArgs({
  options: {
    list: { type: 'boolean', default: false },
    every: { type: 'string', default: '1' },
    new: { type: 'boolean', default: false },
    limit: { type: 'string', default: '120' },
    'no-sanitizers': { type: 'boolean', default: false },
    'only-sanitizers': { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const tableFile = join(root, 'test', 'simt', 'mutants.json');
const table = new Map((existsSync(tableFile) ? JSON.parse(readFileSync(tableFile, 'utf8')) : []).map((m) => [keyOf(m), m]));
const subjects = SUBJECTS.flatMap(({ folder, tests, first }) =>
  readdirSync(join(root, folder))
    .filter((name) => /\.cuh?$/.test(name) && !['choose.cu', 'gemm.cu', 'launch.cuh'].includes(name))
    .sort()
    .map((name) => ({ file: `${folder}/${name}`, tests: name.startsWith('wgmma') ? [...tests].reverse() : tests, first })),
).filter(({ file }) => positionals.length === 0 || positionals.some((wanted) => file.includes(wanted)));
const mutants = subjects
  .flatMap(({ file, tests, first }) => mutantsOf(root, file).map((m) => ({ ...m, tests, first })))
  .filter((m) => !values.new || !(table.get(keyOf(m))?.caught || table.get(keyOf(m))?.reason))
  .filter((_, i) => i % Number(values.every) === 0);
if (values.list) {
  for (const m of mutants) console.log(`${m.file}:${m.at}  ${m.mutation}:  ${m.line}`);
  console.log(`${mutants.length} mutants`);
  process.exit(0);
}

const scratch = mkdtempSync(join(tmpdir(), 'theia-mutants-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
writeFileSync(join(scratch, 'mutant.h'), mutantHeader);

function sh(command, cwd) {
  const result = spawnSync('sh', ['-c', command], { cwd, encoding: 'utf8', maxBuffer: 1 << 28 });
  return { ok: result.status === 0, output: (result.stdout ?? '') + (result.stderr ?? '') };
}

/** A build's compile commands of the emulator's kernels, what each depends on, and its link command. */
function commandsOf(build) {
  const out = join(root, build.out);
  if (!existsSync(join(out, 'build.ninja'))) return undefined;
  const all = sh('ninja -t commands theia_simt.node Release/theia_simt.node 2>/dev/null || ninja -t commands theia_simt', out)
    .output.trim()
    .split('\n');
  const link = all.findLast((line) => /-shared/.test(line) && /theia_simt\.node/.test(line));
  const units = all
    .filter((line) => /simt\/kernels\/.*\.cpp\b/.test(line) && / -c /.test(line))
    .map((command) => ({ command, object: / -o (\S+)/.exec(command)[1] }));
  const deps = new Map();
  for (const block of sh('ninja -t deps', out).output.split('\n\n')) {
    const [head, ...files] = block.split('\n');
    deps.set(
      head.split(':')[0],
      files.map((f) => f.trim()),
    );
  }
  return { out, link, units: units.map((u) => ({ ...u, deps: deps.get(u.object) ?? [] })) };
}

/** Compiles and links a mutant, of the units that `wanted` matches; its theia_simt.node, or what the compiler said. */
function make(mutant, name, commands, wanted = /./) {
  const overlay = join(scratch, 'overlay');
  rmSync(overlay, { recursive: true, force: true });
  const copy = join(overlay, mutant.file);
  mkdirSync(dirname(copy), { recursive: true });
  writeFileSync(copy, mutant.source);
  let link = commands.link;
  const touched = commands.units.filter(({ deps }) => deps.some((d) => d.endsWith(`/${mutant.file}`) || d === mutant.file));
  if (touched.length === 0) return { trouble: 'no compilation reads it' };
  for (const { command, object } of touched.filter((unit) => wanted.test(unit.object))) {
    const mine = join(scratch, basename(object));
    const compile = command
      .replace(` -o ${object}`, ` -o ${mine}`)
      .replace(/ -MD| -MT \S+| -MF \S+/g, '')
      .replace(' -c ', ` -include ${join(scratch, 'mutant.h')} -w -c `)
      .replace(/ -I/, ` -I${overlay} -I`);
    const { ok, output } = sh(compile, commands.out);
    if (!ok) return { trouble: /: (?:fatal )?error: (.*)/.exec(output)?.[1] ?? 'does not compile' };
    link = link.replace(object, mine);
  }
  if (link === commands.link) return { none: true };
  const file = join(scratch, `theia_simt_${name}.node`);
  const { ok, output } = sh(link.replace(/ -o \S+/, ` -o ${file}`), commands.out);
  return ok ? { file } : { trouble: `does not link: ${output.slice(-300)}` };
}

/** The first test that notices; undefined if all pass. */
async function noticed(mutant, build, file, tests) {
  const library = build.library && spawnSync('g++', [`-print-file-name=${build.library}`], { encoding: 'utf8' }).stdout.trim();
  const env = { ...process.env, ...build.env, ...(library && { LD_PRELOAD: library }), THEIA_SIMT: file, THEIA_TEST_DEVICES: 'simt' };
  for (const test of tests) {
    const compiled = join('dist', 'test', 'ops', `${test}.simt.test.js`);
    if (!existsSync(join(root, compiled))) continue;
    const result = await runFile(process.execPath, [compiled], { cwd: root, limit: Number(values.limit), env });
    if (result.skips.some(({ reason }) => reason.startsWith('device simt')))
      throw new Error(`the emulator was not loaded: ${result.skips[0].reason}`);
    if (result.trouble || result.failed > 0) return test;
  }
  return undefined;
}

const builds = Object.fromEntries(Object.entries(BUILDS).map(([name, build]) => [name, commandsOf(build)]));
if (!builds.plain) throw new Error('build/ was not made with ninja: npm run build');
let survived = 0;
for (const mutant of mutants) {
  const { tests, first } = mutant;
  const sanitizer = /^(<|no min|no max)/.test(mutant.mutation) ? 'address' : 'race';
  const plain = [
    ...(first ? [{ name: 'plain', units: new RegExp(`/${first}\\.`), tests: tests.slice(0, 1) }] : []),
    { name: 'plain', tests },
  ];
  const rounds = [
    ...(values['only-sanitizers'] ? [] : plain),
    ...(values['no-sanitizers'] || !builds[sanitizer] ? [] : [{ name: sanitizer, tests }]),
  ];

  let verdict;
  for (const { name, units, tests } of rounds) {
    const { file, trouble, none } = make(mutant, name, builds[name], units);
    if (none) continue;
    if (trouble) {
      verdict = `not made: ${trouble}`;
      break;
    }
    const test = await noticed(mutant, BUILDS[name], file, tests);
    if (test) {
      verdict = name === 'plain' ? test : `${test}, ${name}`;
      break;
    }
  }
  const key = keyOf(mutant);
  const reason = table.get(key)?.reason;
  if (!verdict?.startsWith('not made')) {
    const { file, mutation, line, nth } = mutant;
    table.set(key, { file, mutation, line, nth, caught: verdict ?? null, ...(verdict === undefined && { reason: reason ?? '' }) });
  }
  if (verdict === undefined && !reason) survived += 1;
  console.log(
    `${verdict ?? (reason ? `passes: ${reason}` : 'SURVIVED')}  ${mutant.file}:${mutant.at}  ${mutant.mutation}:  ${mutant.line}`,
  );
  // Written as it goes: a run takes long.
  const entries = [...table.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  writeFileSync(tableFile, `${JSON.stringify(entries, null, 2)}\n`);
}
console.log(`${mutants.length} mutants, ${survived} survived without a reason`);
process.exitCode = survived > 0 ? 1 : 0;
