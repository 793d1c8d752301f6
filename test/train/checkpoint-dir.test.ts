import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { TheiaError } from '../../src/errors.js';
import {
  cleanStale,
  discardCheckpointsAfter,
  listCheckpoints,
  newestCheckpoint,
  resolveResume,
  writeCheckpoint,
} from '../../src/train/checkpoint-dir.js';

let run = '';
test.before.each(() => {
  run = mkdtempSync(join(tmpdir(), 'theia-'));
});
test.after.each(() => rmSync(run, { recursive: true, force: true }));

const files = ['model.safetensors', 'optimizer.safetensors', 'state.json'];
const fill = (step: number) => (folder: string) => {
  for (const name of files) writeFileSync(join(folder, name), name === 'state.json' ? JSON.stringify({ format: 1, step }) : `data ${step}`);
};
const steps = () => listCheckpoints(run).map((checkpoint) => checkpoint.step);
const inside = () => readdirSync(join(run, 'checkpoints')).sort();

function code(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof TheiaError ? error.code : `not ours: ${String(error)}`;
  }
  return 'none';
}

test('written, listed, pruned', () => {
  assert.is(newestCheckpoint(run), undefined);
  for (const step of [1, 20, 300]) writeCheckpoint(run, step, fill(step), { keep: 2 });
  assert.equal(inside(), ['step-00000020', 'step-00000300']);
  assert.is(newestCheckpoint(run)?.step, 300);
  writeCheckpoint(run, 123456789, fill(123456789), { keep: 2 });
  assert.equal(steps(), [300, 123456789], 'sorted by number, not by name');
  assert.is(
    code(() => writeCheckpoint(run, -1, fill(1), { keep: 1 })),
    'ERR_ARGS',
  );
});

test('the one just written survives later ones of another way; those can be discarded', () => {
  for (const step of [1, 9]) writeCheckpoint(run, step, fill(step), { keep: 3 });
  writeCheckpoint(run, 5, fill(5), { keep: 1 });
  assert.equal(steps(), [5]);
  writeCheckpoint(run, 8, fill(8), { keep: 3 });
  discardCheckpointsAfter(run, 5);
  assert.equal(inside(), ['step-00000005']);
});

test('the same step again replaces it', () => {
  writeCheckpoint(run, 4, fill(4), { keep: 3 });
  const path = writeCheckpoint(run, 4, (folder) => (fill(4)(folder), writeFileSync(join(folder, 'model.safetensors'), 'new')), { keep: 3 });
  assert.is(readFileSync(join(path, 'model.safetensors'), 'utf8'), 'new');
  assert.equal(inside(), ['step-00000004']);
});

test('a full disk: ERR_DISK, no temporary folder, older ones stay', () => {
  writeCheckpoint(run, 1, fill(1), { keep: 1 });
  const full = (folder: string) => {
    writeFileSync(join(folder, 'model.safetensors'), 'x');
    writeFileSync('/dev/full', 'x'); // a real ENOSPC
  };
  assert.is(
    code(() => writeCheckpoint(run, 2, full, { keep: 1 })),
    'ERR_DISK',
  );
  const failing = () => {
    throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' });
  };
  assert.is(
    code(() => writeCheckpoint(run, 2, failing, { keep: 1 })),
    'ERR_DISK',
  );
  assert.equal(inside(), ['step-00000001']);
  // ... also when the step exists already
  assert.is(
    code(() => writeCheckpoint(run, 1, failing, { keep: 1 })),
    'ERR_DISK',
  );
  assert.equal(steps(), [1]);
});

test('a mistake of the writer stays what it is, and an incomplete checkpoint is not published', () => {
  const mistake = () => {
    throw new TypeError('mistake');
  };
  assert.match(
    code(() => writeCheckpoint(run, 2, mistake, { keep: 1 })),
    /TypeError: mistake/,
  );
  assert.is(
    code(() => writeCheckpoint(run, 2, (folder) => writeFileSync(join(folder, 'state.json'), '{"format":1}'), { keep: 1 })),
    'ERR_CORRUPT',
  );
  assert.equal(inside(), []);
});

