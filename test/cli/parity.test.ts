import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SafetensorsFile, encodeNpy, writeSafetensors } from '../../src/formats/index.js';
import type { TensorToWrite } from '../../src/formats/index.js';
import { planParity, runParity } from '../../src/parity/run.js';
import { Theia } from '../../src/models/theia.js';
import { goldenFile, manifest, requireGolden } from '../support/golden.js';
import { goldenInputs, writeGoldenTargets } from '../support/golden-model.js';
import { inFolder, pictures, saveModel, theia, tinyModel } from '../support/tiny-model.js';
import type { Ran } from '../support/tiny-model.js';

interface Row {
  name: string;
  shape: number[];
  rel: number | null;
  abs: number | null;
  at: number[];
  limit: number;
  ok: boolean;
}
interface Report {
  ok: boolean;
  rows: Row[];
  not_compared: string[];
}

const f32 = (name: string, shape: readonly number[], data: ArrayLike<number>): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape,
  data: Float32Array.from(data),
});

interface Case {
  folder: string;
  weights: string;
  /** what the model gives, by name */
  reference: Map<string, TensorToWrite>;
  targets: Map<string, TensorToWrite>;
  /** writes the reference and the targets as they are now, and compares */
  run(...flags: string[]): Ran;
  json(...flags: string[]): Report & { status: number | null };
}

const KEY_BIAS = 'grad/backbone.model.encoder.layer.0.attention.attention.key.bias';
const WEIGHT = 'translator.translator_heads.mini/vit_16.adapter.1.weight';
const NAMES = ['tokens', 'hidden/1', 'reduce/mean_pooling', 'pred/mini/vit.16', 'pred/mini/vit.16_cls', 'loss/main', 'loss/mse', 'loss/cos/mini/vit.16', 'grad_tokens', KEY_BIAS, `grad/${WEIGHT}`]; // prettier-ignore

/** A small model in a folder, and a reference that it agrees with. */
function prepare(folder: string): Case {
  const weights = join(folder, 'model');
  using start = tinyModel();
  using model = new Theia(start.config, { training: true, seed: 3 });
  saveModel(model, weights);
  const images = { data: pictures(2), shape: [2, 224, 224, 3] };
  const noise = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => ((i * 37) % 101) / 50 - 1);
  const values = new Map([
    ['mini/vit.16', { shape: [2, 256, 8], values: noise(4096) }],
    ['mini/vit.16_cls', { shape: [2, 8], values: noise(16) }],
  ]);
  const reference = new Map<string, TensorToWrite>([['images', { name: 'images', dtype: 'U8', ...images }]]);
  for (const [name, own] of runParity(model, images, values, planParity(model, NAMES)))
    reference.set(name, f32(name, own.shape.length === 0 ? [1] : own.shape, own.values));
  // Zero in exact arithmetic, as a float64 run has it.
  reference.set(KEY_BIAS, f32(KEY_BIAS, [32], new Float32Array(32)));
  const targets = new Map([...values].map(([name, t]) => [name, f32(name, t.shape, t.values)]));
  const files = { reference: join(folder, 'reference.safetensors'), targets: join(folder, 'targets.safetensors') };
  const run = (...flags: string[]): Ran => {
    writeSafetensors(files.reference, reference.values());
    writeSafetensors(files.targets, targets.values());
    return theia('parity', '--weights', weights, '--reference', files.reference, '--targets', files.targets, ...flags);
  };
  return {
    folder,
    weights,
    reference,
    targets,
    run,
    json: (...flags) => {
      const { status, stdout, stderr } = run('--json', ...flags);
      assert.is(stderr, '');
      return { status, ...(JSON.parse(stdout) as Report) };
    },
  };
}

function fails(ran: Ran, line: RegExp): void {
  assert.is(ran.status, 2, ran.stdout + ran.stderr);
  assert.is(ran.stdout, '');
  assert.match(ran.stderr, line);
  assert.match(ran.stderr, /^theia: ERR_[A-Z]+: [^\n]+\n(hint: [^\n]+\n)?$/);
}

