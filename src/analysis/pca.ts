import { TheiaError } from '../errors.js';
import { uniform } from '../random.js';

/** Directions of largest variance of a set of rows. */
export interface Pca {
  /** [columns] */
  mean: Float64Array;
  /** unit vectors [columns], by falling variance; the entry of largest magnitude is positive */
  components: Float64Array[];
  /** variance along each, with n − 1 */
  variances: number[];
  /** variance along all directions: the sum over the columns */
  total: number;
}

/** Directions iterated besides those asked for: they make the asked ones settle in a few rounds. */
const SPARE = 8;
const ROUNDS = 300;
const SETTLED = 1e-10;

/**
 * Principal components, in float64: the covariance matrix, then subspace iteration with a Jacobi step on the small projected matrix. A
 * pure function of the rows.
 * @param rows [n, columns], row after row
 * @param count how many components; at most `columns`
 * @throws ERR_SHAPE if there are fewer than two rows or too many components; ERR_NONFINITE
 */
export function principalComponents(rows: Float32Array | Float64Array, columns: number, count: number): Pca {
  const n = rows.length / columns;
  if (!Number.isInteger(n) || n < 2) throw new TheiaError('ERR_SHAPE', `PCA: expected two or more rows of ${columns}, got ${n}`);
  if (!Number.isInteger(count) || count < 1 || count > columns)
    throw new TheiaError('ERR_SHAPE', `PCA: expected 1 to ${columns} components, got ${count}`);
  const mean = new Float64Array(columns);
  for (let i = 0; i < rows.length; i += columns) for (let c = 0; c < columns; c++) mean[c]! += rows[i + c]!;
  for (let c = 0; c < columns; c++) mean[c]! /= n;
  const matrix = covariance(rows, columns, mean);
  let total = 0;
  for (let c = 0; c < columns; c++) total += matrix[c * columns + c]!;
  if (!Number.isFinite(total)) throw new TheiaError('ERR_NONFINITE', 'PCA: expected finite rows, got values that are not');
  const { vectors, values } = leadingEigenvectors(matrix, columns, count);
  for (const vector of vectors) {
    const largest = vector.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
    if (largest < 0) for (let c = 0; c < columns; c++) vector[c] = -vector[c]!;
  }
  return { mean, components: vectors, variances: values.map((v) => Math.max(0, v)), total };
}

/** Rows in the coordinates of a basis. @returns [n, components] */
export function projectRows(basis: Pca, rows: Float32Array | Float64Array): Float64Array {
  const columns = basis.mean.length;
  const n = rows.length / columns;
  if (!Number.isInteger(n)) throw new TheiaError('ERR_SHAPE', `PCA: expected rows of ${columns}, got ${rows.length} values`);
  const k = basis.components.length;
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < k; j++) {
      const component = basis.components[j]!;
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += (rows[i * columns + c]! - basis.mean[c]!) * component[c]!;
      out[i * k + j] = sum;
    }
  return out;
}

/** Covariance with n − 1, [columns, columns]. Four rows at a time, so that the matrix is gone through a quarter as often. */
function covariance(rows: Float32Array | Float64Array, columns: number, mean: Float64Array): Float64Array {
  const n = rows.length / columns;
  const matrix = new Float64Array(columns * columns);
  const four = new Float64Array(4 * columns);
  for (let i = 0; i < n; i += 4) {
    for (let r = 0; r < 4; r++)
      for (let c = 0; c < columns; c++) four[r * columns + c] = i + r < n ? rows[(i + r) * columns + c]! - mean[c]! : 0;
    for (let a = 0; a < columns; a++) {
      const [w, x, y, z] = [four[a]!, four[columns + a]!, four[2 * columns + a]!, four[3 * columns + a]!];
      for (let b = a; b < columns; b++)
        matrix[a * columns + b]! += w * four[b]! + x * four[columns + b]! + y * four[2 * columns + b]! + z * four[3 * columns + b]!;
    }
  }
  for (let a = 0; a < columns; a++) for (let b = a; b < columns; b++) matrix[b * columns + a] = matrix[a * columns + b]! /= n - 1;
  return matrix;
}

