import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeNpy, writeNpy } from '../../src/formats/npy.js';
import { openTeacher, parseTeacherSpec } from '../../src/teachers/open.js';
import { rejects, temporaryFolder } from '../data/fixtures.js';
import { throwsCode } from '../support/errors.js';
import { tinyResnet, writeModel } from '../support/tiny-resnet.js';

test('NAME=KIND:PATH', () => {
  assert.equal(parseTeacherSpec('resnet50=resnet50:/a/b'), { name: 'resnet50', kind: 'resnet50', path: '/a/b' });
  assert.equal(parseTeacherSpec('facebook/dinov2-large=npy:C:=x y'), { name: 'facebook/dinov2-large', kind: 'npy', path: 'C:=x y' });
  for (const text of ['', 'a', 'a=npy', 'a=npy:', 'npy:a', '=npy:a'])
    throwsCode(() => parseTeacherSpec(text), 'ERR_ARGS', JSON.stringify(text));
  assert.match(throwsCode(() => parseTeacherSpec('a=resnet5:b'), 'ERR_ARGS', '"resnet5"').hint!, /resnet50/);
  for (const name of ['..', '.hidden', 'a\\b', 'a\nb', '__proto__', 'constructor', 'images', 'x'.repeat(201)])
    throwsCode(() => parseTeacherSpec(`${name}=npy:a`), 'ERR_ARGS', 'no teacher name');
  throwsCode(() => parseTeacherSpec('a_cls=npy:b'), 'ERR_ARGS', '_cls');
  throwsCode(() => parseTeacherSpec('a=__proto__:b'), 'ERR_ARGS', '"__proto__"');
  throwsCode(() => parseTeacherSpec('a=npy:b\0c'), 'ERR_ARGS', 'NUL');
  for (const kind of ['onnx', 'vit']) throwsCode(() => parseTeacherSpec(`a=${kind}:b`), 'ERR_UNSUPPORTED', `kind ${kind}`);
});

test('npy: both layouts give channel-last features', async () => {
  const folder = temporaryFolder();
  const values = Float32Array.from({ length: 24 }, (_, i) => i);
  // Channel c at position p is 4c + p.
  writeNpy(join(folder, 'map.npy'), values, [6, 2, 2]);
  const rows = Float64Array.from({ length: 24 }, (_, i) => 4 * (i % 6) + Math.floor(i / 6));
  writeNpy(join(folder, 'rows.npy'), rows, [4, 6]);
  const teacher = await openTeacher(`t=npy:${folder}`);
  assert.is(teacher.name, 't');
  assert.equal(teacher.shape, [6, 2, 2]);
  assert.is(teacher.input, null);
  assert.is(teacher.missing('map'), undefined);
  assert.match(teacher.missing('other')!, /no file other\.npy/);
  const both = await teacher.features([{ key: 'rows' }, { key: 'map' }]);
  assert.equal(both.slice(0, 24), Float32Array.from(rows));
  assert.equal(both.slice(24), Float32Array.from(rows));

  const { identity } = await openTeacher(`t=npy:${folder}`);
  assert.is(identity, teacher.identity);
  writeNpy(join(folder, 'new.npy'), values, [6, 2, 2]);
  assert.is.not((await openTeacher(`t=npy:${folder}`)).identity, identity);
});

test('npy: what is refused', async () => {
  const folder = temporaryFolder();
  const open = (): Promise<unknown> => openTeacher(`t=npy:${folder}`);
  await rejects(open, 'ERR_FILE', /expected files KEY\.npy/);
  await rejects(() => openTeacher('t=npy:/nowhere/at/all'), 'ERR_FILE', /nowhere/);
  const put = (shape: number[], fill = 1): void =>
    writeNpy(join(folder, 'a.npy'), new Float32Array(shape.reduce((x, y) => x * y, 1)).fill(fill), shape);
  for (const shape of [[5], [5, 3], [0, 4, 4], [1, 2, 2, 2]]) {
    put(shape);
    await rejects(open, 'ERR_SHAPE', /expected features \[C,H,W\]/);
  }
  put([3, 2, 2], NaN);
  await rejects(open, 'ERR_CORRUPT', /value 0 is NaN/);
  writeFileSync(join(folder, 'a.npy'), encodeNpy(new Uint8Array(12), [3, 2, 2]));
  await rejects(open, 'ERR_DTYPE', /a\.npy.*\|u1/);
  writeFileSync(join(folder, 'a.npy'), 'nonsense');
  await rejects(open, 'ERR_CORRUPT', /a\.npy/);
  put([3, 2, 2]);
  const teacher = await openTeacher(`t=npy:${folder}`);
  writeNpy(join(folder, 'b.npy'), new Float32Array(48), [3, 4, 4]);
  await rejects(async () => teacher.features([{ key: 'a' }, { key: 'b' }]), 'ERR_SHAPE', /b\.npy: expected features \[3,2,2\]/);
  rmSync(join(folder, 'a.npy'));
  await rejects(async () => teacher.features([{ key: 'a' }]), 'ERR_FILE', /a\.npy/);
});

test('resnet50: another network or none', async () => {
  const folder = join(temporaryFolder(), 'net');
  mkdirSync(folder);
  await rejects(() => openTeacher(`r=resnet50:${folder}`), 'ERR_FILE', /model\.json/);
  writeModel(folder, tinyResnet());
  await rejects(() => openTeacher(`r=resnet50:${folder}`), 'ERR_CORRUPT', /expected ResNet-50/);
});

test.run();
