// The addon's entries face hostile numbers: whatever comes must be an error or a result, never a crash.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { OPS } from '../../src/generated/ops.js';
import { DTYPES } from '../../src/tensor/index.js';
import { addon } from '../../src/native/load.js';
import { DEVICES } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { generator } from '../support/generator.js';

const native = addon();
const TENSOR = 14;
const ADD = OPS.findIndex((op) => op.name === 'add');

/** One tensor of the call area: [handle, offset, dtype, rank, sizes, strides]. */
function tensor(handle: number, size: number[], stride: number[] = [1], offset = 0, dtype = 0): number[] {
  const pad = (x: number[]): number[] => [...x, ...new Array<number>(5 - x.length).fill(0)];
  return [handle, offset, dtype, size.length, ...pad(size), ...pad(stride)];
}

/** `add` over one buffer of 64 bytes with one of its tensors changed. */
function addWith(change: (t: number[], handle: number) => void): void {
  const handle = native.allocate(64);
  try {
    native.write(handle, 0, new Float32Array(16));
    const good = tensor(handle, [16]);
    const area = new Float64Array([...good, ...good, ...good]);
    native.dispatch(ADD, area);
    const bad = [...good];
    change(bad, handle);
    native.dispatch(ADD, new Float64Array([...good, ...bad, ...good]));
  } finally {
    native.release(handle);
  }
}

test('numbers that are no sizes, strides, offsets, dtypes or ranks', () => {
  for (const slot of [1, 2, 3, 4, 9])
    for (const v of [NaN, -1, 0.5, Infinity, -Infinity, 2 ** 53, 1e300]) throwsCode(() => addWith((t) => (t[slot] = v)), 'ERR_ARGS');
  throwsCode(() => addWith((t) => (t[2] = 7)), 'ERR_ARGS'); // dtype
  throwsCode(() => addWith((t) => (t[3] = 6)), 'ERR_ARGS'); // rank
});

test('views that leave their buffer, overflow included', () => {
  throwsCode(() => addWith((t) => (t[4] = 17)), 'ERR_SHAPE');
  throwsCode(() => addWith((t) => (t[1] = 1)), 'ERR_SHAPE');
  throwsCode(() => addWith((t) => (t[9] = 2)), 'ERR_SHAPE');
  throwsCode(() => addWith((t) => (t[4] = 2 ** 53 - 1)), 'ERR_SHAPE');
  throwsCode(
    () =>
      addWith((t) => {
        t[4] = 2 ** 52;
        t[9] = 2 ** 52;
        t[1] = 2 ** 53 - 1;
      }),
    'ERR_SHAPE',
  );
  throwsCode(() => addWith((t, handle) => t.splice(0, TENSOR, ...tensor(handle, [2 ** 40, 2 ** 40], [0, 0]))), 'ERR_SHAPE');
  // No memory is needed to claim these, so it cannot bound them: workspaces are computed from such sizes.
  const claims: [number[], number[]][] = [
    [[2 ** 41], [0]],
    [
      [2 ** 21, 2 ** 20],
      [0, 0],
    ],
    [
      [2 ** 53 - 1, 0],
      [1, 1],
    ],
    [
      [0, 2 ** 40, 2],
      [1, 1, 1],
    ],
  ];
  for (const [size, stride] of claims)
    throwsCode(() => addWith((t, handle) => t.splice(0, TENSOR, ...tensor(handle, size, stride))), 'ERR_SHAPE', '2^40 elements');
});

test('handles: absent, stale, of the future', () => {
  throwsCode(() => addWith((t) => (t[0] = 0)), 'ERR_ARGS');
  const gone = native.allocate(64);
  native.release(gone);
  throwsCode(() => native.release(gone), 'ERR_DISPOSED');
  throwsCode(() => addWith((t) => (t[0] = gone)), 'ERR_DISPOSED');
  throwsCode(() => addWith((t) => (t[0] = 2 ** 24)), 'ERR_DISPOSED'); // slot -1
  throwsCode(() => addWith((t) => (t[0] = 2 ** 53 - 1)), 'ERR_DISPOSED');
  const again = native.allocate(64);
  assert.is.not(again, gone, 'a handle is not used twice');
  native.release(again);
});

