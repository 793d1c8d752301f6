// The GPU's adamw (kernels/adamw/adamw.cu): the bits of the CPU, whatever the cut. The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { SafetensorsFile } from '../../src/formats/safetensors.js';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import { arenaOf, placed, slotRow } from '../support/arena.js';
import { checkSchedules, deviceTest, withEmulated } from '../support/device-case.js';
import { throwsCode } from '../support/errors.js';
import { requireGolden } from '../support/golden.js';
import { randomValues, runCase, same, toBf16 } from '../support/op-case.js';
import type { OpCase, Values } from '../support/op-case.js';
import { ARENA, BETAS, LENGTHS, PADDING, RUN, SLOTS, checkPadding, randomState, stepCase } from '../support/step-case.js';
import type { State } from '../support/step-case.js';

/** With the copy of the weights, which starts as other numbers. */
function withWeights(c: OpCase<'adamw'>): OpCase<'adamw'> {
  const shape = c.tensors['param']!.shape;
  return { ...c, tensors: { ...c.tensors, weights: { shape, values: randomValues(shape[0]!, 77), dtype: 'bfloat16' } } };
}

function sameAll(got: Record<string, Values>, want: Record<string, Values>, label: string): void {
  for (const name of Object.keys(want)) same(got[name]!, want[name]!, `${name} ${label}`);
}

const golden = requireGolden('ops_adamw.safetensors', 'adamw golden on devices');
if (golden)
  deviceTest('20 steps are those of torch.optim.AdamW, every bit', (device) => {
    using file = SafetensorsFile.open(golden);
    const names = ['p_decay', 'p_plain'] as const;
    const lengths = [35, 11];
    const arena = arenaOf(lengths.map((length, i) => ({ length, decay: i === 0, slot: 0 })));
    const place = (values: Float32Array[]): Float64Array => placed(arena, values, PADDING);
    const zero = place(lengths.map((n) => new Float32Array(n)));
    let state: State = { param: place(names.map((n) => file.float32(`start/${n}`))), exp_avg: zero, exp_avg_sq: zero };
    for (let step = 1; step <= 20; step++) {
      const slots = [slotRow({ lr: 0.01, weightDecay: 0.01, ...BETAS, step })];
      const grad = place(names.map((n) => file.float32(`grad_${step}/${n}`)));
      state = runCase(stepCase(arena, state, grad, slots), 'float32', { device }) as unknown as State;
      if (![1, 2, 5, 10, 20].includes(step)) continue;
      for (const [i, name] of names.entries())
        for (const [suffix, tensor] of [
          ['', 'param'],
          ['.m', 'exp_avg'],
          ['.v', 'exp_avg_sq'],
        ] as const) {
          const got = (state[tensor] as Values).slice(arena.offsets[i]!, arena.offsets[i]! + lengths[i]!);
          same(got, file.float32(`step_${step}/${name}${suffix}_f32`), `${name}${suffix} after step ${step} on ${device}`);
        }
    }
  });

deviceTest('the bits of the plain loop, aligned or not, in few blocks or many', (device) => {
  const { state, grad } = randomState(1);
  for (const [clip, run] of [
    [0.37, RUN],
    [0.37, { beta1: 0.3, beta2: 0.9, eps: 1e-3 }], // 1 - beta1 above 1/2: lerp goes from the other end
    [0, { beta1: 0, beta2: 0, eps: 1e-8 }],
  ] as const) {
    const c = withWeights(stepCase(ARENA, state, grad, SLOTS, clip, run));
    const plain = runCase(c, 'float32', 'plain');
    checkPadding(ARENA, LENGTHS, plain);
    sameAll(runCase(c, 'float32', { device }), plain, `on ${device} with clip ${clip}`);
    sameAll(runCase(c, 'float32', { device, shift: 1 }), plain, `on ${device} with clip ${clip}, unaligned`);
    if (device === 'simt')
      withEmulated({ multiprocessors: 1 }, () => sameAll(runCase(c, 'float32', { device }), plain, 'on one multiprocessor'));
  }
  const bare = stepCase(ARENA, state, grad, SLOTS);
  sameAll(runCase(bare, 'float32', { device }), runCase(bare, 'float32', 'plain'), `on ${device} without weights`);
});

