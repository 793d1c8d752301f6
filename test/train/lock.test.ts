import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { TheiaError } from '../../src/errors.js';
import { lockRun } from '../../src/train/lock.js';

let run = '';
test.before.each(() => {
  run = mkdtempSync(join(tmpdir(), 'theia-'));
});
test.after.each(() => rmSync(run, { recursive: true, force: true }));

function error(work: () => unknown): TheiaError {
  try {
    work();
  } catch (thrown) {
    assert.instance(thrown, TheiaError);
    return thrown as TheiaError;
  }
  assert.unreachable('expected an error');
  throw new Error('unreachable');
}

test('held, named, released', () => {
  const lock = lockRun(run);
  const held = JSON.parse(readFileSync(lock.path, 'utf8')) as { pid: number; host: string };
  assert.equal([held.pid, held.host], [process.pid, hostname()]);
  const e = error(() => lockRun(run));
  assert.is(e.code, 'ERR_CONFIG');
  assert.match(e.message, new RegExp(`process ${process.pid} on `));
  assert.ok(e.message.includes(hostname()));
  lock.release();
  lock.release();
  assert.equal(readdirSync(run), []);
  lockRun(run).release();
});

test("another process's lock holds while it lives and is taken over when it is gone", async () => {
  const module = new URL('../../src/train/lock.js', import.meta.url).href;
  const script = `const { lockRun } = await import(process.argv[1]); lockRun(process.argv[2]); console.log('held'); setInterval(() => {}, 1000);`;
  const p = spawn(process.execPath, ['--input-type=module', '-e', script, module, run], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((held) => p.stdout.once('data', held));
  assert.match(error(() => lockRun(run)).message, new RegExp(`process ${p.pid} on `));
  const gone = new Promise((closed) => p.on('close', closed));
  p.kill('SIGKILL');
  await gone;
  const lock = lockRun(run);
  assert.equal(readdirSync(run), ['lock'], 'no drafts are left');
  lock.release();
});

test('stale: a dead number, or a number that another process has now; not stale: another host', () => {
  const path = join(run, 'lock');
  writeFileSync(path, JSON.stringify({ pid: 999999999, host: hostname() }));
  lockRun(run).release();
  writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname(), start: '1' }));
  lockRun(run).release();
  writeFileSync(path, JSON.stringify({ pid: 999999999, host: 'elsewhere' }));
  const e = error(() => lockRun(run));
  assert.match(e.message, /process 999999999 on elsewhere/);
  assert.match(e.hint ?? '', /delete /);
});

test('a lock that is not one is not deleted', () => {
  for (const text of ['', 'x', '{}', '{"pid":"1","host":"a"}', '{"pid":-1,"host":"a"}', 'null']) {
    writeFileSync(join(run, 'lock'), text);
    assert.is(error(() => lockRun(run)).code, 'ERR_CONFIG');
    assert.is(readFileSync(join(run, 'lock'), 'utf8'), text);
  }
});

test('releasing leaves a lock that somebody else has taken over', () => {
  const lock = lockRun(run);
  writeFileSync(lock.path, '{"pid":1,"host":"other"}');
  lock.release();
  assert.equal(readdirSync(run), ['lock']);
});

test('a folder that is not there is ERR_FILE', () => {
  assert.is(error(() => lockRun(join(run, 'none'))).code, 'ERR_FILE');
});

test.run();
