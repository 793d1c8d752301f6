import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';

const cases = (
  [
    [480, 640],
    [375, 500],
    [1080, 1920],
  ] as const
).flatMap(([height, width]) =>
  (['bilinear', 'bicubic'] as const).map((filter) =>
    opCase(
      `${height}x${width}->224x224 ${filter}`,
      'preprocess',
      () => ({
        image: random([1, height, width, 3], 'uint8'),
        out: Tensor.empty([1, 224, 224, 3], 'uint8'),
        filter,
        height: 224,
        width: 224,
        top: 0,
        left: 0,
      }),
      { against: 'copy', floor: 0 },
    ),
  ),
);

await runOpBench('preprocess', cases);
