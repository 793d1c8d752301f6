import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SafetensorsSink, encodeSafetensors } from '../../src/formats/index.js';
import { throwsCode } from '../support/errors.js';
import { inFolder } from '../support/tiny-model.js';

const a = Float32Array.of(1, 2, 3, 4, 5, 6);
const b = Uint8Array.of(7, 8);
const tensors = [
  { name: 'b', dtype: 'U8' as const, shape: [2] },
  { name: 'a', dtype: 'F32' as const, shape: [3, 2] },
];

test('pieces in any order give the bytes of one write', () =>
  inFolder((folder) => {
    const path = join(folder, 'x.safetensors');
    const sink = new SafetensorsSink(path, tensors, { k: 'v' });
    sink.write('a', 4, a.subarray(4));
    sink.write('b', 0, b);
    assert.equal(readdirSync(folder).length, 1);
    assert.not(readdirSync(folder).includes('x.safetensors'), 'not there before it is whole');
    sink.write('a', 0, a.subarray(0, 4));
    sink.finish();
    assert.equal(readdirSync(folder), ['x.safetensors']);
    const whole = encodeSafetensors([{ ...tensors[0]!, data: b }, { ...tensors[1]!, data: a }], { k: 'v' }); // prettier-ignore
    assert.equal(new Uint8Array(readFileSync(path)), whole);
    sink.abort();
    throwsCode(() => sink.write('a', 0, a), 'ERR_DISPOSED');
    assert.equal(readdirSync(folder), ['x.safetensors'], 'abort behind finish does nothing');
  }));

test('given up, the old file stays', () =>
  inFolder((folder) => {
    const path = join(folder, 'x.safetensors');
    writeFileSync(path, 'old');
    const sink = new SafetensorsSink(path, tensors);
    sink.write('a', 0, a);
    sink.abort();
    sink.abort();
    assert.is(readFileSync(path, 'utf8'), 'old');
    assert.equal(readdirSync(folder), ['x.safetensors']);
    for (const write of [
      (s: SafetensorsSink) => s.write('a', 5, a),
      (s: SafetensorsSink) => s.write('a', -1, a),
      (s: SafetensorsSink) => s.write('nothing', 0, a),
    ]) {
      const other = new SafetensorsSink(path, tensors);
      throwsCode(() => write(other), 'ERR_SHAPE', 'x.safetensors');
      assert.equal(readdirSync(folder), ['x.safetensors']);
    }
    assert.is(readFileSync(path, 'utf8'), 'old');
  }));

test('a link keeps pointing; folders and devices are refused', () =>
  inFolder((folder) => {
    writeFileSync(join(folder, 'real'), 'old');
    symlinkSync('real', join(folder, 'link'));
    const sink = new SafetensorsSink(join(folder, 'link'), [{ name: 'b', dtype: 'U8', shape: [2] }]);
    sink.write('b', 0, b);
    sink.finish();
    assert.equal([...readFileSync(join(folder, 'real')).subarray(-2)], [7, 8]);
    mkdirSync(join(folder, 'sub'));
    throwsCode(() => new SafetensorsSink(join(folder, 'sub'), tensors), 'ERR_FILE', 'a folder');
    throwsCode(() => new SafetensorsSink('/dev/null', tensors), 'ERR_FILE', 'device');
    throwsCode(() => new SafetensorsSink(join(folder, 'no', 'x'), tensors), 'ERR_FILE');
    throwsCode(() => new SafetensorsSink(join(folder, 'x'), [tensors[0]!, tensors[0]!]), 'ERR_ARGS');
  }));

test.run();
