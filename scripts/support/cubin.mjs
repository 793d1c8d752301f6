// Reads machine code for GPUs out of an object or addon, as nvcc leaves it there: per kernel the registers, static shared memory and stack
// that ptxas gave it, and which instructions of interest its code holds. What cuobjdump -res-usage and -sass say, without needing them
// (check-cuda.mjs compares the two where there is a cuobjdump).
import { spawnSync } from 'node:child_process';

const FATBIN = 0xba55ed50; // a container; in it entries of kind 1 (PTX) and 2 (an ELF file per architecture)
const REGCOUNT = 0x2f; // attributes of .nv.info: pairs of symbol and value
const FRAME_SIZE = 0x11;

/** Bits 0-11 of an instruction's 16 bytes. The matrix product's types are in bits 75, 76, 82 and 83. */
const OPCODES = new Map([
  [0x23c, 'HMMA'],
  [0x83b, 'LDSM'],
  [0xfae, 'LDGSTS'],
  [0x387, 'STL'],
  [0x983, 'LDL'],
]);
const HMMA_TYPES = new Map([
  [0x41800, 'HMMA.16816.F32.BF16'],
  [0x01800, 'HMMA.16816.F32'],
  [0x81000, 'HMMA.1688.F32.TF32'],
]);

/** The sections of a 64-bit little-endian ELF file, each with its bytes. */
function sections(elf, what) {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46) throw new Error(`${what}: not an ELF file (compressed machine code?)`);
  const at = Number(elf.readBigUInt64LE(40));
  const size = elf.readUInt16LE(58);
  const list = Array.from({ length: elf.readUInt16LE(60) }, (_, i) => {
    const h = at + i * size;
    const type = elf.readUInt32LE(h + 4);
    const length = Number(elf.readBigUInt64LE(h + 32));
    const offset = Number(elf.readBigUInt64LE(h + 24));
    // Type 8, NOBITS: shared memory has a size but no bytes.
    return { nameAt: elf.readUInt32LE(h), type, length, bytes: type === 8 ? undefined : elf.subarray(offset, offset + length) };
  });
  const names = list[elf.readUInt16LE(62)].bytes;
  for (const s of list) s.name = names.toString('latin1', s.nameAt, names.indexOf(0, s.nameAt));
  return list;
}

/** What a fatbin section holds: ELF files for GPUs, and PTX (whose text stays packed), each with its architecture's number. */
function* entries(data) {
  for (let at = 0; at + 16 <= data.length;) {
    if (data.readUInt32LE(at) !== FATBIN) {
      at += 8; // between the containers of different objects
      continue;
    }
    const end = at + data.readUInt16LE(at + 6) + Number(data.readBigUInt64LE(at + 8));
    for (let entry = at + data.readUInt16LE(at + 6); entry < end;) {
      const header = data.readUInt32LE(entry + 4);
      const length = Number(data.readBigUInt64LE(entry + 8));
      const isElf = data.readUInt16LE(entry) === 2;
      yield { arch: data.readUInt32LE(entry + 28), elf: isElf ? data.subarray(entry + header, entry + header + length) : undefined };
      entry += header + length;
    }
    at = end;
  }
}

function instructions(code) {
  const counts = {};
  for (let at = 0; at + 16 <= code.length; at += 16) {
    let name = OPCODES.get(code.readUInt16LE(at) & 0xfff);
    if (name === undefined) continue;
    if (name === 'HMMA') name = HMMA_TYPES.get(code.readUInt32LE(at + 8) & 0xc1800) ?? 'HMMA (other)';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** The kernels in the machine code of one architecture. */
function kernelsOf({ arch: number, elf }) {
  const list = sections(elf, `machine code for sm_${number}`);
  const section = (name) => list.find((s) => s.name === name);
  // ptxas signs its work, with its options: the only place that tells 90a from 90.
  const signature = section('.note.nv.tkinfo')?.bytes.toString('latin1') ?? '';
  const arch = /-arch[ =](sm_\w+)/.exec(signature)?.[1] ?? `sm_${number}`;
  const compiler = /, V([\d.]+)/.exec(signature)?.[1] ?? 'unknown';

  const symbols = section('.symtab').bytes;
  const names = section('.strtab').bytes;
  const symbol = (i) => names.toString('latin1', symbols.readUInt32LE(i * 24), names.indexOf(0, symbols.readUInt32LE(i * 24)));
  const attributes = { [REGCOUNT]: new Map(), [FRAME_SIZE]: new Map() };
  const info = section('.nv.info').bytes;
  for (let at = 0; at + 4 <= info.length;) {
    // Format 4 has a size and a value of that size; the others carry their value in the size's place.
    const [format, attribute, size] = [info[at], info[at + 1], info.readUInt16LE(at + 2)];
    if (format === 4 && attributes[attribute])
      for (let p = at + 4; p + 8 <= at + 4 + size; p += 8)
        attributes[attribute].set(symbol(info.readUInt32LE(p)), info.readUInt32LE(p + 4));
    at += 4 + (format === 4 ? size : 0);
  }
  return list
    .filter((s) => s.name.startsWith('.text.'))
    .map((s) => {
      const name = s.name.slice('.text.'.length);
      return {
        name,
        arch,
        compiler,
        registers: attributes[REGCOUNT].get(name),
        // From sm_90 on the section begins with the 1 KiB that every block leaves to the system.
        shared: Math.max(0, (section(`.nv.shared.${name}`)?.length ?? 0) - (Number.parseInt(arch.slice(3), 10) >= 90 ? 1024 : 0)),
        stack: attributes[FRAME_SIZE].get(name) ?? 0,
        instructions: instructions(s.bytes),
      };
    });
}

/** All kernels in an object file or a shared object (its bytes), of every architecture there, and the architectures of its PTX. */
export function machineCode(file, what) {
  const fatbin = sections(file, what).find((s) => s.name === '.nv_fatbin');
  const all = fatbin ? [...entries(fatbin.bytes)] : [];
  const ptx = new Set(all.filter((e) => !e.elf).map((e) => `compute_${e.arch}`));
  return { kernels: all.filter((e) => e.elf).flatMap(kernelsOf), ptx: [...ptx].sort() };
}

/** Splits mangled names into the .cu file that the kernel is private to (or '') and the name that people read. */
export function readable(names) {
  const run = spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8', maxBuffer: 1 << 28 });
  if (run.error || run.status !== 0) throw new Error(`c++filt: ${run.error?.message ?? run.stderr} (apt-get install binutils)`);
  const demangled = run.stdout.trimEnd().split('\n');
  return names.map((name, i) => {
    const [, length, rest] = /_GLOBAL__N__[0-9a-f]{8}_(\d+)_(.*)/.exec(name) ?? [];
    const file = rest ? rest.slice(0, Number(length)).replace(/_cu$/, '.cu') : '';
    const plain = demangled[i]
      .replace(/\b_GLOBAL__N__\w+::|\(anonymous namespace\)::/g, '')
      .replace(/\btheia::(cuda::)?/g, '')
      .replace(/^void /, '');
    // The arguments follow from the name and the template's arguments; they begin at the last parenthesis that is open at depth 0.
    let depth = 0;
    let at = plain.length - 1;
    for (; at > 0; --at) {
      if (plain[at] === ')') ++depth;
      if (plain[at] === '(' && --depth === 0) break;
    }
    return { file, kernel: plain.slice(0, at > 0 ? at : plain.length) };
  });
}
