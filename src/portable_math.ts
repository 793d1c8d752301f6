/*
 * ln and sin/cos of whole turns in nothing but + - * / on doubles, which IEEE 754 fixes to the last bit. Math.log, Math.sin and Math.cos are not fixed:
 * V8 and JavaScriptCore differ, and then one seed would give two different runs. The polynomials are those of fdlibm (Sun Microsystems, 1993,
 * freely distributable); both are within one unit in the last place.
 */

const LN2_HI = 6.9314718036912381649e-1;
const LN2_LO = 1.90821492927058770002e-10;
const SQRT2 = 1.4142135623730951;
const TWO_PI = 6.283185307179586;

const word = new Float64Array(1);
const halves = new Uint32Array(word.buffer);

/** ln(x) for normal x > 0. */
export function portableLog(x: number): number {
  word[0] = x;
  let k = (halves[1] >>> 20) - 1023;
  halves[1] = (halves[1] & 0xfffff) | 0x3ff00000;
  let m = word[0];
  if (m > SQRT2) {
    m /= 2;
    k += 1;
  }
  const f = m - 1;
  const s = f / (2 + f);
  const z = s * s;
  const w = z * z;
  const t1 = w * (3.999999999940941908e-1 + w * (2.222219843214978396e-1 + w * 1.531383769920937332e-1));
  const t2 = z * (6.66666666666673513e-1 + w * (2.857142874366239149e-1 + w * (1.818357216161805012e-1 + w * 1.479819860511658591e-1)));
  const half = 0.5 * f * f;
  return k * LN2_HI - (half - (s * (half + t1 + t2) + k * LN2_LO) - f);
}

function sinSmall(x: number): number {
  const z = x * x;
  const r =
    8.33333333332248946124e-3 +
    z * (-1.98412698298579493134e-4 + z * (2.75573137070700676789e-6 + z * (-2.50507602534068634195e-8 + z * 1.58969099521155010221e-10)));
  return x + x * z * (-1.66666666666666324348e-1 + z * r);
}

function cosSmall(x: number): number {
  const z = x * x;
  const r =
    4.16666666666666019037e-2 +
    z *
      (-1.38888888888741095749e-3 +
        z *
          (2.48015872894767294178e-5 +
            z * (-2.75573143513906633035e-7 + z * (2.0875723212981748279e-9 + z * -1.13596475577881948265e-11))));
  const half = 0.5 * z;
  const w = 1 - half;
  return w + (1 - w - half + z * z * r);
}

/** cos(2 pi u) for u in [0, 1). The reduction to an eighth of a turn is exact. */
export function portableCosTurn(u: number): number {
  const quarter = Math.floor(4 * u + 0.5);
  const x = (u - quarter / 4) * TWO_PI;
  switch (quarter & 3) {
    case 0:
      return cosSmall(x);
    case 1:
      return -sinSmall(x);
    case 2:
      return -cosSmall(x);
    default:
      return sinSmall(x);
  }
}

/** sin(2 pi u) for u in [0, 1). */
export function portableSinTurn(u: number): number {
  const quarter = Math.floor(4 * u + 0.5);
  const x = (u - quarter / 4) * TWO_PI;
  switch (quarter & 3) {
    case 0:
      return sinSmall(x);
    case 1:
      return cosSmall(x);
    case 2:
      return -sinSmall(x);
    default:
      return -cosSmall(x);
  }
}
