// The operator cases of the golden data (ops_*.safetensors), with the limits that the table of its README sets.
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/formats/index.js';
import { manifest, relativeError, requireGolden } from './golden.js';
import type { GoldenEntry, GoldenTensor } from './golden.js';

export class OpGolden {
  private constructor(
    private readonly file: SafetensorsFile,
    private readonly entry: GoldenEntry,
  ) {}

  /** Undefined, with a line that says so, where the golden data are absent. */
  static open(name: string, testName: string): OpGolden | undefined {
    const path = requireGolden(name, testName);
    const entry = path === undefined ? undefined : manifest()?.files[name];
    return path === undefined || entry === undefined ? undefined : new OpGolden(SafetensorsFile.open(path), entry);
  }

  /** Names of the cases whose name the pattern matches. */
  cases(pattern: RegExp): string[] {
    return [...new Set(Object.keys(this.entry.tensors).map((key) => key.split('/')[0]!))].filter((name) => pattern.test(name));
  }

  /** What comes behind a prefix in the names of the tensors. */
  names(prefix: string): string[] {
    return Object.keys(this.entry.tensors).flatMap((key) => (key.startsWith(prefix) ? [key.slice(prefix.length)] : []));
  }

  shape(key: string): number[] {
    return this.tensor(key).shape;
  }

  values(key: string): Float64Array {
    return Float64Array.from(this.file.float32(key));
  }

  /** The values of a uint8 tensor. */
  bytes(key: string): Uint8Array {
    return this.file.bytes(key);
  }

  /** Fails if the values are further from the golden ones than allowed: 20 times PyTorch's own float32 error, or the table's floor. */
  compare(key: string, got: ArrayLike<number>, label = ''): void {
    const floor = key.split('/')[1] === 'din' ? 2e-5 : 1e-5;
    const limit = Math.max(20 * (this.tensor(key).f32_rel_err ?? 0), floor);
    const error = relativeError(got, this.file.float32(key));
    assert.ok(error <= limit, `${key} ${label}: relative error ${error} is above ${limit}`);
  }

  private tensor(key: string): GoldenTensor {
    const found = this.entry.tensors[key];
    if (!found) throw new Error(`the golden data have no ${key}`);
    return found;
  }
}
