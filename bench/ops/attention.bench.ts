import { Tensor } from '../../src/tensor/index.js';
import { opCase, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

/** Queries, keys and values as the model has them: three views of one packed projection [B,N,3D]. */
function parts(qkv: Tensor, heads: number): [Tensor, Tensor, Tensor] {
  const [batch, tokens, wide] = qkv.shape as [number, number, number];
  const width = wide / 3;
  const size = width / heads;
  const view = (i: number): Tensor => qkv.strided([batch, tokens, heads, size], [tokens * wide, wide, size, 1], i * width);
  return [view(0), view(1), view(2)];
}

const cases: OpBenchCase[] = [];
for (const [student, width, heads] of [
  ['T', 192, 3],
  ['S', 384, 6],
  ['B', 768, 12],
] as const)
  for (const [batch, tokens] of [
    [1, 197],
    [8, 197],
    [1, 257],
  ] as const) {
    const shape = `${batch}x${tokens}x${heads}x${width / heads}`;
    const scale = 1 / Math.sqrt(width / heads);
    const out = [batch, tokens, heads, width / heads];
    cases.push(
      opCase(
        `${student} ${shape}`,
        'attention',
        () => {
          const [q, k, v] = parts(random([batch, tokens, 3 * width]), heads);
          return { q, k, v, out: Tensor.empty(out), lse: Tensor.empty([batch, heads, tokens]), scale };
        },
        { floor: 0.5 },
      ),
      opCase(
        `${student} grad ${shape}`,
        'attention_grad',
        () => {
          const [q, k, v] = parts(random([batch, tokens, 3 * width]), heads);
          const [dq, dk, dv] = parts(Tensor.empty([batch, tokens, 3 * width]), heads);
          // log-sum-exp near its true size, so that the probabilities are ordinary numbers
          const lse = Tensor.from(new Float32Array(batch * heads * tokens).fill(Math.log(tokens) + 0.2), [batch, heads, tokens]);
          return { q, k, v, out: random(out), lse, dout: random(out), dq, dk, dv, scale };
        },
        { floor: 0.5 },
      ),
    );
  }

await runOpBench('attention', cases);
