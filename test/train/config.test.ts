import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TheiaError, type ErrorCode } from '../../src/errors.js';
import { diffForResume, loadConfig, modelOf, resolvedToml } from '../../src/train/config.js';

function error(run: () => unknown): TheiaError {
  try {
    run();
  } catch (thrown) {
    assert.instance(thrown, TheiaError, String(thrown));
    return thrown as TheiaError;
  }
  assert.unreachable('expected an error');
  throw new Error('unreachable');
}

function fails(pattern: RegExp, text: string, set: string[] = [], code: ErrorCode = 'ERR_CONFIG'): void {
  const e = error(() => loadConfig({ text, set }));
  assert.is(e.code, code, e.message);
  assert.match(e.message, pattern);
  assert.not.match(e.message, /\n/);
}

// contract.md's block, defaults only, with its placeholders left out.
const contract = `
seed = 0
device = "auto"
dtype = "float32"
threads = 0
[model]
backbone = "tiny"
tokens = "cls"
registers = 0
translator = "lconv"
hidden_size_factor = 1.0
init = ""
[preprocess]
size = 224
filter = "bilinear"
resize = 224
crop = 0
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[data]
root = "data"
split = "train"
teachers = ["resnet50"]
shuffle = true
shuffle_buffer = 1024
normalize = true
stats = ""
workers = 2
max_bad = 0.001
[train]
epochs = 50
steps = 0
batch = 16
accumulate = 1
base_lr = 2e-3
warmup_ratio = 0.1
warmup_steps = 0
warmup_start = 1e-2
schedule = "constant"
cosine_cycle = 0
weight_decay = 0.01
betas = [0.9, 0.999]
eps = 1e-8
loss = "cos_l1"
cos_weight = 0.9
teacher_weights = {}
grad_clip = 0
grad_clip_warmup = 0
freeze_translator_at = 0
random_teachers = 0
distill_cls = false
[eval]
every = "epoch"
fraction = 0.1
split = "val"
[checkpoint]
every = "epoch"
keep = 3
`;

test('the defaults are the contract', () => {
  assert.is(resolvedToml(loadConfig({ text: '' })), resolvedToml(loadConfig({ text: contract })));
  const config = loadConfig({});
  assert.is(config.train.base_lr, 2e-3);
  assert.equal(config.train.betas, [0.9, 0.999]);
  assert.is(config.model.translator_hidden, 1024);
});

test('the resolved configuration reads back as itself', () => {
  const text = `
    output = "runs/a"
    device = "cuda:1"
    [model]
    backbone = { hidden = 48, depth = 3, heads = 3, mlp = 192, image = 32, tokens = "reg", registers = 4 }
    [data]
    mix = { "my.data" = 2, b = 0.5 }
    teachers = ["cdiv", "resnet50"]
    [train]
    eps = 1e-12
    teacher_weights = { "facebook/dinov2-large" = 0.7 }
    [eval]
    every = 20`;
  const config = loadConfig({ text });
  const again = loadConfig({ text: resolvedToml(config) });
  assert.is(resolvedToml(again), resolvedToml(config));
  assert.equal(diffForResume(config, again), []);
  assert.equal({ ...again.data.mix }, { 'my.data': 2, b: 0.5 });
  assert.is(again.train.eps, 1e-12);
  assert.is(again.eval.every, 20);
  assert.is(again.data.teachers.length, 4);
  assert.equal([again.model.tokens, again.model.registers], ['reg', 4]);
  assert.equal(again.model.backbone, { hidden: 48, depth: 3, heads: 3, mlp: 192, patch: 16, image: 32, eps: 1e-12 });
  assert.equal([again.preprocess.size, again.preprocess.resize], [32, 32]);
  const model = modelOf(again);
  assert.equal([model.hidden, model.image, model.registers, model.tokens], [48, 32, 4, 'reg']);
});