test('a model agrees with itself, row by row', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    c.reference.set('extra/name', f32('extra/name', [1], [1]));
    const report = c.json();
    assert.equal([report.status, report.ok, report.not_compared], [0, true, ['extra/name']]);
    assert.equal(report.rows.map((r) => r.name).sort(), [...NAMES].sort());
    for (const row of report.rows) {
      assert.equal(Object.keys(row), ['name', 'shape', 'rel', 'abs', 'at', 'limit', 'ok']);
      assert.equal([row.limit, row.ok], [1e-4, true], row.name);
      if (row.name === KEY_BIAS) assert.is(row.rel, null);
      else assert.ok(row.rel! <= (row.name.startsWith('loss/') ? 6e-8 : 0), `${row.name}: ${row.rel}`); // losses are doubles, stored as float32
    }
    assert.equal(report.rows.find((r) => r.name === `grad/${WEIGHT}`)!.shape, [32, 32, 3, 3]);
    const text = c.run('--rtol', '1e-3');
    assert.is(text.status, 0, text.stderr);
    assert.match(text.stdout, /^tokens +\[2,197,32\] +rel 0\.00e\+0 +abs 0\.00e\+0 +at \[0,0,0\] +limit 1\.00e-3$/m);
    assert.match(text.stdout, /^grad\/.*key\.bias .* rel - .* zero gradient: .* of the largest$/m);
    assert.match(text.stdout, /^not compared: extra\/name$/m);
    assert.match(text.stdout, /^11 compared, 0 above the limit or not finite$/m);
  }));

test('what is too far off, and what is not finite, is exit 1 and says where', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    const tokens = c.reference.get('tokens')!.data as Float32Array;
    tokens[197 * 32 + 33]! += 1;
    let report = c.json();
    assert.equal([report.status, report.ok], [1, false]);
    let row = report.rows.find((r) => r.name === 'tokens')!;
    assert.equal([row.ok, row.at], [false, [1, 1, 1]]);
    assert.ok(Math.abs(row.abs! - 1) < 1e-6);
    assert.equal(report.rows.filter((r) => !r.ok).length, 1);
    assert.match(c.run().stdout, /^tokens .*FAILS$/m);
    assert.is(c.json('--rtol', '1').status, 0);
    tokens[5] = NaN;
    report = c.json('--rtol', '1e30');
    assert.is(report.status, 1);
    row = report.rows.find((r) => r.name === 'tokens')!;
    assert.equal([row.rel, row.abs, row.at, row.ok], [null, null, [0, 0, 5], false]);
    tokens[5] = Infinity;
    assert.is(c.json('--rtol', '1e30').status, 1);
    (c.targets.get('mini/vit.16')!.data as Float32Array)[3] = NaN;
    const broken = c.json('--rtol', '1e30').rows.filter((r) => r.rel === null && r.name !== KEY_BIAS);
    assert.ok(broken.some((r) => r.name === 'loss/main'));
  }));

test('samples, other dtypes, a missing config', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    const whole = c.reference.get(`grad/${WEIGHT}`)!.data as Float32Array;
    const samples = Array.from({ length: 64 }, (_, k) => whole[Math.floor((k * whole.length) / 64)]!);
    c.reference.set(`grad/${WEIGHT}`, f32(`grad/${WEIGHT}`, [64], samples));
    const tokens = Float64Array.from(c.reference.get('tokens')!.data as Float32Array, (x) => x * (1 + 1e-12));
    c.reference.set('tokens', { name: 'tokens', dtype: 'F64', shape: [2, 197, 32], data: tokens });
    const report = c.json();
    assert.is(report.status, 0);
    const rel = report.rows.find((r) => r.name === 'tokens')!.rel!;
    assert.ok(rel > 1e-13 && rel < 1e-11, `float64 is compared as float64: ${rel}`);
    assert.match(c.run().stdout, /64 samples/);
    // Without the config the teachers' names are those of the parameters: dots are underscores there. Heads must be told.
    const file = join(c.weights, 'model.safetensors');
    const config = join(folder, 'heads.json');
    writeFileSync(config, '{"heads":2}');
    const { status, stdout } = theia('parity', '--weights', file, '--config', config, '--reference', join(folder, 'reference.safetensors'), '--targets', join(folder, 'targets.safetensors')); // prettier-ignore
    assert.is(status, 0, stdout);
  }));

