// Times one closure with benny (Benchmark.js underneath: it calls the closure often enough per sample to be above the clock's grain).
import benny from 'benny';

/** Seconds of one call. */
export interface Timing {
  median: number;
  p10: number;
  p90: number;
  best: number;
  samples: number;
}

export interface Budget {
  /** seconds spent on a case after its least number of samples */
  seconds: number;
  /** at least so many samples, however long they take */
  samples: number;
}

/** Runs fn until the budget is used up. fn is synchronous and leaves nothing behind. */
export async function measure(name: string, fn: () => void, budget: Budget): Promise<Timing> {
  for (let i = 0; i < 3; i++) fn(); // caches, scratch memory, the compiler's tiers
  const log = console.log;
  console.log = () => undefined; // benny announces every suite
  try {
    const summary = await benny.suite(
      name,
      benny.add(name, () => fn()),
      benny.configure({ cases: { minSamples: budget.samples, maxTime: budget.seconds, minTime: 0.004, delay: 0 } }),
    );
    const samples = [...summary.results[0]!.details.sampleResults].sort((a, b) => a - b);
    if (samples.length === 0) throw new Error(`${name}: the closure failed under benny`);
    const at = (q: number): number => samples[Math.min(samples.length - 1, Math.floor(q * samples.length))]!;
    return { median: at(0.5), p10: at(0.1), p90: at(0.9), best: samples[0]!, samples: samples.length };
  } finally {
    console.log = log;
  }
}

/** The same for an asynchronous closure (other libraries): every call is a sample. */
export async function measureAsync(fn: () => Promise<void>, budget: Budget): Promise<Timing> {
  for (let i = 0; i < 10; i++) await fn();
  const samples: number[] = [];
  const start = performance.now();
  while (samples.length < budget.samples || performance.now() - start < budget.seconds * 1000) {
    const begin = performance.now();
    await fn();
    samples.push((performance.now() - begin) / 1000);
  }
  samples.sort((a, b) => a - b);
  const at = (q: number): number => samples[Math.min(samples.length - 1, Math.floor(q * samples.length))]!;
  return { median: at(0.5), p10: at(0.1), p90: at(0.9), best: samples[0]!, samples: samples.length };
}
