import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/safetensors.js';
import { Plan, Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { arenaOf, placed, slotRow } from '../support/arena.js';
import { throwsCode } from '../support/errors.js';
import { relativeError, requireGolden } from '../support/golden.js';
import { INSTRUCTION_SETS, SIMD_SETS, checkDeterminism, randomValues, runCase, same, toBf16 } from '../support/op-case.js';
import type { Values } from '../support/op-case.js';
import { ARENA, BETAS, LENGTHS, NUMBERS, PADDING, RUN, SLOTS, checkPadding, randomState, stepCase } from '../support/step-case.js';
import type { State } from '../support/step-case.js';

const golden = requireGolden('ops_adamw.safetensors', 'adamw golden');
if (golden)
  test('20 steps are those of torch.optim.AdamW: every bit in float32, and its float64 run', () => {
    const file = SafetensorsFile.open(golden);
    try {
      const names = ['p_decay', 'p_plain'] as const;
      const lengths = [35, 11];
      const arena = arenaOf(lengths.map((length, i) => ({ length, decay: i === 0, slot: 0 })));
      const place = (prefix: string): Float64Array =>
        placed(
          arena,
          names.map((n) => file.float32(prefix + n)),
          PADDING,
        );
      const zero = placed(
        arena,
        lengths.map((n) => new Float32Array(n)),
        PADDING,
      );
      for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const]) {
        let state: State = { param: place('start/'), exp_avg: zero, exp_avg_sq: zero };
        for (let step = 1; step <= 20; step++) {
          const slots = [slotRow({ lr: 0.01, weightDecay: 0.01, ...BETAS, step })];
          const out = runCase(stepCase(arena, state, place(`grad_${step}/`), slots), dtype, set);
          checkPadding(arena, lengths, out);
          state = out as unknown as State;
          if (![1, 2, 5, 10, 20].includes(step)) continue;
          for (const [i, name] of names.entries())
            for (const [suffix, tensor] of [
              ['', 'param'],
              ['.m', 'exp_avg'],
              ['.v', 'exp_avg_sq'],
            ] as const) {
              const got = out[tensor]!.slice(arena.offsets[i]!, arena.offsets[i]! + lengths[i]!);
              const label = `${name}${suffix} after step ${step} on ${set}`;
              if (dtype === 'float32') same(got, file.float32(`step_${step}/${name}${suffix}_f32`), label);
              else assert.ok(relativeError(got, file.float32(`step_${step}/${name}${suffix}`)) < 6e-8, label);
            }
        }
      }
    } finally {
      file.close();
    }
  });

test('every instruction set gives the bits of the plain loop, also with clipping and long moments', () => {
  const { state, grad } = randomState(1);
  for (const [clip, run] of [
    [1, RUN],
    [0.37, RUN],
    [0.37, { beta1: 0.3, beta2: 0.9, eps: 1e-3 }], // 1 - beta1 above 1/2: lerp goes from the other end
    [0, { beta1: 0, beta2: 0, eps: 1e-8 }],
  ] as const) {
    const c = stepCase(ARENA, state, grad, SLOTS, clip, run);
    const plain = runCase(c, 'float32', 'plain');
    checkPadding(ARENA, LENGTHS, plain);
    for (const set of SIMD_SETS) {
      const got = runCase(c, 'float32', set);
      for (const name of Object.keys(plain)) same(got[name]!, plain[name]!, `${name} on ${set} with clip ${clip}`);
    }
  }
});

test('float64 is the textbook step', () => {
  const { state, grad } = randomState(2);
  const clip = 0.5;
  const out = runCase(stepCase(ARENA, state, grad, SLOTS, clip), 'float64');
  for (const [s, length] of LENGTHS.entries()) {
    if (s % 3 === 2) continue;
    const { lr, weightDecay, step } = s % 3 === 0 ? NUMBERS : { ...NUMBERS, lr: 1e-3, step: 2 };
    for (let i = ARENA.offsets[s]!; i < ARENA.offsets[s]! + Math.min(length, 300); i++) {
      const g = grad[i]! * clip;
      const m = 0.9 * state.exp_avg[i]! + 0.1 * g;
      const v = 0.999 * state.exp_avg_sq[i]! + 0.001 * g * g;
      const update = m / (1 - 0.9 ** step) / (Math.sqrt(v / (1 - 0.999 ** step)) + 1e-8);
      const want = state.param[i]! * (1 - (s < 6 ? lr * weightDecay : 0)) - lr * update;
      assert.ok(Math.abs(out['param']![i]! - want) < 1e-14, `segment ${s}, element ${i}`);
      assert.ok(Math.abs(out['exp_avg']![i]! - m) < 1e-15 && Math.abs(out['exp_avg_sq']![i]! - v) < 1e-15, `segment ${s}, element ${i}`);
    }
  }
});

