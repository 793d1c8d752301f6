// How an op's tests run it: tensors between guard zones, on any device and instruction set, in float32, bfloat16 or as the float64
// reference. The limits that devices other than the CPU must keep are in device-case.ts.
import * as assert from 'uvu/assert';
import { OPS } from '../../src/generated/ops.js';
import type { OpArgs, OpName, Role } from '../../src/generated/ops.js';
import { addon } from '../../src/native/load.js';
import { Tensor, bytesOf, countOf, dispatch, memory, threads } from '../../src/tensor/index.js';
import type { DType, Device, TypedArray } from '../../src/tensor/index.js';
import { typedArrayFor } from '../../src/tensor/dtype.js';

export type Values = Float64Array;

/**
 * One tensor of a case. `values` may be left out for pure outputs, which start as NaN. A dtype stands for tensors that are no reals.
 * `full` stands for reals that stay float32 where activations are bfloat16: biases, statistics, the residual stream.
 * Strides (in elements) make a view with gaps, which are guarded as well; without them the tensor is packed.
 */
export interface CaseTensor {
  shape: number[];
  strides?: number[];
  values?: ArrayLike<number>;
  dtype?: DType;
  full?: boolean;
}

/** How a case is run. Without a device: on the CPU, with the instruction set given or the one in use. */
export interface Where {
  set?: string;
  device?: Device;
  /** elements by which every tensor starts behind an aligned address */
  shift?: number;
}

/** One call of an op: its tensors by field name, its scalars by field name. */
export interface OpCase<N extends OpName = OpName> {
  op: N;
  tensors: Record<string, CaseTensor>;
  scalars?: Record<string, number | string>;
}

/** What this machine can run, the plain C++ variant first. */
export const INSTRUCTION_SETS: readonly string[] = addon().machine().instructionSets;
/** What is compared with the plain variant. */
export const SIMD_SETS = INSTRUCTION_SETS.filter((s) => s !== 'plain');

export function withInstructionSet<T>(name: string, fn: () => T): T {
  const before = addon().instructionSet();
  addon().instructionSet(name);
  try {
    return fn();
  } finally {
    addon().instructionSet(before);
  }
}

const GUARD = 64; // elements on either side: more than any vector or tile edge is wide
const GUARD_BYTE = 0xa5;
/**
 * Under AddressSanitizer a guard zone would hide what is read from it: `tight` ends a tensor, up to its alignment to 16 bytes, where the
 * memory of its buffer ends.
 */
const TIGHT = process.env['THEIA_TEST_GUARD'] === 'tight';

/** The size of the block that a request gets on `simt` (kernels/core/allocator.cpp). */
function blockBytes(bytes: number): number {
  const step = bytes > 4096 ? 2 ** (Math.floor(Math.log2(bytes)) - 3) : 256;
  return Math.max(256, Math.ceil(bytes / step) * step);
}

/** A tensor in the middle of a larger buffer whose rest is filled with a pattern (NaN-like for reals), checked after the call. */
class Guarded {
  readonly tensor: Tensor;
  private readonly whole: Tensor;
  private readonly bytes: number;
  /** where each element lies in the buffer, in elements; the first and the one behind the last */
  private readonly places: number[];
  private readonly start: number;
  private readonly end: number;
  constructor(
    readonly dtype: DType,
    shape: number[],
    values: ArrayLike<number> | undefined,
    strides: number[] = shape.map((_, i) => countOf(shape.slice(i + 1))),
    { device = 'cpu', shift = 0 }: Where = {},
  ) {
    this.bytes = bytesOf(dtype);
    const span = placesOf(shape, strides, 0).reduce((a, b) => Math.max(a, b), -1) + 1;
    const room = (2 * GUARD + shift + span) * this.bytes;
    const size = TIGHT ? blockBytes(room) : room;
    this.start = TIGHT ? (Math.floor((size / this.bytes - span - shift) / (16 / this.bytes)) * 16) / this.bytes + shift : GUARD + shift;
    this.end = this.start + span;
    this.places = placesOf(shape, strides, this.start);
    const before = memory(device).live;
    this.whole = Tensor.empty([size], 'uint8', device);
    if (TIGHT && device === 'simt' && memory(device).live - before !== size)
      throw new Error(`a request for ${size} bytes got a block of ${memory(device).live - before}: nothing is tight about it`);
    const all = new Uint8Array(size).fill(GUARD_BYTE);
    const typed = typedArrayFor(dtype, size / this.bytes);
    new Uint8Array(typed.buffer).set(all);
    this.places.forEach((place, i) => {
      const v = toStored(values === undefined ? NaN : values[i]!, dtype);
      (typed as unknown as number[] | bigint[])[place] = dtype === 'int64' ? (BigInt(Number.isNaN(v) ? 0 : v) as never) : (v as never);
    });
    this.whole.write(new Uint8Array(typed.buffer));
    this.tensor = viewAs(this.whole, dtype, shape, strides, this.start);
  }

