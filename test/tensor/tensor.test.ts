import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  DTYPES,
  Tensor,
  bytesOf,
  cudaDevices,
  dispatch,
  keep,
  memory,
  resetPeakMemory,
  resolveDevice,
  threads,
  tidy,
  trimMemory,
} from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';

const start = memory();
/** Every test gives back what it took. */
function leavesNothing(name: string, fn: () => void): void {
  test(name, () => {
    fn();
    const now = memory();
    assert.is(now.live, start.live, 'bytes live');
    assert.is(now.buffers, start.buffers, 'buffers');
  });
}

leavesNothing('tidy frees what it does not return, also when it throws', () => {
  const kept = tidy(() => {
    Tensor.zeros([100]);
    return { list: [Tensor.from([1, 2])], map: new Map([['x', Tensor.from([3])]]), n: 1, none: null };
  });
  assert.is(memory().buffers, start.buffers + 2);
  assert.equal([...kept.list[0]!.float32(), ...kept.map.get('x')!.float32()], [1, 2, 3]);
  kept.list[0]!.dispose();
  kept.map.get('x')!.dispose();
  assert.throws(() =>
    tidy(() => {
      Tensor.zeros([100]);
      throw new Error('on the way');
    }),
  );
});

leavesNothing('what an inner scope returns belongs to the outer one', () => {
  tidy(() => {
    const t = tidy(() => Tensor.from([1]));
    assert.is(t.disposed, false);
    return 0;
  });
  assert.is(memory().buffers, start.buffers);
});

leavesNothing('keep takes a tensor out of all scopes', () => {
  const kept: Tensor[] = [];
  tidy(() => tidy(() => void kept.push(keep(Tensor.from([7])))));
  assert.is(memory().buffers, start.buffers + 1);
  assert.equal([...kept[0]!.float32()], [7]);
  kept[0]!.dispose();
});

leavesNothing('a view keeps the memory alive until the last of them goes', () => {
  const t = Tensor.from([1, 2, 3, 4, 5, 6], [2, 3]);
  const row = t.slice(0, 1, 1);
  const turned = t.strided([3, 2], [1, 3]);
  t.dispose();
  assert.equal([...row.float32()], [4, 5, 6]);
  assert.is(turned.packed, false);
  throwsCode(() => turned.data(), 'ERR_SHAPE', 'packed');
  throwsCode(() => turned.reshape([6]), 'ERR_SHAPE', 'packed');
  row.dispose();
  assert.is(memory().buffers, start.buffers + 1);
  turned.dispose();
});

leavesNothing('views that leave their memory are caught by the addon', () => {
  tidy(() => {
    const t = Tensor.from([1, 2, 3, 4]);
    throwsCode(
      () => dispatch('add', { a: t.strided([5], [1]), b: t.strided([5], [1]), y: t.strided([5], [1]) }),
      'ERR_SHAPE',
      'reaches past',
    );
    throwsCode(() => t.strided([4], [1], 1).data(), 'ERR_SHAPE', 'reach past');
    throwsCode(() => t.strided([1], [1], -1).data(), 'ERR_ARGS');
  });
});

leavesNothing('shapes, slices and values that cannot be', () => {
  tidy(() => {
    const t = Tensor.from([1, 2, 3, 4], [2, 2]);
    for (const shape of [[-1], [0.5], [NaN], [1, 1, 1, 1, 1, 1], [2 ** 44, 2], [2 ** 30, 2 ** 30]])
      throwsCode(() => Tensor.empty(shape), 'ERR_SHAPE');
    throwsCode(() => t.reshape([3]), 'ERR_SHAPE', '4 elements');
    for (const [axis, from, length] of [
      [0, 1, 2],
      [0, -1, 1],
      [2, 0, 1],
      [0, 0.5, 1],
      [1, 0, NaN],
    ] as const)
      throwsCode(() => t.slice(axis, from, length), 'ERR_SHAPE');
    throwsCode(() => t.write(new Float32Array(3)), 'ERR_SHAPE', '4 values', 'got 3');
    throwsCode(() => t.write(new Float64Array(4)), 'ERR_DTYPE');
    throwsCode(() => t.readInto(new Int32Array(4)), 'ERR_DTYPE');
    throwsCode(() => Tensor.from(new Uint16Array(2)), 'ERR_DTYPE', 'bfloat16 or float16');
    throwsCode(() => Tensor.from(new Float32Array(2), [3]), 'ERR_SHAPE');
    throwsCode(() => Tensor.from([1, 2], [2], 'float64').float32(), 'ERR_DTYPE');
  });
});

