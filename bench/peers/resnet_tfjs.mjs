// The same network by TensorFlow.js (its wasm backend, no GPU, no native code): what our ResNet-50 is compared with.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';

const MEAN_BGR = [103.939, 116.779, 123.68];

/** Keras' "caffe" preprocessing: RGB bytes to BGR floats minus the mean. */
function caffe(pixels) {
  const values = new Float32Array(pixels.length);
  for (let i = 0; i < pixels.length; i += 3) for (let c = 0; c < 3; c++) values[i + c] = pixels[i + 2 - c] - MEAN_BGR[c];
  return values;
}

/**
 * @param {string} folder with model.json
 * @returns {Promise<(pixels: Uint8Array) => { scores: Float32Array, features: Float32Array }>} of one image [224,224,3] RGB: the 1000
 *   probabilities and the map of activation_39, [14,14,1024]
 */
export async function loadResnetTfjs(folder) {
  setWasmPaths(dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm')) + sep);
  // Threads would need workers that its Node build does not start.
  setThreadsCount(1);
  if (!(await tf.setBackend('wasm'))) throw new Error('TensorFlow.js: its wasm backend does not start');
  await tf.ready();
  const { modelTopology, weightsManifest } = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
  const weightSpecs = weightsManifest.flatMap(({ weights }) => weights);
  const bytes = Buffer.concat(weightsManifest.flatMap(({ paths }) => paths.map((path) => readFileSync(join(folder, path)))));
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const model = await tf.loadLayersModel({ load: async () => ({ modelTopology, weightSpecs, weightData }) });
  const both = tf.model({ inputs: model.inputs, outputs: [model.outputs[0], model.getLayer('activation_39').output] });
  return (pixels) =>
    tf.tidy(() => {
      const [scores, features] = both.predict(tf.tensor4d(caffe(pixels), [1, 224, 224, 3]));
      return { scores: scores.dataSync().slice(), features: features.dataSync().slice() };
    });
}
