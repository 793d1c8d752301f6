import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TheiaError } from '../../src/errors.js';
import { helpText, parseVerbArgs, type Options } from '../../src/cli/args.js';

const options: Options = {
  weights: { type: 'string', value: 'W', help: 'the model', required: true },
  set: { type: 'string', value: 'KEY=VALUE', help: 'wins over the file', multiple: true },
  dtype: { type: 'string', help: 'of the computation', choices: ['float32', 'bfloat16'] },
  batch: { type: 'string', value: 'N', help: 'images at once' },
  'no-resize': { type: 'boolean', help: 'keeps the size' },
};
const parse = (...argv: string[]) => parseVerbArgs('encode', argv, options);

function fails(pattern: RegExp, hint: RegExp | undefined, work: () => unknown): void {
  try {
    work();
  } catch (error) {
    assert.instance(error, TheiaError);
    assert.is((error as TheiaError).code, 'ERR_ARGS');
    assert.match((error as TheiaError).message, pattern);
    if (hint !== undefined) assert.match((error as TheiaError).hint ?? '', hint);
    return;
  }
  assert.unreachable(`expected ${pattern}`);
}

test('values, flags, repeats', () => {
  const args = parse('--weights', 'w', '--set', 'a=1', '--no-resize', '--set=b=-2', '--batch', '4');
  assert.is(args.need('weights'), 'w');
  assert.equal(args.list('set'), ['a=1', 'b=-2']);
  assert.is(args.flag('no-resize'), true);
  assert.is(args.number('batch', { integer: true, min: 1 }), 4);
  assert.is(args.string('dtype'), undefined);
  assert.is(args.help, false);
  assert.is(parse('-h').help, true, 'help needs no required flag');
});

test('what cannot be read is named', () => {
  fails(/theia encode: unknown flag --wieghts/, /did you mean --weights\?/, () => parse('--wieghts', 'w'));
  fails(/unknown flag -x/, /--help/, () => parse('-x'));
  fails(/unknown flag --__proto__/, undefined, () => parse('--__proto__=1'));
  fails(/unknown flag --constructor/, undefined, () => parse('--constructor', '1'));
  fails(/--weights: expected a value \(W\), got none/, undefined, () => parse('--weights'));
  fails(/--weights: expected a value \(W\), got --no-resize/, undefined, () => parse('--weights', '--no-resize'));
  fails(/--weights: expected once, got it again/, undefined, () => parse('--weights', 'a', '--weights', 'b'));
  fails(/--no-resize: expected once/, undefined, () => parse('--weights', 'a', '--no-resize', '--no-resize'));
  fails(/--no-resize: expected no value, got "yes"/, undefined, () => parse('--weights', 'a', '--no-resize=yes'));
  fails(/expected --weights W, got none/, undefined, () => parse('--batch', '3'));
  fails(/expected flags only, got "image.jpg"/, undefined, () => parse('--weights', 'a', 'image.jpg'));
  fails(/expected flags only, got "image.jpg"/, undefined, () => parse('--weights', 'a', '--', 'image.jpg'));
  fails(/--dtype: expected one of float32, bfloat16, got "bfloat61"/, /did you mean bfloat16\?/, () =>
    parse('--weights', 'a', '--dtype', 'bfloat61'),
  );
});

test('numbers and choices', () => {
  const batch = (text: string) => parse('--weights', 'a', `--batch=${text}`);
  assert.is(batch('-1.5e3').number('batch'), -1500);
  assert.is(parse('--weights', 'a', '--batch', '-2').number('batch'), -2);
  for (const text of ['', 'x', '0x10', '1e999', 'NaN', '1 2'])
    fails(/--batch: expected a number, got/, undefined, () => batch(text).number('batch'));
  fails(/--batch: expected a whole number from 1 up, got "0"/, undefined, () => batch('0').number('batch', { integer: true, min: 1 }));
  fails(/--batch: expected a whole number from 1 to 9, got "1.5"/, undefined, () =>
    batch('1.5').number('batch', { integer: true, min: 1, max: 9 }),
  );
  fails(/--batch: expected one of one, two/, undefined, () => batch('tow').choice('batch', ['one', 'two']));
  assert.throws(() => batch('1').string('undeclared'), /not declared/);
});

test('the help names every flag', () => {
  const text = helpText('encode', 'images to tokens', options);
  for (const name of [...Object.keys(options), 'help']) assert.ok(text.includes(`--${name}`));
  assert.match(text, /--weights W .*required/);
  assert.match(text, /--dtype float32\|bfloat16/);
});

test.run();
