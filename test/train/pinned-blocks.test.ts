// The pool of pinned memory: nothing is lent twice, nothing before its copies are over, and nothing stays.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { memory } from '../../src/tensor/index.js';
import { PinnedBlocks } from '../../src/train/pinned-blocks.js';
import { deviceTest } from '../support/device-case.js';

/** A pool over memory that nothing pins, of which there are `most` blocks. */
function pool(most: number): { blocks: PinnedBlocks; pinned: Set<Uint8Array>; notices: string[] } {
  const pinned = new Set<Uint8Array>();
  const notices: string[] = [];
  const fake = {
    pinShared: (bytes: number): Uint8Array => {
      if (pinned.size === most) throw new TheiaError('ERR_OOM', 'no more');
      const block = new Uint8Array(new SharedArrayBuffer(bytes));
      pinned.add(block);
      return block;
    },
    unpin: (block: Uint8Array): void => assert.ok(pinned.delete(block)),
  };
  return { blocks: new PinnedBlocks(64, 'simt', (text) => notices.push(text), fake), pinned, notices };
}

test('as many blocks as are in flight, used again in turn', () => {
  const { blocks, pinned, notices } = pool(9);
  const [a, b] = [blocks.lend()!, blocks.lend()!];
  assert.is.not(a, b);
  assert.is(a.length, 64);
  for (let i = 0; i < 20; i++) {
    const c = blocks.lend()!;
    assert.is(new Set([a, b, c]).size, 3);
    blocks.giveBack([c, null], []);
  }
  assert.is(pinned.size, 3);
  blocks.giveBack([b, a], []);
  blocks.lend();
  assert.equal([blocks.lend() === b, blocks.lend() === a], [true, true], 'what was given back first is lent first');
  blocks.dispose();
  assert.is(pinned.size, 0);
  assert.equal(notices, []);
});

test('a block is not lent before every copy from it is over', () => {
  const { blocks } = pool(9);
  const block = blocks.lend()!;
  const order: string[] = [];
  const upload = (name: string): { done: () => void } => ({
    done: () => {
      assert.is.not(blocks.lend(), block, 'not while a copy is under way');
      order.push(name);
    },
  });
  blocks.giveBack([block], [upload('images'), upload('targets')]);
  assert.equal(order, ['images', 'targets'], 'all are waited for');
  assert.is(blocks.lend(), block);
  const failing = {
    done: (): void => {
      throw new TheiaError('ERR_CUDA', 'gone');
    },
  };
  assert.throws(() => blocks.giveBack([block], [failing]), 'gone');
  for (let i = 0; i < 5; i++) assert.is.not(blocks.lend(), block, 'who knows what still reads it');
  blocks.dispose();
});

test('out of pinned memory: said once, the blocks there are go round', () => {
  const { blocks, pinned, notices } = pool(2);
  const [a, b] = [blocks.lend(), blocks.lend()];
  for (let i = 0; i < 3; i++) assert.is(blocks.lend(), null);
  assert.equal(notices, ['2 batches at a time are built in pinned memory, the others are copied once more on their way to simt: no more']);
  blocks.giveBack([b, a], []);
  assert.equal([blocks.lend(), blocks.lend(), blocks.lend()], [b, a, null]);
  blocks.dispose();
  assert.is(pinned.size, 0);
  const none = pool(0);
  assert.is(none.blocks.lend(), null);
  assert.match(none.notices[0]!, /^no batch is built in pinned memory/);
});

test('what is no lack of memory is an error', () => {
  const memory = {
    pinShared: (): Uint8Array => {
      throw new TypeError('a mistake');
    },
    unpin: (): void => undefined,
  };
  assert.throws(() => new PinnedBlocks(1, 'simt', () => undefined, memory).lend(), 'a mistake');
});

deviceTest('blocks of a device are pinned until the pool goes', (device) => {
  const blocks = new PinnedBlocks(10_000, device, (text) => assert.unreachable(text));
  blocks.lend();
  const back = blocks.lend();
  blocks.giveBack([back], []);
  assert.ok(memory(device).pinned >= 20_000);
  blocks.dispose();
  assert.is(memory(device).pinned, 0);
});

test.run();
