// Writes the model, images and targets that a golden file was computed from, for `theia parity` (the full-size ones have no weights file).
//   node scripts/make-golden-model.mjs full_tiny_cddsv FOLDER [MANIFEST]
// Needs a build. base is 752 MB on the disk; memory stays small.
import { mkdirSync, readFileSync } from 'node:fs';
import { goldenFile } from '../dist/test/support/golden.js';
import { writeGoldenModel } from '../dist/test/support/golden-model.js';

const [name, folder, path = goldenFile('manifest.json')] = process.argv.slice(2);
if (!name || !folder || !path) {
  console.error('usage: node scripts/make-golden-model.mjs NAME FOLDER [MANIFEST]');
  process.exit(2);
}
const { files } = JSON.parse(readFileSync(path, 'utf8'));
const file = [name, `${name}.safetensors`, `${name}.golden.safetensors`].find((n) => Object.hasOwn(files, n));
if (!file) {
  console.error(`${path} has no ${name}; it has ${Object.keys(files).join(', ')}`);
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const made = writeGoldenModel(folder, files[file]);
console.log(`theia parity --weights ${made.model} --reference ${file} --images ${made.images} --targets ${made.targets} --profile golden`);
