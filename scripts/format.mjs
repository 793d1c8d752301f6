// Formats everything, or checks that it is: prettier for TypeScript, scripts and JSON, clang-format for C++ and CUDA.
//   node scripts/format.mjs --write | --check
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from './support/prepare.mjs';

const mode = process.argv[2];
if (!['--write', '--check'].includes(mode) || process.argv.length !== 3) {
  console.error('usage: node scripts/format.mjs --write | --check');
  process.exit(2);
}

const prettier = join(dirname(createRequire(import.meta.url).resolve('prettier/package.json')), 'bin', 'prettier.cjs');
const patterns = ['{src,test,bench,scripts,bin}/**/*.{ts,mjs,json}', '*.json'];
const web = spawnSync(process.execPath, [prettier, mode, '--log-level=warn', ...patterns], { cwd: root, stdio: 'inherit' });

const cpp = ['kernels', 'native'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    .filter((name) => /\.(cpp|h|cu|cuh)$/.test(name))
    .map((name) => join(folder, name)),
);
const native = spawnSync('clang-format', [...(mode === '--write' ? ['-i'] : ['--dry-run', '-Werror']), ...cpp], {
  cwd: root,
  encoding: 'utf8',
});
if (native.error) {
  console.error(`clang-format: ${native.error.message} (apt-get install clang-format)`);
  process.exit(1);
}
// One line a file is enough: --write mends them all.
for (const file of new Set([...native.stderr.matchAll(/^(.+?):\d+:\d+: error/gm)].map((m) => m[1]))) console.error(`[error] ${file}`);
if (web.status !== 0 || native.status !== 0) {
  if (mode === '--check') console.error('not formatted; npm run format does it');
  process.exit(1);
}