test('a segment that is not enabled stays as it is, whatever its gradient', () => {
  const { state, grad } = randomState(3);
  for (const [s, length] of LENGTHS.entries()) if (s % 3 === 2) grad.fill(NaN, ARENA.offsets[s]!, ARENA.offsets[s]! + length);
  for (const set of INSTRUCTION_SETS) {
    const out = runCase(stepCase(ARENA, state, grad, SLOTS), 'float32', set) as unknown as Record<keyof State, Values>;
    for (const [s, length] of LENGTHS.entries()) {
      const [from, to] = [ARENA.offsets[s]!, ARENA.offsets[s]! + length];
      for (const name of ['param', 'exp_avg', 'exp_avg_sq'] as const) {
        const got = out[name].subarray(from, to);
        if (s % 3 === 2) same(got, Array.from(state[name]).slice(from, to), `${name} of segment ${s} on ${set}`);
        else assert.ok(got.every(Number.isFinite) && got.some((v, i) => v !== state[name][from + i]), `${name} of segment ${s} on ${set}`);
      }
    }
  }
});

test('the copy of the weights is their bfloat16, where they were written', () => {
  const { state, grad } = randomState(6);
  const before = randomValues(ARENA.total, 7).map(toBf16);
  const c = stepCase(ARENA, state, grad, SLOTS, 0.8);
  c.tensors['weights'] = { shape: [ARENA.total], values: before, dtype: 'bfloat16' };
  for (const set of INSTRUCTION_SETS) {
    const out = runCase(c, 'float32', set);
    const want = Float64Array.from(before);
    for (const [s, length] of LENGTHS.entries())
      if (s % 3 !== 2) for (let i = ARENA.offsets[s]!; i < ARENA.offsets[s]! + length; i++) want[i] = toBf16(out['param']![i]!);
    same(out['weights']!, want, `weights on ${set}`);
    checkPadding(ARENA, LENGTHS, out);
    const { weights, ...rest } = c.tensors;
    void weights;
    same(out['param']!, runCase({ ...c, tensors: rest }, 'float32', set)['param']!, `param on ${set}`);
  }
});

test('a clip factor of NaN leaves everything untouched', () => {
  const { state, grad } = randomState(4);
  for (const [set, dtype] of [...INSTRUCTION_SETS.map((s) => [s, 'float32'] as const), ['plain', 'float64'] as const]) {
    const out = runCase(stepCase(ARENA, state, grad, SLOTS, NaN), dtype, set) as unknown as Record<keyof State, Values>;
    for (const name of ['param', 'exp_avg', 'exp_avg_sq'] as const) same(out[name], state[name], `${name} on ${set}`);
  }
});

test('same bits on any number of threads', () => {
  const { state, grad } = randomState(5);
  checkDeterminism(stepCase(ARENA, state, grad, SLOTS, 0.9));
});

test('a plan reads this step’s numbers, and stops by itself where the gradient is not finite', () => {
  tidy(() => {
    const arena = arenaOf([
      { length: 5, decay: true, slot: 0 },
      { length: 3, decay: false, slot: 0 },
    ]);
    const make = (): Tensor => Tensor.zeros([arena.total]);
    const [param, grad, exp_avg, exp_avg_sq] = [make(), make(), make(), make()];
    const segments = Tensor.from(BigInt64Array.from(Array.from(arena.table.values!, BigInt)), arena.table.shape);
    const slots = Tensor.from(slotRow({ ...NUMBERS, lr: 0, step: 1 }), [1, 4]);
    const limit = Tensor.from([1]);
    const norm = Tensor.zeros([1], 'float64');
    const clip_factor = Tensor.zeros([1]);
    const plan = Plan.record(() => {
      dispatch('grad_norm', { grad, segments, slots, limit, norm, clip_factor });
      dispatch('adamw', { param, grad, exp_avg, exp_avg_sq, segments, slots, clip_factor, ...RUN });
    });
    same(param.float32(), new Float32Array(arena.total), 'lr 0');
    const gradient = new Float32Array(arena.total).fill(NaN); // padding holds anything
    gradient.set([3, 0, 0, 0, 0], 0);
    gradient.set([0, 4, 0], arena.offsets[1]!);
    grad.write(gradient);
    slots.write(Float32Array.from(slotRow({ ...NUMBERS, lr: 0.1, step: 1 })));
    plan.replay();
    assert.is((norm.data() as Float64Array)[0], 5);
    assert.is(clip_factor.float32()[0], Math.fround(1 / (5 + 1e-6)));
    const moved = param.float32();
    assert.ok(moved[0]! < 0 && moved[arena.offsets[1]! + 1]! < 0, 'the second replay moves weights');
    const before = [param, exp_avg, exp_avg_sq].map((t) => t.float32());
    for (const bad of [NaN, Infinity]) {
      gradient[2] = bad;
      grad.write(gradient);
      plan.replay();
      assert.not.ok(Number.isFinite((norm.data() as Float64Array)[0]));
      for (const [i, t] of [param, exp_avg, exp_avg_sq].entries()) same(t.float32(), before[i]!, `after a gradient of ${bad}`);
    }
    // The table is memory: what was right at recording may be overwritten later. A replay looks at it again before it touches anything.
    gradient[2] = 0;
    grad.write(gradient);
    segments.write(BigInt64Array.from([0n, 1n << 40n, 1n, 0n, 16n, 3n, 0n, 1n << 50n]));
    throwsCode(() => plan.replay(), 'ERR_ARGS', "row 0 of 'segments'");
    same(param.float32(), before[0]!, 'rows that fit nowhere');
    plan.dispose();
  });
});