leavesNothing('every dtype goes in and comes out', () => {
  tidy(() => {
    for (const dtype of DTYPES) {
      const t = Tensor.zeros([2, 3], dtype);
      assert.is(t.data().length, 6);
      assert.is(t.data().BYTES_PER_ELEMENT, bytesOf(dtype));
      assert.ok(t.data().every((v: number | bigint) => Number(v) === 0));
    }
    assert.equal([...Tensor.from(new BigInt64Array([-5n, 2n ** 62n])).data()], [-5n, 2n ** 62n]);
    assert.equal([...Tensor.from([1, 2, 255], [3], 'uint8').data()], [1, 2, 255]);
    assert.equal([...Tensor.zeros([0]).float32()], []);
    assert.equal([...Tensor.from([9], []).float32()], [9]);
  });
});

leavesNothing('use after free is ERR_DISPOSED and names the shape; a second dispose does nothing', () => {
  const t = Tensor.from([1, 2, 3]);
  t.dispose();
  t.dispose();
  assert.is(t.disposed, true);
  assert.is(t.device, 'cpu'); // like its shape, this stays known
  tidy(() => {
    const alive = Tensor.from([1, 2, 3]);
    for (const use of [
      () => t.data(),
      () => t.write(new Float32Array(3)),
      () => t.reshape([3]),
      () => t.slice(0, 0, 1),
      () => t.retain(),
      () => dispatch('add', { a: alive, b: t, y: alive }),
    ])
      throwsCode(use, 'ERR_DISPOSED', '[3]');
  });
});

leavesNothing('retain: the memory outlives its scope', () => {
  const own = tidy(() => Tensor.from([4, 2]).retain());
  assert.equal([...own.float32()], [4, 2]);
  assert.is(own.exclusive, true);
  const second = own.retain();
  assert.is(own.exclusive, false);
  const only = own.retainOnly();
  assert.is(own.disposed, true);
  second.dispose();
  only.dispose();
});

leavesNothing('using disposes at the end of the block', () => {
  {
    using t = Tensor.from([1]);
    assert.is(t.size, 1);
    assert.is(memory().buffers, start.buffers + 1);
  }
  assert.is(memory().buffers, start.buffers);
});

leavesNothing('memory: live, peak, cached, and a loop that needs no new memory after its first round', () => {
  resetPeakMemory();
  const before = memory().live;
  tidy(() => {
    Tensor.empty([1 << 20]);
    assert.ok(memory().live >= before + (4 << 20));
  });
  assert.ok(memory().peak >= before + (4 << 20));
  assert.ok(memory().cached >= 4 << 20);
  const round = (): void =>
    tidy(() => {
      const a = Tensor.zeros([1000]);
      dispatch('add', { a, b: a, y: Tensor.empty([1000]) });
    });
  round();
  const cached = memory().cached;
  for (let i = 0; i < 100; i++) round();
  assert.is(memory().cached, cached);
  trimMemory();
  assert.is(memory().cached, 0);
});

test('devices: cpu and auto are there, others say why they are not', () => {
  assert.is(resolveDevice('cpu'), 'cpu');
  let notice = '';
  const auto = resolveDevice('auto', (line) => (notice = line));
  const { devices, trouble } = cudaDevices();
  const usable = devices.filter((d) => d.trouble === undefined);
  assert.is(auto, usable[0]?.device ?? 'cpu');
  assert.ok(notice.startsWith(`device auto: ${auto} (`), notice);
  if (trouble !== undefined) {
    assert.ok(notice.includes(trouble), 'auto says why there is no GPU');
    for (const device of ['cuda', 'cuda:0', 'cuda:3']) throwsCode(() => resolveDevice(device), 'ERR_DEVICE', trouble);
    throwsCode(() => Tensor.zeros([1], 'float32', 'cuda'), 'ERR_DEVICE', trouble);
  }
  for (const device of ['gpu', 'cuda:', 'cuda:x', 'cuda:01', '', 'CPU', 'cpu:1']) {
    throwsCode(() => resolveDevice(device), 'ERR_DEVICE');
    throwsCode(() => Tensor.empty([1], 'float32', device as 'cpu'), 'ERR_DEVICE');
  }
});

test('threads: a number, and 0 for what the machine gives', () => {
  const before = threads();
  assert.is(threads(3), 3);
  assert.is(threads(), 3);
  assert.ok(threads(0) >= 1);
  threads(before);
});

test.run();
