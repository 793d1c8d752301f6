import { TheiaError } from '../errors.js';
import { Tensor, dispatch, tidy } from '../tensor/index.js';

/**
 * What a backward function sees: gradients by tensor. A tensor is named by the object that forward had, even if its memory is gone since.
 */
export class Gradients {
  private readonly slots = new Map<number, Tensor>();

  /** The gradient collected for an output of the op; undefined if nothing flowed back to it. Do not write into it. */
  of(output: Tensor): Tensor | undefined {
    return this.slots.get(output.id);
  }

  /** Adds to the gradient of an input. Takes the handle over (retain() what must stay yours). */
  add(input: Tensor, gradient: Tensor): void {
    const own = gradient.retain();
    const before = this.slots.get(input.id);
    if (!before) {
      this.slots.set(input.id, own);
      return;
    }
    const sum = before.exclusive ? before : Tensor.empty(before.shape, before.dtype, before.device).retain();
    dispatch('add', { a: before, b: own, y: sum });
    own.dispose();
    if (sum !== before) before.dispose();
    this.slots.set(input.id, sum);
  }

  /** Takes what was collected for an input out, for an op that fuses the sum; the op then calls add() with the whole. */
  take(input: Tensor): Tensor | undefined {
    const t = this.slots.get(input.id);
    this.slots.delete(input.id);
    return t;
  }

  /** Frees the gradient of a tensor that no earlier op can reach any more. */
  drop(output: Tensor): void {
    this.take(output)?.dispose();
  }

  dispose(): void {
    for (const t of this.slots.values()) t.dispose();
    this.slots.clear();
  }
}

interface Entry {
  outputs: readonly Tensor[];
  /** tensors whose memory backward needs; retained by the tape until then */
  saved: Tensor[];
  /** a loss: runs though nothing flows into its outputs */
  root: boolean;
  backward: (gradients: Gradients) => void;
}

let active: Tape | undefined;

/**
 * The list of what was computed, walked backwards for gradients. One tape serves one forward pass:
 *
 *     const tape = new Tape();
 *     tape.run(() => distillLoss(model.forward(images), target));
 *     tape.backward();     // parameter gradients are in the arena now
 *
 * Memory: a tape keeps exactly what the ops' backward functions asked to save, each until its op's backward has run.
 */
export class Tape {
  private entries: Entry[] = [];
  private reachable = new Set<number>();
  private done = false;

  /** Runs fn with this tape recording; everything made inside is freed afterwards but for what fn returns and what backward needs. */
  run<T>(fn: () => T): T {
    if (active) throw new TheiaError('ERR_AUTOGRAD', 'a tape is already recording; tapes do not nest');
    if (this.done) throw new TheiaError('ERR_AUTOGRAD', 'this tape was walked backwards already; a tape serves one forward pass');
    active = this;
    try {
      return tidy(fn);
    } catch (error) {
      this.dispose();
      throw error;
    } finally {
      active = undefined;
    }
  }

  /** True if a gradient can reach the tensor, so that an op need compute its gradient. */
  reaches(t: Tensor): boolean {
    return this.reachable.has(t.id);
  }

  /** Declares a tensor that gradients are wanted for (inputs of gradient checks, tokens in parity). */
  watch(t: Tensor): void {
    this.reachable.add(t.id);
  }

  /**
   * Notes an op that was just run.
   * @param saved tensors whose memory backward reads; they survive the forward's scope
   * @param backward gets the gradients of the outputs by `gradients.of(output)`, adds those of the inputs; runs inside `tidy`
   */
  record(
    outputs: readonly Tensor[],
    saved: readonly (Tensor | undefined)[],
    backward: (gradients: Gradients, saved: Tensor[]) => void,
    root = false,
  ): void {
    const kept = saved.map((t) => t?.retain());
    for (const o of outputs) this.reachable.add(o.id);
    this.entries.push({
      outputs,
      saved: kept.filter((t): t is Tensor => t !== undefined),
      root,
      backward: (g) => backward(g, kept as Tensor[]),
    });
  }

  /**
   * Walks back. Gradients of parameters are written to their arena; the others are freed on the way.
   * @param seeds gradients to start from, beside the losses on the tape
   * @param wanted tensors whose gradients are returned, in order (the caller disposes of them); undefined where none arrived
   */
  backward(seeds: readonly (readonly [Tensor, Tensor])[] = [], wanted: readonly Tensor[] = []): (Tensor | undefined)[] {
    if (this.done) throw new TheiaError('ERR_AUTOGRAD', 'backward ran already; a tape serves one forward pass');
    if (this.entries.length === 0) throw new TheiaError('ERR_AUTOGRAD', 'nothing was recorded: run the forward pass inside tape.run()');
    const gradients = new Gradients();
    const results = new Map<number, Tensor>();
    const keepWanted = (t: Tensor): void => {
      const g = gradients.of(t);
      if (g && wanted.some((w) => w.id === t.id)) results.set(t.id, g.retain());
    };
    try {
      for (const [t, g] of seeds) gradients.add(t, g);
      for (let i = this.entries.length - 1; i >= 0; i--) {
        const entry = this.entries[i]!;
        if (entry.root || entry.outputs.some((o) => gradients.of(o))) tidy(() => entry.backward(gradients));
        for (const o of entry.outputs) {
          keepWanted(o);
          gradients.drop(o);
        }
        for (const t of entry.saved) t.dispose();
        entry.saved = [];
      }
      for (const w of wanted) if (!results.has(w.id)) keepWanted(w);
      return wanted.map((w) => results.get(w.id));
    } catch (error) {
      for (const g of results.values()) g.dispose();
      throw error;
    } finally {
      gradients.dispose();
      this.dispose();
    }
  }

  /** Lets go of everything saved. */
  dispose(): void {
    for (const e of this.entries) for (const t of e.saved) t.dispose();
    this.entries = [];
    this.done = true;
  }
}

/** The tape that records now, if any. Ops ask it; models do not. */
export function activeTape(): Tape | undefined {
  return active;
}