  /** The elements in row-major order. */
  data(): TypedArray {
    const all = this.whole.data();
    const typed = typedArrayFor(this.dtype, all.length / this.bytes);
    new Uint8Array(typed.buffer).set(all as Uint8Array);
    const out = typedArrayFor(this.dtype, this.places.length);
    this.places.forEach((place, i) => ((out as Float32Array)[i] = typed[place] as number));
    return out;
  }

  /** The elements as numbers. */
  values(): Values {
    return Float64Array.from(this.data() as Float32Array, (v) => fromStored(Number(v), this.dtype));
  }

  check(label: string): void {
    const all = this.whole.data() as Uint8Array;
    const used = new Uint8Array(all.length / this.bytes);
    for (const place of this.places) used[place] = 1;
    for (let i = 0; i < all.length; i++) {
      const element = Math.floor(i / this.bytes);
      if (all[i] === GUARD_BYTE || used[element]) continue;
      if (element < this.start) throw new Error(`${label}: wrote ${this.start * this.bytes - i} bytes before the start of its buffer`);
      if (element >= this.end) throw new Error(`${label}: wrote ${i + 1 - this.end * this.bytes} bytes past the end of its buffer`);
      throw new Error(`${label}: wrote between its rows, at element ${element - this.start}`);
    }
  }

  dispose(): void {
    this.tensor.dispose();
    this.whole.dispose();
  }
}

/** Where each element of a view lies in its guarded buffer. */
function placesOf(shape: number[], strides: number[], start: number): number[] {
  let places = [start];
  shape.forEach((size, d) => {
    const next: number[] = [];
    for (const p of places) for (let i = 0; i < size; i++) next.push(p + i * strides[d]!);
    places = next;
  });
  return places;
}

/** The middle of a byte buffer as a tensor of another type: only tests look at memory in two ways. */
function viewAs(whole: Tensor, dtype: DType, shape: number[], strides: number[], offset: number): Tensor {
  const view = whole.strided([0], [1]);
  Object.assign(view, { dtype, shape: [...shape], strides: [...strides], offset });
  return view;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The nearest bfloat16 (to even), as a number. */
export function toBf16(x: number): number {
  float[0] = x; // rounding twice: float32 has more than twice the bits, so the result is the nearest but at ties of the first
  if (Number.isNaN(x)) return NaN;
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
  return float[0]!;
}

/** A number as a typed array of the dtype holds it: bfloat16 as bits. Case values of float16 are given as bits. */
function toStored(v: number, dtype: DType): number {
  if (dtype !== 'bfloat16') return v;
  float[0] = toBf16(v);
  return bits[0]! >>> 16;
}
function fromStored(v: number, dtype: DType): number {
  if (dtype !== 'bfloat16') return v;
  bits[0] = v << 16;
  return float[0]!;
}

function rolesOf(op: OpName): Map<string, Role> {
  return new Map(OPS.find((o) => o.name === op)!.fields.map((f) => [f.name, f.role]));
}

/**
 * Runs a case and returns every tensor that the op may write, as float64. Reals have the dtype given here unless the case says otherwise.
 * Fails if the op wrote outside its tensors or changed an input.
 */
export function runCase(
  c: OpCase,
  dtype: 'float32' | 'float64' | 'bfloat16' = 'float32',
  where: string | Where = {},
): Record<string, Values> {
  const { set, ...place } = typeof where === 'string' ? { set: where } : where;
  const roles = rolesOf(c.op);
  const made = new Map<string, Guarded>();
  try {
    for (const [name, t] of Object.entries(c.tensors)) {
      const type = t.dtype ?? (t.full && dtype === 'bfloat16' ? 'float32' : dtype);
      made.set(name, new Guarded(type, t.shape, t.values, t.strides, place));
    }
    const args: Record<string, unknown> = { ...c.scalars };
    for (const [name, g] of made) args[name] = g.tensor;
    const call = (): void => dispatch(c.op, args as unknown as OpArgs[OpName]);
    const inputs = [...made].filter(([name]) => roles.get(name) === 'in').map(([name, g]) => ({ name, g, before: g.data() }));
    if (set) withInstructionSet(set, call);
    else call();
    for (const [name, g] of made) g.check(`${c.op} ${name}`);
    for (const { name, g, before } of inputs) same(g.data() as Float32Array, before as Float32Array, `${c.op} changed its input ${name}`);
    const out: Record<string, Values> = {};
    for (const [name, g] of made) if (roles.get(name) !== 'in') out[name] = g.values();
    return out;
  } finally {
    for (const g of made.values()) g.dispose();
  }
}

/** Equal element by element, NaN to NaN and the sign of zero included. */
export function same(x: ArrayLike<number>, want: ArrayLike<number>, label = ''): void {
  assert.is(x.length, want.length, `${label}: length`);
  for (let i = 0; i < want.length; i++)
    if (!Object.is(x[i], want[i])) assert.unreachable(`${label}[${i}]: expected ${want[i]}, got ${x[i]}`);
}

/** ‖x − r‖ / ‖r‖ in float64; a pair of NaNs or of equal infinities counts as equal. */
export function relative(x: ArrayLike<number>, r: ArrayLike<number>): number {
  assert.is(x.length, r.length);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < r.length; i++) {
    if (Object.is(x[i], r[i]) || (Number.isNaN(x[i]) && Number.isNaN(r[i]))) {
      if (Number.isFinite(r[i]!)) norm += r[i]! * r[i]!;
      continue;
    }
    difference += (x[i]! - r[i]!) ** 2;
    norm += r[i]! * r[i]!;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}

/** The rounding of a float32 result itself: below this no float32 kernel can be asked to stay. */
export const ROUNDING = 2 ** -24;

/**
 * On random data each instruction set errs at most twice as much as the plain float32 loop, both against float64. The float64 run gets the
 * float32-rounded inputs.
 */
export function checkAccuracy(c: OpCase, label = ''): void {
  const rounded = roundInputs(c);
  const exact = runCase(rounded, 'float64');
  const plain = runCase(rounded, 'float32', 'plain');
  for (const set of SIMD_SETS) {
    const got = runCase(rounded, 'float32', set);
    for (const name of Object.keys(exact)) {
      const limit = Math.max(2 * relative(plain[name]!, exact[name]!), ROUNDING);
      const error = relative(got[name]!, exact[name]!);
      assert.ok(error <= limit, `${c.op} ${label} ${name} on ${set}: relative error ${error} is above ${limit}`);
    }
  }
}

/** The same case with values rounded to float32, so that both precisions start from equal numbers. */
export function roundInputs<N extends OpName>(c: OpCase<N>): OpCase<N> {
  const tensors: Record<string, CaseTensor> = {};
  for (const [name, t] of Object.entries(c.tensors)) {
    tensors[name] = t.values && t.dtype === undefined ? { ...t, values: Float64Array.from(t.values as ArrayLike<number>, Math.fround) } : t;
  }
  return { ...c, tensors };
}

/** Every variant gives exactly these numbers (small integers: sums are exact in any order). */
export function checkExact(c: OpCase, expected: Record<string, ArrayLike<number>>): void {
  for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const]) {
    const got = runCase(c, dtype, set);
    for (const [name, want] of Object.entries(expected)) same(got[name]!, want, `${c.op} ${name} on ${set} ${dtype}`);
  }
}

