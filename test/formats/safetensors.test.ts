import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile, encodeSafetensors, parseSafetensors, writeSafetensors } from '../../src/formats/safetensors.js';
import { throwsCode } from '../support/errors.js';

const dir = mkdtempSync(join(tmpdir(), 'theia-'));
test.after(() => rmSync(dir, { recursive: true, force: true }));

/** A file from header text and a number of data bytes. */
function raw(header: string, data: number | Uint8Array = 0, length?: bigint): Uint8Array {
  const text = Buffer.from(header);
  const bytes = typeof data === 'number' ? new Uint8Array(data) : data;
  const out = new Uint8Array(8 + text.length + bytes.length);
  new DataView(out.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  out.set(text, 8);
  out.set(bytes, 8 + text.length);
  return out;
}

const tensor = (dtype: string, shape: string, offsets: string): string => `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const corrupt = (bytes: Uint8Array, ...parts: string[]): void => {
  throwsCode(() => parseSafetensors(bytes, 'in.tar/k.safetensors'), 'ERR_CORRUPT', 'in.tar/k.safetensors', ...parts);
};

test('what is written comes back, from a file and from memory', () => {
  const path = join(dir, 'round.safetensors');
  const a = Float32Array.of(1, -2.5, 3e-30, Infinity, -0, 0);
  const tensors = [
    { name: 'odd', dtype: 'U8' as const, shape: [3], data: Uint8Array.of(1, 2, 255) },
    { name: 'a/b.c', dtype: 'F32' as const, shape: [2, 3], data: a },
    { name: '__proto__', dtype: 'F64' as const, shape: [], data: Float64Array.of(0.1) },
    { name: 'empty', dtype: 'I64' as const, shape: [0, 7], data: new BigInt64Array(0) },
  ];
  writeSafetensors(
    path,
    tensors,
    new Map([
      ['format', 'pt'],
      ['__proto__', 'x "é'],
    ]),
    { fsync: true },
  );
  const bytes = new Uint8Array(readFileSync(path));
  assert.equal(
    bytes,
    encodeSafetensors(
      tensors,
      new Map([
        ['format', 'pt'],
        ['__proto__', 'x "é'],
      ]),
    ),
  );
  assert.equal(
    readdirSync(dir).filter((f) => f.includes('tmp')),
    [],
  );
  assert.is(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8, 0);

  const file = SafetensorsFile.open(path);
  for (const st of [file, parseSafetensors(bytes.subarray(), 'memory')]) {
    assert.equal(st.names(), ['__proto__', 'empty', 'a/b.c', 'odd']);
    assert.equal(
      [...st.metadata],
      [
        ['format', 'pt'],
        ['__proto__', 'x "é'],
      ],
    );
    assert.ok(st.has('odd') && !st.has('toString'));
    assert.equal(st.info('a/b.c'), { name: 'a/b.c', dtype: 'F32', shape: [2, 3], begin: 8, end: 32 });
    assert.equal(st.float32('a/b.c'), a);
    assert.equal([...st.float32('__proto__')], [Math.fround(0.1)]);
    assert.equal([...st.bytes('odd')], [1, 2, 255]);
    assert.is(st.bytes('odd').byteOffset % 8, 0);
    assert.is(st.float32('empty').length, 0);
  }
  throwsCode(() => file.info('nope'), 'ERR_CORRUPT', path, '"nope"');
  file.close();
  file.close();
  throwsCode(() => file.bytes('odd'), 'ERR_DISPOSED', path);
  const kept = SafetensorsFile.open(path);
  kept[Symbol.dispose]();
  throwsCode(() => kept.float32('odd'), 'ERR_DISPOSED');
});

test('every dtype becomes float32, exact or rounded to nearest', () => {
  const big = (1n << 60n) + (1n << 36n); // halfway between two float32: ties to even
  const st = parseSafetensors(
    encodeSafetensors([
      { name: 'F64', dtype: 'F64', shape: [2], data: Float64Array.of(1 / 3, 1e300) },
      { name: 'F16', dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0x0001) },
      { name: 'BF16', dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc000) },
      { name: 'I64', dtype: 'I64', shape: [5], data: BigInt64Array.of(-3n, big, big + 1n, -big - 1n, -(1n << 63n)) },
      { name: 'I32', dtype: 'I32', shape: [2], data: Int32Array.of(-7, 0x7fffffff) },
      { name: 'I16', dtype: 'I16', shape: [1], data: Int16Array.of(-32768) },
      { name: 'I8', dtype: 'I8', shape: [1], data: Int8Array.of(-128) },
      { name: 'U8', dtype: 'U8', shape: [1], data: Uint8Array.of(200) },
      { name: 'BOOL', dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) },
    ]),
    'm',
  );
  const up = 2 ** 60 + 2 ** 37;
  const expected: Record<string, number[]> = {
    F64: [Math.fround(1 / 3), Infinity],
    F16: [1, 2 ** -24],
    BF16: [1, -2],
    I64: [-3, 2 ** 60, up, -up, -(2 ** 63)],
    I32: [-7, 2 ** 31],
    I16: [-32768],
    I8: [-128],
    U8: [200],
    BOOL: [0, 1],
  };
  for (const name of st.names()) assert.equal([...st.float32(name)], expected[name], name);
});

test('data beyond 2 GiB is reached (a sparse file)', () => {
  const path = join(dir, 'large.safetensors');
  const gap = 2 ** 31 + 4096;
  const header = `{"gap":${tensor('U8', `[${gap}]`, `[0,${gap}]`)},"x":${tensor('F32', '[2]', `[${gap},${gap + 8}]`)}}`;
  const head = raw(header);
  const fd = openSync(path, 'w');
  writeSync(fd, head);
  ftruncateSync(fd, head.length + gap);
  writeSync(fd, Float32Array.of(5, 6), 0, 8, head.length + gap);
  closeSync(fd);
  const file = SafetensorsFile.open(path);
  assert.equal([...file.float32('x')], [5, 6]);
  file.close();
  rmSync(path);
});

test('lengths: short files, a header longer than the file or than 100 MB', () => {
  corrupt(new Uint8Array(7), '7');
  corrupt(raw('{}', 0, 3n), 'whole file has 10');
  corrupt(raw('{}', 0, 100_000_001n), '100000001');
  corrupt(raw('{}', 0, (1n << 64n) - 1n), '18446744073709551615');
  corrupt(raw('{}', 0, 1n << 63n));
});

test('headers that are not the JSON of a header', () => {
  for (const text of [
    '',
    ' {}',
    '[]',
    '{',
    '{"a"}',
    '{} x',
    '{"a":01}',
    '{"a":nul}',
    '{"a":"\\x"}',
    '{"a":"\n"}',
    "{'a':1}",
    '{"a":1,}',
    '{"a":[1,]}',
    '﻿{}',
  ]) {
    corrupt(raw(text));
  }
  corrupt(raw('{"' + '\\'));
  corrupt(new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff]), 'UTF-8');
  corrupt(raw('{"a":' + '['.repeat(100_000)), 'levels');
  corrupt(raw('{"a":1}'), '"a"');
  corrupt(raw('{"__metadata__":{"k":1}}'), '__metadata__', '"k"');
  corrupt(raw('{"__metadata__":[]}'), '__metadata__');
  assert.equal(parseSafetensors(raw('{}   '), 'm').names(), []);
});

test('doubled keys are found and named, at every level', () => {
  const one = tensor('U8', '[1]', '[0,1]');
  corrupt(raw(`{"x":${one},"x":${one}}`, 1), '"x"', 'twice');
  corrupt(raw(`{"x":${one},"\\u0078":${one}}`, 1), '"x"', 'twice');
  corrupt(raw(`{"__proto__":${one},"__proto__":${one}}`, 1), '"__proto__"', 'twice');
  corrupt(raw('{"x":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,1]}}', 1), '"dtype"', 'twice');
  corrupt(raw('{"__metadata__":{"k":"1","k":"2"}}'), '"k"', 'twice');
});

test('dtypes: unknown ones are named, known ones that are not read are unsupported', () => {
  corrupt(raw(`{"w":${tensor('F99', '[1]', '[0,4]')}}`, 4), '"w"', '"F99"');
  corrupt(raw(`{"w":${tensor('__proto__', '[1]', '[0,4]')}}`, 4), '"w"', '__proto__');
  corrupt(raw('{"w":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}', 4), '"w"', 'dtype');
  corrupt(raw('{"w":{"shape":[1],"data_offsets":[0,4]}}', 4), '"w"', 'dtype');
  corrupt(raw('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}', 4), '"w"', '"more"');
  throwsCode(() => parseSafetensors(raw(`{"w":${tensor('F8_E4M3', '[1]', '[0,1]')}}`, 1), 'f'), 'ERR_UNSUPPORTED', 'f', '"w"', 'F8_E4M3');
});

test('shapes: product overflow, negative, fractional, wrong length', () => {
  for (const shape of [
    '[-1]',
    '[1.5]',
    '["1"]',
    '[null]',
    '[1e300]',
    '[4294967296,4294967296]',
    '[9007199254740993]',
    '[3037000500,3037000500]',
    '4',
    '{}',
  ]) {
    corrupt(raw(`{"w":${tensor('F32', shape, '[0,4]')}}`, 4), '"w"', 'shape');
  }
  corrupt(raw(`{"w":${tensor('F32', '[2]', '[0,4]')}}`, 4), '"w"', '8 bytes');
  corrupt(raw(`{"w":${tensor('F32', '[4611686018427387904,4]', '[0,0]')}}`), '"w"');
  corrupt(raw(`{"w":${tensor('F64', '[2251799813685248]', '[0,0]')}}`), '"w"');
});

test('offsets: outside, reversed, overlapping, holes, a tail', () => {
  for (const offsets of ['[0,8]', '[-4,0]', '[4,0]', '[0.5,4.5]', '[0]', '[0,4,8]', '["0","4"]', '[1e308,1e309]', '3']) {
    corrupt(raw(`{"w":${tensor('F32', '[1]', offsets)}}`, 4), '"w"', 'data_offsets');
  }
  const two = (a: string, b: string): string => `{"a":${tensor('F32', '[1]', a)},"b":${tensor('F32', '[1]', b)}}`;
  corrupt(raw(two('[0,4]', '[2,6]'), 6), '"b"', '"a"', 'overlaps');
  corrupt(raw(two('[0,4]', '[0,4]'), 4), 'overlaps');
  corrupt(raw(two('[0,4]', '[8,12]'), 12), '"b"', 'no tensor');
  corrupt(raw(two('[0,4]', '[4,8]'), 9), '9 bytes');
});

test('files: missing, a folder, cut while open, a detached buffer', () => {
  throwsCode(() => SafetensorsFile.open(join(dir, 'none.safetensors')), 'ERR_FILE', 'none.safetensors');
  throwsCode(() => SafetensorsFile.open(dir), 'ERR_FILE', 'folder');
  throwsCode(() => SafetensorsFile.open('/dev/zero'), 'ERR_FILE', '/dev/zero');
  const path = join(dir, 'cut.safetensors');
  writeSafetensors(path, [{ name: 'x', dtype: 'F32', shape: [64], data: new Float32Array(64) }]);
  const file = SafetensorsFile.open(path);
  const fd = openSync(path, 'r+');
  ftruncateSync(fd, 100);
  closeSync(fd);
  throwsCode(() => file.bytes('x'), 'ERR_CORRUPT', path, '"x"');
  file.close();
  const whole = encodeSafetensors([{ name: 'x', dtype: 'F32', shape: [2], data: new Float32Array(2) }]);
  const st = parseSafetensors(whole, 'mem');
  structuredClone(whole.buffer, { transfer: [whole.buffer as ArrayBuffer] });
  throwsCode(() => st.bytes('x'), 'ERR_CORRUPT', 'mem', '"x"');
});

test('every cut and many flipped bytes of a file: an error with a code or the same tensors, never anything else', () => {
  const whole = encodeSafetensors([
    { name: 'x', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
    { name: 'y', dtype: 'BF16', shape: [3], data: new Uint16Array(3) },
  ]);
  for (let n = 0; n < whole.length; n++) corrupt(whole.slice(0, n));
  for (let at = 0; at < whole.length; at++) {
    for (const flip of [1, 4, 0x20, 0x80, 0xff]) {
      const bad = whole.slice();
      bad[at] ^= flip;
      try {
        const st = parseSafetensors(bad, 'bad');
        for (const name of st.names()) st.float32(name);
      } catch (error) {
        assert.match(String((error as { code?: string }).code), /^ERR_(CORRUPT|UNSUPPORTED)$/);
      }
    }
  }
});

test('writing: wrong arguments, no folder, a full disk; the old file stays', () => {
  const path = join(dir, 'kept.safetensors');
  const x = { name: 'x', dtype: 'F32' as const, shape: [1], data: Float32Array.of(9) };
  writeSafetensors(path, [x]);
  throwsCode(() => writeSafetensors(path, [x, x]), 'ERR_ARGS', path, '"x"');
  throwsCode(() => writeSafetensors(path, [{ ...x, name: '__metadata__' }]), 'ERR_ARGS', '__metadata__');
  throwsCode(() => writeSafetensors(path, [{ ...x, shape: [2] }]), 'ERR_SHAPE', path, '"x"', '8');
  throwsCode(() => writeSafetensors(path, [{ ...x, shape: [-1] }]), 'ERR_SHAPE', '"x"');
  throwsCode(() => encodeSafetensors([{ ...x, dtype: 'F8' as 'F32' }]), 'ERR_DTYPE', '"x"', 'F8');
  const failing = {
    ...x,
    name: 'late',
    data: (): Float32Array => {
      throw new RangeError('no');
    },
  };
  assert.throws(() => writeSafetensors(path, [x, failing]));
  throwsCode(() => writeSafetensors(join(dir, 'no', 'where.safetensors'), [x]), 'ERR_FILE', 'where.safetensors');
  mkdirSync(join(dir, 'folder'));
  throwsCode(() => writeSafetensors(join(dir, 'folder'), [x]), 'ERR_FILE', 'folder');
  if (existsSync('/dev/full')) throwsCode(() => writeSafetensors('/dev/full', [x]), 'ERR_DISK', '/dev/full');
  const file = SafetensorsFile.open(path);
  assert.equal([...file.float32('x')], [9]);
  file.close();
  assert.equal(
    readdirSync(dir).filter((f) => f.includes('.tmp')),
    [],
  );
  writeFileSync(join(dir, 'lazy'), '');
  let asked = 0;
  writeSafetensors(join(dir, 'lazy'), [{ ...x, data: () => (asked++, Float32Array.of(3)) }]);
  assert.is(asked, 1);
});

test.run();
