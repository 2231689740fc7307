/* Vector operations with GCC's and Clang's vector extensions: 4 float32 or 2 float64 numbers, for which every x86-64
 * and aarch64 has registers. The comments here define each operation for the other vec_*.h too. */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL(i, n) _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++)

/* Rows of a register tile of two vectors, and of the tile of a transposed product. */
#if defined(__aarch64__)
enum { MR = 8, MR_TN = 4 }; /* 32 registers */
#else
enum { MR = 6, MR_TN = 4 }; /* 16 */
#endif

/* SSE(name) and NEON(name) are the intrinsics for vectors of `real`. */
#if BRISK_DOUBLE
typedef double real;
typedef int64_t integer;
enum { LANES = 2, MANTISSA_BITS = 52 };
#define SSE(name) _mm_##name##_pd
#define NEON(name) name##q_f64
#else
typedef float real;
typedef int32_t integer;
enum { LANES = 4, MANTISSA_BITS = 23 };
#define SSE(name) _mm_##name##_ps
#define NEON(name) name##q_f32
#endif

typedef real vec __attribute__((vector_size(16)));
typedef integer vec_bits __attribute__((vector_size(16)));

/* --- what the extensions lack: a fused multiply-add, the square root, and a minimum of one instruction --- */

#if defined(__SSE2__)

/* a * b + c, rounded once where the processor can. */
INLINE vec vec_fma(vec a, vec b, vec c) {
    return a * b + c;
}

/* c - a * b, rounded as vec_fma. */
INLINE vec vec_fnma(vec a, vec b, vec c) {
    return c - a * b;
}

INLINE vec vec_sqrt(vec a) {
    return SSE(sqrt)(a);
}

/* a > b ? a : b, so that a NaN in b stays. */
INLINE vec vec_max(vec a, vec b) {
    return SSE(max)(a, b);
}

/* a < b ? a : b, so that a NaN in b stays. */
INLINE vec vec_min(vec a, vec b) {
    return SSE(min)(a, b);
}

#elif defined(__aarch64__)

/* NEON has vector types of its own; the casts change no bits. */
#if BRISK_DOUBLE
typedef float64x2_t neon;
#else
typedef float32x4_t neon;
#endif

INLINE vec vec_fma(vec a, vec b, vec c) {
    return (vec)NEON(vfma)((neon)c, (neon)a, (neon)b);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return (vec)NEON(vfms)((neon)c, (neon)a, (neon)b);
}

INLINE vec vec_sqrt(vec a) {
    return (vec)NEON(vsqrt)((neon)a);
}

INLINE vec vec_max(vec a, vec b) {
    return (vec)NEON(vmax)((neon)a, (neon)b);
}

INLINE vec vec_min(vec a, vec b) {
    return (vec)NEON(vmin)((neon)a, (neon)b);
}

#else
#error "The kernels need x86-64 or aarch64"
#endif

/* --- the rest --- */

/* All lanes x. The extensions broadcast a scalar operand, and x - 0 is x for every x, -0 included. */
INLINE vec vec_splat(real x) {
    return x - (vec){0};
}

/* The LANES numbers at p, of any alignment. */
INLINE vec vec_load(const real* p) {
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}

INLINE void vec_store(real* p, vec a) {
    memcpy(p, &a, sizeof a);
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

INLINE vec vec_abs(vec a) {
    return (vec)((vec_bits)a & ~(vec_bits)vec_splat(-(real)0));
}

/* The absolute value of `magnitude` with the sign of `sign`. */
INLINE vec vec_copysign(vec magnitude, vec sign) {
    const vec_bits bit = (vec_bits)vec_splat(-(real)0);
    return (vec)(((vec_bits)magnitude & ~bit) | ((vec_bits)sign & bit));
}

/* 2^n, where `shifted` has n plus the exponent's bias in its lowest bits; 0 at the exponent of the subnormals. */
INLINE vec vec_power_of_two(vec shifted) {
    return (vec)((vec_bits)shifted << MANTISSA_BITS);
}

#if !BRISK_DOUBLE
/* Finite numbers rounded to the upper half of their bits, to nearest, ties to even. */
INLINE vec vec_upper_half(vec a) {
    typedef uint32_t words __attribute__((vector_size(16)));
    const words bits = (words)a;
    return (vec)((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}
#endif

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
