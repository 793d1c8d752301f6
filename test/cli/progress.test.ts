import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Progress, clock } from '../../src/cli/progress.js';

function sink(isTTY: boolean, columns?: number) {
  const written: string[] = [];
  return { written, isTTY, columns, write: (text: string) => written.push(text) };
}
const state = { loss: 0.51239, imagesPerS: 117.04 };

test('a pipe gets plain lines, few of them, and the last', () => {
  const stream = sink(false);
  let ms = 0;
  const progress = new Progress({ total: 100, stream, now: () => ms });
  for (let step = 1; step <= 100; step++) {
    ms += 1000;
    progress.update(step, state);
  }
  progress.finish();
  assert.is(stream.written.length, 11);
  assert.is(stream.written[0], 'step 1/100  loss 0.5124  117.0 images/s  1:39 left\n');
  assert.is(stream.written.at(-1), 'step 100/100  loss 0.5124  117.0 images/s  0:00 left\n');
  assert.not.ok(stream.written.some((text) => /[\x1b\r]/.test(text)));
});

test('a terminal gets one line, drawn over and never longer than it', () => {
  const stream = sink(true, 70);
  let ms = 0;
  const progress = new Progress({ total: 10, stream, now: () => ms });
  ms = 1000;
  progress.update(5, state);
  progress.update(6, state); // too soon
  progress.note('saved');
  progress.finish(); // nothing drawn since the note
  ms = 2000;
  progress.update(10, state);
  progress.finish();
  assert.match(stream.written[0], /^\r\[#+\.+\] 5\/10 {2}loss 0\.5124 {2}117\.0 images\/s {2}0:01 left\x1b\[K$/);
  assert.is(stream.written[1], '\r\x1b[Ksaved\n');
  assert.match(stream.written[2], /^\r\[#+\] 10\/10/);
  assert.is(stream.written[3], '\n');
  for (const text of stream.written) assert.ok(text.replace(/\x1b\[K|[\r\n]/g, '').length < 70);
  const narrow = sink(true, 20);
  new Progress({ total: 10, stream: narrow, now: () => 0 }).update(1, state);
  assert.is(narrow.written[0].replace(/\x1b\[K|\r/g, '').length, 19);
});

test('steps done before a resume do not count for the time left', () => {
  const stream = sink(false);
  let ms = 0;
  const progress = new Progress({ total: 100, first: 90, stream, now: () => ms });
  progress.update(90, state);
  ms = 20000;
  progress.update(95, state);
  assert.match(stream.written[0], /-:-- left/);
  assert.match(stream.written[1], /0:20 left/);
});

test('clock', () => {
  assert.equal([0, 75, 3675, NaN, Infinity, -3].map(clock), ['0:00', '1:15', '1:01:15', '-:--', '-:--', '0:00']);
});

test.run();
