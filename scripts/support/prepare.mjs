// What a fresh clone lacks, made by itself: npm packages, the addon, the compiled TypeScript. Used by the scripts that run things.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Why node_modules is not what package-lock.json asks for; undefined if it is. */
function modulesDiffer() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return 'node_modules is missing';
  const read = (file) => new Map(Object.entries(JSON.parse(readFileSync(file, 'utf8')).packages));
  const have = read(installed);
  for (const [path, wanted] of read(join(root, 'package-lock.json'))) {
    if (path === '') continue;
    const found = have.get(path);
    // npm leaves out the optional packages of other platforms.
    if (found === undefined && wanted.optional) continue;
    if (found?.version !== wanted.version || !existsSync(join(root, path))) return `${path} is not version ${wanted.version}`;
  }
  return undefined;
}

/** Runs a command in the repository with its output on ours; throws an Error that names it if it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) throw new Error(`${command}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${result.signal ?? `exit code ${result.status}`}`);
}

/** `npm ci` where node_modules is missing or does not match the lockfile. */
export function prepareModules() {
  const why = modulesDiffer();
  if (why === undefined) return;
  console.log(`npm ci (${why})`);
  run('npm', ['ci', '--no-audit', '--no-fund']);
}

/** Where a program lies that PATH has; undefined if it has none. */
export function found(program) {
  return spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim() || undefined;
}

function buildNative(args) {
  const native = spawnSync(process.execPath, [join('scripts', 'build-native.mjs'), ...args], { cwd: root, encoding: 'utf8' });
  if (native.status !== 0) throw new Error(`${native.stdout}${native.stderr}building the addon failed`);
  const warnings = native.stdout.split('\n').filter((line) => /\bwarning:/.test(line));
  if (warnings.length > 0) console.log(warnings.join('\n'));
}

function buildTypeScript() {
  run(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-p', '.']);
}

/** Builds the addon and the TypeScript; both are incremental or quick. The build's chatter is shown only if it fails. */
export function build() {
  buildNative([]);
  buildTypeScript();
}

/**
 * The same for work on the CPU. Where nothing is built yet the GPU's half, which takes nvcc minutes, is left out: the addon comes into a
 * folder of its own, so that a later build() makes the whole one.
 */
export function buildForCpu() {
  if (existsSync(join(root, 'build', 'Release', 'theia.node'))) return build();
  buildNative(['--out', 'build-cpu', '--CDTHEIA_CUDA=OFF', '--CDTHEIA_SIMT=OFF']);
  buildTypeScript();
}
