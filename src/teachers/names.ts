import { TheiaError } from '../errors.js';
import { nearest } from '../suggest.js';

const VIT = 'google/vit-huge-patch14-224-in21k';
const DINOV2 = 'facebook/dinov2-large';
const CLIP = 'openai/clip-vit-large-patch14';
const SAM = 'facebook/sam-vit-huge';
const DEPTH = 'LiheYoung/depth-anything-large-hf';

/** Feature size [C, H, W] of the five published teachers, as stored (after their spatial interpolation). */
export const TEACHER_SIZES: ReadonlyMap<string, readonly [number, number, number]> = new Map([
  [VIT, [1280, 16, 16]],
  [DINOV2, [1024, 16, 16]],
  [CLIP, [1024, 16, 16]],
  [SAM, [256, 64, 64]],
  [DEPTH, [32, 64, 64]],
]);

/**
 * The published teacher sets. The order inside a set is the order of heads, loss terms and metrics, and follows the published
 * cddsv configuration: ViT, DINOv2, CLIP, SAM, Depth-Anything.
 */
export const TEACHER_SETS: ReadonlyMap<string, readonly string[]> = new Map([
  ['clip', [CLIP]],
  ['dinov2', [DINOV2]],
  ['vit', [VIT]],
  ['sam', [SAM]],
  ['depth_anything', [DEPTH]],
  ['cdiv', [VIT, DINOV2, CLIP]],
  ['cddsv', [VIT, DINOV2, CLIP, SAM, DEPTH]],
  ['cdds', [DINOV2, CLIP, SAM, DEPTH]],
  ['cddv', [VIT, DINOV2, CLIP, DEPTH]],
  ['cdesv', [VIT, CLIP, SAM, DEPTH]],
  ['cdis', [DINOV2, CLIP, SAM]],
  ['cdisv', [VIT, DINOV2, CLIP, SAM]],
  ['ddsv', [VIT, DINOV2, SAM, DEPTH]],
]);

const CLS_SUFFIX = '_cls';

/** Whether a target is a teacher's CLS token ([C]) and not its spatial feature ([C, H, W]). */
export function isClsTarget(name: string): boolean {
  return name.endsWith(CLS_SUFFIX);
}

/** The name of the CLS target of a teacher. */
export function clsTarget(teacher: string): string {
  return teacher + CLS_SUFFIX;
}

/** The teacher whose features hold a target: the name itself, or the name without `_cls`. */
export function teacherOf(target: string): string {
  return isClsTarget(target) ? target.slice(0, -CLS_SUFFIX.length) : target;
}

/** Folder of a teacher's feature shards: the name with `/` as `_`. A CLS target lives in its teacher's folder. */
export function teacherFolder(target: string): string {
  return teacherOf(target).replaceAll('/', '_');
}

/** Why a string cannot name a teacher, or undefined. A name becomes a folder and a tar member, so it must not be able to leave either. */
export function badTeacherName(name: string): string | undefined {
  const folder = teacherFolder(name);
  if (folder === '' || folder === '.' || folder === '..') return 'it names no folder';
  if (name.length > 200) return 'it is longer than 200 characters';
  if (/[\u0000-\u001f\u007f\\]/.test(name)) return 'it holds a backslash or a control character';
  if (name === '__proto__' || name === 'constructor' || name === 'prototype') return 'the name is reserved';
  return undefined;
}

/**
 * Replaces set names (`cdiv`, `cddsv`, ...) by their teachers; other names stay as they are. Sets may overlap: a teacher keeps the
 * place where it came first.
 * @throws ERR_CONFIG for an unusable name or for a name written twice
 */
export function expandTeachers(list: readonly string[]): string[] {
  const written = new Set<string>();
  const out = new Set<string>();
  for (const entry of list) {
    const bad = badTeacherName(entry);
    if (bad !== undefined) throw new TheiaError('ERR_CONFIG', `data.teachers: ${JSON.stringify(entry)} is no teacher name: ${bad}`);
    if (written.has(entry))
      throw new TheiaError('ERR_CONFIG', `data.teachers: expected each name once, got ${JSON.stringify(entry)} twice`);
    written.add(entry);
    for (const name of TEACHER_SETS.get(entry) ?? [entry]) out.add(name);
  }
  return [...out];
}

/** A published teacher or set near a name that was not found on disk, for the hint of that error. */
export function suggestTeacher(name: string): string | undefined {
  return nearest(name, [...TEACHER_SETS.keys(), ...TEACHER_SIZES.keys()]);
}
