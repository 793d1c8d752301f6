import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERROR_CODES, TheiaError } from '../../src/errors.js';
import { errorText, exitCodeOf, main } from '../../src/cli/main.js';
import type { Verb } from '../../src/cli/verb.js';
import { KNOWN_VERBS, VERBS, type VerbEntry } from '../../src/cli/verbs.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

function entry(run: Verb['run']): VerbEntry {
  const verb: Verb = { name: 'try', summary: 'tries', options: { n: { type: 'string', help: 'a number' } }, run };
  return { name: 'try', summary: 'tries', load: () => Promise.resolve({ verb }) };
}

async function call(argv: string[], run: Verb['run'] = () => 0): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await main(argv, [entry(run)], { out: (text) => void (out += text), err: (text) => void (err += text) });
  return { code, out, err };
}

test('help and version', async () => {
  for (const flag of ['--help', '-h', 'help']) {
    const { code, out, err } = await call([flag]);
    assert.is(code, 0);
    assert.match(out, /try +tries/);
    assert.not.match(out, /export|analyze/, 'what is not built is not listed');
    assert.is(err, '');
  }
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  assert.is((await call(['--version'])).out, `${version}\n`);
  const verb = await call(['try', '--help'], () => 5);
  assert.is(verb.code, 0);
  assert.match(verb.out, /--n VALUE/);
});

test('the exit code is what the verb returns', async () => {
  assert.is((await call(['try'])).code, 0);
  assert.is((await call(['try'], () => undefined)).code, 0);
  assert.is((await call(['try'], () => Promise.resolve(130))).code, 130);
});

test('verbs that are unknown, and verbs that are not built', async () => {
  const unknown = await call(['tyr']);
  assert.is(unknown.code, 2);
  assert.is(unknown.err, 'theia: ERR_ARGS: expected a verb, got "tyr"\nhint: did you mean try?\n');
  for (const name of KNOWN_VERBS) {
    const { code, err } = await call([name]);
    assert.is(code, 2);
    assert.match(err, new RegExp(`^theia: ERR_UNSUPPORTED: theia ${name}: .*not built`));
  }
  assert.match((await call([])).err, /^theia: ERR_ARGS: expected a verb, got none\n/);
  assert.match((await call(['--json'])).err, /^theia: ERR_ARGS: expected a verb, got the flag --json\n/);
  assert.is((await call(['__proto__'])).code, 2);
  assert.match((await call(['try', '--m', '3'])).err, /^theia: ERR_ARGS: theia try: unknown flag --m\n/);
});

test('exit codes of the errors', async () => {
  const two = ['ERR_ARGS', 'ERR_CONFIG', 'ERR_FILE', 'ERR_CORRUPT', 'ERR_SHAPE', 'ERR_DTYPE', 'ERR_DEVICE', 'ERR_UNSUPPORTED'];
  for (const code of ERROR_CODES) {
    assert.is(exitCodeOf(code), two.includes(code) ? 2 : 1);
    const result = await call(['try'], () => {
      throw new TheiaError(code, 'message', { hint: 'do this' });
    });
    assert.is(result.code, two.includes(code) ? 2 : 1);
    assert.is(result.err, `theia: ${code}: message\nhint: do this\n`);
    assert.is(result.out, '');
  }
});

test('an error is one printable line, whatever a file name holds', () => {
  const text = errorText(new TheiaError('ERR_FILE', 'a\nb\r\n c\x1b[2Jd\x07\x9b'));
  assert.is(text, 'theia: ERR_FILE: a b c\\x1b[2Jd\\x07\\x9b\nhint: check the path and its permissions\n');
});

test('errors that are not ours', async () => {
  const file = await call(['try'], () => void readFileSync('/no/such/file'));
  assert.is(file.code, 2);
  assert.match(file.err, /^theia: ERR_FILE: .*\/no\/such\/file/);
  const mistake = await call(['try'], () => Promise.reject(new TypeError('oops')));
  assert.is(mistake.code, 1);
  assert.match(mistake.err, /^theia: ERR_INTERNAL: TypeError: oops\nhint: /);
});

