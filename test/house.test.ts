// The rules of the house that a reader cannot check at a glance. Each test lists every violation it finds.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

let root = dirname(fileURLToPath(import.meta.url));
while (!existsSync(join(root, 'CMakeLists.txt'))) root = dirname(root);

const SOURCE = /\.(ts|cpp|h|cu|cuh|def|mjs)$/;

/** Source files below a folder, as paths from the root with forward slashes. */
function filesIn(folder: string, pattern = SOURCE): string[] {
  return (readdirSync(join(root, folder), { recursive: true }) as string[])
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((name) => pattern.test(name) && !/\/(build|node_modules)\//.test(name) && statSync(join(root, name)).isFile())
    .sort();
}

/** Lines of the files that match, comments left out, as `file:line: text`. */
function linesMatching(files: readonly string[], pattern: RegExp): string[] {
  return files.flatMap((file) =>
    readFileSync(join(root, file), 'utf8')
      .split('\n')
      .flatMap((line, i) => (!/^\s*(\/\/|\*|\/\*)/.test(line) && pattern.test(line) ? [`${file}:${i + 1}: ${line.trim()}`] : [])),
  );
}

const none = (found: readonly string[], rule: string): void => assert.ok(found.length === 0, `${rule}:\n${found.join('\n')}`);

const kernels = filesIn('kernels');
const native = filesIn('native');
const sources = filesIn('src');

test('each lock file is that of its package.json: npm ci refuses any other', () => {
  type Lock = { packages: Record<string, Record<string, Record<string, string>>> };
  for (const folder of ['.', 'bench']) {
    const own = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as Record<string, Record<string, string>>;
    const locked = (JSON.parse(readFileSync(join(root, folder, 'package-lock.json'), 'utf8')) as Lock).packages['']!;
    for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies'])
      assert.equal(locked[kind] ?? {}, own[kind] ?? {}, `${folder}: ${kind}`);
  }
});

test('kernels know no Node', () => {
  none(linesMatching(kernels, /#include\s*[<"](napi|node_api|js_native_api|uv\.h|v8|native\/)/), 'kernels/ includes Node-API or native/');
});

test('native knows no model', () => {
  const words =
    /\b(vit|deit|dino\w*|resnet\w*|theia_(tiny|small|base)|backbones?|teachers?|students?|translators?|epochs?|tokens?|attention|encoders?|patch\w*)\b/i;
  none(linesMatching(native, words), 'native/ speaks of models');
});

test('the CUDA runtime and inline assembly stay in their folders', () => {
  const outside = (folders: RegExp): string[] => [...kernels, ...native].filter((file) => !folders.test(file));
  none(linesMatching(outside(/^kernels\/cuda\//), /#include\s*[<"]cuda(_runtime|\.h|_runtime_api)/), 'cuda_runtime.h outside kernels/cuda');
  none(
    linesMatching(outside(/^kernels\/(ptx|simt)\//), /\b(asm|__asm__)\b\s*(volatile|__volatile__)?\s*\((?!"")/),
    'inline assembly outside kernels/ptx',
  );
});

test('kernels and native print nothing and end no process', () => {
  // The emulator's own tests are a program; and what a compiler's check reports has nowhere else to go.
  const library = [...kernels, ...native].filter((file) => !/^kernels\/simt\/(selftest\/|undefined\.cpp)/.test(file));
  none(linesMatching(library, /\b(printf|fprintf|puts|perror|abort|exit|_exit)\s*\(|std::(cout|cerr|clog)/), 'C++ that prints or exits');
});

/** Who may call the addon besides src/native and src/tensor, and why. */
const ADDON_IMPORTERS = new Map([
  ['src/cli/doctor.ts', 'reports the addon itself'],
  ['src/train/trainer.ts', 'libm’s cos for the schedule'],
  ['src/optim/adamw.ts', 'libm’s pow for bias corrections'],
]);

test('only src/native and src/tensor touch the addon', () => {
  const others = sources.filter((file) => !/^src\/(native|tensor)\//.test(file) && !ADDON_IMPORTERS.has(file));
  none(linesMatching(others, /(from|import\()\s*['"].*native\/(load|addon)\.js['"]/), 'the addon is called from');
});

test('nothing below src/cli prints or exits, or knows the command line', () => {
  const below = sources.filter((file) => !file.startsWith('src/cli/'));
  none(linesMatching(below, /\bconsole\.|\bprocess\.(stdout|stderr|exit\b|exitCode)/), 'prints or exits');
  none(linesMatching(below, /from\s+['"](\.\.\/)+cli\//), 'imports src/cli');
});

test('each floor of src knows only what is below it', () => {
  const may = (folder: string, forbidden: string): void =>
    none(
      linesMatching(
        sources.filter((file) => file.startsWith(`src/${folder}/`)),
        new RegExp(`from\\s+['"](\\.\\.?/)+(${forbidden})/`),
      ),
      `src/${folder} imports ${forbidden}`,
    );
  may('tensor', 'autograd|ops|models|optim|train|data|encoder|teachers|analysis');
  may('autograd', 'ops|models|optim|train|data|encoder|teachers|analysis');
  may('ops', 'models|optim|train|data|encoder|teachers|analysis|formats');
  may('formats', 'tensor|autograd|ops|models|optim|train|data|encoder|teachers|analysis');
  may('models', 'train|data|encoder|analysis');
});

/** Ops whose TypeScript floor is not a file of the op's name: nothing above them calls them by themselves. */
const ELSEWHERE = new Map([
  ['add', 'src/autograd/tape.ts'],
  ['adamw', 'src/optim/adamw.ts'],
  ['copy', 'src/ops/view.ts'],
  ['grad_norm', 'src/optim/adamw.ts'],
  ['pack', 'src/autograd/parameter.ts'],
]);

test('one op, one name, on every floor', () => {
  const ops = [...readFileSync(join(root, 'kernels/ops.def'), 'utf8').matchAll(/^THEIA_OP\((\w+),/gm)].map((m) => m[1]!);
  assert.ok(ops.length > 10);
  const missing: string[] = [];
  for (const base of new Set(ops.map((op) => op.replace(/_grad$/, '')))) {
    const typescript = ELSEWHERE.get(base) ?? `src/ops/${base}.ts`;
    for (const file of [
      `kernels/${base}/${base}.h`,
      `kernels/${base}/README.md`,
      typescript,
      `test/ops/${base}.test.ts`,
      `bench/ops/${base}.bench.ts`,
    ])
      if (!existsSync(join(root, file))) missing.push(file);
    if (existsSync(join(root, typescript)) && !readFileSync(join(root, typescript), 'utf8').includes(`'${base}'`))
      missing.push(`${typescript}: dispatches no ${base}`);
  }
  none(missing, 'missing');
});

test('no file is longer than 500 lines', () => {
  const long = [...kernels, ...native, ...sources]
    .filter((file) => !file.startsWith('src/generated/'))
    .map((file) => ({ file, lines: readFileSync(join(root, file), 'utf8').split('\n').length - 1 }))
    .filter(({ lines }) => lines > 500)
    .map(({ file, lines }) => `${file}: ${lines} lines`);
  none(long, 'too long');
});

test('object files of one instruction set hold no shared function of std', () => {
  // The linker keeps one copy of a weak function for everyone: the AVX-512 one would be run on machines without it.
  const folder = 'build/CMakeFiles/theia.dir';
  const objects = existsSync(join(root, folder)) ? filesIn(folder, /_avx(2|512)\.cpp\.o$/) : [];
  if (objects.length === 0 || spawnSync('nm', ['--version']).error) {
    console.log('\nSKIP object files of one instruction set: no CMake build, or no nm');
    return;
  }
  const found: string[] = [];
  for (const file of objects) {
    const p = spawnSync('nm', ['-C', '--defined-only', file], { cwd: root, encoding: 'utf8' });
    assert.is(p.status, 0, p.stderr);
    for (const line of p.stdout.split('\n')) {
      const [, kind, name] = / ([A-Za-z]) (.*)$/.exec(line) ?? [];
      // W: a weak function. What lies in the namespace of the instruction set is its own. V and u (constants) hold no instructions.
      const own = `theia::${/_(avx\w+)\.cpp/.exec(file)![1]!}::`;
      if (kind === 'W' && !name!.includes(own)) found.push(`${file}: ${name}`);
    }
  }
  none(found, 'weak functions');
});

test.run();
