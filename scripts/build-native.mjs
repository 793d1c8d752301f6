// Builds the addon with cmake-js: build/Release/theia.node. Further arguments go to cmake-js, e.g. --CDTHEIA_SANITIZE=address --out build-asan.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const missing = ['cmake', 'g++'].filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
if (missing.length > 0) {
  console.error(`theia: ERR_NATIVE_LOAD: the addon cannot be built: ${missing.join(' and ')} not found`);
  console.error('hint: apt-get install build-essential cmake ninja-build (or the same by your system’s package manager)');
  process.exit(2);
}
const require = createRequire(import.meta.url);
let cli;
try {
  cli = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
} catch {
  console.error('theia: ERR_NATIVE_LOAD: cmake-js is not installed');
  console.error('hint: npm ci');
  process.exit(2);
}
const args = process.argv.slice(2);
const outAt = args.findIndex((a) => a === '--out' || a === '-O');
const out = join(root, outAt < 0 ? 'build' : args[outAt + 1]);
const cache = join(out, 'CMakeCache.txt');
// `build`, not `compile`: it configures only when needed. With other -D options than last time, or after a configuration that failed
// half-way, the cache must be made anew.
const known = existsSync(cache) ? readFileSync(cache, 'utf8').split('\n') : undefined;
const changed = args
  .filter((a) => a.startsWith('--CD'))
  .map((a) => a.slice(4).split('='))
  .some(([name, value]) => known && !known.some((line) => line.startsWith(`${name}:`) && line.endsWith(`=${value}`)));
const broken = known && !['build.ninja', 'Makefile'].some((file) => existsSync(join(out, file)));
const verb = changed || broken ? 'rebuild' : 'build';
const result = spawnSync(process.execPath, [cli, verb, ...args], { cwd: root, stdio: 'inherit' });
process.exit(result.status ?? 1);
