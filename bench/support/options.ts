import { parseArgs } from 'node:util';
import type { Budget } from './measure.js';

/** What every bench file understands; `npm run bench -- linear --save --seconds 0.2 --threads 1 --only 197x768x768` */
export interface BenchOptions {
  save: boolean;
  budget: Budget;
  /** 0: one thread, then all */
  threads: number;
  /** only cases whose name contains this */
  only: string;
}

export function benchOptions(argv: readonly string[] = process.argv.slice(2)): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      save: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '0.3' },
      samples: { type: 'string', default: '30' },
      threads: { type: 'string', default: '0' },
      only: { type: 'string', default: '' },
    },
  });
  const number = (name: 'seconds' | 'samples' | 'threads'): number => {
    const n = Number(values[name]);
    if (!(n >= 0)) throw new Error(`--${name}: expected a number, got ${values[name]}`);
    return n;
  };
  return {
    save: values.save,
    budget: { seconds: number('seconds'), samples: number('samples') },
    threads: number('threads'),
    only: values.only,
  };
}
