// npm run bench [-- NAME... [--save] [--seconds S] [--samples N] [--threads N] [--only CASE]]
// Builds what is needed and runs the benches whose path contains one of the names, one process each. --no-build runs what is built.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, sep } from 'node:path';
import { build, prepareModules, root } from './support/prepare.mjs';

const args = process.argv.slice(2);
const first = args.findIndex((a) => a.startsWith('--'));
const names = first < 0 ? args : args.slice(0, first);
const flags = (first < 0 ? [] : args.slice(first)).filter((a) => a !== '--no-build');

const files = readdirSync(join(root, 'bench'), { recursive: true })
  .filter((name) => name.endsWith('.bench.ts') && !name.includes('node_modules'))
  .map((name) => join('bench', name).split(sep).join('/'))
  .filter((name) => names.length === 0 || names.some((wanted) => name.includes(wanted)))
  .sort();
if (files.length === 0) {
  console.error(`no bench's path contains ${names.join(' or ')}`);
  process.exit(2);
}
try {
  if (!args.includes('--no-build')) {
    prepareModules();
    build();
  }
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
let failed = 0;
for (const name of files) {
  const { status } = spawnSync(process.execPath, [join('dist', name.replace(/\.ts$/, '.js')), ...flags], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`${name} failed`);
    failed += 1;
  }
}
process.exit(failed > 0 ? 1 : 0);
