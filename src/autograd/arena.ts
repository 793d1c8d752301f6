import { TheiaError } from '../errors.js';
import { Tensor, countOf, dispatch } from '../tensor/index.js';
import type { DType, Device } from '../tensor/index.js';
import { fromFile, toFile } from './layout.js';
import type { FileLayout } from './layout.js';
import { Parameter } from './parameter.js';

/** One tensor of a checkpoint, as the model declares it. */
export interface SegmentSpec {
  /** its name in the checkpoint */
  key: string;
  /** its shape in the checkpoint */
  fileShape: readonly number[];
  layout: FileLayout;
  /** the teacher whose translator it belongs to, if any */
  teacher?: string;
  /** multiplies the learning rate */
  lrScale?: number;
  /** fills the initial values, in the engine's layout */
  init: (out: Float32Array) => void;
}

/** A parameter as the model declares it: one or more segments that lie next to each other and share decay. */
export interface ParameterSpec {
  name: string;
  /** the shape ops see, in the engine's layout */
  shape: readonly number[];
  decay: boolean;
  segments: readonly SegmentSpec[];
}

/** Where a checkpoint tensor lies in the arena. */
export interface Segment extends SegmentSpec {
  offset: number;
  length: number;
  decay: boolean;
  parameter: Parameter;
}

const ALIGN = 16; // float32 elements: 64 bytes

export interface ArenaOptions {
  /** also holds gradients */
  training: boolean;
  /** float64 only for gradient checks and reference runs */
  dtype?: DType;
  device?: Device;
  /** what products and activations are computed in; bfloat16 keeps a copy of the values in it. Default: dtype */
  compute?: DType;
}

/**
 * All parameters of a model in one float32 tensor; gradients and the two moments of AdamW in tensors of the same layout.
 * Order: all parameters with weight decay, then all without; inside each group model order. Parameters start at 64 bytes; the segments of
 * one parameter are adjacent, so that [3D,D] of query, key and value is a view. Where the model computes in bfloat16, a copy of the values
 * in it has the same layout: a cache of what matrix products read, written by AdamW along with the values, and made anew by refresh().
 */
export class Arena {
  /** Raised whenever values change; packed weights carry the version they were made from. */
  version = 1;
  private closed = false;
  readonly values: Tensor;
  readonly gradients: Tensor | undefined;
  readonly compute: DType;
  /** the values in `compute`, if that is another type */
  readonly weights: Tensor | undefined;
  /** the version that `weights` was made from */
  private weightsVersion = 0;
  readonly segments: readonly Segment[];
  readonly parameters: ReadonlyMap<string, Parameter>;
  private readonly byKey: ReadonlyMap<string, Segment>;

  constructor(specs: readonly ParameterSpec[], options: ArenaOptions) {
    const dtype = options.dtype ?? 'float32';
    const device = options.device ?? 'cpu';
    this.compute = options.compute ?? dtype;
    const ordered = [...specs.filter((s) => s.decay), ...specs.filter((s) => !s.decay)];
    const places: number[] = [];
    let length = 0;
    for (const spec of ordered) {
      places.push(length);
      const inside = spec.segments.reduce((n, s) => n + countOf(s.fileShape), 0);
      if (inside !== countOf(spec.shape))
        throw new TheiaError(
          'ERR_INTERNAL',
          `${spec.name}: segments hold ${inside} values, the shape [${spec.shape.join(',')}] another number`,
        );
      length = Math.ceil((length + inside) / ALIGN) * ALIGN;
    }
    this.values = Tensor.zeros([length], dtype, device).retainOnly();
    this.gradients = options.training ? Tensor.zeros([length], dtype, device).retainOnly() : undefined;
    this.weights = this.compute === dtype ? undefined : Tensor.zeros([length], this.compute, device).retainOnly();
    const segments: Segment[] = [];
    const parameters = new Map<string, Parameter>();
    ordered.forEach((spec, i) => {
      const view = (of: Tensor): Tensor => of.slice(0, places[i]!, countOf(spec.shape)).retainOnly();
      const shaped = (of: Tensor): Tensor => {
        const flat = view(of);
        const result = flat.reshape(spec.shape).retainOnly();
        flat.dispose();
        return result;
      };
      const parameter = new Parameter(
        spec.name,
        shaped(this.values),
        this.gradients && shaped(this.gradients),
        this,
        this.weights && shaped(this.weights),
      );
      parameters.set(spec.name, parameter);
      let offset = places[i]!;
      for (const s of spec.segments) {
        segments.push({ ...s, offset, length: countOf(s.fileShape), decay: spec.decay, parameter });
        offset += countOf(s.fileShape);
      }
    });
    this.segments = segments;
    this.parameters = parameters;
    this.byKey = new Map(segments.map((s) => [s.key, s]));
    if (this.byKey.size !== segments.length) throw new TheiaError('ERR_INTERNAL', 'two segments have the same checkpoint key');
  }

