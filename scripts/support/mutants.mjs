// Mutants of kernels: copies of a source with one barrier, wait, commit, mask or bound taken out. Used by mutate-kernels.mjs and the test
// that keeps its table.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What is mutated. `always` needs the operators of mutantHeader: `a < b` becomes `a < mutant > b`, which has the same precedence and is
 * always true.
 */
const MUTATIONS = [
  { name: 'no __syncthreads', pattern: /__syncthreads\(\);/g, to: ';' },
  { name: 'no __syncwarp', pattern: /__syncwarp\(\);/g, to: ';' },
  { name: 'no wait', pattern: /(?:ptx::)?cp_async_wait<[^>;]*>\(\);/g, to: ';' },
  { name: 'waits for one group less', pattern: /cp_async_wait<([^>;]*)>\(\);/g, to: 'cp_async_wait<($1) + 1>();' },
  { name: 'no commit', pattern: /(?:ptx::)?cp_async_commit\(\);/g, to: ';' },
  { name: 'no mbarrier wait', pattern: /ptx::mbarrier_wait\([^;]*\);/g, to: ';' },
  { name: 'no arrival', pattern: /ptx::mbarrier_arrive\([^;]*\);/g, to: ';' },
  { name: 'no named barrier', pattern: /ptx::named_barrier\([^;]*\);/g, to: ';' },
  { name: 'no wgmma fence', pattern: /ptx::wgmma_fence\(\);/g, to: ';' },
  { name: 'no wgmma wait', pattern: /ptx::wgmma_wait<[^;]*>\(\);/g, to: ';' },
  { name: '< is always true', pattern: / < (?!=)/g, to: ' < ::TheiaMutant{} > ' },
  { name: '<= is always true', pattern: / <= /g, to: ' < ::TheiaMutant{} > ' },
  { name: 'no min', pattern: /(?<![\w:.])min\(/g, to: '::theia_mutant_last(' },
  { name: 'no max', pattern: /(?<![\w:.])max\(/g, to: '::theia_mutant_first(' },
];

/** Lines whose bounds are of another kind: loops over constants, templates, what the host decides. */
const OTHER =
  /^\s*(\/\/|#|template|static_assert|static constexpr|constexpr|inline constexpr|using)|for \(|while \(|std::|info\.|dim3|__launch_bounds__/;

/** What the mutated source needs, for `-include`. */
export const mutantHeader = `
#pragma once
#include <type_traits>
struct TheiaMutant {};
struct TheiaMutantHalf {};
template <class T> constexpr TheiaMutantHalf operator<(const T&, TheiaMutant) { return {}; }
template <class T> constexpr bool operator>(TheiaMutantHalf, const T&) { return true; }
template <class A, class B> constexpr std::common_type_t<A, B> theia_mutant_last(A, B b) { return b; }
template <class A, class B> constexpr std::common_type_t<A, B> theia_mutant_first(A a, B) { return a; }
`;

/**
 * All mutants of a source, in order. `line` is its text, by which a mutant is found again in a changed file; `nth` counts equal ones.
 * @returns {{file: string, mutation: string, line: string, nth: number, at: number, source: string}[]} `at` is the line's number
 */
export function mutantsOf(root, file) {
  const source = readFileSync(join(root, file), 'utf8');
  const lines = source.split('\n');
  const seen = new Map();
  const mutants = [];
  lines.forEach((text, index) => {
    const code = text.replace(/\/\/.*$/, '');
    for (const { name, pattern, to } of MUTATIONS) {
      if (/^(<|no m(in|ax)$)/.test(name) && OTHER.test(text)) continue;
      for (const match of code.matchAll(pattern)) {
        const changed = match[0].replace(new RegExp(pattern.source), to);
        const line = text.trim();
        const key = `${name}\n${line}`;
        const nth = (seen.get(key) ?? 0) + 1;
        seen.set(key, nth);
        const mutated = [...lines];
        mutated[index] = text.slice(0, match.index) + changed + text.slice(match.index + match[0].length);
        mutants.push({ file, mutation: name, line, nth, at: index + 1, source: mutated.join('\n') });
      }
    }
  });
  return mutants;
}

/** The name of a mutant in the table. */
export const keyOf = (m) => `${m.file} | ${m.mutation} | ${m.line} | ${m.nth}`;