test('an empty table and an empty arena are no work', () => {
  tidy(() => {
    const empty = Tensor.zeros([0]);
    const one = Tensor.from([1]);
    const rows = Tensor.zeros([0, 4], 'int64');
    for (const n of [0, 1])
      dispatch('adamw', {
        param: n ? one : empty,
        grad: Tensor.zeros([n]),
        exp_avg: Tensor.zeros([n]),
        exp_avg_sq: Tensor.zeros([n]),
        segments: rows,
        slots: Tensor.zeros([0, 4]),
        clip_factor: Tensor.from([1]),
        ...RUN,
      });
    same(one.float32(), [1]);
  });
});

test('names field or row, expected and given', () => {
  tidy(() => {
    const z = (): Tensor => Tensor.zeros([32]);
    const table = (...rows: number[]): Tensor => Tensor.from(BigInt64Array.from(rows.map(BigInt)), [rows.length / 4, 4]);
    const good = {
      param: z(),
      grad: z(),
      exp_avg: z(),
      exp_avg_sq: z(),
      segments: table(0, 5, 1, 0, 16, 16, 0, 1),
      slots: Tensor.zeros([2, 4]),
      clip_factor: Tensor.zeros([1]),
      ...RUN,
    };
    dispatch('adamw', good);
    const fails = (change: object, code: 'ERR_SHAPE' | 'ERR_DTYPE' | 'ERR_ARGS', ...parts: string[]): void => {
      throwsCode(() => dispatch('adamw', { ...good, ...change }), code, 'adamw', ...parts);
    };
    fails({ grad: Tensor.zeros([31]) }, 'ERR_SHAPE', "'grad'", '[32]', '[31]');
    fails({ exp_avg: Tensor.zeros([32], 'float64') }, 'ERR_DTYPE', "'exp_avg'");
    fails({ exp_avg_sq: Tensor.zeros([64]).strided([32], [2]) }, 'ERR_SHAPE', "'exp_avg_sq'");
    fails({ slots: Tensor.zeros([2, 3]) }, 'ERR_SHAPE', "'slots'", '[2,4]', '[2,3]');
    fails({ segments: Tensor.zeros([2, 4]) }, 'ERR_DTYPE', "'segments'", 'int64');
    fails({ clip_factor: Tensor.zeros([2]) }, 'ERR_SHAPE', "'clip_factor'");
    fails({ weights: Tensor.zeros([31], 'bfloat16') }, 'ERR_SHAPE', "'weights'", '[32]', '[31]');
    fails({ weights: z() }, 'ERR_DTYPE', "'weights'", 'bfloat16', 'float32');
    fails({ segments: table(0, 5, 1, 0, 16, 17, 0, 1) }, 'ERR_ARGS', 'row 1', 'offset 16, length 17');
    fails({ segments: table(0, 5, 1, 0, 16, 16, 0, 2) }, 'ERR_ARGS', 'row 1', '2 slots', 'slot 2');
    fails({ segments: table(0, 5, 1, 0, 4, 16, 0, 1) }, 'ERR_ARGS', 'row 1', 'offset 5 or later', 'got 4');
    fails({ segments: table(0, 5, 2, 0) }, 'ERR_ARGS', 'row 0', 'decay', 'got 2');
    fails({ segments: table(-1, 5, 1, 0) }, 'ERR_ARGS', 'row 0', 'offset -1');
    fails({ segments: table(2 ** 53 - 1, 2 ** 53 - 1, 1, 0) }, 'ERR_ARGS', 'row 0');
    fails({ beta1: 1 }, 'ERR_ARGS', "'beta1'", 'got 1');
    fails({ beta2: NaN }, 'ERR_ARGS', "'beta2'");
    fails({ eps: -1 }, 'ERR_ARGS', "'eps'", 'got -1');
  });
});

test.run();
