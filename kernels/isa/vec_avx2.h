/* Vector operations of AVX2 and FMA: 8 float32 or 4 float64 numbers. See vec_portable.h for what each does. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL(i, n) _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++)

/* Rows of a register tile: 6 rows of two vectors are 12 accumulators, which leaves 4 of the 16 registers. */
enum { MR = 6, MR_TN = 4 };

/* FP(name) is the intrinsic for vectors of `real`, and BITS(name) that for their bits as integers. */
#if BRISK_DOUBLE
typedef double real;
typedef __m256d vec;
enum { LANES = 4, MANTISSA_BITS = 52 };
#define FP(name) _mm256_##name##_pd
#define BITS(name) _mm256_##name##_epi64
#define TO_BITS _mm256_castpd_si256
#define FROM_BITS _mm256_castsi256_pd
#else
typedef float real;
typedef __m256 vec;
enum { LANES = 8, MANTISSA_BITS = 23 };
#define FP(name) _mm256_##name##_ps
#define BITS(name) _mm256_##name##_epi32
#define TO_BITS _mm256_castps_si256
#define FROM_BITS _mm256_castsi256_ps
#endif
typedef __m256i vec_mask;

INLINE vec vec_splat(real x) {
    return FP(set1)(x);
}

INLINE vec vec_load(const real* p) {
    return FP(loadu)(p);
}

INLINE void vec_store(real* p, vec a) {
    FP(storeu)(p, a);
}

INLINE vec_mask vec_lanes_below(int64_t n) {
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
    return FP(blendv)(vec_splat(rest), a, FROM_BITS(vec_lanes_below(n)));
}

INLINE vec vec_fma(vec a, vec b, vec c) {
    return FP(fmadd)(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return FP(fnmadd)(a, b, c);
}

INLINE vec vec_sqrt(vec a) {
    return FP(sqrt)(a);
}

INLINE vec vec_max(vec a, vec b) {
    return FP(max)(a, b);
}

INLINE vec vec_min(vec a, vec b) {
    return FP(min)(a, b);
}

INLINE vec vec_abs(vec a) {
    return FP(andnot)(vec_splat(-(real)0), a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = vec_splat(-(real)0);
    return FP(or)(FP(andnot)(bit, magnitude), FP (and)(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return FP(blendv)(no, yes, FP(cmp)(a, b, _CMP_LT_OQ));
}

INLINE vec vec_power_of_two(vec shifted) {
    return FROM_BITS(BITS(slli)(TO_BITS(shifted), MANTISSA_BITS));
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

#if !BRISK_DOUBLE
INLINE vec vec_upper_half(vec a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(-0x10000)));
}
#endif
