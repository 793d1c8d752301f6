import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Arena, engineShape, fromFile, toFile } from '../../src/autograd/index.js';
import type { FileLayout, ParameterSpec, SegmentSpec } from '../../src/autograd/index.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { Theia } from '../../src/models/theia.js';
import { linear } from '../../src/ops/linear.js';
import { Tensor, countOf, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, same } from '../support/op-case.js';
import { arenaWith } from '../support/parameters.js';

const segment = (key: string, fileShape: number[], value: number, layout: FileLayout = 'same'): SegmentSpec => ({
  key,
  fileShape,
  layout,
  init: (out) => void out.fill(value),
});
const spec = (name: string, shape: number[], decay: boolean, segments: SegmentSpec[]): ParameterSpec => ({ name, shape, decay, segments });

test('decay first, model order inside each group, every parameter at 64 bytes', () => {
  const { arena, p } = arenaWith({
    bias: { shape: [3], decay: false },
    w: { shape: [5, 7] },
    gamma: { shape: [17], decay: false },
    v: { shape: [1] },
    u: { shape: [16] },
  });
  assert.equal(
    arena.segments.map((s) => [s.key, s.offset, s.length, s.decay]),
    [
      ['w', 0, 35, true],
      ['v', 48, 1, true],
      ['u', 64, 16, true],
      ['bias', 80, 3, false],
      ['gamma', 96, 17, false],
    ],
  );
  assert.equal([...arena.parameters.keys()], ['w', 'v', 'u', 'bias', 'gamma']);
  assert.is(arena.values.size, 128);
  assert.is(arena.gradients!.size, 128);
  assert.is(arena.count, 35 + 1 + 16 + 3 + 17);
  for (const s of arena.segments) {
    assert.is(p(s.key).value.offset, s.offset);
    assert.is(p(s.key).value.handle, arena.values.handle);
    assert.is(p(s.key).gradientView!.offset, s.offset);
    assert.is(p(s.key).gradientView!.handle, arena.gradients!.handle);
  }
  arena.dispose();
});

test('the same holds for a whole model, float64 included', () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const config = newModelConfig({ hidden: 20, depth: 2, heads: 2, mlp: 24, teachers: new Map([['a/b', [5, 14, 14]]]) });
    const model = new Theia(config, { dtype });
    const { segments } = model.arena;
    assert.is(model.arena.gradients, undefined);
    const firstWithout = segments.findIndex((s) => !s.decay);
    assert.ok(firstWithout > 0 && segments.slice(firstWithout).every((s) => !s.decay));
    let end = 0;
    for (const s of segments) {
      assert.ok(s.offset >= end, s.key);
      if (s.parameter.value.offset === s.offset) assert.is((s.offset * 4) % 64, 0, s.key);
      else assert.is(s.offset, end, `${s.key} follows the segment before it`);
      end = s.offset + s.length;
    }
    // [C,H,W] weights of map norms decay; vectors and everything called bias do not.
    for (const s of segments) assert.is(s.decay, s.fileShape.length > 1 && !s.key.endsWith('.bias'), s.key);
    model.dispose();
  }
});

test('query, key and value are one [3D,D] view whose thirds are the segments', () => {
  const d = 5;
  const arena = new Arena(
    [
      spec('other', [2], true, [segment('other', [2], 9)]),
      spec('qkv', [3 * d, d], true, [segment('q', [d, d], 1), segment('k', [d, d], 2), segment('v', [d, d], 3)]),
    ],
    { training: true },
  );
  arena.initialise();
  const qkv = arena.parameters.get('qkv')!;
  assert.equal([...qkv.shape], [15, 5]);
  assert.ok(qkv.value.packed);
  same(
    qkv.value.float32(),
    Float64Array.from({ length: 75 }, (_, i) => 1 + Math.floor(i / 25)),
  );
  arena.load(
    'k',
    Float32Array.from({ length: 25 }, (_, i) => 100 + i),
  );
  const whole = qkv.value.float32();
  same(
    whole.slice(25, 50),
    Float64Array.from({ length: 25 }, (_, i) => 100 + i),
  );
  same(whole.slice(0, 25), new Float64Array(25).fill(1));
  same(whole.slice(50), new Float64Array(25).fill(3));
  same(arena.export('v'), new Float64Array(25).fill(3));
  for (const key of ['q', 'k', 'v']) assert.is(arena.segment(key)!.parameter, qkv);
  assert.is(arena.segment('qkv'), undefined);
  arena.dispose();
});

const LAYOUTS: [FileLayout, number[], number[]][] = [
  ['same', [2, 3], [2, 3]],
  ['oihw', [2, 3, 4, 5], [2, 4, 5, 3]],
  ['iohw', [2, 3, 4, 5], [3, 4, 5, 2]],
  ['chw', [2, 3, 4], [3, 4, 2]],
];

