export { Tape, Gradients, activeTape } from './tape.js';
export { Parameter } from './parameter.js';
export { Arena } from './arena.js';
export type { ParameterSpec, Segment, SegmentSpec } from './arena.js';
export { gradcheck } from './gradcheck.js';
export type { GradcheckEntry, GradcheckOptions } from './gradcheck.js';
export { engineShape, fromFile, toFile } from './layout.js';
export type { FileLayout } from './layout.js';
