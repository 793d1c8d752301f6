import type { ExtractProgress, ExtractSummary } from '../data/extract.js';
import { TheiaError } from '../errors.js';
import type { Teacher } from '../teachers/teacher.js';
import type { Args } from './args.js';
import { onStop, signalExitCode, type StopSignal } from './signals.js';
import { FeatureProgress } from './features-progress.js';
import { printable } from './printable.js';
import type { Verb } from './verb.js';

/** Bounds of `--size`: a stored image of 4096 is 50 MB. */
const SIZE = { min: 16, max: 4096, integer: true } as const;

export const verb: Verb = {
  name: 'features',
  summary: 'runs teachers over images and writes feature shards and statistics',
  options: {
    images: { type: 'string', value: 'DIR', help: 'folder of JPEG, PNG and WebP photos, or of a dataset', required: true },
    teacher: {
      type: 'string',
      value: 'NAME=KIND:PATH',
      help: 'resnet50:<folder with model.json> or npy:<folder of KEY.npy>',
      multiple: true,
      required: true,
    },
    out: { type: 'string', value: 'ROOT', help: 'folder of datasets', required: true },
    dataset: { type: 'string', value: 'NAME', help: 'folder below ROOT; default the name of DIR' },
    split: { type: 'string', value: 'SHARES', help: 'default train=0.9,val=0.1' },
    views: { type: 'string', value: 'N', help: 'crops and flips of each photo, the whole of it first; default 1' },
    size: { type: 'string', value: 'N', help: 'side of the stored images; default 224' },
    filter: { type: 'string', choices: ['bilinear', 'bicubic'], help: 'resize of the stored images; default bilinear' },
    resume: { type: 'boolean', help: 'keep finished shards that still hold what would be written' },
    json: { type: 'boolean', help: 'prints a summary as JSON on stdout' },
  },
  run,
};

async function run(args: Args): Promise<number> {
  const started = performance.now();
  // Everything that can be judged without reading a file comes first.
  const { basename, resolve } = await import('node:path');
  const { parseSplit } = await import('../data/split.js');
  const { datasetFolder } = await import('../data/shards.js');
  const { openTeacher, parseTeacherSpec } = await import('../teachers/open.js');
  const images = args.need('images');
  const root = args.need('out');
  const dataset = args.string('dataset') ?? basename(resolve(images));
  datasetFolder(root, dataset);
  const shares = parseSplit(args.string('split') ?? 'train=0.9,val=0.1');
  const views = args.number('views', { min: 1, max: 1000, integer: true }) ?? 1;
  const size = args.number('size', SIZE) ?? 224;
  const filter = args.choice('filter', ['bilinear', 'bicubic']) ?? 'bilinear';
  const specs = args.list('teacher').map(parseTeacherSpec);
  specs.forEach(({ name }, i) => {
    if (specs.findIndex((other) => other.name === name) !== i) throw new TheiaError('ERR_ARGS', `--teacher: ${name} is given twice`);
  });

  const { isDatasetFolder } = await import('../data/extract-dataset.js');
  if (isDatasetFolder(images)) {
    const photosOnly = ['split', 'views'].find((flag) => args.has(flag));
    if (photosOnly !== undefined)
      throw new TheiaError(
        'ERR_ARGS',
        `--${photosOnly}: expected with a folder of photos only, ${images} is a dataset whose samples are made already`,
      );
  }
  const { extractFeatures } = await import('../data/extract.js');
  const controller = new AbortController();
  let stopped: StopSignal | undefined;
  const forget = onStop((signal) => {
    stopped = signal;
    controller.abort();
  });
  const progress = new FeatureProgress();
  const teachers: Teacher[] = [];
  try {
    for (const spec of specs) teachers.push(await openTeacher(spec));
    const onProgress = (p: ExtractProgress): void => progress.update(p);
    const resume = args.flag('resume');
    const options = { images, teachers, root, dataset, shares, views, resume, size, filter, onProgress, signal: controller.signal };
    const summary = await extractFeatures(options);
    progress.finish();
    report(summary, progress);
    const seconds = (performance.now() - started) / 1000;
    if (args.flag('json')) process.stdout.write(`${JSON.stringify(asJson(summary, root, dataset, seconds))}\n`);
    else process.stdout.write(`${asText(summary, root, dataset, seconds)}\n`);
    return 0;
  } catch (error) {
    progress.finish();
    if (stopped !== undefined && error instanceof TheiaError && error.code === 'ERR_ABORTED') {
      progress.note('stopped; the same command with --resume goes on');
      return signalExitCode(stopped);
    }
    throw error;
  } finally {
    forget();
    for (const teacher of teachers) teacher.dispose();
  }
}

function report({ skipped, duplicates, teachers }: ExtractSummary, progress: FeatureProgress): void {
  for (const { path, reason } of skipped) progress.note(`skipped ${printable(path)}: ${printable(reason)}`);
  if (duplicates.length > 0) progress.note(`${duplicates.length} photos have the content of another one and are stored once`);
  for (const [name, { constantChannels }] of teachers) {
    if (constantChannels === null) progress.note(`no statistics of ${printable(name)}: the split train has no samples`);
    else if (constantChannels.length > 0) {
      const few = constantChannels.slice(0, 8).join(', ');
      progress.note(`${printable(name)}: ${constantChannels.length} channels never change (${few}); they cannot be normalised`);
    }
  }
}

function asText({ photos, splits, shards }: ExtractSummary, root: string, dataset: string, seconds: number): string {
  const samples = [...splits].map(([split, count]) => `${split} ${count}`).join(', ');
  const written = [...shards]
    .map(([column, { written, reused }]) => `${column} ${written}${reused > 0 ? ` (+ ${reused} kept)` : ''}`)
    .join(', ');
  return printable(`${root}/${dataset}: ${photos} photos; samples: ${samples}; shards: ${written}; ${seconds.toFixed(1)} s`);
}

function asJson(summary: ExtractSummary, out: string, dataset: string, seconds: number): object {
  const { photos, splits, shards, teachers, skipped, duplicates } = summary;
  return {
    out,
    dataset,
    photos,
    splits: Object.fromEntries(splits),
    shards: Object.fromEntries(shards),
    teachers: Object.fromEntries(
      [...teachers].map(([name, { shape, constantChannels }]) => [name, { shape, constant_channels: constantChannels }]),
    ),
    skipped,
    duplicates: duplicates.length,
    seconds,
  };
}
