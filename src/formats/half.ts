/*
 * The two 16-bit float formats, kept in Uint16Array as bits (there is no Float16Array in the Node versions we support).
 * Everything works on the bits of float32, so subnormals, infinities and signed zeros come out as IEEE 754 says.
 */

const F32_INFINITY = 0x7f800000;

/** bfloat16 bits to float32, exact: bfloat16 is the upper half of a float32. NaNs keep their payload. */
export function bf16ToF32(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return out;
}

/** float32 to bfloat16 bits, rounding to nearest, ties to even; too large becomes infinite; NaN stays NaN (made quiet). */
export function f32ToBf16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const w = words[i];
    // Rounding could carry a NaN's payload away (0x7fffffff + 0x7fff overflows into the sign), so NaNs take their own way.
    if ((w & 0x7fffffff) > F32_INFINITY) out[i] = (w >>> 16) | 0x40;
    else out[i] = (w + 0x7fff + ((w >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** float16 bits to float32, exact. */
export function f16ToF32(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) {
    const h = bits[i];
    const sign = (h & 0x8000) << 16;
    const exponent = (h >>> 10) & 0x1f;
    const fraction = h & 0x3ff;
    if (exponent === 0x1f) words[i] = sign | F32_INFINITY | (fraction << 13);
    else if (exponent !== 0) words[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
    else if (fraction === 0) words[i] = sign;
    else {
      // fraction * 2^-24, normalised: its highest bit becomes the implicit one.
      const shift = Math.clz32(fraction) - 21;
      words[i] = sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
    }
  }
  return out;
}

/** float32 to float16 bits, rounding to nearest, ties to even, subnormals included; 65520 and more becomes infinite; NaN stays NaN. */
export function f32ToF16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const sign = (words[i] >>> 16) & 0x8000;
    const w = words[i] & 0x7fffffff;
    if (w > F32_INFINITY) out[i] = sign | 0x7e00 | ((w >>> 13) & 0x3ff);
    else if (w >= 0x477ff000) out[i] = sign | 0x7c00;
    else if (w >= 0x38800000) out[i] = sign | ((w - 0x38000000 + 0xfff + ((w >>> 13) & 1)) >>> 13);
    else if (w < 0x33000000) out[i] = sign;
    else {
      // Below 2^-14: the fraction with its implicit bit, in units of 2^-24; what is shifted out decides the rounding.
      const shift = 126 - (w >>> 23);
      const fraction = (w & 0x7fffff) | 0x800000;
      const kept = fraction >>> shift;
      const rest = fraction & ((1 << shift) - 1);
      const half = 1 << (shift - 1);
      out[i] = sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
    }
  }
  return out;
}
