import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TarWriter, indexTar, readMember } from '../../src/formats/tar.js';
import { throwsCode } from '../support/errors.js';

const dir = mkdtempSync(join(tmpdir(), 'theia-'));
test.after(() => rmSync(dir, { recursive: true, force: true }));
const path = join(dir, 'shard.tar');

interface Fields {
  type?: string;
  size?: string | Uint8Array;
  declared?: number;
  magic?: string;
  prefix?: string;
  checksum?: number;
}

/** One member as raw blocks, with any field forged; the checksum is right unless given. */
function member(name: string, data: string | Uint8Array = '', fields: Fields = {}): Buffer {
  const bytes = Buffer.from(data);
  const block = Buffer.alloc(512);
  block.write(name, 0, 'utf8');
  block.write('0000644\0', 100);
  const size = fields.size ?? `${(fields.declared ?? bytes.length).toString(8).padStart(11, '0')}\0`;
  block.set(Buffer.from(size), 124);
  block.write(fields.type ?? '0', 156, 'latin1');
  block.write(fields.magic ?? 'ustar\x0000', 257, 'latin1');
  block.write(fields.prefix ?? '', 345);
  block.fill(' ', 148, 156);
  const sum = fields.checksum ?? block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([block, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

const END = Buffer.alloc(1024);
const pax = (key: string, value: string): string => {
  const rest = ` ${key}=${value}\n`;
  let n = Buffer.byteLength(rest);
  while (Buffer.byteLength(`${n}${rest}`) !== n) n++;
  return `${n}${rest}`;
};
const archive = (...parts: Uint8Array[]): string => (writeFileSync(path, Buffer.concat(parts)), path);
const corrupt = (parts: Uint8Array[], ...words: string[]): void => {
  throwsCode(() => indexTar(archive(...parts)), 'ERR_CORRUPT', path, ...words);
};
const names = (...parts: Uint8Array[]): string[] => indexTar(archive(...parts)).map((m) => m.name);
function contents(): string[] {
  const fd = openSync(path, 'r');
  const all = indexTar(path).map((m) => `${m.name}=${Buffer.from(readMember(fd, m, path)).toString()}`);
  closeSync(fd);
  return all;
}

test('what is written comes back; the same members give the same bytes', () => {
  const long = `${'d/'.repeat(60)}file.image`;
  const members: [string, Uint8Array][] = [
    ['a.image', Buffer.from('hello')],
    ['empty', new Uint8Array(0)],
    [long, Buffer.alloc(512, 'x')],
    ['ключ.image', Buffer.alloc(513, 'y')],
    ['n'.repeat(100), Buffer.from('z')],
  ];
  const write = (): Buffer => {
    const writer = TarWriter.create(path);
    const placed = members.map(([name, bytes]) => writer.add(name, bytes));
    writer.finish({ fsync: true });
    assert.equal(indexTar(path), placed);
    assert.is(readFileSync(path).length, writer.size);
    throwsCode(() => writer.add('late', new Uint8Array(1)), 'ERR_DISPOSED', path);
    writer.close();
    return readFileSync(path);
  };
  const first = write();
  assert.equal(
    contents(),
    members.map(([name, bytes]) => `${name}=${Buffer.from(bytes).toString()}`),
  );
  assert.ok(first.equals(write()));
  assert.is(first.length % 512, 0);
});

test('an archive can be appended to a file descriptor of the caller', () => {
  const fd = openSync(path, 'w');
  const writer = new TarWriter(fd, path);
  writer.add('x', Buffer.from('1'));
  writer.finish();
  closeSync(fd); // throws if finish closed it
  assert.equal(contents(), ['x=1']);
});

test('plain, ustar prefix, GNU and v7 headers; folders are skipped; ./ is dropped', () => {
  archive(
    member('./', '', { type: '5' }),
    member('./a.image', 'A'),
    member('sub/', '', { type: '5' }),
    member('old/', '', { type: '\0', magic: '' }),
    member('v7.txt', 'V', { type: '\0', magic: '' }),
    member('name', 'P', { prefix: 'pre/fix' }),
    member('gnu', 'G', { magic: 'ustar  \0', prefix: 'junk' }),
    member('././twice', 'T', { type: '7' }),
    END,
  );
  assert.equal(contents(), ['a.image=A', 'v7.txt=V', 'pre/fix/name=P', 'gnu=G', 'twice=T']);
});

test('GNU long names, PAX names and sizes, binary sizes, global PAX comments', () => {
  const long = 'L'.repeat(300);
  const binary = Buffer.alloc(12);
  binary[0] = 0x80;
  binary[11] = 3;
  archive(
    member('pax_global_header', pax('comment', 'abc'), { type: 'g' }),
    member('././@LongLink', `./${long}\0`, { type: 'L' }),
    member('cut', '1', {}),
    member('PaxHeader/x', pax('mtime', '1.5') + pax('path', './päx/name'), { type: 'x' }),
    member('cut', '22'),
    member('PaxHeader/x', pax('size', '4'), { type: 'x' }),
    member('sized', '4444', { declared: 0 }),
    member('after', '333', { size: binary }),
    END,
  );
  assert.equal(contents(), [`${long}=1`, 'päx/name=22', 'sized=4444', 'after=333']);
});

test('the end: two zero blocks, none at a member boundary, never a cut', () => {
  const a = member('a', 'A');
  assert.equal(names(a, END, Buffer.from('ignored behind the end')), ['a']);
  assert.equal(names(a), ['a']);
  assert.equal(names(a, Buffer.alloc(512)), ['a']);
  assert.equal(names(END), []);
  corrupt([], 'empty');
  corrupt([a, Buffer.alloc(512), member('hidden', 'B')], '"a"', 'zero block');
  const b = member('b', 'B'.repeat(600));
  for (const keep of [1, 511, 513, 1024, 1111, 1535]) corrupt([a, b.subarray(0, keep)], keep < 512 ? '"a"' : '"b"');
  corrupt([a, member('p', pax('path', 'x'), { type: 'x' })], 'cut');
  corrupt([a, member('p', 'x\0', { type: 'L' }), END], 'cut');
});

test('links, devices, fifos, sparse and unknown types name the member', () => {
  for (const [type, word] of Object.entries({
    1: 'hard link',
    2: 'symbolic link',
    3: 'character device',
    4: 'block device',
    6: 'fifo',
    S: 'sparse',
    M: 'volume',
    D: 'dump',
  })) {
    corrupt([member('good', '1'), member('evil.image', '', { type }), END], '"evil.image"', word);
  }
  corrupt([member('evil.image', '', { type: 'Z' }), END], '"evil.image"', '"Z"');
  corrupt([member('K', 'target\0', { type: 'K' }), member('evil', '', { type: '2' }), END], '"evil"', 'symbolic link');
  for (const key of ['GNU.sparse.major', 'GNU.sparse.map', 'GNU.sparse.name']) {
    corrupt([member('first', '1'), member('p', pax(key, '1'), { type: 'x' }), member('evil', '1'), END], '"evil"', key, 'sparse');
  }
  corrupt([member('g', pax('GNU.sparse.major', '1'), { type: 'g' }), END], 'sparse');
  corrupt([member('dir/', 'data', { type: '5' }), END], '"dir/"', 'folder');
});

test('absolute names and .. are refused however they are spelt', () => {
  for (const name of ['/etc/passwd', '..', '../x', 'a/../../x', 'a/..', './../x', './/etc/x', 'a\\..\\x', 'C:\\x', '\\x']) {
    if (name === './/etc/x') assert.equal(names(member(name, '1'), END), ['etc/x']);
    else corrupt([member(name, '1'), END], JSON.stringify(name));
    if (name === './/etc/x') continue;
    corrupt([member('p', pax('path', name), { type: 'x' }), member('ok', '1'), END], JSON.stringify(name));
    corrupt([member('l', `${name}\0`, { type: 'L' }), member('ok', '1'), END], JSON.stringify(name));
  }
  corrupt([member('/', '', { type: '5' }), END], 'absolute');
  corrupt([member('x/../', '', { type: '5' }), END], '..');
  corrupt([member('', '1'), END], 'empty');
  corrupt([member('p', pax('path', 'a\0b'), { type: 'x' }), member('ok', '1'), END], 'NUL');
  corrupt([member('g', pax('path', 'all'), { type: 'g' }), member('ok', '1'), END], 'global');
});

test('sizes beyond the file, negative, not numbers; wrong checksums', () => {
  corrupt([member('big', '1', { declared: 4096 }), END], '"big"', '4096');
  corrupt([member('big', '1', { size: '77777777777\0' }), END], '"big"');
  corrupt([member('neg', '1', { size: Buffer.alloc(12, 0xff) }), END], '"neg"', 'size');
  corrupt([member('huge', '1', { size: Buffer.from('80ffffffffffffffffffffff', 'hex') }), END], '"huge"', 'size');
  corrupt([member('text', '1', { size: '-0000000001\0' }), END], '"text"', 'size');
  corrupt([member('text', '1', { size: '00000000009\0' }), END], '"text"', 'size');
  corrupt([member('p', pax('size', '99999999'), { type: 'x' }), member('far', '1'), END], '"far"', '99999999');
  for (const size of ['-1', '1e3', '99999999999999999999', '0x10']) {
    corrupt([member('p', pax('size', size), { type: 'x' }), member('far', '1'), END], size);
  }
  corrupt([member('sum', '1', { checksum: 1 }), END], '"sum"', 'checksum');
  corrupt([Buffer.alloc(512, 'not a tar file. '), END], 'checksum');
  corrupt([member('l', 'x', { type: 'L', declared: 2 ** 21 }), Buffer.alloc(2 ** 21), END], '2097152');
});

test('malformed PAX records', () => {
  for (const text of [
    'x',
    '5 a=b\n',
    '6 a=bc',
    '0 a=b\n',
    '-6 a=b\n',
    '6 a b\n',
    '5 =b\n',
    '99999999999999 a=b\n',
    '3 \n',
    '100 a=b\n',
    '06 a=b\n',
    '6',
  ]) {
    corrupt([member('p', text, { type: 'x' }), member('m', '1'), END], 'PAX');
  }
  corrupt([member('p', Buffer.from('6 a=\xff\n', 'latin1'), { type: 'x' }), member('m', '1'), END], 'UTF-8');
});

test('files: missing, a folder, cut after indexing; a wrong name or a full disk when writing', () => {
  throwsCode(() => indexTar(join(dir, 'none.tar')), 'ERR_FILE', 'none.tar');
  throwsCode(() => indexTar(dir), 'ERR_FILE', dir);
  const [m] = indexTar(archive(member('a', 'AAAA'), END));
  truncateSync(path, 514);
  const fd = openSync(path, 'r');
  throwsCode(() => readMember(fd, m, path), 'ERR_CORRUPT', path, '"a"');
  closeSync(fd);
  throwsCode(() => readMember(fd, m, path), 'ERR_FILE', path, '"a"');
  throwsCode(() => TarWriter.create(join(dir, 'no', 'x.tar')), 'ERR_FILE', 'x.tar');
  const writer = TarWriter.create(path);
  for (const name of ['', '/x', '../x', './x', 'x/', 'a\0b'])
    throwsCode(() => writer.add(name, new Uint8Array(1)), 'ERR_ARGS', JSON.stringify(name));
  writer.close();
  if (existsSync('/dev/full')) {
    const full = TarWriter.create('/dev/full');
    throwsCode(() => full.add('x', new Uint8Array(1)), 'ERR_DISK', '/dev/full');
    full.close();
  }
});

test('flipped bytes give the members, other members or an error with a code', () => {
  const whole = Buffer.concat([member('p', pax('path', 'long/name') + pax('size', '3'), { type: 'x' }), member('a', 'abc'), END]);
  for (let at = 0; at < 1600; at++) {
    for (const flip of [1, 0x10, 0x80, 0xff]) {
      const bad = Buffer.from(whole);
      bad[at] ^= flip;
      try {
        archive(bad);
        contents();
      } catch (error) {
        assert.is((error as { code?: string }).code, 'ERR_CORRUPT', String(error));
      }
    }
  }
});

test.run();
