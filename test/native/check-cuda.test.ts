// npm run check:cuda on object files of test/fixtures/cuda: a check that has never failed is none.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

let root = dirname(fileURLToPath(import.meta.url));
while (!existsSync(join(root, 'CMakeLists.txt'))) root = dirname(root);
const table = join(mkdtempSync(join(tmpdir(), 'theia-')), 'ptxas.tsv');
const fixture = (name: string): string => join(root, 'test', 'fixtures', 'cuda', name);

type Result = { readonly status: number | null; readonly faults: string[]; readonly stdout: string };

function check(addon: string, ...more: string[]): Result {
  const args = [join(root, 'scripts', 'check-cuda.mjs'), '--addon', addon, '--table', table, ...more];
  const result = spawnSync(process.execPath, args, { encoding: 'utf8' });
  const faults = result.stderr.split('\n').flatMap((line) => (line.startsWith('FAIL  ') ? [line.slice(6)] : []));
  return { status: result.status, faults, stdout: result.stdout };
}

/** The table with one thing changed. */
function changed(edit: (text: string) => string): Result {
  const text = readFileSync(table, 'utf8');
  assert.is.not(edit(text), text);
  writeFileSync(table, edit(text));
  const result = check(fixture('mma_good.o'));
  writeFileSync(table, text);
  return result;
}

if (spawnSync('c++filt', ['--version']).status !== 0) {
  test('check:cuda', () => console.log('\nSKIP check:cuda: no c++filt'));
} else {
  test('a kernel as it should be', () => {
    assert.equal(check(fixture('mma_good.o'), '--update').faults, []);
    const row = readFileSync(table, 'utf8').trimEnd().split('\n').pop();
    assert.is(row, 'mma_good.cu\tproduct<3>\t22+4096\t22+4096\t22+4096\tHMMA.16816.F32.BF16 LDSM LDGSTS');
    const again = check(fixture('mma_good.o'));
    assert.is(again.status, 0);
    assert.match(again.stdout, /^1 kernels for sm_80, sm_87, sm_90a, made by nvcc 13\.0\.88; PTX for compute_90$/m);
  });

  test('spills, local memory, tensor cores in an exact file, missing architectures', () => {
    const { status, faults } = check(fixture('bad.o'), '--update');
    assert.is(status, 1);
    assert.equal(faults, [
      'bad.cu: indexed (sm_80): 256 bytes of stack (local memory)',
      'bad.cu: indexed (sm_80): 64 stores and 1 loads of local memory (spills, or an array that is indexed at run time)',
      'bad.cu: rounding (sm_80): HMMA.1688.F32.TF32, which has no place in bad.cu',
      'bad.cu: spilling (sm_80): 40 bytes of stack (local memory)',
      'bad.cu: spilling (sm_80): 11 stores and 11 loads of local memory (spills, or an array that is indexed at run time)',
      `${fixture('bad.o')} is for sm_80; expected sm_80, sm_87, sm_90a`,
      `${fixture('bad.o')} holds PTX for nothing; expected compute_90`,
    ]);
    assert.is(check(fixture('mma_good.o'), '--update').status, 0);
  });

  test('a register more, shared memory less, another unit', () => {
    const more = changed((text) => text.replace('3>\t22+4096', '3>\t21+4096'));
    assert.is(more.status, 1);
    assert.equal(more.faults, ['mma_good.cu: product<3>: sm_80: 21+4096, now 22+4096']);
    const units = changed((text) => text.replace(' LDGSTS', '').replace('22+4096\tHMMA', '22+8192\tHMMA'));
    assert.equal(units.faults, [
      'mma_good.cu: product<3>: sm_90a: 22+8192, now 22+4096; units: HMMA.16816.F32.BF16 LDSM, now HMMA.16816.F32.BF16 LDSM LDGSTS',
    ]);
  });

  test('kernels that come and go', () => {
    const { status, faults } = changed((text) => text.replace('product<3>', 'product<4>'));
    assert.is(status, 1);
    assert.equal(faults, ['mma_good.cu: product<3> is not in the table', 'mma_good.cu: product<4> is in the table, but not in the addon']);
  });

  test('another compiler gives other registers: no comparison', () => {
    const { status, stdout } = changed((text) => text.replace('nvcc 13.0.88', 'nvcc 12.8.61').replace('22+4096', '30'));
    assert.is(status, 0);
    assert.match(stdout, /^SKIP table: it was made by nvcc 12\.8\.61, this is nvcc 13\.0\.88$/m);
  });

  test('files that are no objects, or hold no machine code', () => {
    assert.match(check(fixture('bad.cu')).faults.join(), /bad\.cu: not an ELF file/);
    const truncated = join(dirname(table), 'truncated.o');
    writeFileSync(truncated, readFileSync(fixture('mma_good.o')).subarray(0, 9000));
    assert.is(check(truncated).status, 1);
    assert.match(check(join(dirname(table), 'absent.o')).faults.join(), /ENOENT/);
  });
}

test.run();
