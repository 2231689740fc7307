/* Precisions: which splits of A, delta and W the products read. briskmlp/backends/contract.py says the same in Python.
 *
 *     highest     the float32 elements themselves; or, where products read bf16 alone, three splits that hold all of
 *                 them (bf16x3), x3 = bf16(x - x1 - x2): x w ≈ x1 w1 + x1 w2 + x2 w1 + x1 w3 + x2 w2 + x3 w1
 *     bfloat16    one split: each element rounded to bf16
 *     high        two splits (bf16x2), x1 = bf16(x), x2 = bf16(x - x1): x w ≈ x1 w1 + x1 w2 + x2 w1
 *
 * The rest of a step (f', db, the update) reads the saved A and delta, which for bfloat16 are the rounded ones and
 * otherwise float32, and it always reads float32 weights.
 *
 * The splits lie in memory as pack_f32_template.h or pack_bf16_template.h write them, which offer the same functions.
 *
 * The splits follow G. Henry, P. T. P. Tang, A. Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For
 * Higher-Precision Computations, ARITH 2019. */
#pragma once

#include "../brisk.h"
#include "../isa/vec.h"

#include <float.h>
#include <math.h>

enum { MAX_SPLITS = 3 };

/* On which side of dW = A.T @ D an operand is: A is the left one, delta the right one. */
enum side { LEFT, RIGHT };

/* An operand of a product: where its first split begins, and how many reals further each next split does. */
struct operand {
    const real* first;
    int64_t step;
};

/* Whether products read rounded splits; a compile-time constant where they read bf16 pairs. */
INLINE bool rounds(const struct brisk_work* work) {
    return VNNI > 1 || work->rounds;
}

/* The row-major splits of x, an A or delta of so many elements with its padding. One split replaces x in place; several
 * lie behind it, because the float32 elements stay. */
static struct operand row_major(const struct brisk_work* work, const real* x, int64_t elements) {
    return work->splits == 1 ? (struct operand){x, 0} : (struct operand){x + elements, elements};
}

/* The splits of x in VNNI layout, which lie behind the row-major ones; for single elements both are the same. */
static struct operand vnni_layout(const struct brisk_work* work, const real* x, int64_t elements) {
    const struct operand rows = row_major(work, x, elements);
    return VNNI == 1 ? rows : (struct operand){rows.first + elements / 2, elements};
}

/* vec_load_first, which takes longer than a whole vector does. */
INLINE vec vec_load_valid(const real* p, int64_t n) {
    return n >= LANES ? vec_load(p) : vec_load_first(p, n);
}

/* The splits of the weights from offset `at` on, out of n packed ones. */
static struct operand weights_at(const void* x, int64_t n, int64_t at) {
    return (struct operand){(const real*)x + at / VNNI, n / VNNI};
}

#if BRISK_DOUBLE

/* Only float32 has lower precisions. */
INLINE vec bfloat16(vec x) {
    return x;
}

#else

/* x rounded to bf16, to nearest, ties to even; beyond the largest bf16 number it becomes infinity. Subnormals become 0,
 * as the bf16 units treat them; infinities and NaN stay, and zeros keep their sign, which marks dropped units. */
INLINE vec bfloat16(vec x) {
    const vec size = vec_abs(x), zero = vec_copysign(vec_splat(0), x);
    const vec rounded = vec_where_less(size, vec_splat(FLT_MIN), zero, vec_upper_half(x));
    return vec_where_less(size, vec_splat((real)INFINITY), rounded, x);
}

#endif
