// Checks what nvcc made of kernels/**/*.cu, in the addon itself: nothing spills, nothing lies in local memory, registers and static shared
// memory are those of kernels/ptxas.tsv, and the tensor cores are used where they should be and nowhere else.
//   npm run check:cuda                 builds what is out of date, then checks
//   npm run check:cuda -- --no-build   checks what is built
//   npm run check:cuda -- --update     writes the table
//   npm run check:cuda -- --addon F    checks this addon or object file
//   npm run check:cuda -- --fetch      compares with the disassembler, which it fetches if there is none (87 MB, from Debian)
// Without nvcc it prints SKIP and the reason. Exit code 1 if anything is not as it should be.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { machineCode, readable } from './support/cubin.mjs';
import { disassembled, disassembler } from './support/disassembler.mjs';
import { build, found, root } from './support/prepare.mjs';

const ARCHS = ['sm_80', 'sm_87', 'sm_90a'];
const PTX = ['compute_90'];
/** The files whose kernels multiply bfloat16 on the tensor cores; all others are exact. What each kernel there must hold. */
const MATRIX_FILES = /^(mma_\w+|attention(_grad)?(_tiled)?)\.cu$/;
const MATRIX = ['HMMA.16816.F32.BF16', 'LDSM', 'LDGSTS'];

const { values } = parseArgs({
  options: {
    update: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    fetch: { type: 'boolean', default: false },
    addon: { type: 'string' },
    table: { type: 'string', default: join(root, 'kernels', 'ptxas.tsv') },
  },
});

/** One row a kernel: its file and name, per architecture registers and (after a plus) bytes of static shared memory, the units it uses. */
function tableOf(kernels) {
  const names = readable(kernels.map((k) => k.name));
  const rows = new Map();
  kernels.forEach((k, i) => {
    const key = `${names[i].file}\t${names[i].kernel}`;
    const row = rows.get(key) ?? { ...names[i], by: new Map() };
    if (row.by.has(k.arch)) throw new Error(`${names[i].file}: two kernels read ${names[i].kernel}`);
    row.by.set(k.arch, k);
    rows.set(key, row);
  });
  return new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)));
}
const cell = (k) => (k ? `${k.registers}${k.shared ? `+${k.shared}` : ''}` : 'none');
const units = (row) => MATRIX.filter((unit) => [...row.by.values()].some((k) => k.instructions[unit])).join(' ') || '-';
const line = (key, row) => [key, ...ARCHS.map((arch) => cell(row.by.get(arch))), units(row)].join('\t');

/** What is wrong with a kernel, whatever the table says. */
function faults(k, file) {
  const list = [];
  const { STL: stores = 0, LDL: loads = 0 } = k.instructions;
  if (k.stack) list.push(`${k.stack} bytes of stack (local memory)`);
  if (stores || loads) list.push(`${stores} stores and ${loads} loads of local memory (spills, or an array that is indexed at run time)`);
  const matrix = MATRIX_FILES.test(file);
  for (const unit of MATRIX) if (matrix && !k.instructions[unit]) list.push(`no ${unit}`);
  for (const unit of Object.keys(k.instructions))
    if (unit.startsWith('HMMA') && !(matrix && MATRIX.includes(unit))) list.push(`${unit}, which has no place in ${file || 'this kernel'}`);
  return list;
}

/** How the table differs from the committed one, line by line. */
function differences(rows, text) {
  const wanted = new Map(
    text
      .split('\n')
      .filter((l) => l && !l.startsWith('#'))
      .map((l) => [l.split('\t').slice(0, 2).join('\t'), l]),
  );
  const list = [];
  const columns = ['file', 'kernel', ...ARCHS, 'units'];
  for (const [key, row] of rows) {
    const [is, was] = [line(key, row), wanted.get(key)];
    if (was === undefined) list.push(`${row.file}: ${row.kernel} is not in the table`);
    else if (is !== was) {
      const [a, b] = [was.split('\t'), is.split('\t')];
      const changed = columns.flatMap((c, i) => (a[i] === b[i] ? [] : [`${c}: ${a[i]}, now ${b[i]}`]));
      list.push(`${row.file}: ${row.kernel}: ${changed.join('; ')}`);
    }
  }
  for (const key of wanted.keys()) if (!rows.has(key)) list.push(`${key.replace('\t', ': ')} is in the table, but not in the addon`);
  return list;
}

