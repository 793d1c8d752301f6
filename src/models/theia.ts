import { Arena } from '../autograd/index.js';
import type { Parameter } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import { byteTable } from '../ops/preprocess.js';
import { reduce } from '../ops/reduce.js';
import { packed, tokenMap, reshape } from '../ops/view.js';
import { Tensor, tidy } from '../tensor/index.js';
import type { DType, Device } from '../tensor/index.js';
import type { ModelConfig } from './config.js';
import { initialisers } from './init.js';
import { Translators, translatorParameters } from './translators.js';
import { Vit, vitParameters } from './vit.js';
import type { VitOutput } from './vit.js';

/** How the tokens of a picture become its representation (model.md, "Backbone"). */
export const REDUCE_METHODS = ['none', 'cls', 'mean_pooling', 'max_pooling', 'identity'] as const;
export type ReduceMethod = (typeof REDUCE_METHODS)[number];

/** Per-channel normalisation of input bytes: (byte / 255 − mean) / std. */
export interface Normalisation {
  mean: readonly number[];
  std: readonly number[];
}

export interface TheiaOptions {
  /** holds gradients */
  training?: boolean;
  /** of the values: float64 for reference runs; default float32 */
  dtype?: DType;
  device?: Device;
  /** what products and activations are computed in: bfloat16 on cuda and simt; default `dtype` */
  compute?: DType;
  normalisation?: Normalisation;
  /** initial values are a pure function of it */
  seed?: number;
  /** false leaves the values zero, for a checkpoint that is loaded right behind; default true */
  initialise?: boolean;
}

/** A student: the backbone and one translator a teacher, over one arena of parameters. */
export class Theia {
  readonly arena: Arena;
  private readonly vit: Vit;
  private readonly translators: Translators;
  private readonly table: Tensor;

  constructor(
    readonly config: ModelConfig,
    options: TheiaOptions = {},
  ) {
    checkConfig(config);
    const init = initialisers(options.seed ?? 0);
    const specs = [...vitParameters(config, init), ...translatorParameters(config, init)];
    const dtype = options.dtype ?? 'float32';
    const device = options.device ?? 'cpu';
    const compute = options.compute ?? dtype;
    if (compute === 'bfloat16' && device === 'cpu')
      throw new TheiaError('ERR_UNSUPPORTED', 'expected dtype float32 on the CPU, got bfloat16', { hint: 'bfloat16 needs device cuda' });
    this.arena = new Arena(specs, { training: options.training ?? false, dtype, device, compute });
    if (options.initialise ?? true) this.arena.initialise();
    this.vit = new Vit(this.arena, config);
    this.translators = new Translators(this.arena, config);
    const { mean, std } = options.normalisation ?? { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
    const table = byteTable(mean, std);
    this.table = Tensor.from(dtype === 'float64' ? Float64Array.from(table) : table, undefined, dtype, device).retainOnly();
  }

  /** Where the model lives. */
  get device(): Device {
    return this.arena.values.device;
  }

  /** Names of the teachers that the model has translators for. */
  get teachers(): string[] {
    return this.translators.names;
  }

  /**
   * Runs the encoder.
   * @param images [B,H,W,3] uint8 of the model's size
   */
  encode(images: Tensor, wantHidden = false): VitOutput {
    return this.vit.forward(images, this.table, wantHidden);
  }

  /** Predicted teacher features by name, [B,H·W,C] ([B,C] for `_cls`). @param tokens what encode() returned */
  predict(tokens: Tensor, names?: readonly string[]): Map<string, Tensor> {
    return this.translators.forward(tokens, names);
  }

  /**
   * The representation: spatial tokens [B,N,D] (none), all tokens (identity), or one vector [B,D] (cls, mean_pooling, max_pooling over
   * spatial tokens).
   */
  represent(tokens: Tensor, method: ReduceMethod): Tensor {
    const c = this.config;
    const first = c.tokens === 'nocls' ? 0 : 1;
    const side = c.image / c.patch;
    const [batch, , width] = tokens.shape as [number, number, number];
    return tidy(() => {
      switch (method) {
        case 'identity':
          return packed(tokens.slice(1, 0, tokens.shape[1]!));
        case 'none':
          return reshape(packed(tokenMap(tokens, first, side)), [batch, side * side, width]);
        case 'cls':
          if (c.tokens === 'nocls') throw new TheiaError('ERR_ARGS', 'reduce cls: the model has no CLS token');
          return reshape(packed(tokenMap(tokens, 0, 1)), [batch, width]);
        case 'mean_pooling':
          return reduce(tokens.slice(1, first, side * side), 'mean');
        case 'max_pooling':
          return reduce(tokens.slice(1, first, side * side), 'max');
      }
    });
  }

  /** Parameters of the translators; all others are the encoder's. */
  translatorParameters(): Parameter[] {
    return [...this.arena.parameters.values()].filter((p) => p.name.startsWith('translator.'));
  }

  /** Parameters of the encoder. */
  encoderParameters(): Parameter[] {
    return [...this.arena.parameters.values()].filter((p) => !p.name.startsWith('translator.'));
  }

  dispose(): void {
    this.arena.dispose();
    this.table.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkConfig(c: ModelConfig): void {
  if (c.image % c.patch !== 0)
    throw new TheiaError('ERR_CONFIG', `expected an image that is a multiple of the patch, got ${c.image} and ${c.patch}`);
  if (c.hidden % c.heads !== 0)
    throw new TheiaError('ERR_CONFIG', `expected hidden as a multiple of heads, got ${c.hidden} and ${c.heads}`);
  if (c.hidden / c.heads > 128)
    throw new TheiaError('ERR_UNSUPPORTED', `expected a head dimension of at most 128, got ${c.hidden / c.heads}`);
}