test('what --resume takes', () => {
  for (const step of [1, 2]) writeCheckpoint(run, step, fill(step), { keep: 3 });
  const one = join(run, 'checkpoints', 'step-00000001');
  const two = join(run, 'checkpoints', 'step-00000002');
  assert.equal(resolveResume(run), { path: two, step: 2, runDir: run });
  assert.equal(resolveResume(`${one}/`), { path: one, step: 1, runDir: run });
  const copy = join(run, 'copy');
  cpSync(one, copy, { recursive: true });
  assert.equal(resolveResume(copy), { path: copy, step: 1, runDir: undefined });

  for (const broken of ['{', '[]', 'null', '{"format":2}', '{"__proto__":{"format":1}}', '']) {
    writeFileSync(join(two, 'state.json'), broken);
    assert.is(newestCheckpoint(run)?.step, 1, `state ${broken}`);
    assert.is(resolveResume(run).step, 1);
    assert.is(
      code(() => resolveResume(two)),
      'ERR_CORRUPT',
    );
  }
  fill(2)(two);
  rmSync(join(two, 'optimizer.safetensors'));
  assert.is(resolveResume(run).step, 1);
  assert.is(
    code(() => resolveResume(two)),
    'ERR_CORRUPT',
  );
  rmSync(one, { recursive: true });
  assert.is(
    code(() => resolveResume(run)),
    'ERR_FILE',
  );
  assert.is(
    code(() => resolveResume(join(run, 'none'))),
    'ERR_FILE',
  );
});

test('what dead processes left is cleaned, what live ones write is not', () => {
  writeCheckpoint(run, 1, fill(1), { keep: 3 });
  const dead = 999999999; // above the largest process number
  const folder = join(run, 'checkpoints');
  mkdirSync(join(folder, `.tmp-step-00000002-${dead}`));
  mkdirSync(join(folder, '.tmp-step-00000003-1')); // process 1 lives
  mkdirSync(join(folder, `.old-step-00000004-${dead}`));
  fill(4)(join(folder, `.old-step-00000004-${dead}`));
  mkdirSync(join(folder, `.old-step-00000001-${dead}`));
  cleanStale(run);
  assert.equal(inside(), ['.tmp-step-00000003-1', 'step-00000001', 'step-00000004']);
  assert.equal(steps(), [1, 4], 'one that was set aside and never replaced is back');
});

/** A child that writes checkpoints one after the other, slowly, and prints each step once it is done. */
const child = `
  import { writeFileSync, appendFileSync } from 'node:fs';
  const { writeCheckpoint } = await import(process.argv[1]);
  const wait = new Int32Array(new SharedArrayBuffer(4));
  for (let step = 1; ; step++) {
    writeCheckpoint(process.argv[2], step, (folder) => {
      for (const name of ['state.json', 'model.safetensors', 'optimizer.safetensors']) {
        writeFileSync(folder + '/' + name, name === 'state.json' ? '{"format":1,' : 'step');
        process.stdout.write('.');
        Atomics.wait(wait, 0, 0, 2);
        appendFileSync(folder + '/' + name, name === 'state.json' ? '"step":' + step + '}' : ' ' + step);
      }
    }, { keep: 2 });
    process.stdout.write('[' + step + ']');
  }
`;

test('SIGKILL in the middle of a write loses nothing that was complete', async () => {
  const module = new URL('../../src/train/checkpoint-dir.js', import.meta.url).href;
  for (const dots of [1, 5, 8, 12, 15]) {
    const p = spawn(process.execPath, ['--input-type=module', '-e', child, module, run], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    await new Promise<void>((done) => {
      p.stdout.on('data', (data: Buffer) => {
        out += data.toString();
        // Killed between two files, that is inside a write.
        if (out.split('.').length > dots) p.kill('SIGKILL');
      });
      p.on('close', () => done());
    });
    const done = [...out.matchAll(/\[(\d+)\]/g)].map((match) => Number(match[1]));
    const newest = newestCheckpoint(run);
    if (done.length > 0) {
      assert.ok(newest !== undefined && newest.step >= (done.at(-1) as number), `newest ${newest?.step}, reported ${done.at(-1)}`);
    }
    for (const { path, step } of listCheckpoints(run)) {
      assert.is(readFileSync(join(path, 'model.safetensors'), 'utf8'), `step ${step}`);
      assert.is(readFileSync(join(path, 'optimizer.safetensors'), 'utf8'), `step ${step}`);
      assert.is((JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')) as { step: number }).step, step);
    }
    cleanStale(run);
    if (existsSync(join(run, 'checkpoints')))
      assert.not.ok(
        inside().some((name) => name.startsWith('.')),
        `left over: ${inside().join()}`,
      );
  }
  assert.ok(steps().length > 0 && basename(newestCheckpoint(run)?.path ?? '').startsWith('step-'));
});

test.run();
