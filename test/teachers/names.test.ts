import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { nearest } from '../../src/suggest.js';
import { TEACHER_SETS, TEACHER_SIZES, clsTarget, expandTeachers, teacherFolder, teacherOf } from '../../src/teachers/names.js';

test('sets expand to published names in published order', () => {
  const short = (names: string[]) => names.map((name) => name.split('/')[1].split('-')[0]).join(' ');
  assert.is(short(expandTeachers(['cdiv'])), 'vit dinov2 clip');
  assert.is(short(expandTeachers(['cddsv'])), 'vit dinov2 clip sam depth');
  assert.is(short(expandTeachers(['cdesv'])), 'vit clip sam depth');
  assert.is(short(expandTeachers(['ddsv'])), 'vit dinov2 sam depth');
  for (const names of TEACHER_SETS.values()) for (const name of names) assert.ok(TEACHER_SIZES.has(name));
  assert.is(TEACHER_SETS.size, 13);
});

test('plain names stay, overlapping sets merge, doubled names are errors', () => {
  assert.equal(expandTeachers(['resnet50']), ['resnet50']);
  assert.equal(expandTeachers(['clip', 'cdis', 'resnet50']).length, 4);
  for (const bad of [['a', 'a'], [''], ['..'], ['a\\b'], ['a\nb'], ['__proto__'], ['constructor']]) {
    try {
      expandTeachers(bad);
      assert.unreachable(JSON.stringify(bad));
    } catch (error) {
      assert.is((error as TheiaError).code, 'ERR_CONFIG', JSON.stringify(bad));
    }
  }
});

test('folders and member extensions', () => {
  assert.is(teacherFolder('LiheYoung/depth-anything-large-hf'), 'LiheYoung_depth-anything-large-hf');
  assert.is(clsTarget('a/b'), 'a/b_cls');
  assert.is(teacherOf('a/b_cls'), 'a/b');
  assert.is(teacherFolder('a/b_cls'), 'a_b');
});

test('suggestions are near or absent', () => {
  assert.is(nearest('bacth', ['batch', 'base_lr', 'epochs']), 'batch');
  assert.is(nearest('Epochs', ['batch', 'epochs']), 'epochs');
  assert.is(nearest('zebra', ['batch', 'epochs']), undefined);
  assert.is(nearest('x'.repeat(1e6), ['batch']), undefined);
});

test.run();
