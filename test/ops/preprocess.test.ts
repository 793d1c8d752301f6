import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { centreCrop, resizeImage } from '../../src/data/prepare.js';
import { SafetensorsFile } from '../../src/formats/index.js';
import { byteTable, preprocess } from '../../src/ops/preprocess.js';
import { Tensor, dispatch, threads, tidy } from '../../src/tensor/index.js';
import { throwsCode } from '../support/errors.js';
import { requireGolden, sampleIndices } from '../support/golden.js';
import { runCase, same } from '../support/op-case.js';
import { image } from '../support/procedural.js';

/** The golden images by the name of their case, e.g. 401_480x640_rgb, as RGB. */
function goldenImage(name: string): { data: Uint8Array; width: number; height: number; channels: 3 } {
  const [, n, h, w, kind] = /^(\d+)_(\d+)x(\d+)_(rgba|rgb|grey)/.exec(name)!;
  const height = Number(h);
  const width = Number(w);
  const channels = kind === 'grey' ? 1 : kind === 'rgba' ? 4 : 3;
  const raw = image(Number(n), height, width, channels, 11);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) data[i * 3 + c] = raw[i * channels + (channels === 1 ? 0 : c)]!;
  return { data, width, height, channels: 3 };
}

/** The stored samples of the processed tensor [3,h,w] are what the byte table makes of the picture. */
function checkProcessed(bytes: Uint8Array, samples: Float32Array, table: Float32Array): void {
  const plane = bytes.length / 3;
  const at = sampleIndices(bytes.length, samples.length);
  samples.forEach((v, k) => {
    const i = Number(at[k]);
    const c = Math.floor(i / plane);
    assert.is(table[c * 256 + bytes[(i % plane) * 3 + c]!], v);
  });
}

for (const [file, filter] of [
  ['preprocess_vit.safetensors', 'bilinear'],
  ['preprocess.safetensors', 'bicubic'],
] as const) {
  test(`${filter}: equal bytes and equal normalised values on every case of ${file}`, () => {
    const path = requireGolden(file, `preprocess ${filter}`);
    if (!path) return;
    using golden = SafetensorsFile.open(path);
    const table = byteTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);
    same(table, golden.float32('processed_value_of_byte'));
    let compared = 0;
    for (const name of golden.names()) {
      const picture = goldenImage(name.startsWith('processed') ? '0_1x1_rgb' : name);
      let got: Uint8Array | undefined;
      if (name.endsWith('/resized')) got = resizeImage(picture, 224, 224, filter).data;
      else if (name.endsWith('_resize/cropped')) got = centreCrop(resizeImage(picture, 256, 256, filter), 224).data;
      else if (name.endsWith('_noresize/cropped')) got = centreCrop(picture, 224).data;
      else if (name.endsWith('_resized64')) got = resizeImage(picture, 64, 48, filter).data;
      if (!got) continue;
      same(got, golden.bytes(name), name);
      compared += 1;
      const samples = name.replace(/\/(resized|cropped)$/, '/processed_samples');
      if (samples !== name) checkProcessed(got, golden.float32(samples), table);
    }
    assert.ok(compared >= 6, `only ${compared} cases were compared`);
  });
}

test('writes nothing outside, gives the same bytes on any number of threads, odd sizes included', () => {
  const before = threads();
  for (const [h, w, oh, ow, c] of [
    [1, 1, 3, 5, 3],
    [33, 3, 1, 33, 3],
    [197, 131, 64, 300, 4],
    [5, 7, 5, 9, 1],
    [6, 4, 9, 4, 3],
  ] as const) {
    const values = image(7, h, w, c === 4 ? 4 : c === 1 ? 1 : 3, 3);
    const call = (): Float64Array =>
      runCase({
        op: 'preprocess',
        tensors: {
          image: { shape: [1, h, w, c], values, dtype: 'uint8' },
          out: { shape: [1, oh, ow, c], dtype: 'uint8', values: new Uint8Array(oh * ow * c) },
        },
        scalars: { filter: 'bicubic', height: oh, width: ow, top: 0, left: 0 },
      })['out']!;
    threads(1);
    const first = call();
    for (const n of [2, 7]) {
      threads(n);
      same(call(), first);
    }
  }
  threads(before);
});

test('a crop is the window of the whole', () => {
  tidy(() => {
    const source = Tensor.from(image(3, 37, 29, 3, 5), [1, 37, 29, 3], 'uint8');
    for (const filter of ['bilinear', 'bicubic'] as const)
      for (const [height, width] of [
        [24, 16],
        [37, 16], // one axis keeps its size, or both do
        [37, 29],
        [50, 61],
      ] as const) {
        const whole = preprocess(source, height, width, filter).data() as Uint8Array;
        const crop = { top: 5, left: 3, height: height - 7, width: width - 3 };
        const got = preprocess(source, height, width, filter, crop).data() as Uint8Array;
        const want: number[] = [];
        for (let y = 0; y < crop.height; y++)
          for (let i = 0; i < crop.width * 3; i++) want.push(whole[((crop.top + y) * width + crop.left) * 3 + i]!);
        same(got, want, `${filter} ${height}x${width}`);
      }
  });
});

test('a batch is resized image by image', () => {
  tidy(() => {
    const a = image(1, 20, 30, 3, 5);
    const b = image(2, 20, 30, 3, 5);
    const both = preprocess(Tensor.from(Uint8Array.of(...a, ...b), [2, 20, 30, 3], 'uint8'), 16, 8, 'bilinear');
    const second = preprocess(Tensor.from(b, [1, 20, 30, 3], 'uint8'), 16, 8, 'bilinear');
    same((both.data() as Uint8Array).subarray(16 * 8 * 3), second.data() as Uint8Array);
  });
});

test('says what it wants', () => {
  tidy(() => {
    throwsCode(() => preprocess(Tensor.zeros([1, 4, 4, 3], 'float32'), 2, 2, 'bilinear'), 'ERR_DTYPE', 'image', 'uint8');
    throwsCode(() => preprocess(Tensor.zeros([4, 4, 3], 'uint8').reshape([1, 4, 4, 3]), 0, 2, 'bilinear'), 'ERR_SHAPE', 'sides');
    throwsCode(
      () => preprocess(Tensor.zeros([1, 4, 4, 3], 'uint8'), 2, 2, 'lanczos' as 'bilinear'),
      'ERR_ARGS',
      'filter',
      'bilinear|bicubic',
    );
    const z = Tensor.zeros([1, 4, 4, 3], 'uint8');
    const crop = (top: number, left: number, height: number, width: number) => (): unknown =>
      preprocess(z, 8, 8, 'bilinear', { top, left, height, width });
    throwsCode(crop(1, 0, 8, 8), 'ERR_ARGS', "8 pixels from 'top' 1 on inside 'height' 8");
    throwsCode(crop(0, 5, 4, 4), 'ERR_ARGS', "4 pixels from 'left' 5 on inside 'width' 8");
    throwsCode(crop(-1, 0, 4, 4), 'ERR_ARGS', "'top' -1");
    const out = Tensor.zeros([1, 4, 4, 3], 'uint8');
    throwsCode(
      () => dispatch('preprocess', { image: z, out, filter: 'bilinear', height: 1 << 17, width: 8, top: 0, left: 0 }),
      'ERR_ARGS',
      "'height' in 1 to 65536",
    );
  });
});

test.run();
