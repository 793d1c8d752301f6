import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJson } from '../../src/formats/index.js';
import { findGoldenFacts, goldenFacts, goldenTolerances } from '../../src/parity/golden.js';
import { judge, measure, median, placeOf, sampleIndex, uniformTolerances } from '../../src/parity/compare.js';
import type { Difference } from '../../src/parity/compare.js';
import { planParity, runParity } from '../../src/parity/run.js';
import { throwsCode } from '../support/errors.js';
import { sampleIndices } from '../support/golden.js';
import { inFolder, pictures, tinyModel } from '../support/tiny-model.js';

const own = (values: number[], shape = [values.length]) => ({ shape, values: Float32Array.from(values) });
const ref = (values: number[], shape = [values.length], name = 'tokens') => ({ name, shape, values: Float32Array.from(values) });

test('the error is relative to the reference, in float64, with its place', () => {
  const d = measure(own([1, 2, 3, 5, 0, 0], [2, 3]), ref([1, 2, 3, 4, 0, 0], [2, 3]));
  assert.equal([d.error, d.reference, d.abs, d.at, d.samples], [1, Math.sqrt(30), 1, [1, 0], undefined]);
  const [row] = judge([d], uniformTolerances(0.1));
  assert.is(row!.rel, 1 / Math.sqrt(30));
  assert.equal([row!.ok, row!.limit], [false, 0.1]);
  assert.is(judge([d], uniformTolerances(0.2))[0]!.ok, true);
});

test('equal tensors of zeros agree; zeros against something do not', () => {
  const rows = judge([measure(own([0, 0]), ref([0, 0])), measure(own([0, 1e-9]), ref([0, 0]))], uniformTolerances(1));
  assert.equal(
    rows.map((r) => [r.rel, r.ok]),
    [
      [0, true],
      [null, false],
    ],
  );
});

test('samples follow the rule floor(k * numel / count) of the published layout', () => {
  assert.equal(placeOf(23, [2, 3, 4]), [1, 2, 3]);
  for (const [numel, count] of [
    [100, 7],
    [327680, 4096],
    [589824, 64],
    [2 ** 31 + 11, 4096],
  ] as const)
    assert.equal(
      Array.from({ length: count }, (_, k) => sampleIndex(k, numel, count)),
      sampleIndices(numel, count),
    );
  const values = Array.from({ length: 100 }, (_, i) => i);
  const d = measure(own(values, [4, 5, 5]), ref([0, 14, 28, 42, 57, 71, 85]));
  assert.equal([d.error, d.samples, d.shape], [0, 7, [4, 5, 5]]);
  const off = measure(own(values, [4, 5, 5]), ref([0, 14, 28, 42, 57, 71, 86]));
  assert.equal(off.at, [3, 2, 0], 'a place in the whole tensor');
});

test('scalars are [] or [1]; other shapes are refused', () => {
  assert.is(measure(own([2], []), ref([2], [1])).error, 0);
  assert.is(measure(own([2], []), ref([2], [])).error, 0);
  throwsCode(() => measure(own([1, 2, 3, 4], [2, 2]), ref([1, 2, 3], [1, 3])), 'ERR_SHAPE', 'tokens', '[2,2]', '[1,3]');
  throwsCode(() => measure(own([1, 2, 3, 4], [2, 2]), ref([1, 2, 3, 4], [4, 1])), 'ERR_SHAPE');
  throwsCode(() => measure(own([1, 2], [2]), ref([1, 2, 3])), 'ERR_SHAPE');
  throwsCode(() => measure(own([1, 2], [2]), ref([], [0])), 'ERR_SHAPE');
});

test('what is not finite never holds, on either side, and is shown', () => {
  for (const [x, r] of [
    [NaN, 1],
    [1, NaN],
    [Infinity, 1],
    [Infinity, Infinity],
  ] as const) {
    const [row] = judge([measure(own([0, x], [1, 2]), ref([0, r], [1, 2]))], uniformTolerances(1e9));
    assert.equal([row!.rel, row!.abs, row!.ok, row!.at], [null, null, false, [0, 1]]);
  }
});

function gradient(name: string, reference: number, error: number, x = error): Difference {
  return { name, shape: [1], error, own: x, reference, abs: error, at: [0], finite: true };
}

test('a gradient that is zero in exact arithmetic is judged against the largest one', () => {
  const differences = [
    gradient('grad/a.weight', 2, 0),
    gradient('grad/key.bias', 1e-18, 1e-6, 1e-6),
    gradient('grad/small', 4e-9, 0),
    gradient('tokens', 1e-30, 0),
    gradient('grad_tokens', 1e9, 0),
  ];
  const rows = judge(differences, uniformTolerances(1e-6));
  assert.equal(
    rows.map((r) => r.rel),
    [0, null, 0, 0, 0],
  );
  assert.equal([rows[1]!.scaled, rows[1]!.ok, rows[1]!.limit], [5e-7, true, 1e-6]);
  differences[1] = gradient('grad/key.bias', 1e-18, 3e-6, 3e-6);
  assert.is(judge(differences, uniformTolerances(1e-6))[1]!.ok, false);
  const broken = { ...differences[1], finite: false };
  assert.is(judge([differences[0]!, broken], uniformTolerances(1)).at(-1)!.ok, false);
});

