// A .cu file is compiled twice. A function outside of the half's own namespace that both compilations emit would be merged by a linker
// without a word, and one backend would run the other's code. So the object files are looked through for weak symbols: what is not of the
// half's namespace and not of the language's library must come from kernels/core/.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, addonPath } from '../../src/native/load.js';

addon();
let root = dirname(fileURLToPath(import.meta.url));
while (!existsSync(join(root, 'CMakeLists.txt'))) root = dirname(root);
const objects = join(dirname(addonPath()!), '..', 'CMakeFiles');

function objectFiles(folder: string, pattern: RegExp): string[] {
  const path = join(objects, folder);
  if (!existsSync(path)) return [];
  return (readdirSync(path, { recursive: true }) as string[]).filter((name) => pattern.test(name)).map((name) => join(path, name));
}

const emulated = objectFiles('theia_simt.dir/simt', /\.o$/);
const compiled = objectFiles('theia.dir/kernels', /\.cu\.o$/);
const hasNm = spawnSync('nm', ['--version']).status === 0;

/** Weak and unique definitions in object files: mangled name -> name. */
function weakSymbols(files: string[]): Map<string, string> {
  const run = (...flags: string[]): string[] => {
    const p = spawnSync('nm', ['--defined-only', ...flags, ...files], { encoding: 'utf8', maxBuffer: 1 << 28 });
    assert.is(p.status, 0, p.stderr);
    return p.stdout.split('\n').flatMap((line) => /^[0-9a-f]+ [WVu] (.+)$/.exec(line)?.[1] ?? []);
  };
  const [mangled, names] = [run(), run('-C')];
  assert.is(mangled.length, names.length);
  return new Map(mangled.map((m, i) => [m, names[i]!]));
}

const coreHeaders = readdirSync(join(root, 'kernels', 'core'))
  .filter((name) => name.endsWith('.h'))
  .map((name) => readFileSync(join(root, 'kernels', 'core', name), 'utf8'))
  .join('\n');

/** Of the C++ library or the compiler. */
const ofLanguage = (name: string): boolean =>
  /^(typeinfo (name )?for |vtable for |guard variable for |VTT for |void |bool |[\w:<>*&, ]+ )?(std::|__gnu_cxx::|operator (new|delete))/.test(
    name,
  ) || name.startsWith('DW.ref.');

/** Declared in kernels/core/: `theia::Tensor::numel() const`, `typeinfo for theia::Device`. */
function ofCore(name: string): boolean {
  const path = /\btheia::((?:\w+::)*)(~?\w+)/.exec(name.replace(/\[abi:\w+\]/g, ''));
  if (!path) return false;
  const names = [...path[1]!.split('::').filter(Boolean), path[2]!.replace('~', '')];
  return names.every((word) => new RegExp(`\\b${word}\\b`).test(coreHeaders));
}

test('the emulated half defines nothing weak outside of its namespace and the core', () => {
  if (emulated.length === 0 || !hasNm) return console.log('\nSKIP the emulated half: no object files beside the addon, or no nm');
  const strange = [...weakSymbols(emulated).values()].filter((name) => !/\btheia::simt::/.test(name) && !ofLanguage(name) && !ofCore(name));
  assert.equal(strange, []);
});

test('no weak symbol outside of the core is in both halves', () => {
  if (emulated.length === 0 || compiled.length === 0 || !hasNm)
    return console.log(
      '\nSKIP both halves: the addon beside these object files was built without CUDA or without the emulator, or there is no nm',
    );
  const other = weakSymbols(emulated);
  const both = [...weakSymbols(compiled)].filter(([mangled, name]) => other.has(mangled) && !ofLanguage(name) && !ofCore(name));
  assert.equal(both, []);
});

test('the rule sees what it should', () => {
  assert.ok(ofCore('theia::Tensor::numel() const'));
  assert.ok(ofCore('typeinfo name for theia::Device'));
  assert.not.ok(ofCore('theia::gemm::tile(int)'));
  assert.not.ok(ofCore('theia::ceil_everything(long)'));
  assert.not.ok(ofCore('cudaError cudaMalloc<float>(float**, unsigned long)'));
  assert.ok(ofLanguage('std::vector<theia::Block*>::push_back(theia::Block* const&)'));
  assert.ok(ofLanguage('typeinfo for std::function<void ()>'));
  assert.not.ok(ofLanguage('theia::plan(std::vector<int>&)'));
});

test.run();
