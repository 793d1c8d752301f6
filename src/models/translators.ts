import type { Arena, Parameter, ParameterSpec } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import { conv2d } from '../ops/conv2d.js';
import { convTranspose2d } from '../ops/conv_transpose2d.js';
import { layernormMap } from '../ops/layernorm_map.js';
import { linear } from '../ops/linear.js';
import { packed, reshape, tokenMap } from '../ops/view.js';
import { tidy } from '../tensor/index.js';
import type { Tensor } from '../tensor/index.js';
import { teacherKey } from './config-complete.js';
import type { ModelConfig } from './config.js';
import type { Initialisers } from './init.js';
import { parameterOf, single } from './parameters.js';

/** LayerNorms of the translators keep PyTorch's default. */
const EPS = 1e-5;

/** A step of an `lconv` head; `index` is its place in the original's Sequential, and so part of the checkpoint's keys. */
type Step =
  | { kind: 'norm'; index: number; side: number; width: number }
  | { kind: 'conv'; index: number; from: number; to: number; kernel: number; stride: number; padding: number }
  | { kind: 'transpose'; index: number; from: number; to: number; stride: number; padding: number; outputPadding: number }
  | { kind: 'linear'; index: number; from: number; to: number };

interface Head {
  teacher: string;
  prefix: string;
  /** 14 -> 16 by a transposed convolution in front of everything */
  pads: boolean;
  /** heads of `_cls` targets read one token instead of the map */
  cls: boolean;
  steps: Step[];
}

/** The two convolutions between a source and a target side, with the sides they produce (model.md, "Feature translators"). */
function convolutions(from: number, to: number, width: number, hidden: number, teacher: string): { step: Step; side: number }[] {
  const conv = (index: number, inWidth: number, kernel: number, stride: number): Step => ({
    kind: 'conv',
    index,
    from: inWidth,
    to: hidden,
    kernel,
    stride,
    padding: 1,
  });
  if (from === 16 && to === 64)
    return [
      { step: { kind: 'transpose', index: 1, from: width, to: hidden, stride: 2, padding: 1, outputPadding: 0 }, side: 31 },
      { step: { kind: 'transpose', index: 4, from: hidden, to: hidden, stride: 2, padding: 0, outputPadding: 1 }, side: 64 },
    ];
  if (from === to) return [1, 4].map((index) => ({ step: conv(index, index === 1 ? width : hidden, 3, 1), side: from }));
  if (from === 64 && to === 16)
    return [1, 4].map((index) => ({ step: conv(index, index === 1 ? width : hidden, 3, 2), side: index === 1 ? 32 : 16 }));
  if (from === 14 && to === 7) return [{ step: conv(1, width, 4, 2), side: 7 }];
  throw new TheiaError(
    'ERR_CONFIG',
    `teacher ${teacher}: the lconv translator leads from 14 to 7, 14, 16 or 64, from 16 to 16 or 64 and from 64 to 64 or 16, not from ${from} to ${to}`,
  );
}

function headOf(c: ModelConfig, teacher: string, size: readonly number[]): Head {
  const prefix = `translator.translator_heads.${teacherKey(teacher)}`;
  const source = c.image / c.patch;
  if (size.length === 1) {
    if (c.tokens === 'nocls') throw new TheiaError('ERR_CONFIG', `teacher ${teacher}: a _cls target needs a model with a CLS token`);
    return { teacher, prefix, pads: false, cls: true, steps: [{ kind: 'linear', index: 0, from: c.hidden, to: size[0]! }] };
  }
  const [channels, height, width] = size as [number, number, number];
  if (height !== width) throw new TheiaError('ERR_CONFIG', `teacher ${teacher}: expected a square feature map, got ${height} x ${width}`);
  if (source < 14 || source === 15)
    throw new TheiaError(
      'ERR_CONFIG',
      `expected a token grid of 14, 16 or 64 for the lconv translator, got ${source} (image ${c.image}, patch ${c.patch})`,
    );
  const pads = source === 14 && height >= 16;
  const side = pads ? 16 : source;
  const hidden = Math.trunc(c.hidden * c.hiddenSizeFactor);
  const steps: Step[] = [{ kind: 'norm', index: 0, side, width: c.hidden }];
  const convs = convolutions(side, height, c.hidden, hidden, teacher);
  for (const { step, side: out } of convs) steps.push(step, { kind: 'norm', index: step.index + 2, side: out, width: hidden });
  // Behind the last LayerNorm the original flattens (one index), then projects.
  steps.push({ kind: 'linear', index: convs[convs.length - 1]!.step.index + 4, from: hidden, to: channels });
  return { teacher, prefix, pads, cls: false, steps };
}

/** The heads of a model, in the order of its teachers. */
function headsOf(c: ModelConfig): Head[] {
  if (c.teachers.size > 0 && c.translator !== 'lconv')
    throw new TheiaError('ERR_UNSUPPORTED', `translator ${c.translator} is not in this build; expected lconv`);
  return [...c.teachers].map(([name, size]) => headOf(c, name, size));
}

