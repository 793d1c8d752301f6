import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeNpy, npyFloat32, parseNpy, readNpy, writeNpy, type NpyData, type NpyDtype } from '../../src/formats/npy.js';
import { throwsCode } from '../support/errors.js';

const dir = mkdtempSync(join(tmpdir(), 'theia-'));
test.after(() => rmSync(dir, { recursive: true, force: true }));

/** A file from header text, data bytes and a version. */
function raw(header: string, data: ArrayLike<number> = [], version = 1, length?: number): Uint8Array {
  const text = Buffer.from(header, version === 3 ? 'utf8' : 'latin1');
  const head = Buffer.alloc(version === 1 ? 10 : 12);
  head.write('\x93NUMPY', 'latin1');
  head[6] = version;
  if (version === 1) head.writeUInt16LE(length ?? text.length, 8);
  else head.writeUInt32LE(length ?? text.length, 8);
  return new Uint8Array(Buffer.concat([head, text, Uint8Array.from(data)]));
}

const dict = (descr: string, shape: string, fortran = 'False'): string =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;
const corrupt = (bytes: Uint8Array, ...parts: string[]): void => {
  throwsCode(() => parseNpy(bytes, 'shard.tar/a.image'), 'ERR_CORRUPT', 'shard.tar/a.image', ...parts);
};

test('every dtype round-trips through a file', () => {
  const cases: [NpyData, NpyDtype][] = [
    [Uint8Array.of(0, 255), '|u1'],
    [Int8Array.of(-128, 127), '|i1'],
    [Uint16Array.of(1, 65535), '<u2'],
    [Int16Array.of(-2, 3), '<i2'],
    [Uint32Array.of(4, 2 ** 32 - 1), '<u4'],
    [Int32Array.of(-4, 5), '<i4'],
    [BigUint64Array.of(6n, 2n ** 64n - 1n), '<u8'],
    [BigInt64Array.of(-6n, 7n), '<i8'],
    [Float32Array.of(1.5, -Infinity), '<f4'],
    [Float64Array.of(0.1, 1e300), '<f8'],
    [Uint16Array.of(0x3c00, 0xc000), '<f2'],
    [Uint8Array.of(0, 1), '|b1'],
  ];
  for (const [data, dtype] of cases) {
    const path = join(dir, 'x.npy');
    writeNpy(path, data, [1, 2, 1], dtype);
    assert.equal(readNpy(path), { dtype, shape: [1, 2, 1], data });
    assert.equal(parseNpy(encodeNpy(data, [2], dtype), 'm'), { dtype, shape: [2], data });
  }
});

test('the bytes are those numpy writes', () => {
  // numpy.save of numpy.array([[1, 2], [3, 4]], '<f4'), numpy 2.2
  const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
  const expected = Buffer.concat([
    Buffer.from('\x93NUMPY\x01\x00\x76\x00', 'latin1'),
    Buffer.from(header.padEnd(117) + '\n', 'latin1'),
    Buffer.from('0000803f000000400000404000008040', 'hex'),
  ]);
  assert.equal(Buffer.from(encodeNpy(Float32Array.of(1, 2, 3, 4), [2, 2])).toString('hex'), expected.toString('hex'));
  assert.match(Buffer.from(encodeNpy(Uint8Array.of(1), [1])).toString('latin1'), "'shape': (1,), }");
  assert.match(Buffer.from(encodeNpy(Uint8Array.of(1), [])).toString('latin1'), "'shape': (), }");
});

test('Fortran order and big-endian are converted', () => {
  // numpy.asfortranarray(numpy.arange(24).reshape(2, 3, 4)): the first index runs fastest
  const stored: number[] = [];
  for (let c = 0; c < 4; c++) for (let b = 0; b < 3; b++) for (let a = 0; a < 2; a++) stored.push(a * 12 + b * 4 + c);
  const expected = Array.from({ length: 24 }, (_, i) => i);
  assert.equal([...(parseNpy(raw(dict('|u1', '(2, 3, 4)', 'True'), stored), 'm').data as Uint8Array)], expected);
  const big = new Uint8Array(24 * 4);
  stored.forEach((v, i) => new DataView(big.buffer).setFloat32(i * 4, v, false));
  const array = parseNpy(raw(dict('>f4', '(2, 3, 4)', 'True'), big), 'm');
  assert.equal(array, { dtype: '<f4', shape: [2, 3, 4], data: Float32Array.from(expected) });
  assert.equal(parseNpy(raw(dict('>i2', '(2,)'), [1, 2, 0xff, 0xfe]), 'm').data, Int16Array.of(258, -2));
  assert.equal(parseNpy(raw(dict('>i8', '(1,)'), [0, 0, 0, 0, 0, 0, 1, 0]), 'm').data, BigInt64Array.of(256n));
  assert.equal(parseNpy(raw(dict('=u2', '(1,)', 'True'), [1, 2]), 'm').data, Uint16Array.of(513));
});

test('versions 2 and 3, scalars, empty arrays, Python 2 spellings', () => {
  assert.equal(parseNpy(raw(dict('|u1', '(2,)'), [7, 8], 2), 'm').data, Uint8Array.of(7, 8));
  assert.equal(parseNpy(raw(dict('|u1', '()'), [7], 3), 'm'), { dtype: '|u1', shape: [], data: Uint8Array.of(7) });
  assert.equal(parseNpy(raw(dict('<f4', '(0, 5)', 'True')), 'm').shape, [0, 5]);
  assert.equal(parseNpy(raw('{"shape":(1,2),"fortran_order":False,"descr":"<u1"}', [1, 2]), 'm').shape, [1, 2]);
});

