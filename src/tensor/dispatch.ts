import { TheiaError } from '../errors.js';
import { OPS } from '../generated/ops.js';
import type { Field, OpArgs, OpName } from '../generated/ops.js';
import { addon } from '../native/load.js';
import { dtypeNumber } from './dtype.js';
import type { Tensor } from './tensor.js';

// The layout is native/call.h's: 14 numbers a tensor, one a scalar.
const RANK = 5;
const TENSOR_SLOTS = 4 + 2 * RANK;
const area = new Float64Array(Math.max(...OPS.map((op) => op.fields.length)) * TENSOR_SLOTS);
const numbers = new Map<string, number>(OPS.map((op, i) => [op.name, i]));

function writeTensor(t: Tensor, at: number): void {
  area[at] = t.handle;
  area[at + 1] = t.offset;
  area[at + 2] = dtypeNumber(t.dtype);
  const { shape, strides } = t;
  area[at + 3] = shape.length;
  for (let i = 0; i < shape.length; i++) {
    area[at + 4 + i] = shape[i]!;
    area[at + 4 + RANK + i] = strides[i]!;
  }
}

function choiceNumber(op: string, field: Field, value: unknown): number {
  const number = field.choices!.indexOf(value as string);
  if (number >= 0) return number;
  const came = typeof value === 'string' ? `'${value.slice(0, 40)}'` : value === undefined ? 'nothing' : `a ${typeof value}`;
  throw new TheiaError('ERR_ARGS', `${op}: expected '${field.name}' as one of ${field.choices!.join('|')}, got ${came}`);
}

function writeCall(name: OpName, args: object): number {
  const op = numbers.get(name);
  if (op === undefined) throw new TheiaError('ERR_UNSUPPORTED', `this build has no op ${String(name)}`);
  let at = 0;
  for (const field of OPS[op]!.fields) {
    const value = (args as Record<string, unknown>)[field.name];
    if (field.kind === 'tensor') {
      if (value === undefined) area[at] = 0;
      else writeTensor(value as Tensor, at);
      at += TENSOR_SLOTS;
    } else {
      area[at++] = field.kind === 'choice' ? choiceNumber(name, field, value) : (value as number);
    }
  }
  return op;
}

/** Sums of what ops cost while measureCost runs. */
export interface Cost {
  flops: number;
  bytes: number;
  calls: number;
}

let meter: Cost | undefined;

/** Runs fn and adds up the operations and the least traffic of every op that it dispatches (replayed plans not included). */
export function measureCost(fn: () => void): Cost {
  const before = meter;
  const own = { flops: 0, bytes: 0, calls: 0 };
  meter = own;
  try {
    fn();
  } finally {
    meter = before;
  }
  return own;
}

let observer: ((name: OpName, args: OpArgs[OpName]) => void) | undefined;

/** Runs fn and tells `seen` of every op behind its dispatch: traces, and tests that change what an op stored. What it dispatches is not seen. */
export function observeDispatch<T>(seen: (name: OpName, args: OpArgs[OpName]) => void, fn: () => T): T {
  const before = observer;
  observer = seen;
  try {
    return fn();
  } finally {
    observer = before;
  }
}

/** Runs one op (and records it while a plan is recorded). Shapes, dtypes and bounds are checked by the addon. */
export function dispatch<N extends OpName>(name: N, args: OpArgs[N]): void {
  const op = writeCall(name, args);
  if (meter) {
    const { flops, bytes } = addon().cost(op, area);
    meter.flops += flops;
    meter.bytes += bytes;
    meter.calls += 1;
  }
  addon().dispatch(op, area);
  if (!observer) return;
  const seen = observer;
  observer = undefined;
  try {
    seen(name, args);
  } finally {
    observer = seen;
  }
}

/** Operations, bytes moved at least, and bytes of scratch of one call, without running it. */
export function costOf<N extends OpName>(name: N, args: OpArgs[N]): { flops: number; bytes: number; workspace: number } {
  const op = writeCall(name, args);
  return addon().cost(op, area);
}