test('layouts: each axis goes where it belongs, and back', () => {
  // A value tells its place in the file: digits are indices.
  const code = (index: number[]): number => index.reduce((n, i) => n * 10 + i, 1);
  const each = (shape: number[], visit: (index: number[]) => void, prefix: number[] = []): void => {
    if (prefix.length === shape.length) visit(prefix);
    else for (let i = 0; i < shape[prefix.length]!; i++) each(shape, visit, [...prefix, i]);
  };
  for (const [layout, file, engine] of LAYOUTS) {
    assert.equal(engineShape(file, layout), engine);
    const values: number[] = [];
    each(file, (index) => values.push(code(index)));
    const converted = fromFile(Float32Array.from(values), file, layout);
    const want: number[] = [];
    each(engine, (index) => {
      const [a, b, c, d] = index as [number, number, number, number];
      want.push(code({ same: [a, b], oihw: [a, d, b, c], iohw: [d, a, b, c], chw: [c, a, b] }[layout]));
    });
    same(converted, want, layout);
    same(toFile(converted, file, layout), values, layout);
  }
});

test('load and export round trips in every layout, both precisions, values, gradients and moments', () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const { arena, p } = arenaWith(Object.fromEntries(LAYOUTS.map(([layout, shape]) => [layout, { shape, layout }])), { dtype });
    const moment = Tensor.zeros(arena.values.shape, dtype);
    for (const [layout, file, engine] of LAYOUTS) {
      const values = Float32Array.from(randomValues(countOf(file), 60));
      arena.load(layout, values);
      same(arena.export(layout), values, layout);
      assert.equal([...p(layout).shape], engine);
      same(p(layout).value.data() as Float32Array, fromFile(values, file, layout), layout);
      const other = Float32Array.from(randomValues(countOf(file), 61));
      arena.import(layout, moment, other);
      same(arena.export(layout, moment), other, layout);
      arena.import(layout, arena.gradients!, other);
      same(p(layout).gradientView!.data() as Float32Array, fromFile(other, file, layout), layout);
      same(arena.export(layout), values, 'the values are as before');
    }
    moment.dispose();
    arena.dispose();
  }
});

test('a raised version makes packed weights anew', () => {
  const { arena, p } = arenaWith({ w: [3, 4] });
  tidy(() => {
    const x = Tensor.from(Float32Array.of(1, 0, 0, 0), [1, 4]);
    const first = (value: number): void => {
      const before = arena.version;
      arena.load('w', new Float32Array(12).fill(value));
      assert.ok(arena.version > before);
      same(
        tidy(() => linear(x, p('w')).float32()),
        [value, value, value],
      );
    };
    first(2);
    first(3);
    const before = arena.version;
    arena.initialise();
    assert.ok(arena.version > before);
    const w = p('w').value.float32();
    same(
      tidy(() => linear(x, p('w')).float32()),
      [w[0]!, w[4]!, w[8]!],
    );
  });
  arena.dispose();
});

test('initial values are those of the model, padding stays zero', () => {
  const { arena } = arenaWith({ a: { shape: [3] }, b: { shape: [17] } });
  const all = arena.values.float32();
  same(all.slice(0, 3), Float32Array.from(randomValues(3, 1)));
  same(all.slice(16, 33), Float32Array.from(randomValues(17, 2)));
  same(all.slice(3, 16), new Float32Array(13));
  same(all.slice(33), new Float32Array(15));
  arena.dispose();
});

test('dispose frees everything, panels included', () => {
  const start = memory();
  const { arena, p } = arenaWith({ w: [40, 33], kernel: { shape: [3, 4, 3, 3], layout: 'oihw' } });
  for (const name of ['w', 'kernel']) for (const use of ['forward', 'backward'] as const) p(name).packed(use);
  assert.is(memory().buffers, start.buffers + 6);
  arena.dispose();
  assert.is(memory().buffers, start.buffers);
  assert.is(memory().live, start.live);
});

test('names what is wrong', () => {
  const { arena } = arenaWith({ w: [3, 4] });
  throwsCode(() => arena.load('v', new Float32Array(12)), 'ERR_ARGS', 'v');
  throwsCode(() => arena.export('__proto__'), 'ERR_ARGS', '__proto__');
  throwsCode(() => arena.load('w', new Float32Array(11)), 'ERR_SHAPE', 'w', '12', '[3,4]', '11');
  arena.dispose();
  const wrong = (specs: ParameterSpec[], ...parts: string[]): void => {
    throwsCode(() => new Arena(specs, { training: false }), 'ERR_INTERNAL', ...parts);
  };
  wrong([spec('w', [3, 4], true, [segment('w', [3, 3], 0)])], 'w', '9', '[3,4]');
  wrong([spec('a', [1], true, [segment('k', [1], 0)]), spec('b', [1], true, [segment('k', [1], 0)])], 'same checkpoint key');
});

test.run();
