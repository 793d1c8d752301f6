import { TheiaError } from '../errors.js';
import { Tensor, dispatch } from '../tensor/index.js';
import type { DType } from '../tensor/index.js';
import { recordingCount } from '../tensor/plan.js';

/** Something whose values change as a whole and say so: the arena. */
export interface Versioned {
  version: number;
  /** what products and activations are computed in, if not the type of the values */
  readonly compute?: DType;
  /** brings the weights' copy in `compute` up to date */
  refresh?(): void;
  /** true: the values never change again, so that a plan need not repack on replay */
  sealed?: boolean;
}

/** How a weight is packed: `forward` for x·wᵀ, `backward` for dy·w (the input gradient). */
export type PackUse = 'forward' | 'backward';

interface Panels {
  tensor: Tensor;
  version: number;
  recording: number;
}

/**
 * A trained tensor in the engine's layout: a view of the arena, and a view of the gradient arena with the same place.
 * It may span several segments (query, key and value as one [3D,D]).
 */
export class Parameter {
  /** False: no gradient is computed (frozen, or an inference model). */
  trainable = true;
  /** True once backward wrote the gradient since the last `beginGradients()`: what comes next is added. */
  private written = false;
  private panels = new Map<PackUse, Panels>();

  constructor(
    readonly name: string,
    readonly value: Tensor,
    readonly gradientView: Tensor | undefined,
    private readonly owner: Versioned,
    /** the same place in the weights' copy, where the arena keeps one */
    private readonly copy?: Tensor,
  ) {}

  /** What products and activations are computed in: bfloat16, or the type of the values. */
  get compute(): DType {
    return this.owner.compute ?? this.value.dtype;
  }

  /** The weight as matrix products read it: the copy in `compute`, or the values themselves. */
  get operand(): Tensor {
    if (!this.copy) return this.value;
    this.owner.refresh?.();
    return this.copy;
  }

  get shape(): readonly number[] {
    return this.value.shape;
  }

  get wantsGradient(): boolean {
    return this.trainable && this.gradientView !== undefined;
  }

  /** True if this pass has computed a gradient. */
  get touched(): boolean {
    return this.written;
  }

  beginGradients(): void {
    this.written = false;
  }

  /** A replayed plan wrote the gradient. */
  markWritten(): void {
    this.written = true;
  }

  /** Where a backward op puts its gradient, and whether it adds (1) or writes (0). Counts as written from now on. */
  gradient(): { into: Tensor; accumulate: 0 | 1 } {
    if (!this.gradientView)
      throw new TheiaError('ERR_AUTOGRAD', `parameter ${this.name} has no gradient: the model was built for inference`);
    const accumulate = this.written ? 1 : 0;
    this.written = true;
    return { into: this.gradientView, accumulate };
  }

  /**
   * The weight as GEMM panels; made anew when the arena's version changed. While a plan is recorded they are always made anew once, because
   * a replay must repack what the optimiser changed; panels of a sealed arena stay as they are. Undefined for weights in float64 (the reference kernels read the weight itself) and on devices
   * other than the CPU, whose kernels read weights as they are.
   */
  packed(use: PackUse): Tensor | undefined {
    if (this.value.dtype !== 'float32' || this.value.device !== 'cpu') return undefined;
    const found = this.panels.get(use);
    const { version, sealed } = this.owner;
    if (found && found.version === version && (sealed || found.recording === recordingCount())) return found.tensor;
    const tensor = found?.tensor ?? Tensor.empty([packedLength(this.shape, use)]).retainOnly();
    // Forward, a kernel's taps and channels are one depth: panels of [O,kh,kw,I] are those of [O,kh·kw·I], however large the kernel.
    const w = use === 'forward' ? this.value.reshape([this.shape[0]!, this.value.size / this.shape[0]!]) : this.value;
    dispatch('pack', { w, packed: tensor, use });
    if (w !== this.value) w.dispose();
    this.panels.set(use, { tensor, version, recording: recordingCount() });
    return tensor;
  }

  dispose(): void {
    for (const p of this.panels.values()) p.tensor.dispose();
    this.panels.clear();
    this.value.dispose();
    this.copy?.dispose();
    this.gradientView?.dispose();
  }
}

/**
 * Number of float32 of a packed weight (kernels/pack/pack.h): panels of 32 columns, zero-padded.
 * @param shape [N,K], or [O,kh,kw,I] of a convolution
 */
export function packedLength(shape: readonly number[], use: PackUse): number {
  const [n, k] = shape.length === 2 ? [shape[0]!, shape[1]!] : [shape[0]!, shape[3]!];
  const taps = shape.length === 2 ? 1 : shape[1]! * shape[2]!;
  const columns = use === 'forward' ? n : k;
  const depth = taps * (use === 'forward' ? k : n);
  return Math.ceil(columns / 32) * 32 * depth;
}
