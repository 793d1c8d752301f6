import { TheiaError } from '../errors.js';
import { nearest } from '../suggest.js';
import { badTeacherName, isClsTarget } from './names.js';
import type { Teacher } from './teacher.js';

/** What `NAME=KIND:PATH` says. */
export interface TeacherSpec {
  name: string;
  kind: string;
  path: string;
}

interface Kind {
  /** for help texts */
  path: string;
  open: (name: string, path: string) => Promise<Teacher>;
}

/** The kinds of teachers. Their modules are loaded when one is opened. */
const KINDS: ReadonlyMap<string, Kind> = new Map([
  [
    'resnet50',
    {
      path: 'folder with model.json',
      open: async (name, path) => new (await import('./resnet50.js')).Resnet50Teacher(name, path),
    } satisfies Kind,
  ],
  [
    'npy',
    {
      path: 'folder of KEY.npy, [C,H,W] or [H*W,C]',
      open: async (name, path) => new (await import('./npy.js')).NpyTeacher(name, path),
    } satisfies Kind,
  ],
]);

/** Kinds that are planned and not in this build. */
const PLANNED = ['onnx', 'vit'];

/** One line a kind, for help texts. */
export function teacherKinds(): string[] {
  return [...KINDS].map(([kind, { path }]) => `${kind}:<${path}>`);
}

/**
 * Reads `NAME=KIND:PATH`. The name ends at the first `=`, the kind at the first `:` behind it.
 * @throws ERR_ARGS saying which part is wrong
 */
export function parseTeacherSpec(text: string): TeacherSpec {
  const shown = JSON.stringify(text);
  const [, name, kind, path] = /^([^=]*)=([^:]*):([^]*)$/.exec(text) ?? [];
  if (name === undefined || path === '') {
    throw new TheiaError('ERR_ARGS', `teacher: expected NAME=KIND:PATH, got ${shown}`, { hint: `kinds: ${teacherKinds().join(', ')}` });
  }
  const bad = name.startsWith('.')
    ? 'it begins with a dot'
    : (badTeacherName(name) ?? (name === 'images' ? "that is the images' folder" : undefined));
  if (bad !== undefined) throw new TheiaError('ERR_ARGS', `teacher: ${JSON.stringify(name)} in ${shown} is no teacher name: ${bad}`);
  if (isClsTarget(name))
    throw new TheiaError('ERR_ARGS', `teacher: ${JSON.stringify(name)} ends with _cls, which names the CLS token of a teacher and not one`);
  if (PLANNED.includes(kind))
    throw new TheiaError(
      'ERR_UNSUPPORTED',
      `teacher ${name}: kind ${kind} is not in this build; expected ${[...KINDS.keys()].join(', ')}`,
      {
        hint: 'compute the features elsewhere and pass them as npy:<folder of KEY.npy>',
      },
    );
  if (!KINDS.has(kind)) {
    const near = nearest(kind, [...KINDS.keys()]);
    throw new TheiaError('ERR_ARGS', `teacher ${name}: expected a kind of ${[...KINDS.keys()].join(', ')}, got ${JSON.stringify(kind)}`, {
      hint: near === undefined ? `kinds: ${teacherKinds().join(', ')}` : `did you mean ${near}?`,
    });
  }
  if (path.includes('\0')) throw new TheiaError('ERR_ARGS', `teacher ${name}: the path holds a NUL`);
  return { name, kind, path };
}

/**
 * Opens a teacher.
 * @param spec `NAME=KIND:PATH`, or its parts
 * @throws ERR_ARGS, and what the kind's constructor throws
 */
export function openTeacher(spec: string | TeacherSpec): Promise<Teacher> {
  const { name, kind, path } = typeof spec === 'string' ? parseTeacherSpec(spec) : spec;
  const entry = KINDS.get(kind);
  if (entry === undefined) return Promise.reject(new TheiaError('ERR_ARGS', `teacher ${name}: unknown kind ${JSON.stringify(kind)}`));
  return entry.open(name, path);
}
