// Writes src/generated/ops.ts from the field lists of the built addon, so that the description of an op exists once (kernels/<op>/<op>.h).
//   node scripts/generate-ops.mjs            writes the file
//   node scripts/generate-ops.mjs --check    fails if it is not current
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const addon = createRequire(import.meta.url)(join(root, 'build', 'Release', 'theia.node'));
const pascal = (name) => name.replace(/(^|_)([a-z0-9])/g, (_, __, c) => c.toUpperCase());

const lines = [
  '// Written by `npm run generate` from the field lists in kernels/*/*.h. Do not edit.',
  '',
  "import type { Tensor } from '../tensor/tensor.js';",
  '',
];
const ops = addon.describeOps();
for (const op of ops) {
  lines.push(`/** Arguments of the op \`${op.name}\`. */`, `export interface ${pascal(op.name)}Args {`);
  for (const f of op.fields) {
    if (f.kind === 'tensor') {
      const shares = f.shares ? `; may be the memory of ${f.shares.replaceAll('|', ' or ')}` : '';
      lines.push(`  /** ${f.role}, ${f.dtypes.join(' or ')}, rank ${f.rank}${shares} */`);
      lines.push(`  ${f.name}${f.optional ? '?' : ''}: Tensor${f.optional ? ' | undefined' : ''};`);
    } else if (f.choices) {
      lines.push(
        `  ${f.name}: ${f.choices
          .split('|')
          .map((c) => `'${c}'`)
          .join(' | ')};`,
      );
    } else if (f.flag) lines.push('  /** 0 or 1 */', `  ${f.name}: number;`);
    else lines.push(`  ${f.name}: number;`);
  }
  lines.push('}', '');
}
lines.push('export interface OpArgs {');
for (const op of ops) lines.push(`  ${op.name}: ${pascal(op.name)}Args;`);
lines.push('}', '');
lines.push('export type OpName = keyof OpArgs;', '');
lines.push("export type Role = 'in' | 'out' | 'inout' | 'saved' | 'accumulate' | 'scalar';", '');
lines.push('/** One argument of an op: how it is written into the call area, and what it is for. */');
lines.push(
  'export interface Field {',
  '  readonly name: string;',
  "  readonly kind: 'tensor' | 'int' | 'float' | 'choice';",
  '  readonly role: Role;',
  '  readonly optional: boolean;',
  '  readonly choices?: readonly string[];',
  '}',
  '',
);
lines.push('/** All ops in the order of kernels/ops.def: the position is the number that the addon knows the op by. */');
lines.push('export const OPS: readonly { readonly name: OpName; readonly fields: readonly Field[] }[] = [');
for (const op of ops) {
  lines.push(`  {`, `    name: '${op.name}',`, '    fields: [');
  for (const f of op.fields) {
    const kind = f.choices ? 'choice' : f.kind;
    const choices = f.choices
      ? `, choices: [${f.choices
          .split('|')
          .map((c) => `'${c}'`)
          .join(', ')}]`
      : '';
    lines.push(`      { name: '${f.name}', kind: '${kind}', role: '${f.role}', optional: ${f.optional ?? false}${choices} },`);
  }
  lines.push('    ],', '  },');
}
lines.push('];', '');

const target = join(root, 'src', 'generated', 'ops.ts');
const text = lines.join('\n');
if (process.argv.includes('--check')) {
  let current = '';
  try {
    current = readFileSync(target, 'utf8');
  } catch {
    // not there: not current
  }
  if (current !== text) {
    console.error('src/generated/ops.ts is not what the addon describes. Run: npm run generate');
    process.exit(1);
  }
} else writeFileSync(target, text);
