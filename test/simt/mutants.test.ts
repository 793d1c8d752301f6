// The table of `npm run mutate` is not stale: what it excuses is still in the sources, and has a reason.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

type Mutant = { file: string; mutation: string; line: string; nth: number; caught?: string | null; reason?: string };
type Mutants = { mutantsOf(root: string, file: string): (Mutant & { source: string })[]; keyOf(m: Mutant): string };

let root = dirname(fileURLToPath(import.meta.url));
while (!existsSync(join(root, 'CMakeLists.txt'))) root = dirname(root);
const { mutantsOf, keyOf } = (await import(pathToFileURL(join(root, 'scripts/support/mutants.mjs')).href)) as Mutants;
const table = JSON.parse(readFileSync(join(root, 'test/simt/mutants.json'), 'utf8')) as Mutant[];

test('what is excused exists, and has a reason', () => {
  for (const m of table.filter((entry) => entry.caught === null)) {
    assert.ok(existsSync(join(root, m.file)), `${m.file} is gone: npm run mutate`);
    assert.ok(
      mutantsOf(root, m.file).some((now) => keyOf(now) === keyOf(m)),
      `no longer in the source: ${keyOf(m)}; npm run mutate`,
    );
    assert.ok(m.reason !== undefined && m.reason.length > 20, `survives without a reason: ${keyOf(m)}`);
  }
});

test('no mutant is listed twice', () => {
  assert.is(new Set(table.map(keyOf)).size, table.length);
});

test('a mutant differs from its source in one line', () => {
  const file = 'kernels/gemm/device/mma_core.cuh';
  const source = readFileSync(join(root, file), 'utf8').split('\n');
  const mutants = mutantsOf(root, file);
  assert.ok(mutants.length > 5);
  for (const mutation of ['no __syncthreads', 'no wait', '< is always true'])
    assert.ok(
      mutants.some((m) => m.mutation === mutation),
      mutation,
    );
  for (const m of mutants) {
    const changed = m.source.split('\n').filter((line, i) => line !== source[i]);
    assert.is(changed.length, 1, keyOf(m));
    assert.is(m.source.split('\n').length, source.length);
  }
});

test.run();
