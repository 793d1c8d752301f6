import { TheiaError } from '../errors.js';
import type { TrainConfig } from '../train/config.js';
import type { MetricsRow } from '../train/metrics.js';
import type { TeacherPictures } from '../train/report-pictures.js';
import { printable } from './printable.js';
import { onStop, signalExitCode } from './signals.js';
import type { StopSignal } from './signals.js';
import type { Args } from './args.js';
import type { Verb } from './verb.js';

const options = {
  config: { type: 'string', value: 'FILE', help: 'the run’s configuration (TOML)' },
  set: { type: 'string', value: 'KEY.PATH=VALUE', help: 'changes one key of the configuration; may be repeated, wins', multiple: true },
  resume: { type: 'string', value: 'DIR', help: 'goes on from a run folder (its newest complete checkpoint) or from one checkpoint' },
  'dry-run': { type: 'boolean', help: 'checks configuration and data, takes three steps, prints what the run would be; writes nothing' },
  json: { type: 'boolean', help: 'prints the result as JSON on stdout' },
} as const;

async function run(args: Args): Promise<number> {
  const { diffForResume, loadConfig } = await import('../train/config.js');
  const { resolveResume } = await import('../train/checkpoint-dir.js');
  const { readRunConfig } = await import('../train/checkpoint.js');
  const { resolveDevice } = await import('../tensor/device.js');
  const { Progress } = await import('./progress.js');

  const set = [...args.list('set')];
  const file = args.string('config');
  const resume = args.string('resume');
  if (resume === undefined && file === undefined && set.length === 0)
    throw new TheiaError('ERR_ARGS', 'theia train: expected --config FILE, --set KEY=VALUE or --resume DIR, got none', {
      hint: 'theia train --help lists the flags',
    });
  const from = resume === undefined ? undefined : resolveResume(resume);
  let config;
  if (from?.runDir !== undefined) {
    const before = loadConfig({ text: readRunConfig(from.runDir) });
    // The run's own folder, wherever it was moved to since.
    const place = `output=${JSON.stringify(from.runDir)}`;
    config =
      file === undefined
        ? loadConfig({ text: readRunConfig(from.runDir), set: [place, ...set] })
        : loadConfig({ file, set: [place, ...set] });
    const changed = diffForResume(before, config);
    const { resolve } = await import('node:path');
    if (resolve(config.output) !== resolve(from.runDir)) changed.push(`output: ${from.runDir} -> ${config.output}`);
    if (changed.length > 0)
      throw new TheiaError(
        'ERR_CONFIG',
        `--resume: only epochs, steps, threads, device, workers, eval and checkpoint may differ from the run’s own configuration, got a difference in ${changed.join('; ')}`,
      );
  } else {
    if (from && file === undefined)
      throw new TheiaError('ERR_ARGS', '--resume: this checkpoint lies in no run folder; expected --config beside it');
    config = loadConfig({ ...(file === undefined ? {} : { file }), set });
  }
  resolveDevice(config.device, (line) => process.stderr.write(`${line}\n`));

  if (args.flag('dry-run')) {
    const { dryRun } = await import('../train/dry-run.js');
    const { resolvedToml } = await import('../train/config.js');
    const found = await dryRun(config);
    if (args.flag('json')) process.stdout.write(`${JSON.stringify(found)}\n`);
    else process.stdout.write(`${resolvedToml(config)}\n${dryRunText(found)}`);
    return 0;
  }

  const { runTraining } = await import('../train/run.js');
  const { writeReport } = await import('../train/report.js');
  let signal: StopSignal | undefined;
  const forget = onStop((s) => {
    signal = s;
    process.stderr.write(`\n${s}: finishing the step and saving; once more ends at once\n`);
  });
  let progress: InstanceType<typeof Progress> | undefined;
  try {
    const result = await runTraining(config, {
      ...(from ? { resume: from } : {}),
      stop: () => signal !== undefined,
      onNotice: (text) => (progress ? progress.note(printable(text)) : process.stderr.write(`${printable(text)}\n`)),
      onCheckpoint: (path) => progress?.note(`saved ${path}`),
      onRow: (row, total) => {
        progress ??= new Progress({ total, first: row.step - 1 });
        if (row.split === undefined) progress.update(row.step, { loss: row.loss, imagesPerS: row.images_per_s });
        else progress.note(`step ${row.step} ${row.split}: ${termsText(row)}`);
      },
    });
    progress?.finish();
    // A stopped run ends at once; pictures are for the finished one.
    const pictures = result.stopped ? undefined : await picturesOf(config);
    await writeReport(result.runDir, pictures ? { pictures } : {});
    const { last } = result;
    if (args.flag('json'))
      process.stdout.write(
        `${JSON.stringify({ run: result.runDir, steps: result.steps, stopped: result.stopped, loss: last?.loss ?? null })}\n`,
      );
    else
      process.stdout.write(
        `${result.stopped ? 'stopped' : 'finished'} at step ${result.steps}${last ? `, ${termsText(last)}` : ''}; run folder ${result.runDir}\n`,
      );
    return result.stopped && signal ? signalExitCode(signal) : 0;
  } finally {
    progress?.finish();
    forget();
  }
}

/** The report is worth having without pictures too. */
async function picturesOf(config: TrainConfig): Promise<TeacherPictures[] | undefined> {
  const { runPictures } = await import('../train/report-pictures.js');
  try {
    return await runPictures(config);
  } catch (error) {
    if (!(error instanceof TheiaError)) throw error;
    process.stderr.write(`report.html has no pictures: ${error.code}: ${error.message}\n`);
    return undefined;
  }
}

function termsText(row: MetricsRow): string {
  return `loss ${row.loss.toFixed(4)} (cos ${row.cos.toFixed(4)}, l1 ${row.l1.toFixed(4)}, mse ${row.mse.toFixed(4)})`;
}

function dryRunText(d: Awaited<ReturnType<typeof import('../train/dry-run.js').dryRun>>): string {
  const rows: [string, string][] = [
    ['parameters', `${(d.parameters / 1e6).toFixed(2)} M in ${d.tensors} tensors`],
    ['targets', d.targets.map(([n, s]) => `${n} [${s.join(',')}]`).join(', ')],
    ['samples', `${d.samples} an epoch, ${d.stepsPerEpoch} steps an epoch, ${d.stepsTotal} steps in all`],
    ['work', `${d.gflopPerImage.toFixed(2)} GFLOP an image, forward and backward`],
    ['memory', `${(d.memoryBytes / 2 ** 20).toFixed(0)} MiB native at the peak of a step`],
    ['a step', `${d.secondsPerStep.toFixed(3)} s (median of 3)`],
    ['estimate', `${(d.estimateSeconds / 60).toFixed(1)} minutes of steps`],
  ];
  return rows.map(([name, text]) => `${name.padEnd(12)}${text}\n`).join('');
}

export const verb: Verb = { name: 'train', summary: 'distils a student from stored teacher features', options, run };
