import { Tensor } from '../../src/tensor/index.js';
import { opCase, panels, random, runOpBench } from '../support/op-bench.js';
import type { OpBenchCase } from '../support/op-bench.js';

/** The linear layers of a block: tokens a sample, width. */
const STUDENTS = [
  ['T', 192],
  ['S', 384],
  ['B', 768],
] as const;
const TOKENS = 197;
/** 16 x 16 positions onto a teacher's channels. */
const TRANSLATORS = [
  [192, 1024],
  [384, 1024],
  [768, 1280],
] as const;

function forward(name: string, m: number, n: number, k: number, gelu: boolean): OpBenchCase {
  return opCase(
    name,
    'linear',
    () => {
      const w = random([n, k]);
      return {
        x: random([m, k]),
        w,
        packed: panels(w, 'forward'),
        bias: random([n]),
        y: Tensor.empty([m, n]),
        activation: gelu ? 'gelu' : 'none',
      };
    },
    { floor: m === 197 && n === 768 && k === 768 ? 0.85 : 0.65 },
  );
}

function backward(name: string, m: number, n: number, k: number, gelu: boolean): OpBenchCase {
  return opCase(name, 'linear_grad', () => {
    const w = random([n, k]);
    return {
      x: random([m, k]),
      w,
      packed: panels(w, 'backward'),
      dy: random([m, n]),
      slope: gelu ? random([m, n]) : undefined,
      dx: Tensor.empty([m, k]),
      dw: Tensor.empty([n, k]),
      dbias: Tensor.empty([n]),
      activation: gelu ? 'gelu' : 'none',
      accumulate: 0,
    };
  });
}

const cases: OpBenchCase[] = [];
function layer(label: string, m: number, n: number, k: number, gelu = false): void {
  const shape = `${m}x${n}x${k}${gelu ? ' gelu' : ''}`;
  cases.push(forward(`${label} ${shape}`, m, n, k, gelu), backward(`${label} grad ${shape}`, m, n, k, gelu));
}
for (const [student, width] of STUDENTS)
  for (const batch of [1, 8]) {
    const rows = batch * TOKENS;
    layer(`${student} qkv`, rows, 3 * width, width);
    layer(`${student} proj`, rows, width, width);
    layer(`${student} fc1`, rows, 4 * width, width, true);
    layer(`${student} fc2`, rows, width, 4 * width);
  }
for (const [width, channels] of TRANSLATORS) layer('translator', 256, channels, width);

await runOpBench('linear', cases);
