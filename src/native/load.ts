import { createRequire } from 'node:module';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TheiaError } from '../errors.js';
import type { Addon } from './addon.js';

/**
 * The files to look for, nearest first, from this folder up to the root of the package: what CMake builds, whole or (quickstart) for the CPU
 * alone, then what gyp builds.
 */
function candidates(): string[] {
  const fromEnvironment = process.env['THEIA_ADDON'];
  if (fromEnvironment) return [fromEnvironment];
  const found: string[] = [];
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    for (const where of [['build'], ['build-cpu'], ['native', 'build']]) found.push(join(folder, ...where, 'Release', 'theia.node'));
    if (existsSync(join(folder, 'package.json')) && existsSync(join(folder, 'CMakeLists.txt'))) return found.slice(-3);
    const up = dirname(folder);
    if (up === folder) return found;
    folder = up;
  }
}

/** Why a file that exists did not load, in words that lead to the mend. */
function explain(error: Error): string {
  const m = error.message;
  if (/GLIBC(XX)?_|CXXABI_/.test(m)) return 'it was built against a newer C or C++ library than this system has';
  if (/invalid ELF header|wrong ELF class|not a mach-o|not a valid Win32/i.test(m)) return 'it was built for another system or processor';
  if (/libasan|sanitizer/i.test(m)) return 'it was built with a sanitizer whose runtime is not loaded';
  if (/did not self-register/.test(m)) return 'it is no Node-API module, or belongs to another runtime';
  return 'the system’s loader refused it';
}

let loaded: Addon | undefined;
let loadedFrom: string | undefined;

/**
 * The addon, loaded at first use.
 * @throws TheiaError ERR_NATIVE_LOAD that lists what was tried, why it failed, and the command that mends it; ERR_CONFIG if THEIA_CPU
 *   names no instruction set of this machine
 */
export function addon(): Addon {
  if (loaded) return loaded;
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  for (const file of candidates()) {
    const shown = relative(process.cwd(), file).startsWith('..') ? file : relative(process.cwd(), file);
    if (!existsSync(file)) {
      tried.push(`${shown}: no such file`);
      continue;
    }
    try {
      const found = require(file) as Addon;
      found.setErrorClass(TheiaError); // native failures arrive as TheiaError: (code, message)
      loaded = found;
      loadedFrom = file;
      return found;
    } catch (error) {
      // It loaded and refused to start: THEIA_CPU asks for what this machine lacks.
      if ((error as { code?: unknown }).code === 'ERR_CONFIG') throw new TheiaError('ERR_CONFIG', (error as Error).message);
      tried.push(`${shown}: ${explain(error as Error)} (${(error as Error).message})`);
    }
  }
  throw new TheiaError(
    'ERR_NATIVE_LOAD',
    `the native addon could not be loaded for ${process.platform}-${process.arch}. Tried: ${tried.join('; ')}`,
    {
      hint: hasSources()
        ? 'build it: npm run build:native'
        : 'reinstall theia-native, or build it from its repository: npm run build:native',
    },
  );
}

function hasSources(): boolean {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (dirname(folder) !== folder) {
    if (existsSync(join(folder, 'kernels')) && readdirSync(folder).includes('CMakeLists.txt')) return true;
    folder = dirname(folder);
  }
  return false;
}

/** Where the addon was loaded from; undefined before its first use. */
export function addonPath(): string | undefined {
  return loadedFrom;
}
