/* Precisions: what the products read of A, delta and W. briskmlp/backends/contract.py says the same in Python.
 *
 *     highest     the float32 numbers
 *     bfloat16    each rounded to bfloat16: A and delta in their place when they are written, W beside the parameters
 *     high        x = x1 + x2, x1 = bfloat16(x), x2 = bfloat16(x - x1), beside x: x w ≈ x1 w1 + x1 w2 + x2 w1
 *
 * Parts are bfloat16 numbers in float32's clothes, whose products float32 holds exactly: the tiles of
 * product_template.h add up what a unit for bfloat16 would. The rest of a step, f', db and the update among it, reads
 * what is stored: A and delta as they were rounded, or whole where there are parts; and the parameters. */

/* What products read of a matrix; `low` is NULL but for high. */
struct operand {
    const real *high, *low;
};

INLINE bool rounds(const struct brisk_work* work) {
    return work->plan.precision != BRISK_HIGHEST;
}

/* Of A or delta, `numbers` with its pads: the parts lie behind it. */
static struct operand operand_at(const struct brisk_work* work, const real* x, int64_t numbers) {
    if (work->plan.precision != BRISK_HIGH)
        return (struct operand){x, NULL};
    return (struct operand){x + numbers, x + 2 * numbers};
}

/* Of weights: of the n numbers at x the part at `at`, and behind these n the low ones. */
static struct operand weights_at(const struct brisk_work* work, const void* x, int64_t n, int64_t at) {
    const real* high = (const real*)x + at;
    return (struct operand){high, work->plan.precision == BRISK_HIGH ? high + n : NULL};
}

#if BRISK_DOUBLE

/* Only float32 has other precisions. */
INLINE vec bfloat16(vec x) {
    return x;
}

#else

/* Rounded to nearest, ties to even, what is beyond the largest to infinity; subnormals are 0, as they are for the
 * tiles; infinities and NaN stay. Zeros keep their sign, of which dropout makes use. */
INLINE vec bfloat16(vec x) {
    const vec size = vec_abs(x), zero = vec_copysign(vec_splat(0), x);
    const vec rounded = vec_where_less(size, vec_splat(FLT_MIN), zero, vec_upper_half(x));
    return vec_where_less(size, vec_splat((real)INFINITY), rounded, x);
}

#endif

/* The parts of n numbers; `low` may be NULL, and `high` be x. */
static void round_run(const real* x, real* high, real* low, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vec a = vec_load(x + i), a1 = bfloat16(a);
        vec_store(high + i, a1);
        if (low != NULL)
            vec_store(low + i, bfloat16(a - a1));
    }
}

/* Panels j0 … j1 of rows i0 … i1 of A or delta, of so many numbers, have been written: write what products read. */
static void round_rows(const struct brisk_work* work, real* x, int64_t numbers, int64_t j0, int64_t j1, int64_t i0,
                       int64_t i1) {
    const struct operand parts = operand_at(work, x, numbers);
    for (int64_t j = j0; j < j1; j++) {
        const int64_t at = j * work->panel_stride + i0 * PANEL;
        round_run(x + at, (real*)parts.high + at, parts.low == NULL ? NULL : (real*)parts.low + at, (i1 - i0) * PANEL);
    }
}
