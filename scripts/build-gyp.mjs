// Builds the addon with node-gyp, for machines without CMake: native/build/Release/theia.node. Needs g++, make and Python.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { root, run } from './support/prepare.mjs';

const gyp = join(dirname(createRequire(import.meta.url).resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
// Headers that lie beside node spare a download.
const nodedir = resolve(process.execPath, '..', '..');
const headers = existsSync(join(nodedir, 'include', 'node', 'node_api.h')) ? [`--nodedir=${nodedir}`] : [];
try {
  run(process.execPath, [gyp, 'rebuild', '--silent', ...headers, '-j', String(availableParallelism()), '-C', join(root, 'native')]);
} catch (error) {
  console.error(`theia: ERR_NATIVE_LOAD: ${error.message}`);
  process.exit(1);
}
