// Which tile and how many parts of k the GPU's products are cut into (kernels/gemm/device/choose.cu), for shapes too large for the emulator.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon } from '../../src/native/load.js';
import { deviceTest, withEmulated } from '../support/device-case.js';
import { withTile } from '../support/gemm-tile.js';
import { throwsCode } from '../support/errors.js';

type Family = 'plain' | 'mapped' | 'bytes' | 'any';
type Order = 'nt' | 'nn' | 'tn';

/** [m, n, k] of kernels/gemm/device/tiles.cuh. */
const TILES = [
  [128, 256, 32],
  [128, 128, 32],
  [128, 64, 64],
  [64, 64, 64],
  [64, 32, 64],
  [64, 64, 16],
] as const;

/** Those that kernels were compiled for. */
const EXISTS: Record<Family, Partial<Record<Order, number[]>>> = {
  plain: { nt: [0, 1, 2, 3, 4], nn: [0, 1, 2, 3, 4], tn: [0, 1, 2, 3] },
  mapped: { nt: [0, 1, 2, 3], nn: [0, 1, 2, 3], tn: [1, 2, 3] },
  bytes: { nt: [0, 2, 3], tn: [1, 3] },
  any: { nt: [3], nn: [3], tn: [3] },
};

interface Choice {
  tile: number;
  splits: number;
  /** blocks over the multiprocessors */
  waves: number;
}

function choose(m: number, n: number, k: number, family: Family, order: Order, type = 'bfloat16'): Choice {
  const code = addon().count('simt', `gemm ${m} ${n} ${k} ${type} ${family} ${order}`);
  const tile = code % 16;
  const splits = Math.floor(code / 16);
  const [tm, tn] = TILES[tile]!;
  return { tile, splits, waves: (Math.ceil(m / tm) * Math.ceil(n / tn) * splits) / 132 };
}

/** The products of Theia with token width d at this batch: name, m, n, k, how they are brought in. */
function products(batch: number, d: number): [string, number, number, number, Family, Order][] {
  const rows = 197 * batch;
  return [
    ['qkv', rows, 3 * d, d, 'plain', 'nt'],
    ['proj', rows, d, d, 'plain', 'nt'],
    ['fc1', rows, 4 * d, d, 'plain', 'nt'],
    ['fc2', rows, d, 4 * d, 'plain', 'nt'],
    ['dx of fc1', rows, d, 4 * d, 'plain', 'nn'],
    ['dx of fc2', rows, 4 * d, d, 'plain', 'nn'],
    ['dw of qkv', 3 * d, d, rows, 'plain', 'tn'],
    ['dw of proj', d, d, rows, 'plain', 'tn'],
    ['dw of fc1', 4 * d, d, rows, 'plain', 'tn'],
    ['patches', 196 * batch, d, 768, 'bytes', 'nt'],
    ['dw of patches', d, 768, 196 * batch, 'bytes', 'tn'],
    ['conv 3x3', 256 * batch, d, 9 * d, 'mapped', 'nt'],
    ['dx of conv 3x3', 256 * batch, d, 9 * d, 'mapped', 'nn'],
    ['dw of conv 3x3', d, 9 * d, 256 * batch, 'mapped', 'tn'],
  ];
}

const BATCHES = [1, 8, 16, 128];
const WIDTHS = [192, 384, 768];

deviceTest('every product of T, S and B gets a tile that exists, and parts of k that are worth their sum', (device) => {
  if (device !== 'simt') return;
  for (const capability of ['8.0', '9.0'])
    withEmulated({ multiprocessors: 132, capability }, () => {
      for (const batch of BATCHES)
        for (const d of WIDTHS)
          for (const [name, m, n, k, family, order] of products(batch, d)) {
            const c = choose(m, n, k, family, order);
            const label = `${name}, batch ${batch}, d ${d}: ${JSON.stringify(c)}`;
            assert.ok(EXISTS[family][order]!.includes(c.tile), label);
            assert.ok(c.splits >= 1 && c.splits <= 64, label);
            if (c.splits === 1) continue;
            assert.ok(c.splits * m * n * 4 <= 256 * 2 ** 20, label);
            // Parts are for filling the machine and for evening out its last wave, not for products that fill it many times.
            assert.ok(c.waves / c.splits < 4, label);
            assert.ok(k / c.splits >= 3 * TILES[c.tile]![2], label);
          }
    });
});

deviceTest('small products spread over the multiprocessors, large ones take large tiles', (device) => {
  if (device !== 'simt') return;
  withEmulated({ multiprocessors: 132 }, () => {
    // One image: tiles of 128 x 128 would leave nine of ten multiprocessors idle.
    for (const [name, m, n, k, family, order] of products(1, 192)) {
      const c = choose(m, n, k, family, order);
      assert.ok(c.tile >= 3, `${name}: ${JSON.stringify(c)}`);
    }
    // Weight gradients of a batch: few tiles, k of 25,216.
    const narrow = choose(192, 192, 25216, 'plain', 'tn');
    assert.ok(narrow.splits > 8 && narrow.waves > 0.5, JSON.stringify(narrow));
    const wide = choose(3072, 768, 25216, 'plain', 'tn');
    assert.ok(wide.tile <= 1 && wide.splits > 1, JSON.stringify(wide));
    // A whole batch through the widest layers: the tile with the fewest reads of its operands.
    for (const [m, n, k, family] of [
      [25216, 768, 3072, 'plain'],
      [25216, 3072, 768, 'plain'],
      [32768, 768, 6912, 'mapped'],
    ] as const) {
      const c = choose(m, n, k, family, 'nt');
      assert.ok(c.tile <= 1 && c.splits === 1, JSON.stringify(c));
    }
    // Columns of 192 are one and a half tiles of 128: a third of the work would be for nothing.
    assert.is(choose(25216, 192, 768, 'plain', 'nt').tile, 2);
  });
});

deviceTest('float32 and odd alignments have one tile each; edges', (device) => {
  if (device !== 'simt') return;
  withEmulated({ multiprocessors: 132 }, () => {
    for (const order of ['nt', 'nn', 'tn'] as const) {
      assert.is(choose(25216, 768, 768, 'any', order, 'float32').tile, 5);
      assert.is(choose(25216, 768, 768, 'any', order).tile, 3);
    }
    const none = choose(1, 1, 0, 'plain', 'nt');
    assert.is(none.splits, 1);
    const long = choose(1, 1, 1_000_000, 'plain', 'nt');
    assert.ok(long.splits > 16 && long.splits <= 64);
    const huge = choose(2 ** 33, 64, 64, 'plain', 'nt');
    assert.is(huge.splits, 1);
    throwsCode(() => addon().count('simt', 'gemm 1 1 1 bfloat16 plain tt'), 'ERR_ARGS', 'gemm');
    throwsCode(() => addon().count('simt', 'gemm 0 1 1 bfloat16 plain nt'), 'ERR_ARGS', 'gemm');
  });
  withEmulated({ multiprocessors: 8 }, () => {
    // Fewer multiprocessors are full sooner.
    assert.ok(choose(1576, 768, 768, 'plain', 'nt').tile <= 1);
  });
});

deviceTest('the environment can leave one tile', (device) => {
  if (device !== 'simt') return;
  for (const tile of [0, 1, 2, 3, 4])
    withTile(tile, () => {
      assert.is(choose(197, 768, 768, 'plain', 'nt').tile, tile);
      assert.is(choose(197, 768, 768, 'any', 'nt').tile, 3, 'where the tile does not exist, the choice is free');
    });
});

test.run();
