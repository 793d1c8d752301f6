import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { jacobi, principalComponents, projectRows } from '../../src/analysis/pca.js';
import { normal } from '../../src/random.js';
import { throwsCode } from '../support/errors.js';

/** Rows with given standard deviations along given orthonormal directions, plus an offset. */
function cloud(n: number, columns: number, deviations: readonly number[], directions: readonly (readonly number[])[]): Float64Array {
  const rows = new Float64Array(n * columns);
  for (let i = 0; i < n; i++)
    for (let c = 0; c < columns; c++)
      rows[i * columns + c] = 3 + c + deviations.reduce((sum, d, k) => sum + d * normal(1, `cloud${k}`, i) * directions[k]![c]!, 0);
  return rows;
}

const s = Math.SQRT1_2;

test('directions and variances of a cloud that is known', () => {
  const directions = [
    [s, s, 0, 0],
    [s, -s, 0, 0],
    [0, 0, 1, 0],
  ];
  const rows = cloud(4000, 4, [5, 2, 0.5], directions);
  const { components, variances, mean, total } = principalComponents(rows, 4, 3);
  components.forEach((v, k) => {
    const along = Math.abs(v.reduce((sum, x, c) => sum + x * directions[k]![c]!, 0));
    assert.ok(along > 0.999, `component ${k}: ${along}`);
  });
  [25, 4, 0.25].forEach((want, k) => assert.ok(Math.abs(variances[k]! / want - 1) < 0.1, `variance ${k}: ${variances[k]}`));
  mean.forEach((m, c) => assert.ok(Math.abs(m - (3 + c)) < 0.3));
  assert.ok(Math.abs(variances.reduce((a, b) => a + b) - total) < 1e-9 * total);
});

test('many columns: the eigenvalue equation holds, vectors are orthonormal, twice the same bits', () => {
  const columns = 90;
  const rows = Float32Array.from({ length: 300 * columns }, (_, i) => normal(2, 'rows', i) / (1 + (i % columns) / 6));
  const first = principalComponents(rows, columns, 5);
  assert.equal(principalComponents(rows, columns, 5), first);
  const projected = projectRows(first, rows);
  for (let j = 0; j < 5; j++)
    for (let k = j; k < 5; k++) {
      let [inner, covariance] = [0, 0];
      for (let c = 0; c < columns; c++) inner += first.components[j]![c]! * first.components[k]![c]!;
      for (let i = 0; i < 300; i++) covariance += (projected[i * 5 + j]! * projected[i * 5 + k]!) / 299;
      assert.ok(Math.abs(inner - Number(j === k)) < 1e-12, `${j}, ${k}: ${inner}`);
      // Projections of different components do not correlate, and each has its component's variance.
      assert.ok(Math.abs(covariance - (j === k ? first.variances[j]! : 0)) < 1e-4 * first.variances[0]!, `${j}, ${k}: ${covariance}`);
    }
  for (let k = 1; k < 5; k++) assert.ok(first.variances[k - 1]! >= first.variances[k]!);
});

test('rows without variance, fewer rows than components, and a sign that is fixed', () => {
  const flat = principalComponents(new Float32Array(12).fill(2), 4, 3);
  assert.equal(flat.variances, [0, 0, 0]);
  assert.equal(flat.total, 0);
  const two = principalComponents(Float32Array.of(0, 0, 0, 0, -3, -4), 3, 3);
  assert.ok(Math.abs(two.variances[0]! - 12.5) < 1e-12 && Math.abs(two.variances[1]!) < 1e-12);
  assert.ok(two.components[0]![2]! > 0);
  for (const v of two.components) assert.ok(Math.abs(v.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-12);
});

test('jacobi: a matrix with known eigenvalues', () => {
  const { values, vectors } = jacobi([
    [2, 1, 0],
    [1, 2, 0],
    [0, 0, 7],
  ]);
  [7, 3, 1].forEach((want, i) => assert.ok(Math.abs(values[i]! - want) < 1e-14));
  assert.ok(Math.abs(Math.abs(vectors[1]![0]!) - s) < 1e-14);
  assert.equal(jacobi([[4]]), { values: [4], vectors: [[1]] });
});

test('what is no set of rows is named', () => {
  throwsCode(() => principalComponents(new Float32Array(3), 3, 1), 'ERR_SHAPE');
  throwsCode(() => principalComponents(new Float32Array(7), 3, 1), 'ERR_SHAPE');
  throwsCode(() => principalComponents(new Float32Array(12), 3, 4), 'ERR_SHAPE');
  throwsCode(() => principalComponents(Float32Array.of(1, NaN, 2, 3), 2, 1), 'ERR_NONFINITE');
  throwsCode(() => projectRows(principalComponents(Float32Array.of(1, 5, 2, 3), 2, 1), new Float32Array(3)), 'ERR_SHAPE');
});

test.run();
