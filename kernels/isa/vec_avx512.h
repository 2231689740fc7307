/* Vector operations of AVX-512: 16 float32 or 8 float64 numbers in a vector. See vec_portable.h for what each does. */
#ifndef VEC_AVX512_H
#define VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

/* Rows of a register tile: 8 rows of two vectors leave each of the 16 accumulators 8 FMAs to wait for its last. */
enum { MR = 8, MR_TN = 8 };

#if BRISK_DOUBLE

typedef double real;
typedef __m512d vec;
typedef __mmask8 vec_mask;
enum { LANES = 8 };

INLINE vec vec_splat(real x) {
    return _mm512_set1_pd(x);
}

INLINE vec vec_load(const real* p) {
    return _mm512_loadu_pd(p);
}

INLINE void vec_store(real* p, vec a) {
    _mm512_storeu_pd(p, a);
}

INLINE vec_mask vec_lanes_below(int64_t n) {
    return (vec_mask)(n >= LANES ? 0xFF : (1u << n) - 1u);
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return _mm512_maskz_loadu_pd(vec_lanes_below(n), p);
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    _mm512_mask_storeu_pd(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return _mm512_mask_mov_pd(vec_splat(rest), vec_lanes_below(n), a);
}

INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_pd(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_pd(a, b, c);
}

INLINE vec vec_sqrt(vec a) {
    return _mm512_sqrt_pd(a);
}

INLINE vec vec_max(vec a, vec b) {
    return _mm512_max_pd(a, b);
}

INLINE vec vec_min(vec a, vec b) {
    return _mm512_min_pd(a, b);
}

INLINE vec vec_abs(vec a) {
    return _mm512_abs_pd(a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = _mm512_set1_pd(-0.0);
    return _mm512_or_pd(_mm512_andnot_pd(bit, magnitude), _mm512_and_pd(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return _mm512_mask_mov_pd(no, _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), yes);
}

INLINE vec vec_power_of_two(vec shifted) {
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(shifted), 52));
}

INLINE real vec_sum(vec a) {
    return _mm512_reduce_add_pd(a);
}

INLINE real vec_largest(vec a) {
    return _mm512_reduce_max_pd(a);
}

#else

typedef float real;
typedef __m512 vec;
typedef __mmask16 vec_mask;
enum { LANES = 16 };

INLINE vec vec_splat(real x) {
    return _mm512_set1_ps(x);
}

INLINE vec vec_load(const real* p) {
    return _mm512_loadu_ps(p);
}

INLINE void vec_store(real* p, vec a) {
    _mm512_storeu_ps(p, a);
}

INLINE vec_mask vec_lanes_below(int64_t n) {
    return (vec_mask)(n >= LANES ? 0xFFFF : (1u << n) - 1u);
}

INLINE vec vec_load_first(const real* p, int64_t n) {
    return _mm512_maskz_loadu_ps(vec_lanes_below(n), p);
}

INLINE void vec_store_first(real* p, vec a, int64_t n) {
    _mm512_mask_storeu_ps(p, vec_lanes_below(n), a);
}

INLINE vec vec_first(vec a, int64_t n, real rest) {
    return _mm512_mask_mov_ps(vec_splat(rest), vec_lanes_below(n), a);
}

INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}

INLINE vec vec_sqrt(vec a) {
    return _mm512_sqrt_ps(a);
}

INLINE vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

INLINE vec vec_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}

INLINE vec vec_abs(vec a) {
    return _mm512_abs_ps(a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, magnitude), _mm512_and_ps(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}

INLINE vec vec_power_of_two(vec shifted) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
}

INLINE vec vec_upper_half(vec a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x10000)));
}

/* 4 numbers of each of 4 rows, `step` numbers apart; of one row, where step is 0. */
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

/* The i-th number of each row in all 4 of the row's places. */
INLINE vec vec_splat_quad(vec a, int i) {
    return i == 0   ? _mm512_permute_ps(a, 0x00)
           : i == 1 ? _mm512_permute_ps(a, 0x55)
           : i == 2 ? _mm512_permute_ps(a, 0xAA)
                    : _mm512_permute_ps(a, 0xFF);
}

INLINE real vec_sum(vec a) {
    return _mm512_reduce_add_ps(a);
}

INLINE real vec_largest(vec a) {
    return _mm512_reduce_max_ps(a);
}

#endif
#endif
