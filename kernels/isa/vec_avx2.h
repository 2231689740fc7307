/* Vector operations of AVX2 and FMA: 8 float32 or 4 float64 numbers. vec_common.h and vec_portable.h say what each
 * does. */
#pragma once

#define VEC_BYTES 32
#define FP(name) FP_OF(_mm256_, name)
#include "vec_common.h"

/* Rows of a register tile: 6 rows of two vectors are 12 accumulators, which leaves 4 of the 16 registers. */
enum { MR = 6, MR_TN = 4 };

/* All bits set in the first n lanes. */
INLINE __m256i vec_lanes_below(int64_t n) {
#if BRISK_DOUBLE
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
#else
    const int few = n < LANES ? (int)n : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(few), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#endif
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return FP(maskload)(p, vec_lanes_below(n));
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    FP(maskstore)(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return FP(blendv)(vec_splat(rest), a, (vec)vec_lanes_below(n));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return FP(blendv)(no, yes, FP(cmp)(a, b, _CMP_LT_OQ));
}

/* op over all lanes of a: the halves of the vector first, then the halves of what remains. */
#if BRISK_DOUBLE
#define RETURN_REDUCED(op, a)                                                                                          \
    const __m128d pair = _mm_##op##_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));                        \
    return _mm_cvtsd_f64(_mm_##op##_sd(pair, _mm_unpackhi_pd(pair, pair)))
#else
#define RETURN_REDUCED(op, a)                                                                                          \
    const __m128 four = _mm_##op##_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));                         \
    const __m128 pair = _mm_##op##_ps(four, _mm_movehl_ps(four, four));                                                \
    return _mm_cvtss_f32(_mm_##op##_ss(pair, _mm_movehdup_ps(pair)))
#endif

INLINE real vec_sum(vec a) {
    RETURN_REDUCED(add, a);
}

INLINE real vec_largest(vec a) {
    RETURN_REDUCED(max, a);
}