/** The `count` leading eigenvectors of a symmetric matrix without large negative eigenvalues. */
function leadingEigenvectors(matrix: Float64Array, size: number, count: number): { vectors: Float64Array[]; values: number[] } {
  const width = Math.min(size, count + SPARE);
  let basis = orthonormal(
    Array.from({ length: width }, (_, j) => Float64Array.from({ length: size }, (_, i) => uniform(0, 'pca', j * size + i) - 0.5)),
  );
  let before: number[] = [];
  for (let round = 0; ; round++) {
    const images = basis.map((v) => times(matrix, v));
    const { values, vectors } = jacobi(basis.map((v) => images.map((w) => dot(v, w))));
    const scale = Math.abs(values[0]!);
    const settled = before.length > 0 && values.slice(0, count).every((v, i) => Math.abs(v - before[i]!) <= SETTLED * scale);
    if (settled || round === ROUNDS || width === size)
      return { values: values.slice(0, count), vectors: orthonormal(vectors.slice(0, count).map((by) => combine(basis, by))) };
    before = values;
    basis = orthonormal(vectors.map((by) => combine(images, by)));
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function times(matrix: Float64Array, v: Float64Array): Float64Array {
  const n = v.length;
  return Float64Array.from({ length: n }, (_, i) => dot(matrix.subarray(i * n, (i + 1) * n), v));
}

function combine(vectors: readonly Float64Array[], by: readonly number[]): Float64Array {
  const out = new Float64Array(vectors[0]!.length);
  vectors.forEach((v, j) => {
    for (let i = 0; i < out.length; i++) out[i]! += by[j]! * v[i]!;
  });
  return out;
}

/** Gram-Schmidt, twice, which is enough. A vector that depends on those before it is replaced by an axis that does not. */
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const done: Float64Array[] = [];
  const clean = (v: Float64Array): number => {
    for (let pass = 0; pass < 2; pass++)
      for (const u of done) {
        const along = dot(u, v);
        for (let i = 0; i < v.length; i++) v[i]! -= along * u[i]!;
      }
    return Math.sqrt(dot(v, v));
  };
  for (const vector of vectors) {
    let v = Float64Array.from(vector);
    const size = Math.sqrt(dot(v, v));
    let norm = clean(v);
    for (let axis = 0; !(norm > 1e-12 * size) || norm === 0; axis++) {
      v = new Float64Array(vector.length);
      v[axis] = 1;
      const left = clean(v);
      norm = left > 1e-6 ? left : 0;
      if (norm > 0) break;
    }
    done.push(v.map((x) => x / norm));
  }
  return done;
}

/**
 * All eigenvalues and eigenvectors of a small symmetric matrix by cyclic Jacobi rotations.
 * @returns by falling value; vectors[j] belongs to values[j]
 */
export function jacobi(input: readonly (readonly number[])[]): { values: number[]; vectors: number[][] } {
  const n = input.length;
  // The mean of both halves: rounding may have left the input a little askew.
  const a = input.map((row, i) => row.map((x, j) => (x + input[j]![i]!) / 2));
  const v = a.map((_, i) => a.map((_, j) => Number(i === j)));
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    let size = 0;
    a.forEach((row, i) => row.forEach((x, j) => (i === j ? (size += x * x) : (off += x * x))));
    if (off <= 1e-30 * size || off === 0) break;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (a[p]![q] === 0) continue;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let i = 0; i < n; i++) [a[i]![p], a[i]![q]] = [c * a[i]![p]! - s * a[i]![q]!, s * a[i]![p]! + c * a[i]![q]!];
        for (let i = 0; i < n; i++) [a[p]![i], a[q]![i]] = [c * a[p]![i]! - s * a[q]![i]!, s * a[p]![i]! + c * a[q]![i]!];
        for (let i = 0; i < n; i++) [v[i]![p], v[i]![q]] = [c * v[i]![p]! - s * v[i]![q]!, s * v[i]![p]! + c * v[i]![q]!];
      }
  }
  const order = a.map((_, i) => i).sort((i, j) => a[j]![j]! - a[i]![i]!);
  return { values: order.map((i) => a[i]![i]!), vectors: order.map((i) => v.map((row) => row[i]!)) };
}