test('op numbers, entries and areas of the wrong kind', () => {
  const area = new Float64Array(TENSOR * 3);
  for (const op of [-1, OPS.length, 1e9, 2 ** 32 + ADD, 0.5, NaN, 2 ** 53]) throwsCode(() => native.dispatch(op, area), 'ERR_ARGS');
  throwsCode(() => native.dispatch(ADD, area.subarray(0, TENSOR * 3 - 1)), 'ERR_ARGS');
  throwsCode(() => native.dispatch(ADD, new Float64Array(0)), 'ERR_ARGS');
  throwsCode(() => native.dispatch(ADD, new Uint8Array(new ArrayBuffer(4096), 1, 3000) as never), 'ERR_ARGS');
  for (const wrong of [undefined, null, 'x', [], {}, 7, new ArrayBuffer(8), new DataView(new ArrayBuffer(8))])
    throwsCode(() => native.dispatch(ADD, wrong as never), 'ERR_ARGS');
  throwsCode(() => (native.dispatch as unknown as () => void)(), 'ERR_ARGS');
  throwsCode(() => native.dispatch(ADD, new Float64Array(new SharedArrayBuffer(8 * TENSOR * 3))), 'ERR_ARGS');
  const detached = new Float64Array(TENSOR * 3);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  throwsCode(() => native.dispatch(ADD, detached), 'ERR_ARGS');
});

test('buffers: sizes, copies past the end, detached arrays', () => {
  for (const bytes of [-1, 0.5, NaN, Infinity, '8' as never]) throwsCode(() => native.allocate(bytes), 'ERR_ARGS');
  throwsCode(() => native.allocate(2 ** 53 - 1), 'ERR_OOM');
  throwsCode(() => native.allocate(2 ** 62), 'ERR_ARGS');
  const empty = native.allocate(0);
  native.write(empty, 0, new Uint8Array(0));
  native.release(empty);

  const b = native.allocate(10);
  throwsCode(() => native.write(b, 3, new Uint8Array(8)), 'ERR_SHAPE');
  throwsCode(() => native.read(b, 11, new Uint8Array(0)), 'ERR_SHAPE');
  throwsCode(() => native.read(b, 2 ** 53 - 1, new Uint8Array(1)), 'ERR_SHAPE');
  throwsCode(() => native.read(b, -1, new Uint8Array(1)), 'ERR_ARGS');
  const gone = new Uint8Array(8);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  native.write(b, 0, gone); // it has no bytes left: nothing happens
  native.release(b);
  throwsCode(() => native.write(b, 0, new Uint8Array(1)), 'ERR_DISPOSED');
});

test('the other entries refuse what they cannot use', () => {
  native.beginRecording();
  const live = native.endRecording();
  throwsCode(() => native.replay(2 ** 32 + live), 'ERR_ARGS'); // not the same number, though it narrows to it
  native.releasePlan(live);
  for (const plan of [0, -1, 0.5, NaN, 12345, 2 ** 32 + 1]) {
    for (const entry of [native.replay, native.releasePlan, native.planCalls])
      assert.throws(
        () => entry(plan),
        (e: unknown) => e instanceof TheiaError && ['ERR_ARGS', 'ERR_DISPOSED'].includes(e.code),
      );
  }
  throwsCode(() => native.endRecording(), 'ERR_PLAN');
  throwsCode(() => native.threads(-1), 'ERR_ARGS');
  throwsCode(() => native.threads(1025), 'ERR_ARGS');
  throwsCode(() => native.instructionSet('sse9'), 'ERR_CONFIG');
  throwsCode(() => native.instructionSet(Symbol.iterator as never), 'ERR_ARGS');
  throwsCode(() => native.cosine('1' as never), 'ERR_ARGS');
  throwsCode(() => native.setErrorClass(3), 'ERR_ARGS');
});

/** What the addon says of the ranks and dtypes of an op's fields. */
type Description = { fields: { kind: string; role: string; rank?: string; dtypes?: string[]; optional?: boolean }[] };
const DESCRIBED = (native as unknown as { describeOps(): Description[] }).describeOps();

