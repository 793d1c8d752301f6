import type { Args, Options } from './args.js';

/** What the file of a verb exports as `verb`. Heavy modules are imported inside `run`, so that --help and wrong flags answer at once. */
export type Verb = {
  name: string;
  summary: string;
  options: Options;
  /** @returns the exit code; nothing means 0 */
  run(args: Args): Promise<number | void> | number | void;
};
