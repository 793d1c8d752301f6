import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ErrorCode } from '../../src/errors.js';
import { openTfjsWeights } from '../../src/formats/tfjs.js';
import { throwsCode } from '../support/errors.js';

const root = mkdtempSync(join(tmpdir(), 'theia-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;

/** A model folder from the text or content of model.json and its shards. */
function model(json: unknown, shards: Record<string, Uint8Array> = {}): string {
  const folder = join(root, String(count++));
  mkdirSync(join(folder, 'sub'), { recursive: true });
  writeFileSync(join(folder, 'model.json'), typeof json === 'string' ? json : JSON.stringify(json));
  for (const [name, bytes] of Object.entries(shards)) writeFileSync(join(folder, name), bytes);
  return folder;
}

const weight = (name: string, shape: unknown, dtype = 'float32', more: object = {}): object => ({ name, shape, dtype, ...more });
const bytesOf = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
function fails(code: ErrorCode, weights: unknown, paths: unknown, ...parts: string[]): void {
  const folder = model({ weightsManifest: [{ paths, weights }] }, { a: bytesOf(1, 2) });
  throwsCode(() => openTfjsWeights(folder), code, folder, ...parts);
}

test('weights across shards, groups, int32, scalars and the topology', () => {
  const all = bytesOf(1, 2, 3, 4, 5);
  const folder = model(
    {
      format: 'layers-model',
      modelTopology: { layers: [{ class_name: 'Conv2D' }] },
      weightsManifest: [
        { paths: ['s1', 'sub/s2', 'empty'], weights: [weight('conv/kernel', [2, 2]), weight('conv/bias', []), weight('none', [0])] },
        { paths: ['s3'], weights: [weight('__proto__', [2], 'int32')] },
      ],
    },
    { s1: all.slice(0, 6), 'sub/s2': all.slice(6), empty: new Uint8Array(0), s3: new Uint8Array(Int32Array.of(-1, 16777217).buffer) },
  );
  const weights = openTfjsWeights(folder);
  assert.equal(weights.names(), ['conv/kernel', 'conv/bias', 'none', '__proto__']);
  assert.equal([...weights.float32('conv/kernel')], [1, 2, 3, 4]);
  assert.equal([...weights.float32('conv/bias')], [5]);
  assert.equal([...weights.float32('none')], []);
  assert.equal([...weights.float32('__proto__')], [-1, 16777216]);
  assert.equal(weights.info('conv/kernel'), { name: 'conv/kernel', dtype: 'float32', shape: [2, 2] });
  assert.equal(weights.topology, { layers: [{ class_name: 'Conv2D' }] });
  assert.ok(weights.has('none') && !weights.has('toString'));
  throwsCode(() => weights.float32('nope'), 'ERR_CORRUPT', folder, '"nope"');
  writeFileSync(join(folder, 's1'), new Uint8Array(1));
  throwsCode(() => weights.float32('conv/kernel'), 'ERR_CORRUPT', 's1', '"conv/kernel"');
});

test('shards may not leave the folder', () => {
  for (const path of [
    '/etc/hosts',
    '../0/a',
    'sub/../../x',
    '..',
    '\\x',
    'sub\\..\\x',
    'file:///etc/hosts',
    'https://x/y',
    'C:\\x',
    'a\0b',
    '',
    7,
    null,
  ]) {
    fails('ERR_CORRUPT', [weight('w', [2])], [path], 'shard');
  }
});

test('sizes must add up', () => {
  fails('ERR_CORRUPT', [weight('w', [3])], ['a'], '"w"', '12');
  fails('ERR_CORRUPT', [weight('w', [1])], ['a'], '"w"', '8 bytes');
  fails('ERR_CORRUPT', [weight('w', [2]), weight('v', [1])], ['a'], '"v"');
  fails('ERR_CORRUPT', [weight('w', [1]), weight('w', [1])], ['a'], '"w"', 'twice');
  for (const shape of [[-1], [0.5], ['2'], [2 ** 40, 2 ** 40], [2 ** 52], null, 2])
    fails('ERR_CORRUPT', [weight('w', shape)], ['a'], '"w"', 'shape');
});

test('what is not read is unsupported and named', () => {
  fails('ERR_UNSUPPORTED', [weight('q', [2], 'float32', { quantization: { dtype: 'uint8', min: 0, scale: 1 } })], ['a'], '"q"', 'uint8');
  fails('ERR_UNSUPPORTED', [weight('q', [2], 'float32', { quantization: null })], ['a'], '"q"', 'quantized');
  for (const dtype of ['bool', 'string', 'uint8', 'complex64']) fails('ERR_UNSUPPORTED', [weight('w', [2], dtype)], ['a'], '"w"', dtype);
});

test('malformed and missing files', () => {
  fails('ERR_CORRUPT', [{ shape: [2], dtype: 'float32' }], ['a'], 'name');
  fails('ERR_CORRUPT', [{ name: 'w', shape: [2] }], ['a'], '"w"', 'dtype');
  fails('ERR_CORRUPT', {}, ['a'], 'weights');
  fails('ERR_CORRUPT', [], 'a', 'paths');
  fails('ERR_FILE', [weight('w', [2])], ['gone'], 'gone');
  fails('ERR_FILE', [weight('w', [2])], ['sub'], 'sub', 'folder');
  for (const text of [
    '',
    '{',
    '[]',
    '{}',
    '{"weightsManifest":{}}',
    '{"weightsManifest":[1]}',
    '{"weightsManifest":[],"weightsManifest":[]}',
  ]) {
    const folder = model(text);
    throwsCode(() => openTfjsWeights(folder), 'ERR_CORRUPT', join(folder, 'model.json'));
  }
  throwsCode(() => openTfjsWeights(join(root, 'none')), 'ERR_FILE', 'model.json');
});

test.run();