/** Calls random ops on a device, most of them nearly right. Returns how often each code came. */
function garbage(device: number, calls: number): { ran: Set<string>; codes: Map<string, number> } {
  const random = generator(20240607);
  const below = (n: number): number => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const bytes = 1 << 16;
  const handles = Array.from({ length: 16 }, () => native.allocate(bytes, device));
  for (const h of handles) native.write(h, 0, new Float64Array(bytes / 8));
  const hostile = [NaN, -1, 0.5, Infinity, -Infinity, 2 ** 53 - 1, 2 ** 53, 2 ** 31, 2 ** 62, 1e308, -0];
  const small = [0, 1, 1, 1, 2, 3, 4, 7, 8, 16, 33];
  const ran = new Set<string>();
  const codes = new Map<string, number>();
  try {
    for (let call = 0; call < calls; call++) {
      const op = below(OPS.length);
      const area: number[] = [];
      // Most calls are nearly right, so that they get past the first checks and into the kernels: one size for all dimensions, packed,
      // a rank and dtype that the field allows; now and then something else.
      const side = pick(small);
      const real = pick(device === 0 ? [0, 0, 1] : [0, 0, 2, 2, 1]);
      const rate = pick([0, 0, 0.02, 0.3]);
      const first = below(handles.length); // a buffer of its own for every tensor, mostly: outputs must lie apart
      for (const [k, field] of DESCRIBED[op]!.fields.entries()) {
        if (field.kind !== 'tensor') {
          area.push(random() < rate ? pick(hostile) : pick([0, 1, 1, side]));
          continue;
        }
        const [lowest, highest] = field.rank!.split(' to ').map(Number) as [number, number?];
        const rank = random() < 0.95 ? pick([lowest, highest ?? lowest]) : below(6);
        const size = Array.from({ length: rank }, () => (random() < 0.97 ? side : pick(small)));
        const stride = size.map((_, i) => size.slice(i + 1).reduce((x, y) => x * y, 1));
        const names = field.dtypes!.map((name) => DTYPES.indexOf(name.split(' ')[0] as (typeof DTYPES)[number]));
        const dtype = names.includes(real) ? real : pick(names);
        const handle = field.optional && random() < 0.5 ? 0 : random() < 0.98 ? handles[(first + k) % handles.length]! : pick(handles);
        const t = tensor(handle, size, stride, random() < 0.95 ? 0 : below(100), random() < 0.97 ? dtype : below(7));
        for (let i = 0; i < TENSOR; i++) if (random() < rate) t[i] = random() < 0.5 ? pick(hostile) : pick(small);
        area.push(...t);
      }
      try {
        if (random() < 0.1) native.cost(op, new Float64Array(area));
        else native.dispatch(op, new Float64Array(area));
        ran.add(OPS[op]!.name);
      } catch (error) {
        if (!(error instanceof TheiaError)) throw error;
        assert.ok(error.message.length > 0);
        assert.is.not(error.code, 'ERR_INTERNAL', `${OPS[op]!.name}: ${error.message}`);
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      }
    }
  } finally {
    for (const h of handles) native.release(h);
  }
  return { ran, codes };
}

test('20000 calls of random ops with garbage in the call area', () => {
  const { ran, codes } = garbage(0, 20000);
  assert.ok(ran.size >= OPS.length / 2, `only ${[...ran].join(', ')} ever ran: the garbage is too wild to test the kernels`);
  for (const code of ['ERR_ARGS', 'ERR_SHAPE', 'ERR_DTYPE']) assert.ok((codes.get(code) ?? 0) > 20, `${code}: ${codes.get(code) ?? 0}`);
});

if (DEVICES.includes('simt'))
  test('simt: the same garbage; no check on the host reads device memory, which crashes here', () => {
    const device = native.openDevice('simt');
    native.setOption('simt', 'protect', 'on');
    try {
      const { ran, codes } = garbage(device, 6000);
      assert.ok(ran.size >= 8, `only ${[...ran].join(', ')} ever ran`);
      for (const code of ['ERR_ARGS', 'ERR_SHAPE', 'ERR_DTYPE', 'ERR_UNSUPPORTED'])
        assert.ok((codes.get(code) ?? 0) > 20, `${code}: ${codes.get(code) ?? 0}`);
      assert.is(codes.get('ERR_CUDA'), undefined, 'a kernel went wrong');
    } finally {
      native.setOption('simt', 'protect', 'off');
    }
  });

test.run();
