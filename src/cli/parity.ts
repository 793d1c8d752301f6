import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TheiaError } from '../errors.js';
import type { ImageSource } from '../data/image-source.js';
import type { SafetensorsFile } from '../formats/index.js';
import type { ParityRow, Tolerances } from '../parity/compare.js';
import type { ParityPlan, ParityTarget } from '../parity/run.js';
import type { Theia } from '../models/theia.js';
import type { Args } from './args.js';
import { DEVICE_OPTIONS, deviceOf, dtypeOf } from './device.js';
import { printable } from './printable.js';
import type { Verb } from './verb.js';

const DEFAULT_RTOL = 1e-4;

/** A tensor of the reference, in float64 where it is stored so. */
function valuesOf(file: SafetensorsFile, name: string): Float32Array | Float64Array {
  if (file.info(name).dtype !== 'F64') return file.float32(name);
  const bytes = file.bytes(name);
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
}

interface Pixels {
  data: Uint8Array;
  shape: readonly number[];
}

/** Images from --images, brought to the model's size as `encode` does it. */
async function readPixels(source: ImageSource, side: number): Promise<Pixels> {
  const { resizeImage } = await import('../data/prepare.js');
  const size = side * side * 3;
  const data = new Uint8Array(source.count * size);
  for (let i = 0; i < source.count; i++) data.set(resizeImage(await source.read(i), side, side, 'bilinear').data, i * size);
  return { data, shape: [source.count, side, side, 3] };
}

async function pixelsOf(args: Args, reference: SafetensorsFile, side: number): Promise<Pixels> {
  const { openImages, safetensorsImages } = await import('../data/image-source.js');
  const path = args.string('images');
  if (path !== undefined) return readPixels(await openImages(path), side);
  if (!reference.has('images'))
    throw new TheiaError('ERR_ARGS', `${reference.path}: expected the images that the reference was made from, got no tensor "images"`, {
      hint: 'pass them with --images',
    });
  const found = safetensorsImages(reference);
  if (found.shape[1] !== side || found.shape[2] !== side)
    throw new TheiaError(
      'ERR_UNSUPPORTED',
      `${reference.path}: expected images of the model's size ${side} x ${side}, got ${found.shape[2]} x ${found.shape[1]}: positions are not interpolated in this build`,
    );
  return found;
}

async function targetsOf(path: string | undefined, plan: ParityPlan, reference: string): Promise<Map<string, ParityTarget>> {
  const out = new Map<string, ParityTarget>();
  if (path === undefined && plan.targets.length === 0) return out;
  if (path === undefined)
    throw new TheiaError('ERR_ARGS', `${reference}: expected --targets FILE, because the reference holds losses or gradients, got none`, {
      hint: 'a safetensors file with a normalised target [B,H*W,C] per teacher name',
    });
  const { SafetensorsFile } = await import('../formats/index.js');
  const { targetName } = await import('../parity/run.js');
  using file = SafetensorsFile.open(path);
  const names = file.names();
  for (const teacher of plan.targets) {
    const name = targetName(teacher, names);
    if (name === undefined)
      throw new TheiaError(
        'ERR_CORRUPT',
        `${path}: expected a target of ${teacher}, got ${names.slice(0, 8).join(', ') || 'an empty file'}`,
      );
    out.set(teacher, { shape: file.info(name).shape, values: file.float32(name) });
  }
  return out;
}

/** Where a manifest for the reference may lie: beside it, then where the golden data are. */
function manifestFolders(reference: string): string[] {
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  const set = process.env.THEIA_GOLDEN;
  return [
    dirname(resolve(reference)),
    ...(set ? [set] : []),
    join(root, '..', 'shared', 'golden'),
    join(root, 'test', 'fixtures', 'golden'),
  ];
}

async function tolerancesOf(args: Args): Promise<Tolerances> {
  const { uniformTolerances } = await import('../parity/compare.js');
  if (args.string('profile') === undefined) return uniformTolerances(args.number('rtol', { min: 0 }) ?? DEFAULT_RTOL);
  if (args.has('rtol')) throw new TheiaError('ERR_ARGS', 'expected --rtol or --profile, got both');
  const { findGoldenFacts, goldenTolerances } = await import('../parity/golden.js');
  const reference = args.need('reference');
  return goldenTolerances(findGoldenFacts(reference, manifestFolders(reference)));
}