/** Twice the same bits, and the same bits on 1, 2, 3 and 7 threads. */
export function checkDeterminism(c: OpCase): void {
  const before = threads();
  try {
    for (const set of INSTRUCTION_SETS) {
      threads(1);
      const first = runCase(c, 'float32', set);
      for (const n of [1, 2, 3, 7]) {
        threads(n);
        const again = runCase(c, 'float32', set);
        for (const name of Object.keys(first)) same(again[name]!, first[name]!, `${c.op} ${name} on ${set} with ${n} threads`);
      }
    }
  } finally {
    threads(before);
  }
}

/**
 * Finite differences in float64: for the loss Σ out·dout, the gradient op's outputs agree with central differences of the forward op.
 * @param forward a case whose tensor values are the point; outputs without values
 * @param dout upstream gradient by output name
 * @param gradient what the gradient op computed, by name of the forward input
 */
export function gradcheck(forward: OpCase, dout: Record<string, ArrayLike<number>>, gradient: Record<string, Values>, samples = 40): void {
  const loss = (c: OpCase): number => {
    const out = runCase(c, 'float64');
    let sum = 0;
    for (const [name, d] of Object.entries(dout)) for (let i = 0; i < d.length; i++) sum += d[i]! * out[name]![i]!;
    return sum;
  };
  for (const [name, g] of Object.entries(gradient)) {
    const point = Float64Array.from(forward.tensors[name]!.values!);
    assert.is(g.length, point.length, `${forward.op}: gradient of ${name}`);
    const scale = Math.max(...g.map(Math.abs), 1e-12);
    for (let s = 0; s < Math.min(samples, point.length); s++) {
      const i = Math.floor((s * point.length) / Math.min(samples, point.length));
      const h = 1e-5 * Math.max(1, Math.abs(point[i]!));
      const at = (delta: number): number => {
        const moved = Float64Array.from(point);
        moved[i] = moved[i]! + delta;
        return loss({ ...forward, tensors: { ...forward.tensors, [name]: { ...forward.tensors[name]!, values: moved } } });
      };
      const slope = (at(h) - at(-h)) / (2 * h);
      // Central differences err by h² of the third derivative (1e-10) and by rounding of the loss over h (1e-16 / 1e-5).
      assert.ok(Math.abs(slope - g[i]!) <= 1e-6 * scale + 1e-7, `${forward.op} d${name}[${i}]: differences give ${slope}, the op ${g[i]}`);
    }
  }
}

/** Reproducible values in [-1, 1). */
export function randomValues(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 12), 0x297a2d39) >>> 0;
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Reproducible whole numbers in [-limit, limit]. */
export function smallIntegers(count: number, seed: number, limit = 3): Float64Array {
  return randomValues(count, seed).map((v) => Math.round(v * limit) + 0); // no −0: a sum that starts at the bias would keep it
}
