import { resizeImage } from '../data/prepare.js';
import { TheiaError } from '../errors.js';
import { loadTheia, modelLabel } from '../models/checkpoint.js';
import type { ModelConfig } from '../models/config.js';
import { REDUCE_METHODS } from '../models/theia.js';
import type { Normalisation, ReduceMethod, Theia } from '../models/theia.js';
import { preprocess } from '../ops/preprocess.js';
import type { ResizeFilter } from '../ops/preprocess.js';
import { asFloat32 } from '../ops/view.js';
import { Plan, Tensor, resolveDevice, threads as setThreads, tidy, writeLater } from '../tensor/index.js';
import type { Device } from '../tensor/index.js';
import { checkFrame, isPlain, toRgb } from './frame.js';
import type { Frame } from './frame.js';

export { FRAME_FORMATS } from './frame.js';
export type { Frame, FrameFormat } from './frame.js';
export type { ModelConfig } from '../models/config.js';
export type { Normalisation, ReduceMethod } from '../models/theia.js';
export { TheiaError, ERROR_CODES } from '../errors.js';
export type { ErrorCode } from '../errors.js';

export interface EncoderOptions {
  /** model config JSON; what the tensors tell is not needed */
  config?: string;
  /** auto (default), cpu, cuda, cuda:N or simt (the GPU kernels on the CPU, for checking) */
  device?: string;
  /** what is computed in; bfloat16 on cuda and simt. Results are float32 */
  dtype?: EncoderDType;
  /** per-channel mean and standard deviation of bytes / 255; default 0.5 */
  normalisation?: Normalisation;
  /** threads of the whole process; 0 = what the machine gives */
  threads?: number;
  /** false: frames must have the model's size; default true: they are brought to it, the aspect is not kept */
  resize?: boolean;
  /** Pillow's filter for that; default bilinear, as the published models have it */
  filter?: ResizeFilter;
}

export type EncoderDType = 'float32' | 'bfloat16';

/** What to compute of frames. */
export interface EncoderRequest {
  /** what of the tokens: none (default) = the spatial tokens [B,N,D]; false leaves them out */
  reduce?: ReduceMethod | false;
  /** predicted features of all teachers (true) or of these */
  predict?: boolean | readonly string[];
  /** embeddings and the output of every block, all tokens */
  hidden?: boolean;
}

export interface EncoderOutput {
  shape: readonly number[];
  data: Float32Array;
}

/** Plans are kept for this many signatures. */
const MAX_PLANS = 8;

interface Signature {
  batch: number;
  height: number;
  width: number;
  reduce: ReduceMethod | false;
  teachers: readonly string[];
  hidden: boolean;
}

/** What belongs to one signature: its input and, from the second call on, its plan. */
interface Prepared {
  pixels: Tensor;
  staging: Uint8Array | undefined;
  plan: Plan<Map<string, Tensor>> | undefined;
}

/**
 * Runs a student on frames. The first call of a signature (number and size of the frames, what is asked for) runs as it is, the second
 * records a plan, later ones replay it: they allocate nothing but the arrays they return, and not even those where `out` is given.
 *
 *     using encoder = await Encoder.load('theia-tiny');
 *     const tokens = encoder.encode({ data, width: 640, height: 480 }); // Float32Array of [1,196,192]
 */
export class Encoder {
  private readonly prepared = new Map<string, Prepared>();
  private closed = false;

  private constructor(
    private readonly model: Theia,
    /** what messages and metadata call the model */
    readonly label: string,
    readonly device: Device,
    private readonly resize: boolean,
    private readonly filter: ResizeFilter,
  ) {}

  /**
   * Loads a student.
   * @param path a safetensors file with the original's key names, or a folder with model.safetensors and config.json
   * @throws ERR_FILE, ERR_CORRUPT, ERR_CONFIG about the files, ERR_UNSUPPORTED for a device or dtype that is not built
   */
  static async load(path: string, options: EncoderOptions = {}): Promise<Encoder> {
    const device = resolveDevice(options.device ?? 'auto');
    const dtype: string = options.dtype ?? 'float32';
    if (dtype !== 'float32' && dtype !== 'bfloat16')
      throw new TheiaError('ERR_UNSUPPORTED', `dtype ${dtype} is not in this build; expected float32 or bfloat16`);
    if (options.threads !== undefined) setThreads(options.threads);
    const { config, normalisation } = options;
    const model = loadTheia(path, {
      device,
      compute: dtype,
      ...(config === undefined ? {} : { config }),
      ...(normalisation ? { normalisation } : {}),
    });
    model.arena.seal();
    return new Encoder(model, modelLabel(path), device, options.resize ?? true, options.filter ?? 'bilinear');
  }

