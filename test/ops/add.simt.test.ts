// The GPU's add (kernels/add/add.cu). The pattern of these files: test/support/device-case.ts.
import { test } from 'uvu';
import { Tensor, dispatch, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import {
  DEVICE_DTYPES,
  bf16,
  checkDeviceBf16,
  checkDeviceExact,
  checkDeviceFloat32,
  checkSchedules,
  deviceTest,
} from '../support/device-case.js';
import { randomValues, same, smallIntegers } from '../support/op-case.js';
import type { OpCase } from '../support/op-case.js';
import { throwsCode } from '../support/errors.js';

/** y = a + b; the tensors named stay float32. */
function addCase(count: number, values: (count: number, seed: number) => Float64Array, full: string[] = []): OpCase {
  const tensor = (name: string, given?: Float64Array): OpCase['tensors'][string] => ({
    shape: [count],
    full: full.includes(name),
    ...(given && { values: given }),
  });
  return { op: 'add', tensors: { a: tensor('a', values(count, 1)), b: tensor('b', values(count, 2)), y: tensor('y') } };
}

const sum = (c: OpCase): Float64Array => Float64Array.from(c.tensors['a']!.values!, (a, i) => a + c.tensors['b']!.values![i]!);

// 1024 elements a block where four are read at once, 256 elsewhere: 2052 and 700 are two blocks and a part.
deviceTest('exact on small integers, any mix of types', (device) => {
  for (const count of [0, 1, 3, 33, 256, 700, 2052])
    for (const full of [[], ['y'], ['b'], ['a', 'b'], ['b', 'y']]) {
      const c = addCase(count, smallIntegers, full);
      checkDeviceExact(device, c, { y: sum(c) });
    }
});

deviceTest('float32 as accurate as the plain loop', (device) => checkDeviceFloat32(device, addCase(2053, randomValues)));

deviceTest('bfloat16 as accurate as the plain loop', (device) => {
  checkDeviceBf16(device, addCase(2052, randomValues), (c) => ({ y: sum(c).map((v) => bf16(Math.fround(v))) }));
  checkDeviceBf16(device, addCase(700, randomValues, ['b', 'y']), (c) => ({ y: sum(c).map(Math.fround) }));
});

deviceTest('the same bits under every schedule', (device) => {
  checkSchedules(device, addCase(2052, randomValues));
  checkSchedules(device, addCase(701, randomValues));
});

deviceTest('works in place and passes NaN and infinity on', (device) =>
  tidy(() => {
    const make = (values: number[]): Tensor => Tensor.from(values, [values.length], 'float32', device);
    const a = make([1, NaN, Infinity, -Infinity]);
    dispatch('add', { a, b: make([1, 1, 1, Infinity]), y: a });
    same(a.float32(), [2, NaN, Infinity, NaN]);
  }),
);

deviceTest('refuses float64, other types, and tensors of two devices', (device) =>
  tidy(() => {
    const make = (dtype: DType, on = device): Tensor => Tensor.zeros([4], dtype, on);
    const run = (a: Tensor, b: Tensor, y: Tensor): void => dispatch('add', { a, b, y });
    const f64 = make('float64');
    throwsCode(() => run(f64, f64, make('float64')), 'ERR_UNSUPPORTED', 'add', 'float64', 'cpu only');
    throwsCode(() => run(f64, make('float32'), make('float32')), 'ERR_DTYPE', "'b'");
    throwsCode(() => run(make('float16'), make('float32'), make('float32')), 'ERR_DTYPE', "'a'");
    throwsCode(() => run(make('float32'), make('float32', 'cpu'), make('float32')), 'ERR_DEVICE', `'a' on ${device}`, `'b' on cpu`);
    throwsCode(() => run(make('bfloat16', 'cpu'), make('bfloat16', 'cpu'), make('bfloat16', 'cpu')), 'ERR_DTYPE', "'a'");
    for (const dtype of DEVICE_DTYPES) run(make(dtype), make('float32'), make('bfloat16'));
  }),
);

test.run();
