/* Precisions: what the products read of A, delta and W. briskmlp/backends/contract.py says the same in Python.
 *
 *     highest     the float32 numbers
 *     bfloat16    each rounded to bfloat16
 *     high        two parts, x1 = bfloat16(x), x2 = bfloat16(x - x1): x w ≈ x1 w1 + x1 w2 + x2 w1
 *
 * The rest of a step, f', db and the update among it, reads what is kept: in bfloat16 A and delta as they were rounded,
 * else whole; and always whole weights.
 *
 * How this lies in memory depends on the words that the ISA's products read, of one number or of two:
 * numbers_template.h and pairs_template.h offer the same functions for either. */

/* What products read of a matrix; `low` is NULL but for high. */
struct operand {
    const real *high, *low;
};

INLINE bool rounds(const struct brisk_work* work) {
    return work->plan.precision != BRISK_HIGHEST;
}

#if BRISK_DOUBLE

/* Only float32 has other precisions. */
INLINE vec bfloat16(vec x) {
    return x;
}

#else

/* Rounded to nearest, ties to even, what is beyond the largest to infinity; subnormals are 0, as they are for the
 * units; infinities and NaN stay. Zeros keep their sign, of which dropout makes use. */
INLINE vec bfloat16(vec x) {
    const vec size = vec_abs(x), zero = vec_copysign(vec_splat(0), x);
    const vec rounded = vec_where_less(size, vec_splat(FLT_MIN), zero, vec_upper_half(x));
    return vec_where_less(size, vec_splat((real)INFINITY), rounded, x);
}

#endif