  get config(): ModelConfig {
    return this.live().config;
  }

  /** Names of the teachers whose features predict() gives. */
  get teachers(): string[] {
    return this.live().teachers;
  }

  get dtype(): EncoderDType {
    return this.live().arena.compute as EncoderDType;
  }

  /**
   * The representation of one frame or of a batch.
   * @param options.out where to put it, of the right length
   * @returns [B,N,D] spatial tokens, or what `reduce` makes of them ([B,D], or all tokens [B,T,D] for identity)
   * @throws ERR_ARGS and ERR_SHAPE naming the frame
   */
  encode(frames: Frame | readonly Frame[], options: { reduce?: ReduceMethod; out?: Float32Array } = {}): Float32Array {
    const outputs = this.compute(frames, { reduce: options.reduce ?? 'none' }, () => options.out);
    return outputs.get('tokens')!.data;
  }

  /**
   * The features that the translators predict of each teacher, normalised as in training.
   * @returns by teacher [B,H·W,C], or [B,C] of a `_cls` target
   */
  predict(frames: Frame | readonly Frame[], options: { teachers?: readonly string[] } = {}): Map<string, Float32Array> {
    const outputs = this.compute(frames, { reduce: false, predict: options.teachers ?? true });
    return new Map([...outputs].map(([name, o]) => [name.slice('pred/'.length), o.data]));
  }

  /** Everything at once, by name: `tokens`, `pred/<teacher>`, `hidden/<i>` (0 = embeddings, i = output of block i). */
  run(frames: Frame | readonly Frame[], request: EncoderRequest = {}): Map<string, EncoderOutput> {
    return this.compute(frames, request);
  }

  /** Frees the model and all plans. Later calls throw ERR_DISPOSED. */
  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    for (const p of this.prepared.values()) release(p);
    this.prepared.clear();
    this.model.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private live(): Theia {
    if (this.closed) throw new TheiaError('ERR_DISPOSED', 'expected a live encoder, got one that was disposed of');
    return this.model;
  }

  private compute(
    frames: Frame | readonly Frame[],
    request: EncoderRequest,
    into: (name: string) => Float32Array | undefined = () => undefined,
  ): Map<string, EncoderOutput> {
    this.live();
    const list: readonly Frame[] = Array.isArray(frames) ? (frames as readonly Frame[]) : [frames as Frame];
    if (list.length === 0) throw new TheiaError('ERR_ARGS', 'expected at least one frame, got none');
    const strides = list.map((frame, i) => {
      const label = list.length === 1 ? 'frame' : `frame ${i}`;
      const { stride } = checkFrame(frame, label);
      this.checkSize(frame, label);
      return stride;
    });
    const { image } = this.model.config;
    const [{ width, height }] = list as [Frame];
    const mixed = list.some((f) => f.width !== width || f.height !== height);
    const signature: Signature = {
      batch: list.length,
      height: mixed ? image : height,
      width: mixed ? image : width,
      reduce: this.reduceOf(request),
      teachers: this.teachersOf(request),
      hidden: request.hidden ?? false,
    };
    if (signature.reduce === false && signature.teachers.length === 0 && !signature.hidden)
      throw new TheiaError('ERR_ARGS', 'expected something to compute: tokens, predictions or hidden states, got none of them');
    const key = JSON.stringify(signature);
    const known = this.prepared.get(key);
    const prepared = known ?? this.prepare(key, signature);
    // The newest is the last to go.
    this.prepared.delete(key);
    this.prepared.set(key, prepared);
    this.fill(prepared, list, strides, mixed);
    if (prepared.plan) prepared.plan.replay();
    else if (known) {
      prepared.plan = Plan.record(() => new Map([...this.forward(prepared.pixels, signature)].map(([n, t]) => [n, t.retainOnly()])));
    } else return tidy(() => read(this.forward(prepared.pixels, signature), into));
    return read(prepared.plan.result, into);
  }

