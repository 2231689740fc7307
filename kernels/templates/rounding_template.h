/* Precisions: what the products read of A, delta and W. briskmlp/backends/contract.py says the same in Python.
 *
 *     highest     the float32 numbers; or all of them in three parts, x3 = bfloat16(x - x1 - x2), where products read
 *                 bfloat16 alone: x w ≈ x1 w1 + x1 w2 + x2 w1 + x1 w3 + x2 w2 + x3 w1
 *     bfloat16    each rounded to bfloat16
 *     high        two parts, x1 = bfloat16(x), x2 = bfloat16(x - x1): x w ≈ x1 w1 + x1 w2 + x2 w1
 *
 * The rest of a step, f', db and the update among it, reads what is kept: in bfloat16 A and delta as they were rounded,
 * else whole; and always whole weights.
 *
 * How this lies in memory depends on the words that the ISA's products read, of one number or of two:
 * pack_f32_template.h and pack_bf16_template.h offer the same functions for either. */

enum { MAX_SPLITS = 3 };

/* Where dW's product has an operand: A on its left, delta on its right. */
enum side { LEFT, RIGHT };

/* What products read of a matrix: its first part; the others lie `step` words behind each other. */
struct operand {
    const real* first;
    int64_t step;
};

/* Whether products read parts of numbers, or the numbers: known without a look where words are of two. */
INLINE bool rounds(const struct brisk_work* work) {
    return VNNI > 1 || work->rounds;
}

/* A or delta, of so many numbers with its pads, to be read along its rows. Where it has several parts, the number stays
 * beside them. */
static struct operand row_major(const struct brisk_work* work, const real* x, int64_t elements) {
    return work->splits == 1 ? (struct operand){x, 0} : (struct operand){x + elements, elements};
}

/* The same, along its columns. */
static struct operand vnni_layout(const struct brisk_work* work, const real* x, int64_t elements) {
    const struct operand rows = row_major(work, x, elements);
    return VNNI == 1 ? rows : (struct operand){rows.first + elements / 2, elements};
}

/* Of n weights the part at `at`. */
static struct operand weights_at(const void* x, int64_t n, int64_t at) {
    return (struct operand){(const real*)x + at / VNNI, n / VNNI};
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
