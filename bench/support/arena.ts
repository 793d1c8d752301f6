import { Tensor } from '../../src/tensor/index.js';
import type { Device } from '../../src/tensor/index.js';

/** A segment table over the whole arena as adamw and grad_norm read it: 100 segments, half of them with weight decay, one slot. */
export function segments(total: number, device: Device = 'cpu'): { segments: Tensor; slots: Tensor } {
  const count = 100;
  const length = Math.floor(total / count / 16) * 16;
  const rows = Array.from({ length: count }, (_, i) => [
    i * length,
    i === count - 1 ? total - i * length : length,
    i < count / 2 ? 1 : 0,
    0,
  ]);
  return {
    segments: Tensor.from(BigInt64Array.from(rows.flat(), BigInt), [count, 4], 'int64', device),
    slots: Tensor.from([1 - 1e-5, 1e-3, 0.9, 1], [1, 4], 'float32', device),
  };
}