test('images from elsewhere take the place of the reference’s', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    c.reference.delete('images');
    fails(c.run(), /ERR_ARGS: .*reference\.safetensors: expected the images .*\nhint: .*--images/);
    const npy = join(folder, 'images.npy');
    writeFileSync(npy, encodeNpy(pictures(2), [2, 224, 224, 3]));
    assert.is(c.json('--images', npy).status, 0);
    const one = join(folder, 'one.npy');
    writeFileSync(one, encodeNpy(pictures(1), [224, 224, 3]));
    for (const name of [...c.reference.keys()]) if (name !== 'tokens') c.reference.delete(name);
    fails(c.run('--images', one), /ERR_SHAPE: tokens: expected \[1,197,32\] .*got \[2,197,32\]/);
    fails(c.run('--images', join(folder, 'none.npy')), /ERR_FILE: .*none\.npy/);
    c.reference.set('images', { name: 'images', dtype: 'U8', shape: [1, 32, 32, 3], data: pictures(1, 32, 32) });
    fails(c.run(), /ERR_UNSUPPORTED: .*expected images of the model's size 224 x 224, got 32 x 32/);
    c.reference.set('images', { name: 'images', dtype: 'U8', shape: [3, 32, 32], data: pictures(1, 32, 32) });
    fails(c.run(), /ERR_SHAPE: .*images: expected uint8 \[B,H,W,3\], got \[3,32,32\]/);
    c.reference.set('images', f32('images', [1, 2, 2, 3], new Array<number>(12).fill(0)));
    fails(c.run(), /ERR_DTYPE: .*images: expected uint8, got F32/);
  }));

test('references and targets that cannot be used', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    const { reference, targets } = c;
    const kept = new Map(reference);
    const restore = (): void => {
      reference.clear();
      for (const [name, t] of kept) reference.set(name, t);
    };
    reference.set('tokens', f32('tokens', [2, 196, 32], new Float32Array(2 * 196 * 32)));
    fails(c.run(), /ERR_SHAPE: tokens: expected \[2,197,32\].*got \[2,196,32\]/);
    reference.clear();
    reference.set('images', kept.get('images')!);
    reference.set('foo', f32('foo', [1], [0]));
    fails(c.run(), /ERR_FILE: .*expected something to compare .*got foo, images/);
    restore();
    assert.is(c.run().status, 0);
    reference.clear();
    for (const name of ['images', 'tokens']) reference.set(name, kept.get(name)!);
    assert.is(c.run().status, 0);
    // Targets that are not needed still have to be a file that can be read.
    fails(c.run('--targets', folder), /ERR_ARGS: .*--targets: expected once/);
    fails(
      theia('parity', '--weights', c.weights, '--reference', join(folder, 'reference.safetensors'), '--targets', join(folder, 'none')),
      /ERR_FILE: .*none/,
    );
    restore();
    assert.is(c.run().status, 0);
    const file = join(folder, 'reference.safetensors');
    const flags = ['--weights', c.weights, '--reference', file];
    fails(theia('parity', ...flags), /ERR_ARGS: .*expected --targets FILE.*\nhint/);
    const target = targets.get('mini/vit.16')!;
    targets.delete('mini/vit.16');
    fails(c.run(), /ERR_CORRUPT: .*targets\.safetensors: expected a target of mini\/vit\.16, got mini\/vit\.16_cls/);
    targets.set('mini/vit.16', f32('mini/vit.16', [2, 8, 256], target.data as Float32Array));
    fails(c.run(), /ERR_SHAPE: target mini\/vit\.16: expected \[2,256,8\].*got \[2,8,256\]/);
    targets.set('mini/vit.16', target);
    assert.is(c.run().status, 0);
    truncateSync(file, 5000);
    fails(theia('parity', ...flags), /ERR_CORRUPT: .*reference\.safetensors/);
    writeFileSync(file, '');
    fails(theia('parity', ...flags), /ERR_CORRUPT: .*reference\.safetensors/);
    fails(theia('parity', '--weights', c.weights, '--reference', folder), /ERR_FILE: .*a folder/);
    fails(theia('parity', '--weights', c.weights, '--reference', join(folder, 'none')), /ERR_FILE: .*none/);
  }));