function report(problems, hint) {
  for (const problem of problems.slice(0, 40)) console.error(`FAIL  ${problem}`);
  if (problems.length > 40) console.error(`FAIL  and ${problems.length - 40} more`);
  if (problems.length > 0 && hint) console.error(`hint: ${hint}`);
  if (problems.length > 0) process.exitCode = 1;
}

function check() {
  const nvcc = process.env.CUDACXX || found('nvcc');
  if (!values.addon && !nvcc) return console.log('SKIP check:cuda: no nvcc (PATH or CUDACXX)');
  if (!values.addon && !values['no-build']) build({ typescript: false });
  const file = values.addon ?? join(root, 'build', 'Release', 'theia.node');
  const { kernels, ptx } = machineCode(readFileSync(file), file);
  if (kernels.length === 0) return report([`${file} holds no machine code for GPUs: it was built without nvcc`], 'npm run build:native');

  const rows = tableOf(kernels);
  const problems = [...rows.values()].flatMap((row) =>
    [...row.by.values()].flatMap((k) => faults(k, row.file).map((fault) => `${row.file}: ${row.kernel} (${k.arch}): ${fault}`)),
  );
  const archs = [...new Set(kernels.map((k) => k.arch))].sort();
  if (archs.join() !== ARCHS.join()) problems.push(`${file} is for ${archs.join(', ')}; expected ${ARCHS.join(', ')}`);
  if (ptx.join() !== PTX.join()) problems.push(`${file} holds PTX for ${ptx.join(', ') || 'nothing'}; expected ${PTX.join(', ')}`);
  report(problems);

  const compiler = kernels[0].compiler;
  const most = kernels.reduce((a, k) => (k.registers > a.registers ? k : a));
  const name = readable([most.name])[0];
  console.log(`${rows.size} kernels for ${archs.join(', ')}, made by nvcc ${compiler}; PTX for ${ptx.join(', ')}`);
  console.log(`at most ${most.registers} registers: ${name.file} ${name.kernel} (${most.arch}); ${problems.length} faults`);
  compare(rows, compiler);
  disassemble(kernels, file);
}

function compare(rows, compiler) {
  const head = ['# What ptxas gave each kernel: registers, +bytes of static shared memory. Written by npm run check:cuda -- --update'];
  head.push(`# nvcc ${compiler}`, `# ${['file', 'kernel', ...ARCHS, 'units'].join('\t')}`);
  if (values.update) {
    writeFileSync(values.table, [...head, ...[...rows].map(([key, row]) => line(key, row)), ''].join('\n'));
    return console.log(`written: ${values.table}`);
  }
  const text = readFileSync(values.table, 'utf8');
  const made = /^# nvcc (\S+)$/m.exec(text)?.[1];
  if (made !== compiler) return console.log(`SKIP table: it was made by nvcc ${made}, this is nvcc ${compiler}`);
  report(
    differences(rows, text),
    'if the change is meant (no kernel lost blocks per multiprocessor by it): npm run check:cuda -- --update, and commit kernels/ptxas.tsv',
  );
}

/** Holds what was read from the machine code against what the disassembler says. */
function disassemble(kernels, file) {
  const { program, reason } = disassembler({ fetch: values.fetch });
  if (!program) return console.log(`SKIP disassembler: ${reason}`);
  const counts = disassembled(program, file, 'sm_80', [...MATRIX, 'STL', 'LDL']);
  const problems = kernels
    .filter((k) => k.arch === 'sm_80')
    .flatMap((k) =>
      Object.entries(counts.get(k.name) ?? {}).flatMap(([unit, n]) =>
        n === (k.instructions[unit] ?? 0) ? [] : [`${k.name}: ${unit}: read ${k.instructions[unit] ?? 0}, ${program} says ${n}`],
      ),
    );
  if (counts.size !== kernels.filter((k) => k.arch === 'sm_80').length) problems.push(`${program} finds ${counts.size} kernels for sm_80`);
  report(problems);
  if (problems.length === 0) console.log(`the disassembler finds the same instructions in the ${counts.size} kernels for sm_80`);
}

try {
  check();
} catch (error) {
  report([error.message]);
}
