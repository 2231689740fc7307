/* Vector operations of any x86-64 and aarch64: 4 float32 or 2 float64 numbers. The comments here define each operation
 * for the other vec_*.h too. */
#pragma once

#include "vec_common.h"

/* Rows of a register tile of two vectors, and of the tile of a transposed product. */
#if defined(__aarch64__)
enum { MR = 8, MR_TN = 4 }; /* 32 registers */
#else
enum { MR = 6, MR_TN = 4 }; /* 16 */
#endif

/* a * b + c, rounded once where the processor can. */
INLINE vec vec_fma(vec a, vec b, vec c) {
#if defined(__aarch64__)
    return (vec)NEON(vfma)((neon)c, (neon)a, (neon)b);
#else
    return a * b + c;
#endif
}

/* c - a * b, rounded as vec_fma. */
INLINE vec vec_fnma(vec a, vec b, vec c) {
#if defined(__aarch64__)
    return (vec)NEON(vfms)((neon)c, (neon)a, (neon)b);
#else
    return c - a * b;
#endif
}

/* The first n numbers at p, then zeros; all where n ≥ LANES. Nothing behind the n-th is read. */
INLINE vec vec_load_first(const real* p, int64_t n) {
    if (n >= LANES)
        return vec_load(p);
    vec a = {0};
    for (int i = 0; i < LANES - 1; i++)
        if (i < n)
            a[i] = p[i];
    return a;
}

/* Store only the first n lanes; all where n ≥ LANES. */
INLINE void vec_store_first(real* p, vec a, int64_t n) {
    if (n >= LANES)
        vec_store(p, a);
    else
        for (int i = 0; i < LANES - 1; i++)
            if (i < n)
                p[i] = a[i];
}

/* a < b ? yes : no in each lane; no where either is NaN. */
INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    const vec_bits less = (vec_bits)(a < b);
    return (vec)((less & (vec_bits)yes) | (~less & (vec_bits)no));
}

/* The first n lanes of a, and `rest` in the others. */
INLINE vec vec_first(vec a, int64_t n, real rest) {
    vec lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = (real)i;
    return vec_where_less(lane, vec_splat((real)n), a, vec_splat(rest));
}

/* The sum of all lanes, in one fixed order. */
INLINE real vec_sum(vec a) {
    real sum[LANES];
    vec_store(sum, a);
    return LANES == 2 ? sum[0] + sum[1] : (sum[0] + sum[LANES - 2]) + (sum[1] + sum[LANES - 1]);
}

/* The largest lane; any lane if there is a NaN. */
INLINE real vec_largest(vec a) {
    real largest = a[0];
    for (int i = 1; i < LANES; i++)
        largest = a[i] > largest ? a[i] : largest;
    return largest;
}