test('weights and configs that cannot be used', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    assert.is(c.run().status, 0);
    const reference = join(folder, 'reference.safetensors');
    const run = (weights: string, ...flags: string[]): Ran => theia('parity', '--weights', weights, '--reference', reference, ...flags);
    const config = (json: unknown): string => {
      const path = join(folder, 'other.json');
      writeFileSync(path, typeof json === 'string' ? json : JSON.stringify(json));
      return path;
    };
    fails(run(c.weights, '--config', config({ hidden: 48, heads: 2 })), /ERR_CONFIG: hidden: the config says 48, the weights say 32/);
    fails(run(c.weights, '--config', config({ heads: 5 })), /ERR_CONFIG: heads: expected a divisor of hidden 32, got 5/);
    fails(run(c.weights, '--config', config('{"heads":')), /ERR_CORRUPT: .*other\.json/);
    fails(run(c.weights, '--config', config('{"__proto__":{"heads":2}}')), /ERR_CONFIG: unknown key "__proto__"/);
    fails(run(c.weights, '--config', join(folder, 'none.json')), /ERR_FILE: .*none\.json/);
    fails(run(join(c.weights, 'model.safetensors')), /ERR_CONFIG: heads: .*\nhint: .*"heads"/);
    fails(run(folder), /ERR_FILE: .*model\.safetensors/);
    fails(run(join(folder, 'none')), /ERR_FILE: .*none/);

    const broken = join(folder, 'broken.safetensors');
    const heads = ['--config', config({ heads: 2 })];
    using file = SafetensorsFile.open(join(c.weights, 'model.safetensors'));
    const tensors = file.names().map((name): TensorToWrite => f32(name, file.info(name).shape, file.float32(name)));
    const final = 'backbone.model.layernorm.weight';
    writeSafetensors(broken, tensors.filter((t) => t.name !== final)); // prettier-ignore
    fails(run(broken, ...heads), /ERR_CORRUPT: .*missing backbone\.model\.layernorm\.weight/);
    writeSafetensors(broken, tensors.map((t) => (t.name === final ? f32(final, [16], new Float32Array(16)) : t))); // prettier-ignore
    fails(run(broken, ...heads), /ERR_CORRUPT: .*layernorm\.weight: expected \[32\], got \[16\]/);
    writeSafetensors(broken, [...tensors, f32('pooler.weight', [1], [0])]);
    fails(run(broken, ...heads), /ERR_CORRUPT: .*not of this model pooler\.weight/);
    copyFileSync(join(c.weights, 'model.safetensors'), broken);
    truncateSync(broken, readFileSync(broken).length - 4);
    fails(run(broken, ...heads), /ERR_CORRUPT: .*broken\.safetensors/);
  }));

