import type { LossTerms } from './metrics.js';

export interface LossOptions {
  kind: 'cos_l1' | 'mse';
  /** weight of the cosine term; smooth-L1 gets the rest */
  cosWeight: number;
  /** weight of each teacher's smooth-L1 and MSE; 1 / number of teachers where none is given. The cosine is always averaged evenly. */
  teacherWeights: ReadonlyMap<string, number>;
}

/** What the loss of a step is made of, averaged over its samples. */
export interface Losses extends LossTerms {
  loss: number;
  teachers: Map<string, LossTerms>;
}

/** d loss / d {cos, l1, mse} of one teacher, of `count` that are trained in this step (model.md, "Loss"). */
export function termWeights(teacher: string, count: number, o: LossOptions): [number, number, number] {
  const own = o.teacherWeights.get(teacher) ?? 1 / count;
  return o.kind === 'mse' ? [0, 0, own] : [o.cosWeight / count, (1 - o.cosWeight) * own, 0];
}

/** Totals over teachers, in double. */
export function combineLosses(teachers: Map<string, LossTerms>, o: LossOptions): Losses {
  let [cos, l1, mse] = [0, 0, 0];
  for (const [name, t] of teachers) {
    const own = o.teacherWeights.get(name) ?? 1 / teachers.size;
    cos += t.cos / teachers.size;
    l1 += own * t.l1;
    mse += own * t.mse;
  }
  return { cos, l1, mse, loss: o.kind === 'mse' ? mse : o.cosWeight * cos + (1 - o.cosWeight) * l1, teachers };
}

/** Weighted mean of several batches' terms. @param parts terms and the number of samples they stand for */
export function averageTerms(parts: readonly { terms: Map<string, LossTerms>; weight: number }[]): Map<string, LossTerms> {
  const total = parts.reduce((n, p) => n + p.weight, 0);
  const out = new Map<string, LossTerms>();
  for (const { terms, weight } of parts)
    for (const [name, t] of terms) {
      const sum = out.get(name) ?? { cos: 0, l1: 0, mse: 0 };
      const share = weight / total;
      out.set(name, { cos: sum.cos + share * t.cos, l1: sum.l1 + share * t.l1, mse: sum.mse + share * t.mse });
    }
  return out;
}
