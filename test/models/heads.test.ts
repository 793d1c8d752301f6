// Whole translator heads, the ViT block and multi-head attention against PyTorch's values, forward and every gradient.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Arena, Tape } from '../../src/autograd/index.js';
import { newModelConfig } from '../../src/models/config-complete.js';
import { initialisers } from '../../src/models/init.js';
import { Translators, translatorParameters } from '../../src/models/translators.js';
import { Block, vitParameters } from '../../src/models/vit.js';
import { selfAttention } from '../../src/ops/attention.js';
import { linear } from '../../src/ops/linear.js';
import { Tensor, memory, tidy } from '../../src/tensor/index.js';
import type { DType } from '../../src/tensor/index.js';
import { fused, parameterOf, single } from '../../src/models/parameters.js';
import { INSTRUCTION_SETS, withInstructionSet } from '../support/op-case.js';
import { OpGolden } from '../support/op-golden.js';

/** Every instruction set in float32, and the reference in float64. */
const RUNS: [set: string, dtype: DType][] = [...INSTRUCTION_SETS.map((set): [string, DType] => [set, 'float32']), ['plain', 'float64']];

const norm = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));

interface GoldenModel {
  /** the case's name in the golden data */
  name: string;
  arena: Arena;
  /** checkpoint key by the name that the golden data use */
  keys: ReadonlyMap<string, string>;
  forward: (x: Tensor) => Tensor;
}

/** Loads the case's parameters, runs forward and backward, and compares the output and all gradients. */
function checkCase(golden: OpGolden, m: GoldenModel, dtype: DType, label: string): void {
  const { name, arena, keys } = m;
  const tensor = (key: string): Tensor => {
    const values = golden.values(key);
    return Tensor.from(dtype === 'float64' ? values : Float32Array.from(values), golden.shape(key));
  };
  for (const [own, key] of keys) arena.load(key, Float32Array.from(golden.values(`${name}/in/${own}`)));
  arena.beginGradients();
  tidy(() => {
    const x = tensor(`${name}/in/x`);
    const tape = new Tape();
    tape.watch(x);
    const y = tape.run(() => m.forward(x));
    assert.equal([...y.shape], golden.shape(`${name}/out/y`));
    golden.compare(`${name}/out/y`, y.data() as Float32Array, label);
    const [dx] = tape.backward([[y, tensor(`${name}/dout/y`)]], [x]);
    golden.compare(`${name}/din/x`, dx!.data() as Float32Array, label);
    dx!.dispose();
  });
  const gradients = new Map([...keys].map(([own, key]) => [own, arena.export(key, arena.gradients)]));
  const largest = Math.max(...[...gradients.values()].map(norm));
  for (const [own, gradient] of gradients)
    // The gradient of key biases is zero but for rounding: softmax ignores what shifts all scores of a query.
    if (/key\.bias$|^bk$/.test(own))
      assert.ok(norm(gradient) <= 1e-6 * largest, `${name} ${own} ${label}: ${norm(gradient)} of ${largest}`);
    else golden.compare(`${name}/din/${own}`, gradient, label);
}

for (const name of ['lconv_14_16', 'lconv_14_64', 'lconv_16_16', 'lconv_16_64', 'lconv_64_16', 'lconv_14_14', 'lconv_14_7'])
  test(`${name}: the whole head as PyTorch has it`, () => {
    const golden = OpGolden.open('ops_heads.safetensors', name);
    if (!golden) return;
    const [, from, to] = name.split('_').map(Number) as [number, number, number];
    const [, , hidden] = golden.shape(`${name}/in/x`) as [number, number, number];
    const channels = golden.shape(`${name}/out/y`)[2]!;
    const config = newModelConfig({
      hidden,
      heads: 1,
      depth: 1,
      mlp: 1,
      image: from * 16,
      patch: 16,
      tokens: 'nocls',
      teachers: new Map([['t/x', [channels, to, to]]]),
    });
    const specs = translatorParameters(config, initialisers(0));
    const prefix = 'translator.translator_heads.t/x.';
    const keys = new Map(specs.flatMap((s) => s.segments.map((g) => [g.key.slice(prefix.length), g.key] as const)));
    const listed = golden.names(`${name}/in/`).filter((n) => n !== 'x');
    assert.equal([...keys.keys()].sort(), listed.sort(), 'the tensors of the checkpoint');
    for (const s of specs)
      for (const g of s.segments) assert.equal([...g.fileShape], golden.shape(`${name}/in/${g.key.slice(prefix.length)}`), g.key);
    const start = memory().buffers;
    for (const [set, dtype] of RUNS)
      withInstructionSet(set, () => {
        const arena = new Arena(specs, { training: true, dtype });
        const heads = new Translators(arena, config);
        checkCase(golden, { name, arena, keys, forward: (x) => heads.forward(x).get('t/x')! }, dtype, `${set} ${dtype}`);
        arena.dispose();
      });
    assert.ok(memory().buffers <= start + 2, 'only the constants of both precisions stay');
  });

test('vit_block: the block as PyTorch has it', () => {
  const golden = OpGolden.open('ops_pointwise.safetensors', 'vit_block');
  if (!golden) return;
  const config = newModelConfig({ hidden: 64, heads: 4, depth: 1, mlp: 160, eps: 1e-12, teachers: new Map() });
  const prefix = 'backbone.model.encoder.layer.0.';
  const specs = vitParameters(config, initialisers(0)).filter((s) => s.name.startsWith(prefix));
  const keys = new Map(specs.flatMap((s) => s.segments.map((g) => [g.key.slice(prefix.length), g.key] as const)));
  assert.equal(
    [...keys.keys()].sort(),
    golden
      .names('vit_block/in/')
      .filter((n) => n !== 'x')
      .sort(),
  );
  for (const [set, dtype] of RUNS)
    withInstructionSet(set, () => {
      const arena = new Arena(specs, { training: true, dtype });
      const block = new Block(arena, 0, config);
      checkCase(golden, { name: 'vit_block', arena, keys, forward: (x) => block.forward(x) }, dtype, `${set} ${dtype}`);
      arena.dispose();
    });
});

test('multi-head self-attention with its projections as PyTorch has it', () => {
  const golden = OpGolden.open('ops_attention.safetensors', 'mhsa');
  if (!golden) return;
  const cases = golden.cases(/^mhsa_/);
  assert.ok(cases.length >= 1);
  for (const name of cases) {
    const [, width, heads] = /_e(\d+)_h(\d+)$/.exec(name)!.map(Number) as [number, number, number];
    const init = initialisers(0).zeros;
    const specs = [
      fused(
        'wqkv',
        ['wq', 'wk', 'wv'].map((key) => ({ key, shape: [width, width], init })),
      ),
      fused(
        'bqkv',
        ['bq', 'bk', 'bv'].map((key) => ({ key, shape: [width], init })),
      ),
      single({ key: 'wo', shape: [width, width], init }),
      single({ key: 'bo', shape: [width], init }),
    ];
    const keys = new Map(['wq', 'wk', 'wv', 'bq', 'bk', 'bv', 'wo', 'bo'].map((key) => [key, key] as const));
    for (const [set, dtype] of RUNS)
      withInstructionSet(set, () => {
        const arena = new Arena(specs, { training: true, dtype });
        const p = (key: string) => parameterOf(arena, key);
        const forward = (x: Tensor): Tensor =>
          linear(selfAttention(linear(x, p('wqkv'), { bias: p('bqkv') }), heads), p('wo'), { bias: p('bo') });
        checkCase(golden, { name, arena, keys, forward }, dtype, `${set} ${dtype}`);
        arena.dispose();
      });
  }
});

test.run();