deviceTest('segments that start anywhere, of any length', (device) => {
  const lengths = [1, 2, 3, 4, 5, 7, 8, 9, 31, 4095, 4097];
  const offsets: number[] = [];
  let next = 3;
  for (const n of lengths) {
    offsets.push(next);
    next += n + (n % 3);
  }
  const total = next + 5;
  const rows = lengths.flatMap((n, i) => [offsets[i]!, n, i % 2, 0]);
  const arena = { total, offsets, table: { shape: [lengths.length, 4], values: rows, dtype: 'int64' as const } };
  const values = (seed: number): Values => randomValues(total, seed).map(Math.fround);
  const state = { param: values(1), exp_avg: values(2), exp_avg_sq: values(3).map(Math.abs) };
  const c = withWeights(stepCase(arena, state, values(4), SLOTS));
  const plain = runCase(c, 'float32', 'plain');
  for (const shift of [0, 1, 2]) sameAll(runCase(c, 'float32', { device, shift }), plain, `shifted by ${shift} on ${device}`);
});

deviceTest('a clip factor of NaN leaves everything untouched; slots that are off and gradients that are not finite', (device) => {
  const { state, grad } = randomState(4);
  const off = withWeights(stepCase(ARENA, state, grad, SLOTS, NaN));
  const got = runCase(off, 'float32', { device });
  for (const name of ['param', 'exp_avg', 'exp_avg_sq'] as const) same(got[name]!, state[name], `${name} on ${device}`);
  same(got['weights']!, Array.from(off.tensors['weights']!.values!, toBf16), `weights on ${device}`);
  for (const [s, length] of LENGTHS.entries()) if (s % 3 === 2) grad.fill(NaN, ARENA.offsets[s]!, ARENA.offsets[s]! + length);
  grad[ARENA.offsets[3]!] = Infinity;
  const c = stepCase(ARENA, state, grad, SLOTS);
  sameAll(runCase(c, 'float32', { device }), runCase(c, 'float32', 'plain'), `on ${device}`);
});

deviceTest('the same bits under every schedule', (device) => {
  const { state, grad } = randomState(5);
  checkSchedules(device, withWeights(stepCase(ARENA, state, grad, SLOTS, 0.9)), ['float32']);
});

deviceTest('passes over rows that fit nowhere, and takes the others', (device) => {
  const total = 64;
  const values = (seed: number): Values => randomValues(total, seed).map(Math.fround);
  const state = { param: values(1), exp_avg: values(2), exp_avg_sq: values(3).map(Math.abs) };
  const step = (rows: number[][]): Record<string, Values> => {
    const table = { shape: [rows.length, 4], values: rows.flat(), dtype: 'int64' as const };
    return runCase(stepCase({ total, offsets: [], table }, state, values(4), SLOTS), 'float32', { device });
  };
  const good = step([[16, 16, 1, 0]]);
  const [far, huge] = [2 ** 52, 2 ** 62];
  const bad = [
    [-1, 5, 1, 0],
    [3, far, 0, 0],
    [5, -2, 0, 0],
    [16, 16, 1, 0],
    [33, 4, 0, 3],
    [38, 4, 0, -1],
    [40, huge, 0, huge],
    [48, 17, 0, 0],
    [65, 1, 0, 0],
  ];
  sameAll(step(bad), good, `on ${device}`);
});

deviceTest('empty tables, empty arenas, and what check refuses', (device) =>
  tidy(() => {
    const z = (n: number): Tensor => Tensor.zeros([n], 'float32', device);
    const args = (n: number): Parameters<typeof dispatch<'adamw'>>[1] => ({
      param: z(n),
      grad: z(n),
      exp_avg: z(n),
      exp_avg_sq: z(n),
      segments: Tensor.zeros([0, 4], 'int64', device),
      slots: Tensor.zeros([0, 4], 'float32', device),
      clip_factor: z(1),
      ...RUN,
    });
    dispatch('adamw', args(0));
    dispatch('adamw', args(1));
    throwsCode(() => dispatch('adamw', { ...args(4), grad: z(3) }), 'ERR_SHAPE', "'grad'");
    throwsCode(() => dispatch('adamw', { ...args(4), weights: z(4) }), 'ERR_DTYPE', "'weights'");
  }),
);

test.run();
