import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Parameter, packedLength } from '../../src/autograd/parameter.js';
import type { PackUse } from '../../src/autograd/parameter.js';
import { Tensor, countOf, dispatch, memory, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { INSTRUCTION_SETS, checkDeterminism, checkExact, randomValues, runCase, same } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';

const USES: readonly PackUse[] = ['forward', 'backward'];

// [N,K], then [O,kh,kw,I]: around the panel of 32, one row and one column, and what the models have in small.
const SHAPES: number[][] = [
  [1, 1],
  [1, 33],
  [33, 1],
  [3, 31],
  [32, 32],
  [33, 65],
  [196, 3],
  [64, 197],
  [257, 40],
  [1, 1, 1, 1],
  [5, 1, 1, 33],
  [33, 3, 3, 2],
  [2, 2, 3, 33],
  [64, 4, 4, 32],
  [31, 7, 7, 3],
];

/** [panel of 32 columns][tap][channel][32], zeros beyond the last column, in plain loops (kernels/pack/pack.h). */
function expected(shape: readonly number[], w: ArrayLike<number>, use: PackUse): number[] {
  const [o, i] = [shape[0]!, shape[shape.length - 1]!];
  const taps = shape.length === 4 ? shape[1]! * shape[2]! : 1;
  const [columns, channels] = use === 'forward' ? [o, i] : [i, o];
  const out: number[] = [];
  for (let panel = 0; panel < Math.ceil(columns / 32); panel++)
    for (let tap = 0; tap < taps; tap++)
      for (let channel = 0; channel < channels; channel++)
        for (let lane = 0; lane < 32; lane++) {
          const column = panel * 32 + lane;
          const [row, inner] = use === 'forward' ? [column, channel] : [channel, column];
          out.push(column < columns ? w[(row * taps + tap) * i + inner]! : 0);
        }
  return out;
}

function packCase(shape: number[], use: PackUse): OpCase {
  // Distinct whole numbers: a value in the wrong place cannot pass for another.
  const values = Float64Array.from({ length: countOf(shape) }, (_, i) => i + 1);
  return { op: 'pack', tensors: { w: { shape, values }, packed: { shape: [packedLength(shape, use)] } }, scalars: { use } };
}

test('the layout is the one described, in every use and rank', () => {
  for (const shape of SHAPES)
    for (const use of USES) {
      const c = packCase(shape, use);
      checkExact(c, { packed: expected(shape, c.tensors['w']!.values!, use) });
    }
});

test('values pass as they are: NaN, infinity, the sign of zero, subnormal numbers', () => {
  const values = Float64Array.from(randomValues(35 * 33, 1), Math.fround);
  values.set([NaN, Infinity, -Infinity, -0, Math.fround(1e-42)], 7);
  for (const use of USES) {
    const c: OpCase = { ...packCase([35, 33], use) };
    c.tensors['w'] = { shape: [35, 33], values };
    for (const set of INSTRUCTION_SETS) same(runCase(c, 'float32', set)['packed']!, expected([35, 33], values, use), `${use} ${set}`);
  }
});

test('the same bits on any number of threads', () => {
  for (const use of USES) {
    checkDeterminism(packCase([197, 130], use));
    checkDeterminism(packCase([67, 3, 3, 40], use));
  }
});

test('packedLength is what the op expects, no element less or more', () => {
  for (const shape of SHAPES)
    for (const use of USES)
      tidy(() => {
        const w = Tensor.zeros(shape);
        const length = packedLength(shape, use);
        dispatch('pack', { w, packed: Tensor.empty([length]), use });
        for (const other of [length - 1, length + 1, length + 32])
          throwsCode(() => dispatch('pack', { w, packed: Tensor.empty([other]), use }), 'ERR_SHAPE', 'pack', "'packed'", `[${length}]`);
      });
});

test('a parameter packs itself, and again only when its owner changed', () => {
  const start = memory().buffers;
  for (const shape of SHAPES) {
    const values = Float32Array.from({ length: countOf(shape) }, (_, i) => i + 1);
    const owner = { version: 1 };
    const p = new Parameter('w', Tensor.from(values, shape), undefined, owner);
    for (const use of USES) {
      const first = p.packed(use)!;
      same(first.float32(), expected(shape, values, use), `[${shape.join(',')}] ${use}`);
      assert.is(p.packed(use), first);
      p.value.write(values.map((v) => -v));
      same(p.packed(use)!.float32(), expected(shape, values, use), 'no new version: the panels stay');
      owner.version += 1;
      const negative = expected(shape, values, use).map((v) => (v === 0 ? 0 : -v));
      same(p.packed(use)!.float32(), negative, 'a new version: packed again');
      p.value.write(values);
      owner.version += 1;
    }
    p.dispose();
  }
  assert.is(memory().buffers, start);
});

test('kernels of any size pack forward; backward they have at most 49 positions', () => {
  const values = randomValues(3 * 64 * 2, 4);
  const p = new Parameter('w', Tensor.from(Float32Array.from(values), [3, 8, 8, 2]), undefined, { version: 1 });
  same(p.packed('forward')!.float32(), expected([3, 128], Float32Array.from(values), 'forward'));
  throwsCode(() => p.packed('backward'), 'ERR_SHAPE', 'pack', '49');
  p.dispose();
});

test('parameters in float64 have no panels: the reference kernels read the weight', () => {
  const p = new Parameter('w', Tensor.zeros([3, 4], 'float64'), undefined, { version: 1 });
  assert.is(p.packed('forward'), undefined);
  assert.is(p.packed('backward'), undefined);
  p.dispose();
});

test('names what is wrong', () => {
  tidy(() => {
    const packed = Tensor.empty([96]);
    throwsCode(() => dispatch('pack', { w: Tensor.zeros([1, 3, 1]), packed, use: 'forward' }), 'ERR_SHAPE', 'pack', 'rank 2 or 4');
    throwsCode(() => dispatch('pack', { w: Tensor.zeros([4, 3], 'float64'), packed, use: 'forward' }), 'ERR_DTYPE', "'packed'");
    throwsCode(() => dispatch('pack', { w: Tensor.zeros([12]).strided([4, 3], [1, 4]), packed, use: 'forward' }), 'ERR_SHAPE', "'w'");
    const gaps = Tensor.zeros([192]).strided([96], [2]);
    throwsCode(() => dispatch('pack', { w: Tensor.zeros([4, 3]), packed: gaps, use: 'forward' }), 'ERR_SHAPE', "'packed'");
    throwsCode(() => dispatch('pack', { w: Tensor.zeros([4, 3]), packed, use: 'sideways' as PackUse }), 'ERR_ARGS', "'use'");
  });
});

test.run();
