// Linear layers and the two products of attention beside TensorFlow.js 4.22.0 on its wasm backend (XNNPACK).
// Fairness: same shapes, float32, both in their native layout, one thread each (in Node tfjs wasm has no more), results compared before
// anything is timed; tfjs in its best form (fused.matMul with bias, weights already [K,N], nothing read back but one value to be sure that
// the work is done); medians of at least 30 samples. Ours on all threads is a column of its own.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { addon } from '../../src/native/load.js';
import { Tensor, dispatch, threads, tidy } from '../../src/tensor/index.js';
import { describeMachine } from '../support/machine.js';
import { measure } from '../support/measure.js';
import { panels, random } from '../support/op-bench.js';
import { benchOptions } from '../support/options.js';
import { repository, saveResults } from '../support/results.js';
import { Table, formatTime } from '../support/table.js';

/** The little of tfjs that is used here; its own types need its packages. */
interface TfTensor {
  dataSync(): Float32Array;
  dispose(): void;
}
interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor1d(values: Float32Array): TfTensor;
  tensor2d(values: Float32Array, shape: [number, number]): TfTensor;
  tensor3d(values: Float32Array, shape: [number, number, number]): TfTensor;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  fused: { matMul(options: { a: TfTensor; b: TfTensor; bias?: TfTensor; activation?: 'relu' | 'linear' }): TfTensor };
  slice(x: TfTensor, begin: number[], size: number[]): TfTensor;
  softmax(x: TfTensor): TfTensor;
  tidy<T>(fn: () => T): T;
  version: { tfjs: string };
}

const INSTALL = 'npm install --prefix bench --ignore-scripts';

async function loadTf(): Promise<Tf | string> {
  const packages = join(repository(), 'bench', 'package.json');
  const require = createRequire(packages);
  try {
    const tf = require('@tensorflow/tfjs') as Tf;
    const wasm = require('@tensorflow/tfjs-backend-wasm') as { setWasmPaths(prefix: string): void };
    const folder = join(repository(), 'bench', 'node_modules', '@tensorflow', 'tfjs-backend-wasm', 'dist') + '/';
    if (!existsSync(folder)) return `${pathToFileURL(folder).href} is missing`;
    wasm.setWasmPaths(folder);
    if (!(await tf.setBackend('wasm'))) return 'the wasm backend does not start';
    await tf.ready();
    return tf;
  } catch (error) {
    return (error as Error).message.split('\n')[0]!;
  }
}

interface Peer {
  name: string;
  flops: number;
  /** ours and theirs on the same numbers; `read` returns one value, so that the work is done when it returns */
  ours: { run: () => void; result: () => Float32Array };
  theirs: { run: () => void; result: () => Float32Array };
  dispose: () => void;
}

function linearPeer(tf: Tf, m: number, n: number, k: number, activation: 'none' | 'relu'): Peer {
  const made = tidy(() => {
    const w = random([n, k]);
    return { x: random([m, k]), w, packed: panels(w, 'forward'), bias: random([n]), y: Tensor.empty([m, n]) };
  });
  const w = made.w.float32();
  const turned = new Float32Array(w.length);
  for (let i = 0; i < n; i++) for (let j = 0; j < k; j++) turned[j * n + i] = w[i * k + j]!;
  const [a, b] = [tf.tensor2d(made.x.float32(), [m, k]), tf.tensor2d(turned, [k, n])];
  const bias = tf.tensor1d(made.bias.float32());
  const product = (): TfTensor => tf.fused.matMul({ a, b, bias, activation: activation === 'relu' ? 'relu' : 'linear' });
  return {
    name: `linear ${m}x${n}x${k}${activation === 'relu' ? ' relu' : ''}`,
    flops: 2 * m * n * k,
    ours: { run: () => dispatch('linear', { ...made, activation }), result: () => made.y.float32() },
    theirs: {
      run: () => {
        const y = product();
        tf.tidy(() => tf.slice(y, [0, 0], [1, 1]).dataSync());
        y.dispose();
      },
      result: () => {
        const y = product();
        const values = y.dataSync().slice();
        y.dispose();
        return values;
      },
    },
    dispose: () => {
      for (const t of Object.values(made)) t.dispose();
      for (const t of [a, b, bias]) t.dispose();
    },
  };
}

