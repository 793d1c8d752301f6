import type { Arena, Parameter, ParameterSpec } from '../autograd/index.js';
import { selfAttention } from '../ops/attention.js';
import { layernorm } from '../ops/layernorm.js';
import { linear } from '../ops/linear.js';
import { patchEmbed } from '../ops/patch_embed.js';
import { TheiaError } from '../errors.js';
import { tidy } from '../tensor/index.js';
import type { Tensor } from '../tensor/index.js';
import type { ModelConfig } from './config.js';
import type { Initialisers } from './init.js';
import { fused, parameterOf, single } from './parameters.js';

const PREFIX = 'backbone.model';

/** Tensors of the backbone in model order (models-detail.md 1.1). */
export function vitParameters(c: ModelConfig, init: Initialisers): ParameterSpec[] {
  const { hidden: d, mlp, patch } = c;
  const specs: ParameterSpec[] = [];
  const embeddings = `${PREFIX}.embeddings`;
  const positions = (c.image / patch) ** 2 + 1;
  if (c.tokens !== 'nocls') specs.push(single({ key: `${embeddings}.cls_token`, shape: [1, 1, d], init: init.normal }, [d]));
  specs.push(single({ key: `${embeddings}.position_embeddings`, shape: [1, positions, d], init: init.normal }, [positions, d]));
  if (c.registers > 0)
    for (const name of ['reg_token', 'reg_pos_embed'])
      specs.push(single({ key: `${embeddings}.${name}`, shape: [1, c.registers, d], init: init.normal }, [c.registers, d]));
  const projection = `${embeddings}.patch_embeddings.projection`;
  specs.push(single({ key: `${projection}.weight`, shape: [d, 3, patch, patch], layout: 'oihw', init: init.normal }));
  specs.push(single({ key: `${projection}.bias`, shape: [d], init: init.zeros }));

  for (let i = 0; i < c.depth; i++) {
    const layer = `${PREFIX}.encoder.layer.${i}`;
    const dense = (name: string, n: number, k: number): ParameterSpec[] => [
      single({ key: `${layer}.${name}.weight`, shape: [n, k], init: init.normal }),
      single({ key: `${layer}.${name}.bias`, shape: [n], init: init.zeros }),
    ];
    const norm = (name: string): ParameterSpec[] => [
      single({ key: `${layer}.${name}.weight`, shape: [d], init: init.ones }),
      single({ key: `${layer}.${name}.bias`, shape: [d], init: init.zeros }),
    ];
    const heads = ['query', 'key', 'value'].map((n) => `${layer}.attention.attention.${n}`);
    specs.push(
      fused(
        `${layer}.qkv.weight`,
        heads.map((h) => ({ key: `${h}.weight`, shape: [d, d], init: init.normal })),
      ),
      fused(
        `${layer}.qkv.bias`,
        heads.map((h) => ({ key: `${h}.bias`, shape: [d], init: init.zeros })),
      ),
      ...dense('attention.output.dense', d, d),
      ...dense('intermediate.dense', mlp, d),
      ...dense('output.dense', d, mlp),
      ...norm('layernorm_before'),
      ...norm('layernorm_after'),
    );
  }
  specs.push(single({ key: `${PREFIX}.layernorm.weight`, shape: [d], init: init.ones }));
  specs.push(single({ key: `${PREFIX}.layernorm.bias`, shape: [d], init: init.zeros }));
  return specs;
}

interface Pair {
  w: Parameter;
  b: Parameter;
}

/** One pre-LN block: x += Wo·MHA(LN(x)) + bo; x += W2·gelu(W1·LN(x) + b1) + b2. */
export class Block {
  private readonly before: Pair;
  private readonly after: Pair;
  private readonly qkv: Pair;
  private readonly out: Pair;
  private readonly up: Pair;
  private readonly down: Pair;

  constructor(
    arena: Arena,
    index: number,
    private readonly config: ModelConfig,
  ) {
    const pair = (name: string): Pair => ({
      w: parameterOf(arena, `${PREFIX}.encoder.layer.${index}.${name}.weight`),
      b: parameterOf(arena, `${PREFIX}.encoder.layer.${index}.${name}.bias`),
    });
    this.before = pair('layernorm_before');
    this.after = pair('layernorm_after');
    this.qkv = pair('qkv');
    this.out = pair('attention.output.dense');
    this.up = pair('intermediate.dense');
    this.down = pair('output.dense');
  }

  forward(x: Tensor): Tensor {
    const { eps, heads } = this.config;
    return tidy(() => {
      const normed = layernorm(x, this.before.w, this.before.b, eps);
      const qkv = linear(normed, this.qkv.w, { bias: this.qkv.b });
      const attended = linear(selfAttention(qkv, heads), this.out.w, { bias: this.out.b, residual: x });
      const wide = linear(layernorm(attended, this.after.w, this.after.b, eps), this.up.w, { bias: this.up.b, activation: 'gelu' });
      return linear(wide, this.down.w, { bias: this.down.b, residual: attended });
    });
  }
}

export interface VitOutput {
  /** [B,T,D], after the final LayerNorm, CLS included */
  tokens: Tensor;
  /** embeddings and the output of every block, if asked for */
  hidden: Tensor[];
}

/** The DeiT backbone on bytes (model.md, "Backbone"). */
export class Vit {
  private readonly blocks: Block[];
  private readonly embed;
  private readonly norm: Pair;

  constructor(
    arena: Arena,
    private readonly config: ModelConfig,
  ) {
    const p = (name: string): Parameter => parameterOf(arena, `${PREFIX}.${name}`);
    const projection = 'embeddings.patch_embeddings.projection';
    this.embed = {
      w: p(`${projection}.weight`),
      bias: p(`${projection}.bias`),
      positions: p('embeddings.position_embeddings'),
      cls: config.tokens === 'nocls' ? undefined : p('embeddings.cls_token'),
      registers: config.registers > 0 ? { tokens: p('embeddings.reg_token'), positions: p('embeddings.reg_pos_embed') } : undefined,
    };
    this.blocks = Array.from({ length: config.depth }, (_, i) => new Block(arena, i, config));
    this.norm = { w: p('layernorm.weight'), b: p('layernorm.bias') };
  }

  /**
   * @param images [B,H,W,3] uint8 of the model's size
   * @param table from byteTable()
   */
  forward(images: Tensor, table: Tensor, wantHidden = false): VitOutput {
    const { image, eps } = this.config;
    if (images.shape[1] !== image || images.shape[2] !== image)
      throw new TheiaError(
        'ERR_UNSUPPORTED',
        `expected images of the model's size ${image} x ${image}, got ${images.shape[2]} x ${images.shape[1]}: positions are not interpolated yet`,
      );
    return tidy(() => {
      let x = patchEmbed(images, table, this.embed);
      const hidden = wantHidden ? [x] : [];
      for (const block of this.blocks) {
        const y = block.forward(x);
        if (!wantHidden) x.dispose();
        x = y;
        if (wantHidden) hidden.push(x);
      }
      return { tokens: layernorm(x, this.norm.w, this.norm.b, eps), hidden };
    });
  }
}
