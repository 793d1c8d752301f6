import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tape, activeTape } from '../../src/autograd/index.js';
import { layernorm } from '../../src/ops/layernorm.js';
import { linear } from '../../src/ops/linear.js';
import { reshape, tokenMap } from '../../src/ops/view.js';
import { zero } from '../../src/tensor/constants.js';
import { Tensor, dispatch, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { relative, same, smallIntegers } from '../support/op-case.js';
import { arenaWith } from '../support/parameters.js';

/** Fixed inputs of [rows, k], small whole numbers. */
const input = (rows: number, k: number, seed = 50): Tensor => Tensor.from(Float32Array.from(smallIntegers(rows * k, seed)), [rows, k]);
const ones = (shape: readonly number[]): Tensor => Tensor.from(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);

test('tapes do not nest, and record only inside run', () => {
  const tape = new Tape();
  assert.is(activeTape(), undefined);
  tape.run(() => {
    assert.is(activeTape(), tape);
    throwsCode(() => new Tape().run(() => undefined), 'ERR_AUTOGRAD', 'nest');
    assert.is(activeTape(), tape);
  });
  assert.is(activeTape(), undefined);
  tape.dispose();
});

test('backward without a forward, twice, or a second forward on the same tape is refused', () => {
  const { arena, p } = arenaWith({ w: [3, 4] });
  tidy(() => {
    throwsCode(() => new Tape().backward(), 'ERR_AUTOGRAD', 'nothing was recorded');
    const outside = linear(input(2, 4), p('w'));
    assert.is(outside.shape.join(), '2,3');
    const tape = new Tape();
    const y = tape.run(() => linear(input(2, 4), p('w')));
    tape.backward([[y, ones(y.shape)]]);
    throwsCode(() => tape.backward([[y, ones(y.shape)]]), 'ERR_AUTOGRAD', 'backward ran already');
    throwsCode(() => tape.run(() => linear(input(2, 4), p('w'))), 'ERR_AUTOGRAD', 'one forward pass');
  });
  arena.dispose();
});

test('a tensor used twice gets the sum of both gradients', () => {
  const { arena, p } = arenaWith({ a: [3, 4], b: [5, 4] });
  for (const name of ['a', 'b']) p(name).value.write(Float32Array.from(smallIntegers(p(name).value.size, 51)));
  arena.version += 1;
  tidy(() => {
    const x = input(2, 4);
    const both = new Tape();
    both.watch(x);
    const [ya, yb] = both.run(() => [linear(x, p('a')), linear(x, p('b'))] as const);
    const [sum] = both.backward(
      [
        [ya, ones(ya.shape)],
        [yb, ones(yb.shape)],
      ],
      [x],
    );
    const alone = (name: string): Float32Array => {
      const tape = new Tape();
      tape.watch(x);
      const y = tape.run(() => linear(x, p(name)));
      const [dx] = tape.backward([[y, ones(y.shape)]], [x]);
      const values = dx!.float32();
      dx!.dispose();
      return values;
    };
    const other = alone('b');
    same(
      sum!.float32(),
      alone('a').map((v, i) => v + other[i]!),
    );
    sum!.dispose();
  });
  arena.dispose();
});

test('a parameter used twice in one pass gets the sum, and the next pass starts anew', () => {
  const { arena, p } = arenaWith({ w: [4, 4], bias: [4] });
  p('w').value.write(Float32Array.from(smallIntegers(16, 52)));
  p('bias').value.write(new Float32Array(4));
  arena.version += 1;
  const w = p('w').value.float32();
  const pass = (): void =>
    tidy(() => {
      const x = input(3, 4);
      const tape = new Tape();
      const y = tape.run(() => linear(linear(x, p('w'), { bias: p('bias') }), p('w'), { bias: p('bias') }));
      tape.backward([[y, ones(y.shape)]]);
    });
  const x = smallIntegers(12, 50);
  // d/dw of sum(x·wᵀ·wᵀ): the outer layer's inputs, plus w's column sums for the inner layer.
  const want = Float64Array.from({ length: 16 }, (_, e) => {
    const [row, column] = [Math.floor(e / 4), e % 4];
    let sum = 0;
    for (let i = 0; i < 3; i++) {
      let hidden = 0;
      let flowing = 0;
      for (let k = 0; k < 4; k++) {
        hidden += x[i * 4 + k]! * w[column * 4 + k]!;
        flowing += w[k * 4 + row]!;
      }
      sum += hidden + flowing * x[i * 4 + column]!;
    }
    return sum + 0;
  });
  for (let repeat = 0; repeat < 2; repeat++) {
    arena.beginGradients();
    assert.is(p('w').touched, false);
    pass();
    assert.is(p('w').touched, true);
    same(p('w').gradientView!.float32(), want, `pass ${repeat}`);
  }
  // Without a new beginning the gradients of passes add up.
  pass();
  same(
    p('w').gradientView!.float32(),
    want.map((v) => 2 * v),
  );
  arena.dispose();
});

test('a residual stream: the gradient through the branch and past it', () => {
  const { arena, p } = arenaWith({ w: [4, 4], gamma: [4], beta: [4] });
  tidy(() => {
    const x = input(3, 4, 53);
    const tape = new Tape();
    tape.watch(x);
    const y = tape.run(() => linear(layernorm(x, p('gamma'), p('beta'), 1e-5), p('w'), { residual: x }));
    const [dx] = tape.backward([[y, ones(y.shape)]], [x]);
    const through = new Tape();
    through.watch(x);
    const branch = through.run(() => linear(layernorm(x, p('gamma'), p('beta'), 1e-5), p('w')));
    const [dbranch] = through.backward([[branch, ones(branch.shape)]], [x]);
    assert.ok(
      relative(
        dx!.float32(),
        dbranch!.float32().map((v) => v + 1),
      ) < 1e-6,
    );
    dx!.dispose();
    dbranch!.dispose();
  });
  arena.dispose();
});

test('views pass gradients on: reshape and a map of some tokens', () => {
  const { arena, p } = arenaWith({ w: [2, 3] });
  tidy(() => {
    const tokens = Tensor.from(new Float32Array(1 * 6 * 3).fill(1), [1, 6, 3]);
    const tape = new Tape();
    tape.watch(tokens);
    const y = tape.run(() => linear(reshape(tokenMap(tokens, 1, 2), [4, 3]), p('w')));
    const [d] = tape.backward([[y, ones(y.shape)]], [tokens]);
    const w = p('w').value.float32();
    const column = (i: number): number => Math.fround(w[i]! + w[3 + i]!);
    const got = d!.float32();
    got.forEach((v, e) => {
      const token = Math.floor(e / 3);
      assert.is(v, token >= 1 && token < 5 ? column(e % 3) : 0, `token ${token}`);
    });
    d!.dispose();
  });
  arena.dispose();
});

test('what is not watched gets none; what is wanted but not reached is undefined', () => {
  const { arena, p } = arenaWith({ w: [3, 4] });
  tidy(() => {
    const [x, z] = [input(2, 4), input(2, 4)];
    const tape = new Tape();
    tape.watch(z);
    const y = tape.run(() => {
      const out = linear(x, p('w'));
      assert.ok(tape.reaches(out));
      assert.not(tape.reaches(x));
      return out;
    });
    assert.equal(tape.backward([[y, ones(y.shape)]], [x, z]), [undefined, undefined]);
    assert.ok(p('w').touched);
  });
  arena.dispose();
});

test('an intermediate result that is wanted', () => {
  const { arena, p } = arenaWith({ a: [4, 4], b: [2, 4] });
  tidy(() => {
    const tape = new Tape();
    const [hidden, y] = tape.run(() => {
      const h = linear(input(3, 4), p('a'));
      return [h, linear(h, p('b'))] as const;
    });
    const [dh] = tape.backward([[y, ones(y.shape)]], [hidden]);
    const b = p('b').value.float32();
    dh!.float32().forEach((v, e) => assert.is(v, Math.fround(b[e % 4]! + b[4 + (e % 4)]!)));
    dh!.dispose();
  });
  arena.dispose();
});

test('frozen parameters get no gradient, and a frozen layer passes on what flows through it', () => {
  const { arena, p } = arenaWith({ a: [4, 4], abias: [4], b: [2, 4], bbias: [2] });
  const sentinel = new Float32Array(arena.gradients!.size).fill(7);
  for (const frozen of [['b', 'bbias'], ['abias'], ['a', 'abias', 'b', 'bbias']]) {
    for (const q of arena.parameters.values()) q.trainable = !frozen.includes(q.name);
    arena.gradients!.write(sentinel);
    arena.beginGradients();
    tidy(() => {
      const tape = new Tape();
      const y = tape.run(() => linear(linear(input(3, 4), p('a'), { bias: p('abias') }), p('b'), { bias: p('bbias') }));
      if (frozen.length === 4) throwsCode(() => tape.backward([[y, ones(y.shape)]]), 'ERR_AUTOGRAD', 'nothing was recorded');
      else tape.backward([[y, ones(y.shape)]]);
    });
    for (const q of arena.parameters.values()) {
      const untouched = q.gradientView!.float32().every((v) => v === 7);
      assert.is(untouched, frozen.includes(q.name), `${q.name} with ${frozen.join()} frozen`);
      assert.is(q.touched, !frozen.includes(q.name));
    }
  }
  arena.dispose();
});

test('an arena for inference has no gradients and records nothing', () => {
  const { arena, p } = arenaWith({ w: [3, 4] }, { training: false });
  tidy(() => {
    const tape = new Tape();
    const y = tape.run(() => linear(input(2, 4), p('w')));
    throwsCode(() => tape.backward([[y, ones(y.shape)]]), 'ERR_AUTOGRAD', 'nothing was recorded');
    throwsCode(() => p('w').gradient(), 'ERR_AUTOGRAD', 'w', 'inference');
  });
  arena.dispose();
});

test('relu with a residual has no gradient from y alone, and says so', () => {
  const { arena, p } = arenaWith({ w: [4, 4] });
  tidy(() => {
    const tape = new Tape();
    throwsCode(
      () => tape.run(() => linear(input(2, 4), p('w'), { activation: 'relu', residual: input(2, 4) })),
      'ERR_AUTOGRAD',
      'relu',
      'residual',
    );
  });
  arena.dispose();
});

test('memory returns to its start after backward', () => {
  zero('float32'); // made once and kept
  const start = memory();
  const { arena, p } = arenaWith({ w: [8, 8], bias: [8], gamma: [8], beta: [8] });
  const values = memory().buffers;
  for (let pass = 0; pass < 3; pass++) {
    arena.version += 1;
    const tape = new Tape();
    tidy(() => {
      const x = input(5, 8);
      const y = tape.run(() => {
        let h = x;
        for (let i = 0; i < 3; i++)
          h = linear(layernorm(h, p('gamma'), p('beta'), 1e-5), p('w'), { bias: p('bias'), activation: 'gelu', residual: h });
        return h;
      });
      tape.backward([[y, ones(y.shape)]]);
    });
  }
  // The panels of w in both uses stay with the parameter.
  assert.is(memory().buffers, values + 2);
  arena.dispose();
  assert.is(memory().buffers, start.buffers);
  assert.is(memory().live, start.live);
});

test('memory returns to its start after an exception, in forward and in backward', () => {
  const { arena, p } = arenaWith({ w: [8, 8] });
  tidy(() => linear(input(1, 8), p('w'))); // the panels that stay
  p('w').packed('backward');
  const start = memory().buffers;
  const failing = new Tape();
  assert.throws(
    () =>
      tidy(() =>
        failing.run(() => {
          linear(linear(input(5, 8), p('w'), { activation: 'gelu' }), p('w'));
          throw new RangeError('in forward');
        }),
      ),
    /in forward/,
  );
  assert.is(activeTape(), undefined);
  assert.is(memory().buffers, start);
  throwsCode(() => failing.backward(), 'ERR_AUTOGRAD');

  const tape = new Tape();
  assert.throws(
    () =>
      tidy(() => {
        const x = input(5, 8);
        tape.watch(x);
        const [h, y] = tape.run(() => {
          const first = linear(x, p('w'));
          tape.record([first], [first], () => {
            throw new RangeError('in backward');
          });
          return [first, linear(first, p('w'))] as const;
        });
        tape.backward([[y, ones(y.shape)]], [h, y, x]);
      }),
    /in backward/,
  );
  assert.is(memory().buffers, start);
  arena.dispose();
});

test('saved tensors live until their backward ran, and no longer', () => {
  tidy(() => {
    const tape = new Tape();
    const start = memory().buffers;
    const out = tape.run(() => {
      const hidden = Tensor.from(Float32Array.of(1, 2, 3));
      const y = Tensor.from(Float32Array.of(0));
      tape.record([y], [hidden], (gradients, [saved]) => {
        assert.ok(hidden.disposed);
        same(saved!.float32(), [1, 2, 3]);
        same(gradients.of(y)!.float32(), [5]);
      });
      return y;
    });
    assert.is(memory().buffers, start + 2); // y and what was saved
    tape.backward([[out, Tensor.from(Float32Array.of(5))]]);
    assert.is(memory().buffers, start + 2); // y and the seed, both of this scope
  });
});

test('roots run though nothing flows into them; others do not', () => {
  tidy(() => {
    const ran: string[] = [];
    const tape = new Tape();
    tape.run(() => {
      const [a, b] = [Tensor.zeros([1]), Tensor.zeros([1])];
      tape.record([a], [], () => ran.push('op'));
      tape.record([b], [], (g) => (ran.push('loss'), g.add(a, Tensor.zeros([1]))), true);
      tape.record([Tensor.zeros([1])], [], () => ran.push('dead end'));
    });
    tape.backward();
    assert.equal(ran, ['loss', 'op']);
  });
});

test('a seed is not written into', () => {
  const { arena, p } = arenaWith({ w: [4, 4], gamma: [4], beta: [4] });
  tidy(() => {
    const x = input(3, 4);
    const tape = new Tape();
    tape.watch(x);
    const y = tape.run(() => linear(layernorm(x, p('gamma'), p('beta'), 1e-5), p('w'), { residual: x }));
    const seed = ones(y.shape);
    const [dx] = tape.backward([[y, seed]], [x]);
    same(seed.float32(), new Float32Array(12).fill(1));
    dx!.dispose();
    const sum = Tensor.empty(y.shape);
    dispatch('add', { a: seed, b: seed, y: sum });
    same(sum.float32(), new Float32Array(12).fill(2));
  });
  arena.dispose();
});

test.run();
