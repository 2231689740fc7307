/* Vector operations of AVX-512: 16 float32 or 8 float64 numbers in a vector. vec_common.h and vec_portable.h say what
 * each does. */
#pragma once

#define VEC_BYTES 64
#define FP(name) FP_OF(_mm512_, name)
#include "vec_common.h"

/* Rows of a register tile: 8 rows of two vectors are 16 accumulators, enough to hide the FMAs' latency. */
enum { MR = 8, MR_TN = 8 };

#if BRISK_DOUBLE
typedef __mmask8 vec_mask;
#define COMPARE _mm512_cmp_pd_mask
#else
typedef __mmask16 vec_mask;
#define COMPARE _mm512_cmp_ps_mask
#endif

INLINE vec_mask vec_lanes_below(int64_t n) {
    return (vec_mask)((1u << (n < LANES ? n : LANES)) - 1);
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return FP(maskz_loadu)(vec_lanes_below(n), p);
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    FP(mask_storeu)(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return FP(mask_mov)(vec_splat(rest), vec_lanes_below(n), a);
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return FP(mask_mov)(no, COMPARE(a, b, _CMP_LT_OQ), yes);
}

INLINE real vec_sum(vec a) {
    return FP(reduce_add)(a);
}

INLINE real vec_largest(vec a) {
    return FP(reduce_max)(a);
}

#if !BRISK_DOUBLE

/* Quads: a vector has 4 columns of each of 4 rows, which are `step` numbers apart; with step = 0 all are the same row.
 */
#define BRISK_QUADS 1

INLINE vec vec_load_quad(const real* p, int64_t step) {
    if (step == 0)
        return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
    vec a = _mm512_castps128_ps512(_mm_loadu_ps(p));
    a = _mm512_insertf32x4(a, _mm_loadu_ps(p + step), 1);
    a = _mm512_insertf32x4(a, _mm_loadu_ps(p + 2 * step), 2);
    return _mm512_insertf32x4(a, _mm_loadu_ps(p + 3 * step), 3);
}

INLINE void vec_store_quad(real* p, int64_t step, vec a) {
    _mm_storeu_ps(p, _mm512_castps512_ps128(a));
    _mm_storeu_ps(p + step, _mm512_extractf32x4_ps(a, 1));
    _mm_storeu_ps(p + 2 * step, _mm512_extractf32x4_ps(a, 2));
    _mm_storeu_ps(p + 3 * step, _mm512_extractf32x4_ps(a, 3));
}

/* The i-th number of each row in all 4 of the row's lanes. */
INLINE vec vec_splat_quad(vec a, int i) {
    return i == 0   ? _mm512_permute_ps(a, 0x00)
           : i == 1 ? _mm512_permute_ps(a, 0x55)
           : i == 2 ? _mm512_permute_ps(a, 0xAA)
                    : _mm512_permute_ps(a, 0xFF);
}

#endif