test('the tolerance table: 20 times the float32 error, floors, and the median where signs may flip', () => {
  const facts = { float32Error: new Map([['tokens', 1e-6], ['grad/a', 1e-5], ['loss/main', 1e-9]]), nearZero: 0 }; // prettier-ignore
  const strict = goldenTolerances(facts);
  const near = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-12, `${a} is ${b}`);
  near(strict.limit('tokens'), 2e-5);
  near(strict.limit('loss/main'), 1e-5);
  near(strict.limit('grad/a'), 2e-4);
  near(strict.limit('grad_tokens'), 2e-5);
  near(strict.zeroGradient, 1e-6);
  const flips = goldenTolerances({ ...facts, nearZero: 3 });
  near(flips.limit('tokens'), 2e-5);
  near(flips.limit('grad/a'), 5e-2);
  const rows = (errors: number[]) =>
    judge(
      errors.map((e, i) => gradient(`grad/${i}`, 1, e)),
      flips,
    ).map((r) => r.ok);
  assert.equal(rows([1e-3, 1e-3, 4e-2]), [true, true, true]);
  assert.equal(rows([1e-3, 1e-3, 6e-2]), [true, true, false]);
  assert.equal(rows([1e-3, 6e-3, 4e-2]), [true, false, false], 'with the median above 5e-3 all above it fail');
  assert.equal([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5]);
  near(goldenTolerances().limit('grad/a'), 2e-5);
});

test('manifests: the first that names the file, hostile ones refused', () =>
  inFolder((folder) => {
    const [a, b] = [join(folder, 'a'), join(folder, 'b')];
    mkdirSync(a);
    mkdirSync(b);
    const files = (error: number) => ({
      files: { 'r.safetensors': { tensors: { tokens: { f32_rel_err: error } }, relu: { below_3e_6: 2 } } },
    });
    writeFileSync(join(a, 'manifest.json'), JSON.stringify({ files: {} }));
    writeFileSync(join(b, 'manifest.json'), JSON.stringify(files(0.5)));
    const found = findGoldenFacts('/elsewhere/r.safetensors', [folder, a, b]);
    assert.equal([found!.float32Error.get('tokens'), found!.nearZero], [0.5, 2]);
    writeFileSync(join(a, 'manifest.json'), JSON.stringify(files(0.25)));
    assert.is(findGoldenFacts('r.safetensors', [a, b])!.float32Error.get('tokens'), 0.25);
    assert.is(findGoldenFacts('other.safetensors', [a, b]), undefined);
    assert.is(goldenFacts(parseJson('{"files":{"x":[]}}', 'm'), 'x'), undefined);
    assert.is(
      goldenFacts(parseJson('{"files":{"x":{"relu":3,"tensors":{"t":null,"u":{"f32_rel_err":"1"}}}}}', 'm'), 'x')!.float32Error.size,
      0,
    );
    assert.is(goldenFacts(parseJson('[]', 'm'), '__proto__'), undefined);
    writeFileSync(join(a, 'manifest.json'), '{"files":');
    throwsCode(() => findGoldenFacts('r.safetensors', [a]), 'ERR_CORRUPT', 'manifest.json');
  }));

test('names: known ones of this model, the rest is listed', () => {
  using model = tinyModel();
  const known = ['tokens', 'hidden/0', 'hidden/2', 'reduce/cls', 'reduce/identity', 'pred/mini/vit.16', 'pred/mini/vit_16', 'loss/main']; // prettier-ignore
  const unknown = ['hidden/3', 'hidden/-1', 'hidden/', 'reduce/sum', 'pred/other', 'loss/huber', 'loss/mse/other', 'loss_weight/mse', 'grad/other', '__proto__', 'x']; // prettier-ignore
  const plan = planParity(model, ['images', ...known, ...unknown]);
  assert.equal([plan.compared, plan.notCompared], [known, unknown]);
  assert.equal([plan.gradients, plan.targets], [false, ['mini/vit.16', 'mini/vit.16_cls']]);
  assert.equal(planParity(model, ['loss/l1/mini/vit.16_cls']).targets, ['mini/vit.16_cls']);
  assert.is(planParity(model, ['grad/backbone.model.encoder.layer.0.attention.attention.key.bias']).gradients, true);
  using bare = tinyModel({ teachers: {} });
  assert.equal(planParity(bare, ['loss/main', 'loss/mse', 'grad_tokens', 'tokens']).compared, ['tokens']);
  using nocls = tinyModel({ tokens: 'nocls', teachers: { a: [4, 16, 16] } });
  assert.equal(planParity(nocls, ['reduce/mean_pooling', 'tokens']).notCompared, ['reduce/mean_pooling']);
});

test('an inference model has no gradients to give; a target of another shape is named', () => {
  using model = tinyModel();
  const images = { data: pictures(1), shape: [1, 224, 224, 3] };
  const target = (teacher: string, shape: number[]) =>
    [teacher, { shape, values: new Float32Array(shape.reduce((a, b) => a * b)) }] as const;
  const targets = new Map([target('mini/vit.16', [1, 256, 8]), target('mini/vit.16_cls', [1, 8])]);
  const all = (names: string[], given = targets) => [...runParity(model, images, given, planParity(model, names))];
  throwsCode(() => all(['grad_tokens']), 'ERR_AUTOGRAD');
  assert.is(all(['loss/main', 'loss/mse']).length, 2);
  const bad = new Map(targets).set(...target('mini/vit.16', [1, 8, 256]));
  throwsCode(() => all(['loss/main'], bad), 'ERR_SHAPE', 'mini/vit.16', '[1,256,8]', '[1,8,256]');
});

test.run();
