/* Vector operations of AVX-512: 16 float32 or 8 float64 numbers in a vector. See vec_portable.h for what each does. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL(i, n) _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++)

/* Rows of a register tile: 8 rows of two vectors are 16 accumulators, enough to hide the FMAs' latency. */
enum { MR = 8, MR_TN = 8 };

/* FP(name) is the intrinsic for vectors of `real`, and BITS(name) that for their bits as integers. */
#if BRISK_DOUBLE
typedef double real;
typedef __m512d vec;
typedef __mmask8 vec_mask;
enum { LANES = 8, ALL_LANES = 0xFF, MANTISSA_BITS = 52 };
#define FP(name) _mm512_##name##_pd
#define BITS(name) _mm512_##name##_epi64
#define TO_BITS _mm512_castpd_si512
#define FROM_BITS _mm512_castsi512_pd
#define COMPARE _mm512_cmp_pd_mask
#else
typedef float real;
typedef __m512 vec;
typedef __mmask16 vec_mask;
enum { LANES = 16, ALL_LANES = 0xFFFF, MANTISSA_BITS = 23 };
#define FP(name) _mm512_##name##_ps
#define BITS(name) _mm512_##name##_epi32
#define TO_BITS _mm512_castps_si512
#define FROM_BITS _mm512_castsi512_ps
#define COMPARE _mm512_cmp_ps_mask
#endif

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
    return (vec_mask)(n >= LANES ? ALL_LANES : (1u << n) - 1u);
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
    return FP(abs)(a);
}

INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec bit = vec_splat(-(real)0);
    return FP(or)(FP(andnot)(bit, magnitude), FP (and)(bit, sign));
}

INLINE vec vec_where_less(vec a, vec b, vec yes, vec no) {
    return FP(mask_mov)(no, COMPARE(a, b, _CMP_LT_OQ), yes);
}

INLINE vec vec_power_of_two(vec shifted) {
    return FROM_BITS(BITS(slli)(TO_BITS(shifted), MANTISSA_BITS));
}

INLINE real vec_sum(vec a) {
    return FP(reduce_add)(a);
}

INLINE real vec_largest(vec a) {
    return FP(reduce_max)(a);
}

#if !BRISK_DOUBLE
INLINE vec vec_upper_half(vec a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x10000)));
}

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
