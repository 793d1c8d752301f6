import { parseArgs } from 'node:util';
import { TheiaError } from '../errors.js';
import { nearest } from '../suggest.js';

/** One flag of a verb. */
export type Option = {
  /** a boolean flag stands alone, a string flag takes a value */
  type: 'string' | 'boolean';
  /** what follows in the help, such as FILE */
  value?: string;
  help: string;
  /** may be given more than once (then read it with `list`) */
  multiple?: boolean;
  required?: boolean;
  /** the only values allowed */
  choices?: readonly string[];
  short?: string;
};
export type Options = Readonly<Record<string, Option>>;

function bad(message: string, hint?: string): TheiaError {
  return new TheiaError('ERR_ARGS', message, { hint });
}

/** The flags of one call, checked against the verb's options. Reading a flag that the verb did not declare is a mistake of ours. */
export class Args {
  readonly #options: Options;
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(options: Options, values: ReadonlyMap<string, readonly string[]>) {
    this.#options = options;
    this.#values = values;
  }

  #get(name: string): readonly string[] {
    if (!Object.hasOwn(this.#options, name)) throw new TheiaError('ERR_INTERNAL', `args: --${name} is not declared`);
    return this.#values.get(name) ?? [];
  }

  has(name: string): boolean {
    return this.#get(name).length > 0;
  }

  /** A boolean flag. */
  flag(name: string): boolean {
    return this.has(name);
  }

  string(name: string): string | undefined {
    return this.#get(name)[0];
  }

  /** A string flag that the verb declared as required, or that this call needs. */
  need(name: string): string {
    const value = this.string(name);
    if (value === undefined) throw bad(`--${name}: expected, got none`);
    return value;
  }

  /** All values of a repeatable flag, in order. */
  list(name: string): readonly string[] {
    return this.#get(name);
  }

  /**
   * A value out of a fixed list.
   * @throws ERR_ARGS with the nearest one
   */
  choice<const T extends readonly string[]>(name: string, choices: T): T[number] | undefined {
    const value = this.string(name);
    if (value !== undefined) checkChoice(name, value, choices);
    return value;
  }

  /** A finite number within limits, the limits included. */
  number(name: string, limits: { min?: number; max?: number; integer?: boolean } = {}): number | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    const { min = -Infinity, max = Infinity, integer = false } = limits;
    // Number('') is 0 and Number('0x10') is 16; neither is what a user means.
    const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
    if (Number.isFinite(value) && value >= min && value <= max && (!integer || Number.isSafeInteger(value))) return value;
    const range =
      min === -Infinity ? (max === Infinity ? '' : ` up to ${max}`) : max === Infinity ? ` from ${min} up` : ` from ${min} to ${max}`;
    throw bad(`--${name}: expected a ${integer ? 'whole ' : ''}number${range}, got ${JSON.stringify(text)}`);
  }
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  const near = nearest(value, choices);
  throw bad(
    `--${name}: expected one of ${choices.join(', ')}, got ${JSON.stringify(value)}`,
    near === undefined ? undefined : `did you mean ${near}?`,
  );
}

/**
 * Reads the arguments behind the verb.
 * @param known besides the verb's own flags, `help` is always there
 * @throws ERR_ARGS for an unknown flag, a missing or unexpected value, a repeated single flag, a missing required flag, a stray argument
 */
export function parseVerbArgs(verb: string, argv: readonly string[], options: Options): Args & { help: boolean } {
  const all: Record<string, Option> = { ...options, help: { type: 'boolean', help: 'prints this', short: 'h' } };
  const declared = Object.fromEntries(
    Object.entries(all).map(([name, { type, short }]) => [
      name,
      short === undefined ? { type, multiple: true } : { type, short, multiple: true },
    ]),
  );
  // Not strict: the messages of the strict mode name neither the verb nor the nearest flag. The tokens tell all we need.
  const { tokens } = parseArgs({ args: [...argv], options: declared, strict: false, allowPositionals: true, tokens: true });
  const values = new Map<string, string[]>();
  const hint = `theia ${verb} --help lists the flags`;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') throw bad(`theia ${verb}: expected flags only, got ${JSON.stringify(token.value)}`, hint);
    const { name, rawName } = token;
    if (!Object.hasOwn(all, name)) {
      const near = nearest(name, Object.keys(all));
      throw bad(`theia ${verb}: unknown flag ${rawName}`, near === undefined ? hint : `did you mean --${near}?`);
    }
    const option = all[name];
    let value = token.value;
    if (option.type === 'boolean') {
      if (value !== undefined) throw bad(`${rawName}: expected no value, got ${JSON.stringify(value)}`);
      value = '';
    } else if (value === undefined || (!token.inlineValue && /^-[^\d.]/.test(value))) {
      // The next flag is no value; a value that does begin with a dash is written --flag=-value.
      throw bad(
        `${rawName}: expected a value${option.value === undefined ? '' : ` (${option.value})`}, got ${value === undefined ? 'none' : value}`,
      );
    }
    const seen = values.get(name);
    if (seen !== undefined && !option.multiple) throw bad(`${rawName}: expected once, got it again`);
    if (option.choices !== undefined) checkChoice(name, value, option.choices);
    if (seen === undefined) values.set(name, [value]);
    else seen.push(value);
  }
  const help = values.has('help');
  if (!help) {
    for (const [name, option] of Object.entries(options)) {
      if (option.required && !values.has(name))
        throw bad(`theia ${verb}: expected --${name}${option.value === undefined ? '' : ` ${option.value}`}, got none`, hint);
    }
  }
  return Object.assign(new Args(all, values), { help });
}

/** The help text of a verb. */
export function helpText(verb: string, summary: string, options: Options): string {
  const left = (name: string, option: Option) => {
    const value = option.choices?.join('|') ?? option.value ?? 'VALUE';
    return `  --${name}${option.type === 'boolean' ? '' : ` ${value}`}`;
  };
  const lines = Object.entries(options).map(([name, option]) => {
    const notes = [option.required ? 'required' : '', option.multiple ? 'repeatable' : ''].filter((note) => note !== '').join(', ');
    const head = left(name, option);
    const text = `${option.help}${notes === '' ? '' : ` (${notes})`}`;
    return head.length < 30 ? `${head.padEnd(30)}${text}` : `${head}\n${' '.repeat(30)}${text}`;
  });
  return `theia ${verb}: ${summary}\n\n${lines.join('\n')}${lines.length > 0 ? '\n' : ''}  ${'--help'.padEnd(28)}prints this\n`;
}
