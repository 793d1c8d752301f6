import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { existsSync, openSync, readFileSync, readSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { TheiaError, type ErrorCode } from '../../src/errors.js';
import { BACKBONES, parseModelConfig, type PartialModelConfig } from '../../src/models/config.js';
import { completeConfig, newModelConfig, teacherKey } from '../../src/models/config-complete.js';

const golden = process.env.THEIA_GOLDEN ?? join(process.cwd(), '..', 'shared', 'golden');

function fails(code: ErrorCode, pattern: RegExp, run: () => unknown): void {
  try {
    run();
  } catch (error) {
    assert.instance(error, TheiaError);
    assert.is((error as TheiaError).code, code, (error as TheiaError).message);
    assert.match((error as TheiaError).message, pattern);
    return;
  }
  assert.unreachable(`expected ${code} ${pattern}`);
}

/** Keys and shapes of a small lconv model, written out from models-detail.md 1.1. */
function tensors(
  o: { hidden?: number; depth?: number; mlp?: number; cls?: boolean; registers?: number; wide?: number } = {},
): Map<string, number[]> {
  const { hidden = 64, depth = 2, mlp = 96, cls = true, registers = 0, wide = hidden } = o;
  const body = 'backbone.model.';
  const t = new Map<string, number[]>();
  t.set(`${body}embeddings.position_embeddings`, [1, 197, hidden]);
  t.set(`${body}embeddings.patch_embeddings.projection.weight`, [hidden, 3, 16, 16]);
  if (cls) t.set(`${body}embeddings.cls_token`, [1, 1, hidden]);
  if (registers > 0) t.set(`${body}embeddings.reg_token`, [1, registers, hidden]);
  for (let i = 0; i < depth; i++) t.set(`${body}encoder.layer.${i}.intermediate.dense.weight`, [mlp, hidden]);
  const head = 'translator.translator_heads.mini/vit-1_5.';
  t.set(`${head}adapter.0.weight`, [hidden, 16, 16]);
  t.set(`${head}adapter.3.weight`, [wide, 16, 16]);
  t.set(`${head}adapter.6.weight`, [wide, 16, 16]);
  t.set(`${head}adapter.8.weight`, [40, wide]);
  t.set(`${head}adapter.8.bias`, [40]);
  return t;
}

test("contract.md's own keys", () => {
  const config = parseModelConfig({
    hidden: 48,
    depth: 3,
    heads: 3,
    eps: 1e-12,
    hidden_size_factor: 0.5,
    teachers: { a: [8, 16, 16], a_cls: [8] },
  });
  assert.is(config.hidden, 48);
  assert.is(config.hiddenSizeFactor, 0.5);
  assert.equal(
    [...(config.teachers ?? [])],
    [
      ['a', [8, 16, 16]],
      ['a_cls', [8]],
    ],
  );
  assert.is(config.mlp, undefined);
});

test('unknown keys, wrong types and impossible values are named', () => {
  fails('ERR_CONFIG', /unknown key "hiden"/, () => parseModelConfig({ hiden: 48 }));
  try {
    parseModelConfig({ hiden: 48 });
  } catch (error) {
    assert.is((error as TheiaError).hint, 'did you mean hidden?');
  }
  for (const key of ['__proto__', 'constructor', 'prototype']) {
    fails('ERR_CONFIG', new RegExp(`unknown key "${key}"`), () => parseModelConfig(JSON.parse(`{"${key}": 1}`)));
    fails('ERR_CONFIG', new RegExp(key), () => parseModelConfig(JSON.parse(`{"teachers": {"${key}": [1,2,3]}}`)));
    fails('ERR_CONFIG', new RegExp(key), () => parseModelConfig(JSON.parse(`{"backbone": {}, "translator_args": {"${key}": 1}}`)));
  }
  fails('ERR_CONFIG', /hidden: expected a whole number from 1 to 65536, got "48"/, () => parseModelConfig({ hidden: '48' }));
  fails('ERR_CONFIG', /depth: .*got 0/, () => parseModelConfig({ depth: 0 }));
  fails('ERR_CONFIG', /depth: .*got 1.5/, () => parseModelConfig({ depth: 1.5 }));
  fails('ERR_CONFIG', /hidden: .*got 1000000000000/, () => parseModelConfig({ hidden: 1e12 }));
  fails('ERR_CONFIG', /tokens: expected one of cls, nocls, reg/, () => parseModelConfig({ tokens: 'both' }));
  fails('ERR_CONFIG', /teachers.a: expected \[C,H,W\]/, () => parseModelConfig({ teachers: { a: [8] } }));
  fails('ERR_CONFIG', /teachers.a_cls: expected \[C\]/, () => parseModelConfig({ teachers: { a_cls: [8, 1, 1] } }));
  fails('ERR_CONFIG', /registers: expected 0 with tokens cls/, () => parseModelConfig({ tokens: 'cls', registers: 2 }));
  fails('ERR_CONFIG', /mlp_layers: expected 1/, () => parseModelConfig({ translator: 'linear', mlp_layers: 3 }));
  fails('ERR_CONFIG', /needs a CLS token/, () => parseModelConfig({ tokens: 'nocls', teachers: { a_cls: [3] } }));
  for (const wrong of [null, [], 'x', 3]) fails('ERR_CONFIG', /expected a JSON object/, () => parseModelConfig(wrong));
});

const hub = {
  architectures: ['TheiaModel'],
  auto_map: { AutoModel: 'theia_model.TheiaModel' },
  backbone: 'facebook/deit-tiny-patch16-224',
  feature_neck: false,
  feature_neck_hidden_dim: 256,
  feature_neck_nonlinearity: 'relu',
  feature_reduce_method: null,
  forward_neck: false,
  iamge_size: 224,
  num_reg_tokens: 0,
  pretrained: false,
  target_feature_sizes: { 'google/vit-huge-patch14-224-in21k': [1280, 16, 16] },
  target_loss_weights: null,
  torch_dtype: 'float32',
  translator_hidden_size_factor: 1.0,
  translator_type: 'lconv',
  transformers_version: '4.42.0',
};

test("the hub's config.json", () => {
  const config = parseModelConfig(hub);
  assert.is(config.hidden, 192);
  assert.is(config.tokens, 'cls');
  assert.is(config.translator, 'lconv');
  assert.equal([...(config.teachers?.keys() ?? [])], ['google/vit-huge-patch14-224-in21k']);
  assert.is(parseModelConfig({ backbone: 'nocls-facebook/deit-small-patch16-224' }).tokens, 'nocls');
  const reg = parseModelConfig({ backbone: 'reg-facebook/deit-base-patch16-224', num_reg_tokens: 7 });
  assert.equal([reg.tokens, reg.registers, reg.hidden], ['reg', 7, 768]);
  fails('ERR_UNSUPPORTED', /neck/, () => parseModelConfig({ ...hub, feature_neck: true }));
  fails('ERR_UNSUPPORTED', /neck/, () => parseModelConfig({ ...hub, forward_neck: true }));
  fails('ERR_UNSUPPORTED', /deit-huge/, () => parseModelConfig({ ...hub, backbone: 'facebook/deit-huge-patch16-224' }));
  fails('ERR_UNSUPPORTED', /translator_type/, () => parseModelConfig({ ...hub, translator_type: 'other' }));
});

test('everything but heads is read off the tensors', () => {
  const config = completeConfig({}, tensors({ registers: 3 }));
  assert.equal(
    [config.hidden, config.depth, config.heads, config.mlp, config.patch, config.image, config.tokens, config.registers],
    [64, 2, 1, 96, 16, 224, 'reg', 3],
  );
  assert.equal([...config.teachers], [['mini/vit-1_5', [40, 16, 16]]]);
  assert.is(completeConfig({}, tensors({ cls: false })).tokens, 'nocls');
  // a config knows the dot that the parameter name lost
  const named = completeConfig({ teachers: new Map([['mini/vit-1.5', [40, 16, 16]]]) }, tensors());
  assert.equal([...named.teachers.keys()], ['mini/vit-1.5']);
  const factor = completeConfig({}, tensors({ wide: 37 })).hiddenSizeFactor;
  assert.is(Math.trunc(64 * factor), 37);
});

test('heads are asked for when 64 does not divide hidden', () => {
  fails('ERR_CONFIG', /heads: .*64 does not divide hidden 48/, () => completeConfig({}, tensors({ hidden: 48 })));
  assert.is(completeConfig({ heads: 3 }, tensors({ hidden: 48 })).heads, 3);
  fails('ERR_CONFIG', /heads: expected a divisor of hidden 48, got 5/, () => completeConfig({ heads: 5 }, tensors({ hidden: 48 })));
});

test('a contradiction names both sides', () => {
  const cases: [PartialModelConfig, RegExp][] = [
    [{ hidden: 128 }, /hidden: the config says 128, the weights say 64/],
    [{ depth: 12 }, /depth: the config says 12, the weights say 2/],
    [{ mlp: 256 }, /mlp: the config says 256, the weights say 96/],
    [{ patch: 14 }, /patch: the config says 14, the weights say 16/],
    [{ image: 256 }, /image: the config says 256, the weights say 224/],
    [{ tokens: 'nocls' }, /tokens: the config says nocls, the weights say cls/],
    [{ tokens: 'reg', registers: 4 }, /tokens: the config says reg, the weights say cls/],
    [{ translator: 'conv' }, /translator: the config says conv, the weights say lconv/],
    [{ hiddenSizeFactor: 2 }, /hidden_size_factor: the config says 2, the weights say 1/],
    [
      { teachers: new Map([['mini/vit-1.5', [41, 16, 16]]]) },
      /teachers.mini\/vit-1.5: the config says \[41,16,16\], the weights say \[40,16,16\]/,
    ],
    [{ teachers: new Map([['mini/other', [40, 16, 16]]]) }, /the config names mini\/other, the weights have no/],
    [{ teachers: new Map() }, /the weights have a head mini\/vit-1_5, the config does not name it/],
  ];
  for (const [partial, pattern] of cases) fails('ERR_CONFIG', pattern, () => completeConfig(partial, tensors()));
});

test('weights that are no Theia model are errors, not crashes', () => {
  fails('ERR_CONFIG', /expected a tensor backbone.model.embeddings.patch/, () => completeConfig({}, new Map()));
  const gap = tensors();
  gap.set('backbone.model.encoder.layer.5.intermediate.dense.weight', [96, 64]);
  fails('ERR_CONFIG', /got no backbone.model.encoder.layer.2/, () => completeConfig({}, gap));
  const rows = tensors();
  rows.set('backbone.model.embeddings.position_embeddings', [1, 200, 64]);
  fails('ERR_CONFIG', /n\*n\+1 rows/, () => completeConfig({}, rows));
  const flat = tensors();
  flat.set('backbone.model.embeddings.patch_embeddings.projection.weight', [64, 768]);
  fails('ERR_CONFIG', /4 dimensions/, () => completeConfig({}, flat));
});

test('a new model takes the defaults', () => {
  const config = newModelConfig({ ...BACKBONES.tiny, teachers: new Map([['a', [8, 7, 7]]]) });
  assert.equal([config.heads, config.mlp, config.image, config.translator, config.mlpLayers], [3, 768, 224, 'lconv', 3]);
  assert.is(newModelConfig({ hidden: 128, depth: 1 }).mlp, 512);
  fails('ERR_CONFIG', /hidden: expected/, () => newModelConfig({ depth: 1 }));
  fails('ERR_CONFIG', /image: expected a multiple of patch 16, got 100/, () => newModelConfig({ hidden: 64, depth: 1, image: 100 }));
  fails('ERR_CONFIG', /registers: expected at least 1/, () => newModelConfig({ hidden: 64, depth: 1, tokens: 'reg' }));
  fails('ERR_CONFIG', /decoder_heads: .*8 does not divide translator_hidden 36/, () =>
    newModelConfig({ hidden: 64, depth: 1, translator: 'transformer', translatorHidden: 36 }),
  );
});

/** The header of a safetensors file as key -> shape; a reader of its own, so that this test needs no other part. */
function header(path: string): Map<string, number[]> {
  const fd = openSync(path, 'r');
  const size = Buffer.alloc(8);
  readSync(fd, size, 0, 8, 0);
  const text = Buffer.alloc(Number(size.readBigUInt64LE()));
  readSync(fd, text, 0, text.length, 8);
  closeSync(fd);
  const entries = Object.entries(JSON.parse(text.toString()) as Record<string, { shape: number[] }>);
  return new Map(entries.filter(([key]) => key !== '__metadata__').map(([key, value]) => [key, value.shape]));
}

if (existsSync(join(golden, 'manifest.json'))) {
  type Entry = { config: { backbone?: { heads: number; hidden: number }; translator?: string; teachers?: Record<string, number[]> } };
  const manifest = JSON.parse(readFileSync(join(golden, 'manifest.json'), 'utf8')) as { files: Record<string, Entry> };

  test('every model config of the manifest is understood', () => {
    let n = 0;
    for (const { config } of Object.values(manifest.files)) {
      if (config.backbone === undefined) continue;
      const partial = parseModelConfig(config);
      assert.is(partial.hidden, config.backbone.hidden);
      const whole = newModelConfig(partial);
      assert.equal([...whole.teachers], Object.entries(config.teachers ?? {}));
      n++;
    }
    assert.ok(n > 15);
  });

  test('the golden checkpoints agree with their configs, and tell the rest by themselves', () => {
    let n = 0;
    for (const [name, { config }] of Object.entries(manifest.files)) {
      if (!name.endsWith('.weights.safetensors')) continue;
      const shapes = header(join(golden, name));
      const partial = parseModelConfig(config);
      const whole = completeConfig(partial, shapes);
      assert.is(whole.translator, config.translator, name);
      assert.equal([...whole.teachers], Object.entries(config.teachers ?? {}), name);
      n++;
      // Without a config: heads have to be given; mlp and transformer also need the targets' sizes.
      const sizes = whole.translator === 'lconv' || whole.translator === 'conv' ? undefined : partial.teachers;
      const blind = completeConfig({ heads: 3, decoderHeads: partial.decoderHeads, teachers: sizes }, shapes);
      const keys = (teachers: Map<string, number[]>) => [...teachers].map(([key, size]) => [teacherKey(key), size] as const).sort();
      assert.equal(keys(blind.teachers), keys(whole.teachers), name);
      assert.equal({ ...blind, teachers: 0 }, { ...whole, teachers: 0 }, name);
      if (sizes !== undefined) fails('ERR_CONFIG', /expected \[C,H,W\] in the model config/, () => completeConfig({ heads: 3 }, shapes));
    }
    assert.is(n, 6);
  });
} else {
  console.log(`SKIP models/config golden: no manifest.json in ${golden}`);
}

test.run();