test('values as float32', () => {
  const f = (data: NpyData, dtype?: NpyDtype): number[] => [...npyFloat32(parseNpy(encodeNpy(data, [data.length], dtype), 'm'))];
  assert.equal(f(Uint16Array.of(0x3c00, 0xc000), '<f2'), [1, -2]);
  assert.equal(f(Float64Array.of(0.1)), [Math.fround(0.1)]);
  assert.equal(f(Float32Array.of(0.5)), [0.5]);
  assert.equal(f(BigUint64Array.of((1n << 63n) + (1n << 39n) + 1n)), [2 ** 63 + 2 ** 40]);
  assert.equal(f(Int8Array.of(-3)), [-3]);
});

test('objects are refused, other dtypes are unsupported', () => {
  corrupt(raw(dict('|O', '(1,)'), new Uint8Array(8)), 'object');
  corrupt(raw(dict('O', '(1,)'), new Uint8Array(8)), 'dtype');
  corrupt(raw(dict('|O8', '(1,)'), new Uint8Array(8)), 'object');
  for (const descr of ['<c8', '<U4', '|S3', '<M8[ns]', '<f16', '|V4', '<f3', '<f']) {
    throwsCode(() => parseNpy(raw(dict(descr, '(1,)'), new Uint8Array(8)), 'a.npy'), 'ERR_UNSUPPORTED', 'a.npy', descr);
  }
  const structured = "{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,), }";
  throwsCode(() => parseNpy(raw(structured, new Uint8Array(8)), 'a.npy'), 'ERR_UNSUPPORTED', 'a.npy', 'structured');
});

test('malformed headers', () => {
  corrupt(new Uint8Array(0), '12');
  corrupt(Buffer.from('PK\x03\x04 not a npy file'), 'magic');
  corrupt(raw(dict('|u1', '(1,)'), [1], 4), 'version 4');
  corrupt(raw(dict('|u1', '(1,)'), [1], 0), 'version 0');
  corrupt(raw(dict('|u1', '(1,)'), [1], 1, 60000), '60000');
  corrupt(raw(dict('|u1', '(1,)'), [1], 2, 65537), '65537');
  corrupt(raw(dict('|u1', '(1,)'), [1], 2, 2 ** 32 - 1), '4294967295');
  const good = dict('|u1', '(1,)').trimEnd();
  for (const bad of [
    '',
    '{',
    good.slice(0, -1),
    `${good} x`,
    good.replace('False', 'None'),
    good.replace('False', 'Falsehood'),
    good.replace('(1,)', '(1)'),
    good.replace('(1,)', '1'),
    good.replace('(1,)', '(-1,)'),
    good.replace('(1,)', '(1.0,)'),
    good.replace('(1,)', '(1L,)'),
    good.replace('(1,)', '(,)'),
    good.replace('(1,)', `(${'1,'.repeat(65)})`),
    good.replace('(1,)', '(__import__("os"),)'),
    good.replace("'|u1'", '1'),
    good.replace('shape', 'shapes'),
    good.replace("'shape'", "'__proto__'"),
    good.replace(', }', ", 'shape': (1,), }"),
    "{'descr': '|u1', 'fortran_order': False}",
  ]) {
    corrupt(raw(bad, [1]));
  }
  corrupt(
    raw(dict('|u1', '(1,)'), [1], 3).map((b, i) => (i === 20 ? 0xff : b)),
    'UTF-8',
  );
});

test('the size must match: too short, too long, overflowing products', () => {
  corrupt(raw(dict('<f4', '(3,)'), new Uint8Array(11)), '12 bytes', '11');
  corrupt(raw(dict('<f4', '(3,)'), new Uint8Array(13)), '13');
  corrupt(raw(dict('|u1', '(4294967296, 4294967296)')));
  corrupt(raw(dict('<f8', '(1152921504606847, 16)')));
  corrupt(raw(dict('|u1', '(9999999999999999,)')));
});

test('every cut of a file is an error; missing and unreadable files', () => {
  const whole = encodeNpy(Uint8Array.of(1, 2, 3), [3]);
  for (let n = 0; n < whole.length; n++) corrupt(whole.slice(0, n));
  throwsCode(() => readNpy(join(dir, 'none.npy')), 'ERR_FILE', 'none.npy');
  throwsCode(() => readNpy(dir), 'ERR_FILE', dir);
  const path = join(dir, 'cut.npy');
  writeFileSync(path, whole.slice(0, -1));
  throwsCode(() => readNpy(path), 'ERR_CORRUPT', path);
});

test('writing: shape and dtype must fit, a full disk', () => {
  throwsCode(() => encodeNpy(Uint8Array.of(1, 2), [3]), 'ERR_SHAPE', '[3]', '2');
  throwsCode(() => encodeNpy(Uint8Array.of(1, 2), [-1, -2]), 'ERR_SHAPE');
  throwsCode(() => encodeNpy(Uint8Array.of(1), [1], '<f2'), 'ERR_DTYPE', '<f2');
  throwsCode(() => encodeNpy([1] as unknown as Uint8Array, [1]), 'ERR_DTYPE');
  throwsCode(() => writeNpy(join(dir, 'no', 'x.npy'), Uint8Array.of(1), [1]), 'ERR_FILE', 'x.npy');
  if (existsSync('/dev/full')) throwsCode(() => writeNpy('/dev/full', Uint8Array.of(1), [1]), 'ERR_DISK', '/dev/full');
  writeNpy(join(dir, 'view.npy'), new Float32Array(8).fill(2).subarray(3, 5), [2]);
  assert.is(readFileSync(join(dir, 'view.npy')).length, 128 + 8);
});

test.run();
