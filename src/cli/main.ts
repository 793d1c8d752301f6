import { TheiaError, fileError, type ErrorCode } from '../errors.js';
import { nearest } from '../suggest.js';
import { packageVersion } from '../version.js';
import { helpText, parseVerbArgs } from './args.js';
import { printable } from './printable.js';
import { installSignals } from './signals.js';
import { KNOWN_VERBS, VERBS, type VerbEntry } from './verbs.js';

/** Input that could not be used is 2; work that failed is 1. */
const BAD_INPUT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_ARGS',
  'ERR_CONFIG',
  'ERR_FILE',
  'ERR_CORRUPT',
  'ERR_SHAPE',
  'ERR_DTYPE',
  'ERR_DEVICE',
  'ERR_UNSUPPORTED',
]);

export function exitCodeOf(code: ErrorCode): number {
  return BAD_INPUT.has(code) ? 2 : 1;
}

/** One printable line: messages carry file names and keys, which may hold line ends and terminal escapes. */
function oneLine(text: string): string {
  return printable(text.replace(/\s*[\r\n]+\s*/g, ' '));
}

/** What was thrown, as one of ours: errors of the operating system become ERR_FILE or ERR_DISK, the rest ERR_INTERNAL. */
function asTheiaError(error: unknown): TheiaError {
  if (error instanceof TheiaError) return error;
  const system = error as NodeJS.ErrnoException;
  if (error instanceof Error && typeof system.syscall === 'string') return fileError(error, system.path ?? '', system.syscall);
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new TheiaError('ERR_INTERNAL', message, { cause: error, hint: 'this is a mistake in theia-native; THEIA_DEBUG=1 prints where' });
}

/** What helps with any error of a code that brings no hint of its own. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  ERR_ARGS: 'theia <verb> --help lists the flags',
  ERR_CONFIG: 'correct the key that the message names',
  ERR_FILE: 'check the path and its permissions',
  ERR_CORRUPT: 'make or fetch the file again; it is not what it should be',
  ERR_DISK: 'make room or choose another disk; what was complete before is still whole',
  ERR_SHAPE: 'weights, config, images and references have to belong together',
  ERR_DTYPE: 'store the data in a dtype that is expected',
  ERR_DEVICE: 'theia doctor lists the devices',
  ERR_UNSUPPORTED: 'theia --help and theia doctor tell what this build can do',
  ERR_OOM: 'a smaller batch needs less memory',
  ERR_NATIVE_LOAD: 'theia doctor tells what was tried',
};

/** The lines of an error on stderr: `theia: CODE: message`, and a hint. */
export function errorText(error: unknown): string {
  const e = asTheiaError(error);
  const lines = [`theia: ${e.code}: ${oneLine(e.message)}`];
  const hint = e.hint ?? HINTS[e.code];
  if (hint !== undefined) lines.push(`hint: ${oneLine(hint)}`);
  if (process.env.THEIA_DEBUG === '1') lines.push(String((e.cause as Error | undefined)?.stack ?? e.stack));
  return `${lines.join('\n')}\n`;
}

function usage(verbs: readonly VerbEntry[]): string {
  const width = Math.max(10, ...verbs.map((verb) => verb.name.length + 2));
  const list = verbs.map((verb) => `  ${verb.name.padEnd(width)}${verb.summary}\n`).join('');
  return `theia <verb> [flags]\n\n${list}\n  --help      prints this; after a verb, its flags\n  --version   prints the version\n`;
}

function findVerb(name: string, verbs: readonly VerbEntry[]): VerbEntry {
  const entry = verbs.find((verb) => verb.name === name);
  if (entry !== undefined) return entry;
  if (KNOWN_VERBS.includes(name)) {
    throw new TheiaError('ERR_UNSUPPORTED', `theia ${name}: this verb is not built in version ${packageVersion()}`, {
      hint: 'theia --help lists what is',
    });
  }
  const near = nearest(
    name,
    verbs.map((verb) => verb.name),
  );
  throw new TheiaError('ERR_ARGS', `expected a verb, got ${JSON.stringify(name)}`, {
    hint: near === undefined ? 'theia --help lists the verbs' : `did you mean ${near}?`,
  });
}

/** Where the program writes; given in tests. */
export type Output = { out: (text: string) => void; err: (text: string) => void };

const STANDARD: Output = { out: (text) => void process.stdout.write(text), err: (text) => void process.stderr.write(text) };

/**
 * Runs one command line. Prints errors, throws nothing.
 * @param argv what follows the program's name
 * @returns the exit code
 */
export async function main(argv: readonly string[], verbs: readonly VerbEntry[] = VERBS, output: Output = STANDARD): Promise<number> {
  try {
    const [first, ...rest] = argv;
    if (first === '--help' || first === '-h' || first === 'help') {
      output.out(usage(verbs));
      return 0;
    }
    if (first === '--version' || first === '-V') {
      output.out(`${packageVersion()}\n`);
      return 0;
    }
    if (first === undefined) throw new TheiaError('ERR_ARGS', 'expected a verb, got none', { hint: 'theia --help lists the verbs' });
    if (first.startsWith('-')) throw new TheiaError('ERR_ARGS', `expected a verb, got the flag ${first}`, { hint: 'theia <verb> [flags]' });
    const { verb } = await findVerb(first, verbs).load();
    const args = parseVerbArgs(verb.name, rest, verb.options);
    if (args.help) {
      output.out(helpText(verb.name, verb.summary, verb.options));
      return 0;
    }
    return (await verb.run(args)) ?? 0;
  } catch (error) {
    output.err(errorText(error));
    return exitCodeOf(asTheiaError(error).code);
  }
}

/** The program: main with the process around it (signals, closed pipes, exit). */
export async function program(argv: readonly string[], verbs: readonly VerbEntry[] = VERBS): Promise<void> {
  // A reader that went away (`theia train | head`) must not end the work, so what is still written is dropped.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  installSignals((code) => process.exit(code));
  const code = await main(argv, verbs);
  process.exitCode = code;
  // Leave when the output is out, not when the last idle thread or handle is gone.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}
