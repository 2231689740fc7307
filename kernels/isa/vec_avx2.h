/* Vector operations of AVX2 and FMA: 8 float32 or 4 float64 numbers. See vec_portable.h for what each does. */
#ifndef VEC_AVX2_H
#define VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

/* Rows of a register tile: 6 rows of two vectors are 12 accumulators, which leaves 4 of the 16 registers. */
enum { MR = 6, MR_TN = 4 };

#if BRISK_DOUBLE

typedef double real;
typedef __m256d vec;
typedef __m256i vec_mask;
enum { LANES = 4 };

INLINE vec vec_splat(real x) {
    return _mm256_set1_pd(x);
}

INLINE vec vec_load(const real* p) {
    return _mm256_loadu_pd(p);
}

INLINE void vec_store(real* p, vec a) {
    _mm256_storeu_pd(p, a);
}

INLINE vec_mask vec_lanes_below(int64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return _mm256_maskload_pd(p, vec_lanes_below(n));
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    _mm256_maskstore_pd(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return _mm256_blendv_pd(vec_splat(rest), a, _mm256_castsi256_pd(vec_lanes_below(n)));
}

INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_pd(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_pd(a, b, c);
}

INLINE vec vec_sqrt(vec a) {
    return _mm256_sqrt_pd(a);
}

INLINE vec vec_max(vec a, vec b) {
    return _mm256_max_pd(a, b);
}

INLINE vec vec_min(vec a, vec b) {
    return _mm256_min_pd(a, b);
}

INLINE vec vec_abs(vec a) {
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = _mm256_set1_pd(-0.0);
    return _mm256_or_pd(_mm256_andnot_pd(bit, magnitude), _mm256_and_pd(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}

INLINE vec vec_power_of_two(vec shifted) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(shifted), 52));
}

INLINE real vec_sum(vec a) {
    const __m128d halves = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(halves, _mm_unpackhi_pd(halves, halves)));
}

INLINE real vec_largest(vec a) {
    const __m128d halves = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_max_sd(halves, _mm_unpackhi_pd(halves, halves)));
}

#else

typedef float real;
typedef __m256 vec;
typedef __m256i vec_mask;
enum { LANES = 8 };

INLINE vec vec_splat(real x) {
    return _mm256_set1_ps(x);
}

INLINE vec vec_load(const real* p) {
    return _mm256_loadu_ps(p);
}

INLINE void vec_store(real* p, vec a) {
    _mm256_storeu_ps(p, a);
}

INLINE vec_mask vec_lanes_below(int64_t n) {
    const int few = n < LANES ? (int)n : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(few), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return _mm256_maskload_ps(p, vec_lanes_below(n));
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    _mm256_maskstore_ps(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return _mm256_blendv_ps(vec_splat(rest), a, _mm256_castsi256_ps(vec_lanes_below(n)));
}

INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}

INLINE vec vec_sqrt(vec a) {
    return _mm256_sqrt_ps(a);
}

INLINE vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

INLINE vec vec_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}

INLINE vec vec_abs(vec a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

INLINE vec vec_power_of_two(vec shifted) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
}

INLINE vec vec_upper_half(vec a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(-0x10000)));
}

INLINE real vec_sum(vec a) {
    __m128 part = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    part = _mm_add_ps(part, _mm_movehl_ps(part, part));
    return _mm_cvtss_f32(_mm_add_ss(part, _mm_movehdup_ps(part)));
}

INLINE real vec_largest(vec a) {
    __m128 part = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    part = _mm_max_ps(part, _mm_movehl_ps(part, part));
    return _mm_cvtss_f32(_mm_max_ss(part, _mm_movehdup_ps(part)));
}

#endif
#endif
