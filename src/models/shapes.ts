import { TheiaError } from '../errors.js';

/** Prefix of the translator heads' parameters. */
export const HEADS = 'translator.translator_heads.';

/** File key -> shape of a checkpoint, read with errors that name the key. Nothing here trusts a name or a size. */
export class Shapes {
  constructor(readonly all: ReadonlyMap<string, readonly number[]>) {}

  has(key: string): boolean {
    return this.all.has(key);
  }

  get(key: string, rank: number): readonly number[] {
    const shape = this.all.get(key);
    if (shape === undefined) throw new TheiaError('ERR_CONFIG', `weights: expected a tensor ${key}, got none`);
    if (shape.length !== rank)
      throw new TheiaError('ERR_CONFIG', `weights: expected ${key} with ${rank} dimensions, got [${shape.join(',')}]`);
    return shape;
  }

  text(key: string): string {
    return `${key} [${this.all.get(key)?.join(',') ?? ''}]`;
  }

  /** How many `<prefix><i>.` there are; a gap in the numbers means that the file is not whole. */
  layers(prefix: string): number {
    const seen = new Set<number>();
    for (const key of this.all.keys()) {
      if (!key.startsWith(prefix)) continue;
      const index = /^(\d{1,6})\./.exec(key.slice(prefix.length));
      if (index !== null) seen.add(Number(index[1]));
    }
    for (let i = 0; i < seen.size; i++) {
      if (!seen.has(i))
        throw new TheiaError('ERR_CONFIG', `weights: expected ${prefix}0 to ${prefix}${seen.size - 1}, got no ${prefix}${i}`);
    }
    return seen.size;
  }

  /**
   * The translator heads in file order: name as parameter names spell it -> index of its last `adapter.<i>.weight` (-1: none).
   * One pass over the keys, so that a file of a million heads costs no square of it.
   */
  heads(): Map<string, number> {
    const found = new Map<string, number>();
    for (const key of this.all.keys()) {
      if (!key.startsWith(HEADS)) continue;
      // A teacher's own name may hold slashes, and its dots became _, so the head's modules start at the first dot.
      const rest = key.slice(HEADS.length);
      const dot = rest.indexOf('.');
      const head = dot < 0 ? rest : rest.slice(0, dot);
      const index = dot < 0 ? null : /^adapter\.(\d{1,4})\.weight$/.exec(rest.slice(dot + 1));
      found.set(head, Math.max(found.get(head) ?? -1, index === null ? -1 : Number(index[1])));
    }
    return found;
  }
}
