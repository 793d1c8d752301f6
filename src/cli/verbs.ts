import type { Verb } from './verb.js';

/** A line of the table below. */
export type VerbEntry = { name: string; summary: string; load: () => Promise<{ verb: Verb }> };

/**
 * The verbs that are built; one line each.
 */
export const VERBS: readonly VerbEntry[] = [
  { name: 'features', summary: 'runs teachers over images and writes feature shards and statistics', load: () => import('./features.js') },
  { name: 'train', summary: 'distils a student from stored teacher features', load: () => import('./train.js') },
  { name: 'encode', summary: 'turns images into tokens, and into predicted teacher features', load: () => import('./encode.js') },
  { name: 'parity', summary: 'compares a model with a reference file, tensor by tensor', load: () => import('./parity.js') },
  { name: 'doctor', summary: 'prints what this machine and this installation offer', load: () => import('./doctor.js') },
];

/** Every verb of the program as planned. One that is not in the table is known but not built. */
export const KNOWN_VERBS: readonly string[] = ['train', 'encode', 'parity', 'features', 'export', 'analyze', 'doctor'];
