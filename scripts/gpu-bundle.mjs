// npm run gpu:bundle [-- FOLDER]
// Makes a folder (gpu-bundle/) of at most 60 MB that runs gpu:check on a bare Linux machine with an NVIDIA driver, without Node, compiler
// or network:   cd gpu-bundle && sh run.sh [flags of gpu:check]
// It holds this Node and the built addon (both compressed), the compiled tests and benches, their few packages, and the small goldens.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { build, prepareModules, root } from './support/prepare.mjs';

const LIMIT = 60 * 2 ** 20;
const folder = resolve(process.argv[2] ?? join(root, 'gpu-bundle'));
prepareModules();
build();
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const copy = (path, to = path) => cpSync(join(root, path), join(folder, to), { recursive: true, dereference: true });

for (const path of ['package.json', 'CMakeLists.txt', 'scripts', 'dist', 'test/fixtures', 'bin', 'bench/gpu/peer.py'])
  if (existsSync(join(root, path))) copy(path);
mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
copy(join('build', 'Release', 'theia.node'));
spawnSync('strip', [join(folder, 'build', 'Release', 'theia.node')]); // smaller, if there is a strip
// What the compiled code imports at run time. sharp decodes pictures, which nothing here does.
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
const needed = ['uvu', 'smol-toml', 'valibot'];
const taken = new Set();
while (needed.length > 0) {
  const name = needed.pop();
  const path = `node_modules/${name}`;
  if (taken.has(name) || !existsSync(join(root, path))) continue;
  taken.add(name);
  copy(path);
  needed.push(...Object.keys(lock[path]?.dependencies ?? {}));
}
// More golden data than a clone has, where it is at hand: whole models and training histories are small.
const golden = process.env.THEIA_GOLDEN ?? join(root, '..', 'shared', 'golden');
if (existsSync(golden))
  for (const name of readdirSync(golden).filter((f) => /^(manifest\.json|full_tiny|train_|mini_lconv_nocls)/.test(f)))
    cpSync(join(golden, name), join(folder, 'test', 'fixtures', 'golden', name));
const peers = join(root, '..', 'shared', 'peers');
if (existsSync(peers)) cpSync(peers, join(folder, 'peers'), { recursive: true });

/** Packs a file; run.sh unpacks it where it is first run. */
async function pack(from, to) {
  await pipeline(createReadStream(from), createGzip({ level: constants.Z_BEST_COMPRESSION }), createWriteStream(`${to}.gz`));
}
await pack(process.execPath, join(folder, 'node'));
const addon = join(folder, 'build', 'Release', 'theia.node');
await pack(addon, addon);
rmSync(addon);
writeFileSync(
  join(folder, 'run.sh'),
  `#!/bin/sh
# Unpacks Node and the addon where they are and runs the GPU check; the result lands in results/ or where --out says.
cd "$(dirname "$0")" || exit 1
for f in node build/Release/theia.node; do
  [ -x "$f" ] || { gzip -dc "$f.gz" >"$f" && chmod +x "$f"; } || exit 1
done
exec ./node scripts/gpu-check.mjs --no-build --out results "$@"
`,
);
chmodSync(join(folder, 'run.sh'), 0o755);

const sizeOf = (path) =>
  statSync(path).isDirectory() ? readdirSync(path).reduce((n, name) => n + sizeOf(join(path, name)), 0) : statSync(path).size;
const size = sizeOf(folder);
console.log(`${folder}: ${(size / 2 ** 20).toFixed(1)} MiB`);
for (const name of readdirSync(folder)) console.log(`  ${name.padEnd(16)} ${(sizeOf(join(folder, name)) / 2 ** 20).toFixed(2)} MiB`);
if (size > LIMIT) {
  console.error(`the bundle has to stay within ${LIMIT / 2 ** 20} MiB`);
  process.exit(1);
}
