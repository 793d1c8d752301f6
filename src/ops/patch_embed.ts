import { activeTape } from '../autograd/tape.js';
import type { Parameter } from '../autograd/parameter.js';
import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';

export interface PatchEmbedParameters {
  /** [D,P,P,C] */
  w: Parameter;
  /** [D] */
  bias: Parameter;
  /** [1+N,D]; row 0 belongs to CLS */
  positions: Parameter;
  /** [D]; absent in models without CLS */
  cls?: Parameter | undefined;
  /** [R,D] each: tokens behind the patches, and their positions */
  registers?: { tokens: Parameter; positions: Parameter } | undefined;
}

/**
 * Tokens straight from bytes (kernels/patch_embed).
 * @param images [B,H,W,C] uint8, sides multiples of the patch
 * @param table [C·256] from byteTable(): what each byte becomes
 * @returns [B,T,D]: CLS, N patches, registers. The residual stream: float32, whatever the model computes in
 */
export function patchEmbed(images: Tensor, table: Tensor, parameters: PatchEmbedParameters): Tensor {
  const { w, bias, positions, cls, registers } = parameters;
  const [width, patch] = w.shape as [number, number];
  const [batch, h, v] = images.shape as [number, number, number];
  const tokens = Math.floor(h / patch) * Math.floor(v / patch) + (cls ? 1 : 0) + (registers?.tokens.shape[0] ?? 0);
  const y = Tensor.empty([batch, tokens, width], w.value.dtype, images.device);
  dispatch('patch_embed', {
    images,
    table,
    w: w.operand,
    packed: w.packed('forward'),
    bias: bias.value,
    positions: positions.value,
    cls: cls?.value,
    registers: registers?.tokens.value,
    register_positions: registers?.positions.value,
    y,
  });
  const tape = activeTape();
  if (!tape || !w.wantsGradient) return y;
  tape.record([y], [images, table], (gradients, [images_, table_]) => {
    const dw = w.gradient();
    const dbias = bias.gradient();
    const dpositions = positions.gradient();
    const dcls = cls?.gradient();
    const dregisters = registers?.tokens.gradient();
    const dregisterPositions = registers?.positions.gradient();
    if ([dbias, dpositions, dcls, dregisters, dregisterPositions].some((g) => g && g.accumulate !== dw.accumulate))
      throw new TheiaError('ERR_AUTOGRAD', 'patch_embed: its parameters are shared differently');
    dispatch('patch_embed_grad', {
      images: images_!,
      table: table_!,
      w: w.compute === w.value.dtype ? undefined : w.operand,
      dy: gradients.of(y)!,
      dw: dw.into,
      dbias: dbias.into,
      dpositions: dpositions.into,
      dcls: dcls?.into,
      dregisters: dregisters?.into,
      dregister_positions: dregisterPositions?.into,
      accumulate: dw.accumulate,
    });
  });
  return y;
}
