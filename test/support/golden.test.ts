import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { goldenDir, goldenFile, manifest, requireGolden } from './golden.js';

const dir = mkdtempSync(join(tmpdir(), 'theia-'));
const before = { golden: process.env.THEIA_GOLDEN, require: process.env.THEIA_REQUIRE_GOLDEN };
function set(golden: string | undefined, required: string | undefined): void {
  for (const [key, value] of [
    ['THEIA_GOLDEN', golden],
    ['THEIA_REQUIRE_GOLDEN', required],
  ] as const) {
    if (value === undefined) delete process.env[key];
    else process.env[key] = value;
  }
}
test.after.each(() => set(before.golden, before.require));
test.after(() => rmSync(dir, { recursive: true, force: true }));

test('THEIA_GOLDEN comes first, and a wrong one is an error', () => {
  const golden = join(dir, 'golden');
  mkdirSync(golden);
  writeFileSync(join(golden, 'manifest.json'), '{"files":{},"generator_vectors":{}}');
  set(golden, undefined);
  assert.is(goldenDir(), golden);
  assert.is(goldenFile('manifest.json'), join(golden, 'manifest.json'));
  assert.equal(manifest()!.files, {});
  set(join(dir, 'none'), undefined);
  assert.throws(() => goldenDir(), /THEIA_GOLDEN=.*none/);
});

test('an absent file skips with a reason, or fails where golden data are required', () => {
  const printed: unknown[] = [];
  const log = console.log;
  console.log = (line: unknown) => printed.push(line);
  try {
    set(undefined, '0');
    assert.is(requireGolden('no such file', 'my test'), undefined);
  } finally {
    console.log = log;
  }
  assert.is(printed.length, 1);
  assert.match(String(printed[0]), /^SKIP my test: no golden file no such file in /m);
  set(undefined, '1');
  assert.throws(() => requireGolden('no such file', 'my test'), /my test: .*THEIA_REQUIRE_GOLDEN=1/);
});

test.run();
