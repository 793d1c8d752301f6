import { TheiaError } from '../errors.js';
import type { Image } from '../data/image.js';
import type { ImageSource } from '../data/image-source.js';
import type { Encoder, EncoderOutput } from '../encoder/index.js';
import type { SafetensorsSink } from '../formats/index.js';
import type { Args } from './args.js';
import { DEVICE_OPTIONS, deviceOf, dtypeOf } from './device.js';
import { printable } from './printable.js';
import { onStop, signalExitCode } from './signals.js';
import type { StopSignal } from './signals.js';
import type { Verb } from './verb.js';

const REDUCE = ['none', 'cls', 'mean_pooling', 'max_pooling', 'identity'] as const;
const DEFAULT_BATCH = 8;
/** Version of the output's layout, in its metadata. */
const FORMAT = '1';

interface Work {
  encoder: Encoder;
  source: ImageSource;
  out: string;
  batch: number;
  resize: boolean;
  request: { reduce: (typeof REDUCE)[number]; predict: boolean; hidden: boolean };
}

async function metadataOf({ encoder, source, request }: Work): Promise<Map<string, string>> {
  const { packageVersion } = await import('../version.js');
  return new Map([
    ['format', FORMAT],
    ['model', encoder.label],
    ['device', encoder.device],
    ['dtype', encoder.dtype],
    ['version', packageVersion()],
    ['reduce', request.reduce],
    // which row is which file
    ['images', JSON.stringify(Array.from({ length: source.count }, (_, i) => source.name(i)))],
  ]);
}

/** The images of one batch. @param like images that are not resized must have this one's size: they share tensors */
async function readBatch(source: ImageSource, from: number, count: number, like: Image | undefined): Promise<Image[]> {
  const images: Image[] = [];
  for (let i = from; i < from + count; i++) {
    const image = await source.read(i);
    if (like && (image.width !== like.width || image.height !== like.height))
      throw new TheiaError(
        'ERR_SHAPE',
        `${source.name(i)}: expected ${like.width} x ${like.height} as the first image, got ${image.width} x ${image.height}`,
        { hint: 'without --no-resize images may have any size' },
      );
    images.push(image);
  }
  return images;
}

/** Encodes batch by batch into the file, which appears when all of it is there. */
class Run {
  readonly shapes = new Map<string, number[]>();
  milliseconds = 0;
  private sink: SafetensorsSink | undefined;

  constructor(private readonly work: Work) {}

  /** @param stopped asked between batches. @returns false if it was stopped; nothing is written then */
  async encode(stopped: () => boolean): Promise<boolean> {
    const { source, batch, resize } = this.work;
    try {
      const first = resize ? undefined : await source.read(0);
      for (let at = 0; at < source.count; at += batch) {
        const images = await readBatch(source, at, Math.min(batch, source.count - at), first);
        await this.batch(images, at);
        await new Promise((done) => setImmediate(done)); // lets a signal in
        if (stopped()) return false;
      }
      this.sink!.finish();
      return true;
    } finally {
      this.sink?.abort();
    }
  }

  private async batch(images: readonly Image[], at: number): Promise<void> {
    const { encoder, request } = this.work;
    const start = performance.now();
    const outputs = encoder.run(images, request);
    this.milliseconds += performance.now() - start;
    this.sink ??= await this.open(outputs);
    for (const [name, { shape, data }] of outputs) this.sink.write(name, (at * data.length) / shape[0]!, data);
  }

  private async open(outputs: ReadonlyMap<string, EncoderOutput>): Promise<SafetensorsSink> {
    const { SafetensorsSink } = await import('../formats/index.js');
    for (const [name, { shape }] of outputs) this.shapes.set(name, [this.work.source.count, ...shape.slice(1)]);
    const tensors = [...this.shapes].map(([name, shape]) => ({ name, dtype: 'F32' as const, shape }));
    return new SafetensorsSink(this.work.out, tensors, await metadataOf(this.work));
  }
}

async function prepare(args: Args): Promise<Work> {
  const device = deviceOf(args);
  const dtype = dtypeOf(args, device);
  const batch = args.number('batch', { min: 1, max: 4096, integer: true }) ?? DEFAULT_BATCH;
  const reduce = args.choice('reduce', REDUCE) ?? 'none';
  const config = args.string('config');
  const resize = !args.flag('no-resize');
  const { openImages } = await import('../data/image-source.js');
  const { Encoder } = await import('../encoder/index.js');
  const source = await openImages(args.need('images'));
  for (const { path, reason } of source.skipped) process.stderr.write(`skipped ${JSON.stringify(path)}: ${reason}\n`);
  const encoder = await Encoder.load(args.need('weights'), { device, dtype, resize, ...(config === undefined ? {} : { config }) });
  return {
    encoder,
    source,
    out: args.need('out'),
    batch,
    resize,
    request: { reduce, predict: args.flag('predict'), hidden: args.flag('hidden') },
  };
}

async function run(args: Args): Promise<number> {
  const work = await prepare(args);
  using encoder = work.encoder;
  let signal: StopSignal | undefined;
  const release = onStop((s) => void (signal = s));
  try {
    const result = new Run(work);
    if (!(await result.encode(() => signal !== undefined))) return signalExitCode(signal!);
    const { out, source } = work;
    const perImage = result.milliseconds / source.count;
    if (args.flag('json')) {
      const tensors = Object.fromEntries(result.shapes);
      const report = { out, tensors, images: source.count, device: encoder.device, dtype: encoder.dtype, ms_per_image: perImage };
      process.stdout.write(`${JSON.stringify(report)}\n`);
    } else {
      const lines = [...result.shapes].map(([name, shape]) => `${name}  [${shape.join(',')}]`);
      process.stdout.write(
        `${lines.map(printable).join('\n')}\n${printable(out)}: ${source.count} images, ${perImage.toFixed(1)} ms each\n`,
      );
    }
    return 0;
  } finally {
    release();
  }
}

export const verb: Verb = {
  name: 'encode',
  summary: 'turns images into tokens, and into predicted teacher features',
  options: {
    weights: {
      type: 'string',
      value: 'PATH',
      help: 'safetensors file, or a folder with model.safetensors and config.json',
      required: true,
    },
    images: { type: 'string', value: 'PATH', help: 'image, folder of images, .npy or safetensors with "images"', required: true },
    out: { type: 'string', value: 'FILE', help: 'safetensors file to write', required: true },
    config: { type: 'string', value: 'FILE', help: 'model config JSON' },
    ...DEVICE_OPTIONS,
    reduce: { type: 'string', help: 'what becomes of the tokens; default none, the spatial ones', choices: REDUCE },
    predict: { type: 'boolean', help: 'also the predicted features of every teacher' },
    hidden: { type: 'boolean', help: 'also the embeddings and the output of every block' },
    'no-resize': { type: 'boolean', help: "images must have the model's size" },
    interpolate: { type: 'string', help: 'rule for positions of other sizes, where needed', choices: ['size', 'scale'] },
    batch: { type: 'string', value: 'N', help: `images at a time; default ${DEFAULT_BATCH}` },
    json: { type: 'boolean', help: 'prints JSON' },
  },
  run,
};
