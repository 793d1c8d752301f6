// Golden values of attention, for the CPU's instruction sets and for devices.
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/index.js';
import { manifest, relativeError, requireGolden } from './golden.js';
import { runCase } from './op-case.js';
import type { Values, Where } from './op-case.js';

const GOLDEN = 'ops_attention.safetensors';

/**
 * All cases of the golden file in float32, forward and backward, at each of the places that are named for a case of n tokens and h heads.
 * Limits are golden/README.md's: 20 times PyTorch's own float32 error, at least 1e-5 of values and 2e-5 of gradients.
 */
export function checkAttentionGolden(label: string, places: (n: number, h: number) => readonly (string | Where)[]): void {
  const path = requireGolden(GOLDEN, label);
  if (!path) return;
  using file = SafetensorsFile.open(path);
  const { tensors } = manifest()!.files[GOLDEN]!;
  const cases = file.names().flatMap((key) => /^(attention_.*)\/in\/q$/.exec(key)?.[1] ?? []);
  assert.is(cases.length, 15);
  for (const name of cases) {
    const [b, n, h, hd] = /b(\d+)_s(\d+)_h(\d+)_d(\d+)/.exec(name)!.slice(1).map(Number) as [number, number, number, number];
    const shape = [b, n, h, hd];
    const read = (key: string): Float64Array => Float64Array.from(file.float32(`${name}/${key}`));
    const close = (got: Values, key: string, floor: number): void => {
      const limit = Math.max(20 * tensors[`${name}/${key}`]!.f32_rel_err!, floor);
      const error = relativeError(got, read(key));
      assert.ok(error <= limit, `${name}/${key}: relative error ${error}, limit ${limit}`);
    };
    const inputs = { q: { shape, values: read('in/q') }, k: { shape, values: read('in/k') }, v: { shape, values: read('in/v') } };
    const scalars = { scale: hd ** -0.5 };
    const outputs = { out: { shape }, lse: { shape: [b, h, n] } };
    for (const place of places(n, h)) {
      const forward = runCase({ op: 'attention', tensors: { ...inputs, ...outputs }, scalars }, 'float32', place);
      close(forward['out']!, 'out/y', 1e-5);
      const saved = { out: { shape, values: forward['out']! }, lse: { shape: [b, h, n], values: forward['lse']! } };
      const gradients = { dout: { shape, values: read('dout/y') }, dq: { shape }, dk: { shape }, dv: { shape } };
      const backward = runCase({ op: 'attention_grad', tensors: { ...inputs, ...saved, ...gradients }, scalars }, 'float32', place);
      for (const x of ['q', 'k', 'v']) close(backward[`d${x}`]!, `din/${x}`, 2e-5);
    }
  }
}
