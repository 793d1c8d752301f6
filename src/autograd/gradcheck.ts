import { TheiaError } from '../errors.js';
import { uniform } from '../random.js';
import { Tensor, tidy } from '../tensor/index.js';
import type { Parameter } from './parameter.js';
import { Tape } from './tape.js';

export interface GradcheckOptions {
  /** entries looked at per parameter, spread evenly over it; default 4 */
  samples?: number;
  /** allowed difference, relative to the largest gradient of the parameter; default 1e-6 */
  tolerance?: number;
  /** what the outputs' weights in the loss are drawn from; default 1 */
  seed?: number;
}

/** One entry of a parameter, as backward and as central differences have its gradient. */
export interface GradcheckEntry {
  parameter: string;
  index: number;
  gradient: number;
  difference: number;
}

/**
 * The widest step errs least where the function is smooth (1e-10 of the third derivative, 1e-11 of rounding). A ReLU whose input lies
 * within a step of zero spoils the difference though the gradient is right; a narrower step does not meet it.
 */
const STEPS = [1e-5, 1e-6, 1e-7];

/**
 * Checks the gradients that the tape finds for a function of parameters against central differences, in float64. The loss is the sum of
 * all outputs, each times a fixed random weight. Gradients of the parameters are overwritten; values come back as they were.
 * @param fn the forward pass; run again for every difference, so it must be a pure function of the parameters
 * @param parameters in float64, of an arena with gradients. Those that are frozen, or that fn does not reach, count as having gradient 0
 *   of their own accord and are checked only if they are trainable
 * @returns what was compared
 * @throws ERR_AUTOGRAD naming parameter and index where the two disagree; ERR_DTYPE for parameters that are not float64
 */
export function gradcheck(
  fn: () => Tensor | readonly Tensor[],
  parameters: Iterable<Parameter>,
  options: GradcheckOptions = {},
): GradcheckEntry[] {
  const { samples = 4, tolerance = 1e-6, seed = 1 } = options;
  const checked = [...parameters].filter((p) => p.wantsGradient);
  for (const p of checked)
    if (p.value.dtype !== 'float64')
      throw new TheiaError('ERR_DTYPE', `gradcheck: expected parameter ${p.name} in float64, got ${p.value.dtype}`);
  const weightsOf = (out: Tensor, at: number): Float64Array =>
    Float64Array.from({ length: out.size }, (_, i) => 2 * uniform(seed, `gradcheck:${at}`, i) - 1);
  const outputs = (): Tensor[] => {
    const out = fn();
    return out instanceof Tensor ? [out] : [...out];
  };

  const loss = (): { value: number; magnitude: number } =>
    tidy(() => {
      let value = 0;
      let magnitude = 0;
      outputs().forEach((out, at) => {
        const weights = weightsOf(out, at);
        (out.data() as Float64Array).forEach((v, i) => {
          value += v * weights[i]!;
          magnitude += Math.abs(v * weights[i]!);
        });
      });
      return { value, magnitude };
    });

  for (const p of checked) p.beginGradients();
  tidy(() => {
    const tape = new Tape();
    const out = tape.run(outputs);
    tape.backward(out.map((t, at) => [t, Tensor.from(weightsOf(t, at), t.shape)] as const));
  });

  const { magnitude } = loss();
  const entries: GradcheckEntry[] = [];
  for (const p of checked) {
    const gradient = p.touched ? (p.gradientView!.data() as Float64Array) : new Float64Array(p.value.size);
    const scale = gradient.reduce((most, g) => Math.max(most, Math.abs(g)), 0);
    const count = Math.min(samples, p.value.size);
    for (let s = 0; s < count; s++) {
      const index = Math.floor(((s + 0.5) * p.value.size) / count);
      const want = gradient[index]!;
      let difference = NaN;
      const agrees = STEPS.some((step) => {
        difference = slope(p, index, step, () => loss().value);
        // Besides the tolerance what rounding of the loss leaves: its terms' magnitude times a few units in the last place, over the step.
        return Math.abs(difference - want) <= tolerance * scale + (1e-15 * magnitude) / step;
      });
      if (!agrees)
        throw new TheiaError(
          'ERR_AUTOGRAD',
          `gradcheck: ${p.name}[${index}]: central differences give ${difference}, backward ${want} (largest of this parameter: ${scale})`,
        );
      entries.push({ parameter: p.name, index, gradient: want, difference });
    }
  }
  return entries;
}

/** d loss / d p[index] by central differences; p is as before afterwards, also when the loss throws. */
function slope(p: Parameter, index: number, step: number, loss: () => number): number {
  return tidy(() => {
    const entry = p.value.strided([1], [1], p.value.offset + index);
    const before = (entry.data() as Float64Array)[0]!;
    const h = step * Math.max(1, Math.abs(before));
    try {
      entry.write(Float64Array.of(before + h));
      const up = loss();
      entry.write(Float64Array.of(before - h));
      return (up - loss()) / (2 * h);
    } finally {
      entry.write(Float64Array.of(before));
    }
  });
}