test('every verb of the table is known, and its file says the same of itself', async () => {
  for (const { name, summary, load } of VERBS) {
    assert.ok(KNOWN_VERBS.includes(name), name);
    const { verb } = await load();
    assert.equal([verb.name, verb.summary], [name, summary]);
  }
});

test('the programs', () => {
  const node = (file: string, ...args: string[]) => spawnSync(process.execPath, [join(root, 'bin', file), ...args], { encoding: 'utf8' });
  const help = node('theia.mjs', '--help');
  assert.is(help.status, 0, help.stderr);
  assert.match(help.stdout, /theia <verb>/);
  const unknown = node('theia.mjs', 'nonsense');
  assert.is(unknown.status, 2);
  assert.match(unknown.stderr, /^theia: ERR_ARGS: /);
  // theia-train is theia train: the same answer to the same flags
  const train = node('theia-train.mjs', '--nonsense');
  assert.equal(
    [train.status, train.stderr],
    [node('theia.mjs', 'train', '--nonsense').status, node('theia.mjs', 'train', '--nonsense').stderr],
  );
});

test('a program that is not built says so', () => {
  const folder = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    mkdirSync(join(folder, 'bin'));
    cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true });
    const { status, stderr } = spawnSync(process.execPath, [join(folder, 'bin', 'theia.mjs'), 'doctor'], { encoding: 'utf8' });
    assert.is(status, 1);
    assert.match(stderr, /^theia: ERR_NATIVE_LOAD: expected the built program at .*\nhint: run npm run build\n$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Runs the program in a child, with a verb whose body is given. */
function child(body: string): ReturnType<typeof spawn> {
  const script = `
    const { program } = await import(process.argv[1]);
    const { onStop, signalExitCode } = await import(process.argv[2]);
    const verb = { name: 'try', summary: '', options: {}, async run() { ${body} } };
    await program(['try'], [{ name: 'try', summary: '', load: () => Promise.resolve({ verb }) }]);`;
  const url = (path: string) => new URL(path, import.meta.url).href;
  const modules = [url('../../src/cli/main.js'), url('../../src/cli/signals.js')];
  return spawn(process.execPath, ['--input-type=module', '-e', script, ...modules], { stdio: ['ignore', 'pipe', 'pipe'] });
}

const closed = (p: ReturnType<typeof spawn>) => new Promise<number | null>((done) => p.on('close', (code) => done(code)));

test('a reader that goes away does not end the work', async () => {
  const p = child(`
    for (let i = 0; i < 200; i++) { process.stdout.write('x'.repeat(10000)); await new Promise((r) => setImmediate(r)); }
    process.stderr.write('worked to the end');
    return 0;`);
  let err = '';
  p.stderr?.on('data', (data: Buffer) => (err += data.toString()));
  p.stdout?.once('data', () => p.stdout?.destroy());
  assert.is(await closed(p), 0);
  assert.is(err, 'worked to the end');
});

test('signals: 130 and 143 at once, or as the verb finishes; the second ends it', async () => {
  const wait = `process.stdout.write('ready'); await new Promise((r) => setTimeout(r, 60000));`;
  const finish = `let stop; const asked = new Promise((r) => (stop = r)); onStop(stop); process.stdout.write('ready');
    const keep = setInterval(() => {}, 1000); const signal = await asked; clearInterval(keep);
    process.stderr.write('saved'); return signalExitCode(signal);`;
  const stubborn = `onStop(() => process.stdout.write('again')); ${wait}`;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const first = child(wait);
    first.stdout?.once('data', () => first.kill(signal));
    assert.is(await closed(first), code);

    const second = child(finish);
    let err = '';
    second.stderr?.on('data', (data: Buffer) => (err += data.toString()));
    second.stdout?.once('data', () => second.kill(signal));
    assert.is(await closed(second), code);
    assert.is(err, 'saved');

    const third = child(stubborn);
    third.stdout?.on('data', () => third.kill(signal));
    assert.is(await closed(third), code);
  }
});

test.run();