test('flags', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    assert.is(c.run().status, 0);
    const flags = ['parity', '--weights', c.weights, '--reference', join(folder, 'reference.safetensors')];
    fails(theia(...flags, '--refernce', 'x'), /ERR_ARGS: theia parity: unknown flag --refernce\nhint: did you mean --reference\?/);
    fails(theia('parity', '--weights', c.weights), /ERR_ARGS: theia parity: expected --reference/);
    fails(theia(...flags, '--rtol', 'x'), /ERR_ARGS: --rtol: expected a number/);
    fails(theia(...flags, '--rtol', '-1'), /ERR_ARGS: --rtol/);
    fails(theia(...flags, '--rtol', '1', '--profile', 'golden'), /ERR_ARGS: expected --rtol or --profile, got both/);
    fails(theia(...flags, '--profile', 'gold'), /ERR_ARGS: --profile: expected one of golden/);
    fails(theia(...flags, '--device', 'cuda:999'), /ERR_DEVICE: /);
    fails(theia(...flags, '--device', 'gpu'), /ERR_DEVICE: expected a device/);
    for (const dtype of ['bfloat16', 'int8']) fails(theia(...flags, '--device', 'cpu', '--dtype', dtype), /ERR_UNSUPPORTED: --dtype/);
    fails(theia(...flags, '--dtype', 'float8'), /ERR_ARGS: --dtype/);
    assert.is(theia('parity', '--help').status, 0);
    assert.not.match(theia('parity', '--help').stdout, /int8/);
  }));

test('--profile golden without a manifest uses the floors of the table', () =>
  inFolder((folder) => {
    const c = prepare(folder);
    const report = c.json('--profile', 'golden');
    assert.is(report.status, 0);
    const limits = new Map(report.rows.map((r) => [r.name, r.limit]));
    assert.equal([limits.get('tokens'), limits.get('grad_tokens'), limits.get(KEY_BIAS)], [1e-5, 2e-5, 1e-6]);
    const facts = { tensors: { tokens: { f32_rel_err: 1e-3 } }, relu: { below_3e_6: 1 } };
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ files: { 'reference.safetensors': facts } }));
    const beside = new Map(c.json('--profile', 'golden').rows.map((r) => [r.name, r.limit]));
    assert.equal([beside.get('tokens'), beside.get('grad_tokens')], [0.02, 0.05]);
    writeFileSync(join(folder, 'manifest.json'), '{');
    fails(c.run('--profile', 'golden'), /ERR_CORRUPT: .*manifest\.json/);
  }));

for (const name of ['mini_lconv_cls', 'mini_lconv_nocls', 'mini_lconv_reg']) {
  test(`${name}: the golden file by the program`, () =>
    inFolder((folder) => {
      const weights = requireGolden(`${name}.weights.safetensors`, name);
      const reference = requireGolden(`${name}.golden.safetensors`, name);
      if (weights === undefined || reference === undefined) return;
      const entry = manifest()!.files[`${name}.golden.safetensors`]!;
      const config = join(folder, 'config.json');
      writeFileSync(config, JSON.stringify(entry.config));
      const targets = writeGoldenTargets(folder, entry);
      let images = goldenFile('mini_lconv_cls.golden.safetensors');
      if (images === undefined) {
        images = join(folder, 'images.safetensors');
        writeSafetensors(images, [{ name: 'images', dtype: 'U8', ...goldenInputs(entry).images }]);
      }
      const flags = ['--weights', weights, '--config', config, '--reference', reference, '--targets', targets, '--images', images];
      const { status, stdout, stderr } = theia('parity', ...flags, '--profile', 'golden', '--json');
      assert.is(status, 0, stderr + stdout.slice(0, 2000));
      const { rows, not_compared } = JSON.parse(stdout) as Report;
      const all = SafetensorsFile.open(reference);
      assert.equal([...rows.map((r) => r.name), ...not_compared, 'images'].sort(), [...new Set([...all.names(), 'images'])].sort());
      all.close();
      assert.is(
        not_compared.every((n) => /^(loss_weight_0\.25|reduce)\//.test(n)),
        true,
      );
      assert.ok(rows.length > 80, dirname(reference));
    }));
}

test.run();