  /** Number of trained values (padding not counted). */
  get count(): number {
    return this.segments.reduce((n, s) => n + s.length, 0);
  }

  get sealed(): boolean {
    return this.closed;
  }

  /** Inference: from now on values are not to change, and plans do not repack weights. load() and initialise() throw ERR_AUTOGRAD. */
  seal(): void {
    this.refresh();
    this.closed = true;
  }

  /** Brings the weights' copy up to date; does nothing where it is, or where there is none. */
  refresh(): void {
    if (!this.weights || this.weightsVersion === this.version) return;
    dispatch('copy', { src: this.values, dst: this.weights, accumulate: 0 });
    this.weightsVersion = this.version;
  }

  /** An optimiser's step wrote the values, and the weights' copy with them. */
  stepped(): void {
    const fresh = this.weightsVersion === this.version;
    this.version += 1;
    // A copy that was stale before is stale still: a step writes only the segments that got a gradient.
    if (fresh) this.weightsVersion = this.version;
  }

  segment(key: string): Segment | undefined {
    return this.byKey.get(key);
  }

  /** Fills all values with their initial ones. */
  initialise(): void {
    this.checkOpen();
    for (const s of this.segments) {
      const out = new Float32Array(s.length);
      s.init(out);
      this.writeRange(this.values, s, out);
    }
    this.version += 1;
  }

  /** Sets one checkpoint tensor from its values in the file's layout. */
  load(key: string, values: Float32Array): void {
    this.checkOpen();
    const s = this.need(key);
    if (values.length !== s.length)
      throw new TheiaError('ERR_SHAPE', `${key}: expected ${s.length} values for [${s.fileShape.join(',')}], got ${values.length}`);
    this.writeRange(this.values, s, fromFile(values, s.fileShape, s.layout));
    this.version += 1;
  }

  /** A checkpoint tensor in the file's layout. @param of values (default), gradients, or another tensor of the arena's layout */
  export(key: string, of: Tensor = this.values): Float32Array {
    const s = this.need(key);
    const range = of.slice(0, s.offset, s.length);
    const values = Float32Array.from(range.data() as Float32Array);
    range.dispose();
    return toFile(values, s.fileShape, s.layout);
  }

  /** Writes a tensor of the arena's layout (a moment) from file layout. */
  import(key: string, into: Tensor, values: Float32Array): void {
    const s = this.need(key);
    this.writeRange(into, s, fromFile(values, s.fileShape, s.layout));
  }

  /** Starts a new accumulation of gradients: the first write of each parameter replaces what is there. */
  beginGradients(): void {
    for (const p of this.parameters.values()) p.beginGradients();
  }

  dispose(): void {
    for (const p of this.parameters.values()) p.dispose();
    this.values.dispose();
    this.gradients?.dispose();
    this.weights?.dispose();
  }

  private checkOpen(): void {
    if (this.closed) throw new TheiaError('ERR_AUTOGRAD', 'the arena was sealed for inference: its values do not change any more');
  }

  private need(key: string): Segment {
    const s = this.byKey.get(key);
    if (!s) throw new TheiaError('ERR_ARGS', `expected a tensor of this model, got ${key}`);
    return s;
  }

  private writeRange(into: Tensor, s: Segment, values: Float32Array): void {
    const range = into.slice(0, s.offset, s.length);
    range.write(into.dtype === 'float64' ? Float64Array.from(values) : values);
    range.dispose();
  }
}
