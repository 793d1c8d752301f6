import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tape, gradcheck } from '../../src/autograd/index.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { Theia } from '../../src/models/theia.js';
import { layernorm } from '../../src/ops/layernorm.js';
import { linear } from '../../src/ops/linear.js';
import { zero } from '../../src/tensor/constants.js';
import { Tensor, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { randomValues, same } from '../support/op-case.js';
import { arenaWith } from '../support/parameters.js';
import { image } from '../support/procedural.js';

const SHAPES = { w1: [9, 6], b1: [9], gamma: [9], beta: [9], w2: [4, 9], b2: [4] };

test('a small model: linear with gelu, layernorm, linear', () => {
  const start = memory().buffers;
  const { arena, p } = arenaWith(SHAPES, { dtype: 'float64' });
  const x = Tensor.from(randomValues(5 * 6, 40), [5, 6]);
  const model = (): Tensor => {
    const hidden = linear(x, p('w1'), { bias: p('b1'), activation: 'gelu' });
    return linear(layernorm(hidden, p('gamma'), p('beta'), 1e-5), p('w2'), { bias: p('b2') });
  };
  const before = arena.values.data() as Float64Array;
  const entries = gradcheck(model, arena.parameters.values(), { samples: 100 });
  assert.is(entries.length, arena.count);
  same(arena.values.data() as Float64Array, before, 'values come back');
  for (const name of Object.keys(SHAPES)) assert.ok(entries.some((e) => e.parameter === name && Math.abs(e.gradient) > 1e-3));
  arena.dispose();
  x.dispose();
  assert.is(memory().buffers, start);
});

test('a wrong backward is found, and named', () => {
  const { arena, p } = arenaWith({ w: [3, 4], bias: [3] }, { dtype: 'float64' });
  const x = Tensor.from(randomValues(8, 41), [2, 4]);
  // The gradient of w counted twice: as if an op had added where it had to write.
  const twice = (): Tensor => {
    const y = linear(x, p('w'), { bias: p('bias') });
    p('w').gradient();
    return y;
  };
  assert.is(gradcheck(() => linear(x, p('w'), { bias: p('bias') }), arena.parameters.values()).length, 7);
  p('w').gradientView!.write(new Float64Array(12).fill(1));
  throwsCode(() => gradcheck(twice, [p('w')]), 'ERR_AUTOGRAD');
  // A function that hides its dependence from the tape has gradient 0, and differences that are not.
  const hidden = (): Tensor => {
    const scaled = Tensor.from((p('w').value.data() as Float64Array).slice(0, 8), [2, 4]);
    return linear(scaled, p('w'), { bias: p('bias') });
  };
  throwsCode(() => gradcheck(hidden, arena.parameters.values()), 'ERR_AUTOGRAD', 'gradcheck: w[');
  arena.dispose();
  x.dispose();
});

test('a trainable parameter that is not reached has gradient zero; a frozen one is left out', () => {
  const { arena, p } = arenaWith({ w: [3, 4], bias: [3], idle: [2] }, { dtype: 'float64' });
  const x = Tensor.from(randomValues(8, 42), [2, 4]);
  p('bias').trainable = false;
  const entries = gradcheck(() => linear(x, p('w'), { bias: p('bias') }), arena.parameters.values());
  assert.equal([...new Set(entries.map((e) => e.parameter))], ['w', 'idle']);
  for (const e of entries) if (e.parameter === 'idle') assert.equal([e.gradient, e.difference], [0, 0]);
  arena.dispose();
  x.dispose();
});

test('float32 is refused: differences would be rounding', () => {
  const { arena, p } = arenaWith({ w: [3, 4] });
  throwsCode(() => gradcheck(() => linear(Tensor.zeros([1, 4]), p('w')), [p('w')]), 'ERR_DTYPE', 'float64', 'float32');
  arena.dispose();
});

for (const tokens of ['cls', 'nocls', 'reg'] as const)
  test(`a whole Theia, ${tokens}: parameters of every kind`, () => {
    zero('float64'); // made once and kept
    const start = memory().buffers;
    const teachers = new Map([
      ['a/same', [5, 14, 14]],
      ['b/seven', [3, 7, 7]],
      ...(tokens === 'cls' ? [['c/one_cls', [4]] as [string, number[]]] : []),
    ]);
    const config = newModelConfig({
      hidden: 16,
      depth: 1,
      heads: 2,
      mlp: 32,
      image: 224,
      patch: 16,
      tokens,
      registers: tokens === 'reg' ? 3 : 0,
      eps: 1e-12,
      teachers,
    });
    const model = new Theia(config, { training: true, dtype: 'float64', seed: 2 });
    // Initial weights of 0.02 leave attention nearly uniform and its gradients nearly zero: larger ones.
    for (const p of model.arena.parameters.values())
      if (/encoder\.layer.*weight$/.test(p.name) && p.shape.length === 2)
        tidy(() => p.value.write((p.value.data() as Float64Array).map((v) => v * 20)));
    const images = Tensor.from(image(3, 224, 224, 3, 5), [1, 224, 224, 3], 'uint8');
    const forward = (): Tensor[] => [...model.predict(model.encode(images).tokens).values()];
    const entries = gradcheck(forward, model.arena.parameters.values(), { samples: 2 });
    const kinds = new Set(entries.map((e) => e.parameter));
    assert.is(kinds.size, model.arena.parameters.size);
    const alive = new Set(entries.filter((e) => Math.abs(e.gradient) > 1e-9).map((e) => e.parameter));
    for (const name of kinds) assert.ok(alive.has(name), `both sampled gradients of ${name} are zero`);
    images.dispose();
    model.dispose();
    assert.is(memory().buffers, start);
  });

test('an exception in the function leaves nothing behind', () => {
  const { arena, p } = arenaWith({ w: [3, 4] }, { dtype: 'float64' });
  const start = memory().buffers;
  const x = Tensor.from(randomValues(8, 43), [2, 4]);
  const before = arena.values.data() as Float64Array;
  let calls = 0;
  const failing = (): Tensor => {
    const y = linear(x, p('w'));
    if (++calls === 4) throw new RangeError('enough');
    return y;
  };
  assert.throws(() => gradcheck(failing, arena.parameters.values()), /enough/);
  same(arena.values.data() as Float64Array, before);
  const tape = new Tape();
  assert.not.throws(() => tidy(() => void tape.run(() => linear(x, p('w')))), 'no tape records any more');
  tape.dispose();
  x.dispose();
  assert.is(memory().buffers, start);
  arena.dispose();
});

test.run();