function text(rows: readonly ParityRow[], notCompared: readonly string[]): string {
  const width = Math.max(4, ...rows.map((r) => r.name.length));
  const number = (x: number | null): string => (x === null ? 'not finite' : x.toExponential(2)).padEnd(10);
  const lines = rows.map((r) => {
    const shape = `[${r.shape.join(',')}]`.padEnd(16);
    const judged = r.scaled === undefined ? `rel ${number(r.rel)}` : `rel ${'-'.padEnd(10)}`;
    const notes = [
      ...(r.scaled === undefined ? [] : [`zero gradient: ${r.scaled.toExponential(2)} of the largest`]),
      ...(r.samples === undefined ? [] : [`${r.samples} samples`]),
      ...(r.ok ? [] : ['FAILS']),
    ];
    return `${printable(r.name).padEnd(width)}  ${shape}  ${judged}  abs ${number(r.abs)} at [${r.at.join(',')}]  limit ${r.limit.toExponential(2)}${notes.length > 0 ? `  ${notes.join(', ')}` : ''}`;
  });
  const bad = rows.filter((r) => !r.ok).length;
  const rest = notCompared.length > 0 ? [`not compared: ${notCompared.map(printable).join(', ')}`] : [];
  return [...lines, ...rest, `${rows.length} compared, ${bad} above the limit or not finite`, ''].join('\n');
}

async function loadModel(args: Args, names: readonly string[]): Promise<Theia> {
  const { loadTheia } = await import('../models/checkpoint.js');
  const { needsGradients } = await import('../parity/run.js');
  const config = args.string('config');
  const device = deviceOf(args);
  return loadTheia(args.need('weights'), {
    training: names.some(needsGradients),
    device,
    compute: dtypeOf(args, device),
    ...(config === undefined ? {} : { config }),
  });
}

async function run(args: Args): Promise<number> {
  const tolerances = await tolerancesOf(args);
  const { SafetensorsFile } = await import('../formats/index.js');
  const { judge, measure } = await import('../parity/compare.js');
  const { planParity, runParity } = await import('../parity/run.js');
  using reference = SafetensorsFile.open(args.need('reference'));
  using model = await loadModel(args, reference.names());
  const plan = planParity(model, reference.names());
  if (plan.compared.length === 0)
    throw new TheiaError(
      'ERR_FILE',
      `${reference.path}: expected something to compare (tokens, hidden/<i>, reduce/<method>, pred/<teacher>, loss/..., grad/<parameter>, grad_tokens), got ${reference.names().slice(0, 8).join(', ') || 'no tensors'}`,
    );
  const targets = await targetsOf(args.string('targets'), plan, reference.path);
  const pixels = await pixelsOf(args, reference, model.config.image);
  const differences = [];
  for (const [name, own] of runParity(model, pixels, targets, plan))
    differences.push(measure(own, { name, shape: reference.info(name).shape, values: valuesOf(reference, name) }));
  const rows = judge(differences, tolerances);
  const ok = rows.every((r) => r.ok);
  if (args.flag('json')) {
    const shown = rows.map(({ name, shape, rel, abs, at, limit, ok }) => ({ name, shape, rel, abs, at, limit, ok }));
    process.stdout.write(`${JSON.stringify({ ok, rows: shown, not_compared: plan.notCompared })}\n`);
  } else process.stdout.write(text(rows, plan.notCompared));
  return ok ? 0 : 1;
}

export const verb: Verb = {
  name: 'parity',
  summary: 'compares a model with a reference file, tensor by tensor',
  options: {
    weights: {
      type: 'string',
      value: 'PATH',
      help: 'safetensors file, or a folder with model.safetensors and config.json',
      required: true,
    },
    reference: { type: 'string', value: 'FILE', help: 'safetensors file to compare with', required: true },
    config: { type: 'string', value: 'FILE', help: 'model config JSON' },
    images: { type: 'string', value: 'PATH', help: "images as for encode; default the reference's own" },
    targets: { type: 'string', value: 'FILE', help: 'safetensors file with a normalised target per teacher, for losses and gradients' },
    ...DEVICE_OPTIONS,
    rtol: { type: 'string', value: 'X', help: `limit on the relative error; default ${DEFAULT_RTOL}` },
    profile: { type: 'string', value: 'NAME', help: 'golden: the limits of the golden data', choices: ['golden'] },
    json: { type: 'boolean', help: 'prints JSON' },
  },
  run,
};