test('a file gives its name to the run; a missing one is ERR_FILE, a broken one names line and column', () => {
  const dir = mkdtempSync(join(tmpdir(), 'theia-'));
  try {
    const file = join(dir, 'first.toml');
    writeFileSync(file, '[train]\nbatch = 4\n');
    const config = loadConfig({ file, set: ['train.batch=8'] });
    assert.is(config.train.batch, 8, '--set wins');
    assert.is(config.output, 'runs/first');
    writeFileSync(file, '[train]\nbatch = = 4\n');
    const e = error(() => loadConfig({ file }));
    assert.is(e.code, 'ERR_CONFIG');
    assert.match(e.message, /first\.toml: expected TOML, line 2 column 9/);
    assert.not.match(e.message, /\n/);
    assert.is(error(() => loadConfig({ file: join(dir, 'none.toml') })).code, 'ERR_FILE');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('--set takes TOML values and bare strings', () => {
  const set = [
    'output=runs/with spaces = here',
    'model.backbone=small',
    'train.teacher_weights."resnet50"=0.5',
    'data.mix.web=2',
    "data.mix.'a.b'=1",
    'preprocess.mean=[0.1, 0.2, 0.3]',
    'data.shuffle=false',
    'eval.every=epoch',
    'checkpoint.every=7',
    'model.init=',
    'train.base_lr=1e-4',
  ];
  const config = loadConfig({ text: '[data]\nmix = { web = 1, photos = 3 }', set });
  assert.is(config.output, 'runs/with spaces = here');
  assert.is(config.model.backbone, 'small');
  assert.equal({ ...config.data.mix }, { web: 2, photos: 3, 'a.b': 1 });
  assert.equal(config.preprocess.mean, [0.1, 0.2, 0.3]);
  assert.is(config.data.shuffle, false);
  assert.is(config.checkpoint.every, 7);
  assert.is(config.model.init, '');
  assert.is(config.train.base_lr, 1e-4);
  assert.is(loadConfig({ set: ['output=a\nseed = 5'] }).seed, 0, 'a value cannot bring another key');
});

test('--set that cannot be read', () => {
  fails(/expected key.path=value, got "train.batch"/, '', ['train.batch']);
  fails(/expected key.path=value/, '', ['=3']);
  fails(/expected key.path=value/, '', ['train..batch=3']);
  fails(/got that of a section/, '', ['train={batch=3}']);
  fails(/expected a table at seed/, 'seed = 1', ['seed.x=3']);
  fails(/train.batch: expected a whole number from 1 up, got "three"/, '', ['train.batch=three']);
  fails(/preprocess.mean: expected three numbers, got "\[0.1, 0.2"/, '', ['preprocess.mean=[0.1, 0.2']);
});

test('nesting that would exhaust the stack is an error', () => {
  fails(/at most 16 deep/, `a${'.a'.repeat(100000)} = 1`);
  fails(/nested/, `a = ${'['.repeat(100000)}`);
  fails(/expected key.path=value/, '', [`data.mix${'.a'.repeat(100000)}=1`]);
});

test('unknown keys are named, with the nearest known one', () => {
  fails(/unknown key train.bacth; known in \[train\] are epochs, /, '[train]\nbacth = 3');
  assert.is(error(() => loadConfig({ text: '[train]\nbacth = 3' })).hint, 'did you mean train.batch?');
  fails(/unknown key tarin/, '[tarin]\nbatch = 3');
  assert.is(error(() => loadConfig({ text: '[tarin]' })).hint, 'did you mean train?');
  fails(/unknown key model.backbone.hiden/, '[model]\nbackbone = { hiden = 3 }');
  for (const key of ['__proto__', 'constructor', 'prototype']) {
    const named = new RegExp(`unknown key .*${key}`);
    fails(named, `${key} = 1`);
    fails(named, `[${key}]\npolluted = 1`);
    fails(named, `[train]\n${key} = 1`);
    fails(named, `[data]\nmix = { ${key} = 1 }`);
    fails(named, `[train]\nteacher_weights = { ${key} = 1 }`);
    fails(named, `[model]\nbackbone = { ${key} = 1 }`);
    fails(named, '', [`${key}=1`]);
    fails(named, '', [`${key}.polluted=1`]);
    fails(named, '', [`train.${key}=1`]);
    fails(named, '', [`train.${key}.polluted=1`]);
    fails(named, '', [`data.mix.${key}=1`]);
    fails(new RegExp(key), `[data]\nteachers = ["${key}"]`);
  }
  assert.is(({} as Record<string, unknown>).polluted, undefined);
});

test('wrong types and impossible values name the key and what is allowed', () => {
  const cases: [string, RegExp][] = [
    ['seed = -1', /seed: expected a whole number from 0 up, got -1/],
    ['seed = 1.5', /seed: .*got 1.5/],
    ['seed = 2020-01-01', /seed: expected a whole number/],
    ['device = "gpu"', /device: expected one of auto, cpu, cuda, cuda:N, simt, got "gpu"/],
    ['device = "cuda:x"', /device: /],
    ['dtype = "float16"', /dtype: expected one of float32, bfloat16, got "float16"/],
    ['output = ""', /output: expected a string that is not empty/],
    ['train = 3', /train: expected a table \[train\], got 3/],
    ['model.backbone = "huge"', /model.backbone: expected one of tiny, small, base or a table/],
    ['model.backbone = 3', /model.backbone: expected one of tiny/],
    ['model.backbone = { depth = 2 }', /model.backbone.hidden: expected a whole number/],
    ['model.backbone = { hidden = 48, depth = 2 }', /heads: .*64 does not divide hidden 48/],
    ['model.backbone = { hidden = 64, depth = 2, teachers = {} }', /named in data.teachers/],
    [
      'model.backbone = { hidden = 64, depth = 2, tokens = "nocls" }\nmodel.tokens = "cls"',
      /model.backbone.tokens: expected the same as model.tokens/,
    ],
    ['model.tokens = "reg"', /model.registers: expected at least 1 with model.tokens reg, got 0/],
    ['model.registers = 3', /model.registers: expected 0 with model.tokens cls, got 3/],
    ['model.translator = "linear"\nmodel.mlp_layers = 2', /model.mlp_layers: expected 1/],
    ['model.translator = "transformer"\nmodel.decoder_heads = 7', /decoder_heads: expected a divisor/],
    ['preprocess.size = 100', /preprocess.size: expected a multiple of the patch 16, got 100/],
    ['preprocess.resize = 256', /preprocess.resize: expected preprocess.size \(224\) without a crop, got 256/],
    ['preprocess.resize = 256\npreprocess.crop = 200', /preprocess.crop: expected 0 or preprocess.size/],
    ['preprocess.std = [0.5, 0, 0.5]', /preprocess.std: expected three numbers above 0, got \[0.5,0,0.5\]/],
    ['preprocess.mean = [0.5, 0.5]', /preprocess.mean: expected three numbers/],
    ['preprocess.mean = [nan, 0.5, 0.5]', /preprocess.mean: expected three numbers/],
    ['data.mix = { a = 0 }', /data.mix: expected a table of dataset folders and weights above 0, got \{"a":0\}/],
    ['data.mix = 3', /data.mix: /],
    ['data.teachers = []', /data.teachers: expected a list of at least one/],
    ['data.teachers = ["a", "a"]', /data.teachers: expected each name once/],
    ['data.max_bad = 2', /data.max_bad: expected a number from 0 to 1, got 2/],
    ['train.batch = 0', /train.batch: expected a whole number from 1 up, got 0/],
    ['train.batch = "4"', /train.batch: .*got "4"/],
    ['train.base_lr = inf', /train.base_lr: expected a number from 0 up, got Infinity/],
    ['train.warmup_start = 0', /train.warmup_start: expected a number above 0 and up to 1, got 0/],
    ['train.betas = [0.9, 1]', /train.betas: expected two numbers from 0 to below 1/],
    ['train.loss = "l2"', /train.loss: expected one of cos_l1, mse, got "l2"/],
    ['train.teacher_weights = { other = 1 }', /unknown key train.teacher_weights.other/],
    ['train.random_teachers = 2', /train.random_teachers: expected at most the 1 teachers/],
    ['train.distill_cls = true\nmodel.tokens = "nocls"', /train.distill_cls: expected a model with a CLS token/],
    ['data.teachers = ["a_cls"]\nmodel.translator = "mlp"', /expected model.translator lconv/],
    ['eval.every = "step"', /eval.every: expected "epoch" or a number of steps from 1 up, got "step"/],
    ['eval.every = 0', /eval.every: /],
    ['checkpoint.keep = 0', /checkpoint.keep: /],
  ];
  for (const [text, pattern] of cases) fails(pattern, text);
});

test('values that are possible', () => {
  assert.is(loadConfig({ text: 'train.epochs = 50.0' }).train.epochs, 50);
  assert.equal([...loadConfig({ text: 'preprocess.resize = 256\npreprocess.crop = 224' }).preprocess.std], [0.5, 0.5, 0.5]);
  assert.is(loadConfig({ text: 'preprocess.size = 112' }).preprocess.resize, 112);
  assert.is(loadConfig({ text: 'model.translator = "linear"' }).model.mlp_layers, 1);
  const cls = loadConfig({ text: 'data.teachers = ["a", "b_cls"]\ntrain.distill_cls = true\ntrain.teacher_weights = { a_cls = 2 }' });
  assert.is(cls.train.teacher_weights.a_cls, 2);
  for (const device of ['cpu', 'simt', 'cuda', 'cuda:0', 'cuda:12']) assert.is(loadConfig({ set: [`device=${device}`] }).device, device);
});

test('the configuration is frozen to its leaves', () => {
  const config = loadConfig({ text: 'data.mix = { a = 1 }' });
  for (const part of [config, config.model, config.data, config.data.mix, config.data.teachers, config.train.betas])
    assert.ok(Object.isFrozen(part));
});

test('what may differ on a resume, and what may not', () => {
  const before = loadConfig({ text: '' });
  const may = [
    'output=runs/x',
    'device=cpu',
    'threads=3',
    'data.workers=0',
    'train.epochs=2',
    'train.steps=9',
    'eval.every=4',
    'checkpoint.keep=1',
  ];
  assert.equal(diffForResume(before, loadConfig({ set: may })), []);
  const must = ['seed=1', 'train.batch=32', 'data.mix.a=1', 'data.teachers=["clip"]', 'model.backbone=small'];
  const lines = diffForResume(before, loadConfig({ set: must }));
  assert.is(lines.length, 5);
  assert.ok(lines.includes('train.batch: 16 -> 32'));
  assert.ok(lines.includes('data.mix.a: not set -> 1'));
});

test.run();