/** softmax(scale·q·kᵀ)·v on [heads, tokens, size] for tfjs, on [1, tokens, heads, size] for us: each its native layout. */
function attentionPeer(tf: Tf, tokens: number, heads: number, size: number): Peer {
  const shape = [1, tokens, heads, size];
  const made = tidy(() => ({
    q: random(shape),
    k: random(shape),
    v: random(shape),
    out: Tensor.empty(shape),
    lse: Tensor.empty([1, heads, tokens]),
  }));
  const scale = 1 / Math.sqrt(size);
  /** [tokens, heads, size] <-> [heads, tokens, size] */
  const swap = (x: Float32Array, outer: number, inner: number): Float32Array => {
    const y = new Float32Array(x.length);
    for (let i = 0; i < outer; i++)
      for (let j = 0; j < inner; j++) y.set(x.subarray((i * inner + j) * size, (i * inner + j + 1) * size), (j * outer + i) * size);
    return y;
  };
  const theirs = (t: Tensor, factor: number): TfTensor =>
    tf.tensor3d(
      swap(t.float32(), tokens, heads).map((v) => v * factor),
      [heads, tokens, size],
    );
  // The scale is folded into q beforehand: tfjs would spend an operation on it.
  const [q, k, v] = [theirs(made.q, scale), theirs(made.k, 1), theirs(made.v, 1)];
  const attention = (): TfTensor => tf.tidy(() => tf.matMul(tf.softmax(tf.matMul(q, k, false, true)), v));
  return {
    name: `attention ${tokens} tokens, ${heads} heads of ${size}`,
    flops: 4 * tokens * tokens * heads * size,
    ours: { run: () => dispatch('attention', { ...made, scale }), result: () => swap(made.out.float32(), tokens, heads) },
    theirs: {
      run: () => {
        const y = attention();
        tf.tidy(() => tf.slice(y, [0, 0, 0], [1, 1, 1]).dataSync());
        y.dispose();
      },
      result: () => {
        const y = attention();
        const values = y.dataSync().slice();
        y.dispose();
        return values;
      },
    },
    dispose: () => {
      for (const t of Object.values(made)) t.dispose();
      for (const t of [q, k, v]) t.dispose();
    },
  };
}

function relativeError(x: Float32Array, r: Float32Array): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < r.length; i++) {
    difference += (x[i]! - r[i]!) ** 2;
    norm += r[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}

const tf = await loadTf();
if (typeof tf === 'string') {
  console.log(`SKIP tfjs_linear: TensorFlow.js is not usable: ${tf}`);
  console.log(`      install it (600 MB, into bench/node_modules): ${INSTALL}`);
} else {
  const options = benchOptions();
  const machine = describeMachine();
  const all = addon().machine().defaultThreads;
  console.log(`tfjs ${tf.version.tfjs} wasm beside theia-native on ${machine.cpu}, node ${machine.node}, load ${machine.load.toFixed(1)}`);
  const table = new Table(['case', 'tfjs 1t', 'ours 1t', 'faster', `ours ${all}t`, 'faster', 'tfjs GF/s', 'ours GF/s', 'error']);
  table.header('the same product, medians; the first two columns use one thread each');
  const rows: object[] = [];
  const peers: (() => Peer)[] = [];
  for (const width of [192, 384, 768]) {
    peers.push(
      () => linearPeer(tf, 197, 3 * width, width, 'none'),
      () => linearPeer(tf, 197, width, width, 'none'),
      () => linearPeer(tf, 197, 4 * width, width, 'relu'),
      () => linearPeer(tf, 197, width, 4 * width, 'none'),
      () => attentionPeer(tf, 197, width / 64, 64),
    );
  }
  for (const make of peers) {
    const p = make();
    try {
      if (!p.name.includes(options.only)) continue;
      p.ours.run();
      const error = relativeError(p.ours.result(), p.theirs.result());
      if (!(error < 1e-5)) throw new Error(`${p.name}: the results differ by ${error}; nothing is timed`);
      const theirs = await measure(p.name, p.theirs.run, options.budget);
      threads(1);
      const one = await measure(p.name, p.ours.run, options.budget);
      threads(all);
      const many = await measure(p.name, p.ours.run, options.budget);
      const rate = (seconds: number): number => p.flops / seconds / 1e9;
      rows.push({
        name: p.name,
        tfjs: theirs,
        ours_1: one,
        [`ours_${all}`]: many,
        error,
        gflops: { tfjs: rate(theirs.median), ours_1: rate(one.median) },
      });
      table.row([
        p.name,
        formatTime(theirs.median),
        formatTime(one.median),
        `${(theirs.median / one.median).toFixed(1)}x`,
        formatTime(many.median),
        `${(theirs.median / many.median).toFixed(1)}x`,
        rate(theirs.median).toFixed(1),
        rate(one.median).toFixed(1),
        error.toExponential(0),
      ]);
    } finally {
      p.dispose();
      threads(0);
    }
  }
  console.log('\nTimes are of calls from JavaScript; tfjs wasm spends about 4 us a call on dispatch and reads one value back.');
  if (options.save) console.log(`saved ${saveResults('tfjs_linear', machine, rows)}`);
}
