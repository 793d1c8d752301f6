// NVIDIA's cuobjdump, which many toolkits come without: from PATH, or out of Debian's package, unpacked into build/ and not installed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { found, root } from './prepare.mjs';

const PACKAGE = 'nvidia-cuda-toolkit';
const SUITE = 'trixie'; // bookworm's cannot read what nvcc 13 writes
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The program, or the reason why there is none. */
export function disassembler({ fetch }) {
  const folder = join(root, 'build', 'disassembler');
  const program = join(folder, 'usr', 'bin', 'cuobjdump');
  if (found('cuobjdump')) return { program: found('cuobjdump') };
  if (existsSync(program)) return { program };
  if (!fetch) return { reason: 'no cuobjdump on PATH (npm run check:cuda -- --fetch gets it)' };
  if (process.arch !== 'x64' || !found('apt-get') || !existsSync(KEYRING)) return { reason: 'it can be fetched on Debian for x86-64 only' };
  // apt with lists and a cache of its own: nothing of the system's is touched.
  const apt = join(folder, 'apt');
  for (const part of ['lists/partial', 'cache/archives/partial', 'parts']) mkdirSync(join(apt, part), { recursive: true });
  writeFileSync(join(apt, 'sources.list'), `deb [signed-by=${KEYRING}] http://deb.debian.org/debian ${SUITE} non-free\n`);
  writeFileSync(join(apt, 'status'), '');
  const places = {
    'Etc::sourcelist': 'sources.list',
    'Etc::sourceparts': 'parts',
    'State::lists': 'lists',
    'State::status': 'status',
    Cache: 'cache',
  };
  const config = Object.entries(places).map(([key, path]) => `Dir::${key} "${join(apt, path)}";`);
  writeFileSync(join(apt, 'apt.conf'), `${config.join('\n')}\nAPT::Sandbox::User "root";\n`);
  const env = { ...process.env, APT_CONFIG: join(apt, 'apt.conf') };
  const steps = [
    'apt-get -qq update',
    `apt-get -qq download ${PACKAGE}`,
    `dpkg --fsys-tarfile ${PACKAGE}_*.deb | tar -x -C "${folder}" ./usr/bin/cuobjdump ./usr/bin/nvdisasm`,
  ];
  const result = spawnSync('sh', ['-c', steps.join(' && ')], { cwd: apt, env, encoding: 'utf8', timeout: 120_000 });
  rmSync(apt, { recursive: true });
  if (result.status === 0 && existsSync(program)) return { program };
  return { reason: `${PACKAGE} of ${SUITE} cannot be had: ${result.stderr.trim().split('\n')[0] || 'two minutes went by'}` };
}

/** How often each kernel for this architecture holds these instructions: by mangled name, then by instruction. */
export function disassembled(program, file, arch, instructions) {
  const pattern = `Function : .*| (${instructions.map((i) => i.replaceAll('.', '\\.')).join('|')})[. ]`;
  const command = `"$0" -sass -arch "$1" "$2" | grep -oE "$3"`;
  const result = spawnSync('sh', ['-c', command, program, arch, file, pattern], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`${program}: ${result.stderr.trim() || 'finds nothing'}`);
  const kernels = new Map();
  let counts;
  for (const line of result.stdout.split('\n')) {
    const name = /^Function : (.*)/.exec(line)?.[1];
    if (name) kernels.set(name, (counts = Object.fromEntries(instructions.map((i) => [i, 0]))));
    else if (line) counts[line.slice(1, -1)] += 1;
  }
  return kernels;
}
