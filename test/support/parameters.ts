// Arenas for tests: parameters by name with given values, without a model.
import { Arena, engineShape } from '../../src/autograd/index.js';
import type { FileLayout, Parameter, ParameterSpec } from '../../src/autograd/index.js';
import type { DType } from '../../src/tensor/index.js';
import { randomValues } from './op-case.js';

export interface TestParameter {
  /** in the file's layout */
  shape: readonly number[];
  layout?: FileLayout;
  decay?: boolean;
}

/** An arena with a parameter of one segment for each name; the values are random, a pure function of the order. */
export function arenaWith(
  wanted: Readonly<Record<string, TestParameter | readonly number[]>>,
  options: { training?: boolean; dtype?: DType } = {},
): { arena: Arena; p: (name: string) => Parameter } {
  const specs = Object.entries(wanted).map(([name, w], i): ParameterSpec => {
    const { shape, layout = 'same', decay = true } = 'shape' in w ? w : { shape: w };
    return {
      name,
      shape: engineShape(shape, layout),
      decay,
      segments: [{ key: name, fileShape: shape, layout, init: (out) => out.set(randomValues(out.length, i + 1)) }],
    };
  });
  const arena = new Arena(specs, { training: options.training ?? true, ...(options.dtype ? { dtype: options.dtype } : {}) });
  arena.initialise();
  return {
    arena,
    p: (name) => {
      const found = arena.parameters.get(name);
      if (!found) throw new Error(`the test declares no parameter ${name}`);
      return found;
    },
  };
}