  private reduceOf({ reduce = 'none' }: EncoderRequest): ReduceMethod | false {
    if (reduce !== false && !REDUCE_METHODS.includes(reduce))
      throw new TheiaError('ERR_ARGS', `expected reduce as one of ${REDUCE_METHODS.join(', ')}, got ${JSON.stringify(reduce)}`);
    if (reduce === 'cls' && this.model.config.tokens === 'nocls')
      throw new TheiaError('ERR_ARGS', 'reduce cls: expected a model with a CLS token, got one with tokens nocls');
    return reduce;
  }

  private teachersOf({ predict = false }: EncoderRequest): readonly string[] {
    if (predict === false) return [];
    const { teachers } = this.model;
    if (teachers.length === 0) throw new TheiaError('ERR_ARGS', `predict: expected a model with translators, ${this.label} has none`);
    if (predict === true) return teachers;
    for (const name of predict)
      if (!teachers.includes(name))
        throw new TheiaError('ERR_ARGS', `predict: expected one of the model's teachers (${teachers.join(', ')}), got ${name}`);
    return predict;
  }

  private checkSize({ width, height }: Frame, label: string): void {
    const { image, patch } = this.model.config;
    if (this.resize || (width === image && height === image)) return;
    if (width % patch !== 0 || height % patch !== 0)
      throw new TheiaError('ERR_SHAPE', `${label}: expected sides that are multiples of the patch ${patch}, got ${width} x ${height}`);
    throw new TheiaError(
      'ERR_UNSUPPORTED',
      `${label}: expected the model's size ${image} x ${image}, got ${width} x ${height}: positions are not interpolated in this build`,
      { hint: 'let frames be resized to it, which is the default' },
    );
  }

  private prepare(key: string, { batch, height, width }: Signature): Prepared {
    const prepared: Prepared = {
      pixels: Tensor.empty([batch, height, width, 3], 'uint8', this.device).retainOnly(),
      staging: undefined,
      plan: undefined,
    };
    this.prepared.set(key, prepared);
    if (this.prepared.size > MAX_PLANS) {
      const [oldest, p] = this.prepared.entries().next().value!;
      this.prepared.delete(oldest);
      release(p);
    }
    return prepared;
  }

  /** Brings the frames into the input tensor as RGB. Frames of different sizes are resized one by one. */
  private fill(prepared: Prepared, frames: readonly Frame[], strides: readonly number[], mixed: boolean): void {
    const { pixels } = prepared;
    const [first] = frames as [Frame];
    if (frames.length === 1 && isPlain(first, strides[0]!)) {
      const { data, width, height } = first;
      writeLater(pixels, new Uint8Array(data.buffer, data.byteOffset, width * height * 3));
      return;
    }
    prepared.staging ??= new Uint8Array(pixels.size);
    const { staging } = prepared;
    const size = pixels.size / frames.length;
    frames.forEach((frame, i) => {
      const place = staging.subarray(i * size, (i + 1) * size);
      if (!mixed) return toRgb(frame, strides[i]!, place);
      const { width, height } = frame;
      const rgb = new Uint8Array(width * height * 3);
      toRgb(frame, strides[i]!, rgb);
      const side = this.model.config.image;
      place.set(resizeImage({ data: rgb, width, height, channels: 3 }, side, side, this.filter).data);
    });
    writeLater(pixels, staging);
  }

  private forward(pixels: Tensor, { reduce, teachers, hidden: wantHidden }: Signature): Map<string, Tensor> {
    const { model } = this;
    const { image } = model.config;
    return tidy(() => {
      const fits = pixels.shape[1] === image && pixels.shape[2] === image;
      const { tokens, hidden } = model.encode(fits ? pixels : preprocess(pixels, image, image, this.filter), wantHidden);
      const out = new Map<string, Tensor>();
      if (reduce !== false) out.set('tokens', asFloat32(model.represent(tokens, reduce)));
      if (teachers.length > 0) for (const [name, t] of model.predict(tokens, teachers)) out.set(`pred/${name}`, asFloat32(t));
      hidden.forEach((t, i) => out.set(`hidden/${i}`, t));
      return out;
    });
  }
}

function release(p: Prepared): void {
  p.pixels.dispose();
  if (!p.plan) return;
  for (const t of p.plan.result.values()) t.dispose();
  p.plan.dispose();
}

function read(tensors: ReadonlyMap<string, Tensor>, into: (name: string) => Float32Array | undefined): Map<string, EncoderOutput> {
  const out = new Map<string, EncoderOutput>();
  for (const [name, t] of tensors) {
    const data = into(name) ?? new Float32Array(t.size);
    t.readInto(data);
    out.set(name, { shape: t.shape, data });
  }
  return out;
}