/** Tensors of all heads in model order. */
export function translatorParameters(c: ModelConfig, init: Initialisers): ParameterSpec[] {
  return headsOf(c).flatMap((head) => {
    const { teacher, prefix } = head;
    const transpose = (name: string, from: number, to: number): ParameterSpec[] => [
      // PyTorch takes the fan of a transposed convolution from its second axis: out · 9
      single({ key: `${prefix}.${name}.weight`, shape: [from, to, 3, 3], layout: 'iohw', teacher, init: init.fanIn(to * 9) }),
      single({ key: `${prefix}.${name}.bias`, shape: [to], teacher, init: init.fanIn(to * 9) }),
    ];
    const specs = head.pads ? transpose('pad.1', c.hidden, c.hidden) : [];
    for (const s of head.steps) {
      const name = `adapter.${s.index}`;
      const [weight, bias] = [`${prefix}.${name}.weight`, `${prefix}.${name}.bias`];
      if (s.kind === 'norm') {
        const shape = [s.width, s.side, s.side];
        specs.push(
          single({ key: weight, shape, layout: 'chw', teacher, init: init.ones }),
          single({ key: bias, shape, layout: 'chw', teacher, init: init.zeros }),
        );
      } else if (s.kind === 'conv') {
        const fan = init.fanIn(s.from * s.kernel * s.kernel);
        specs.push(
          single({ key: weight, shape: [s.to, s.from, s.kernel, s.kernel], layout: 'oihw', teacher, init: fan }),
          single({ key: bias, shape: [s.to], teacher, init: fan }),
        );
      } else if (s.kind === 'transpose') specs.push(...transpose(name, s.from, s.to));
      else
        specs.push(
          single({ key: weight, shape: [s.to, s.from], teacher, init: init.fanIn(s.from) }),
          single({ key: bias, shape: [s.to], teacher, init: init.fanIn(s.from) }),
        );
    }
    return specs;
  });
}

/** The `lconv` feature translators: tokens in, one prediction a teacher out. */
export class Translators {
  private readonly heads: ReadonlyMap<string, Head>;

  constructor(
    private readonly arena: Arena,
    private readonly config: ModelConfig,
  ) {
    this.heads = new Map(headsOf(config).map((h) => [h.teacher, h]));
  }

  get names(): string[] {
    return [...this.heads.keys()];
  }

  /**
   * @param tokens [B,T,D] of the encoder
   * @param names teachers wanted, all by default
   * @returns by teacher [B,H·W,C], or [B,C] for a `_cls` target
   */
  forward(tokens: Tensor, names: readonly string[] = this.names): Map<string, Tensor> {
    const c = this.config;
    const side = c.image / c.patch;
    return tidy(() => {
      const first = c.tokens === 'nocls' ? 0 : 1;
      const heads = names.map((n) => {
        const head = this.heads.get(n);
        if (!head) throw new TheiaError('ERR_ARGS', `expected one of the model's teachers (${this.names.join(', ')}), got ${n}`);
        return head;
      });
      const map = heads.some((h) => !h.cls) ? tokenMap(tokens, first, side) : undefined;
      const cls = heads.some((h) => h.cls) ? tokenMap(tokens, 0, 1) : undefined;
      return new Map(heads.map((h) => [h.teacher, tidy(() => this.head(h, h.cls ? cls! : map!))]));
    });
  }

  private head(head: Head, input: Tensor): Tensor {
    const p = (name: string): { w: Parameter; bias: Parameter } => ({
      w: parameterOf(this.arena, `${head.prefix}.${name}.weight`),
      bias: parameterOf(this.arena, `${head.prefix}.${name}.bias`),
    });
    let x = input;
    if (head.pads) {
      const { w, bias } = p('pad.1');
      x = convTranspose2d(x, w, { bias, stride: 1, padding: 0 });
    } else x = packed(x);
    let relu = false; // whether x comes out of a ReLU: the LayerNorm behind it then masks the gradient for it
    for (const s of head.steps) {
      const { w, bias } = p(`adapter.${s.index}`);
      if (s.kind === 'norm') x = layernormMap(x, w, bias, EPS, { relu });
      else if (s.kind === 'conv') x = conv2d(x, w, { bias, stride: s.stride, padding: s.padding, activation: 'relu', maskedBehind: true });
      else if (s.kind === 'transpose')
        x = convTranspose2d(x, w, {
          bias,
          stride: s.stride,
          padding: s.padding,
          outputPadding: s.outputPadding,
          activation: 'relu',
          maskedBehind: true,
        });
      else {
        const [b, h, v, k] = x.shape as [number, number, number, number];
        x = linear(reshape(x, head.cls ? [b, k] : [b, h * v, k]), w, { bias });
      }
      relu = s.kind === 'conv' || s.kind === 'transpose';
    }
    return x;
  }
}
