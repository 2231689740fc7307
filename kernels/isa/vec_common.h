/* What the vectors of all ISAs have in common: their type, the operations that GCC's and Clang's vector extensions
 * express, and those whose intrinsics have the same name. The header of an ISA defines VEC_BYTES and FP(name), the
 * intrinsic for vectors of `real`, before it includes this one; without them a vector has the 16 bytes for which every
 * x86-64 and aarch64 has registers. */
#pragma once

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "The kernels need x86-64 or aarch64"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL(i, n) _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++)

#ifndef VEC_BYTES
#define VEC_BYTES 16
#define FP(name) FP_OF(_mm_, name)
#endif

#if BRISK_DOUBLE
typedef double real;
typedef int64_t integer;
enum { MANTISSA_BITS = 52 };
#define FP_OF(prefix, name) prefix##name##_pd
#else
typedef float real;
typedef int32_t integer;
enum { MANTISSA_BITS = 23 };
#define FP_OF(prefix, name) prefix##name##_ps
#endif

typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef integer vec_bits __attribute__((vector_size(VEC_BYTES)));
typedef vec vec_unaligned __attribute__((aligned(sizeof(real)), may_alias));
enum { LANES = VEC_BYTES / (int)sizeof(real) };

/* All lanes x. The extensions broadcast a scalar operand, and x - 0 is x for every x, -0 included. */
INLINE vec vec_splat(real x) {
    return x - (vec){0};
}

/* The LANES numbers at p, of any alignment. */
INLINE vec vec_load(const real* p) {
    return *(const vec_unaligned*)p;
}

INLINE void vec_store(real* p, vec a) {
    *(vec_unaligned*)p = a;
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
    typedef uint32_t words __attribute__((vector_size(VEC_BYTES)));
    const words bits = (words)a;
    return (vec)((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}
#endif

#if defined(__SSE2__)

#if VEC_BYTES > 16
INLINE vec vec_fma(vec a, vec b, vec c) {
    return FP(fmadd)(a, b, c);
}

INLINE vec vec_fnma(vec a, vec b, vec c) {
    return FP(fnmadd)(a, b, c);
}
#endif

INLINE vec vec_sqrt(vec a) {
    return FP(sqrt)(a);
}

/* a > b ? a : b, so that a NaN in b stays. */
INLINE vec vec_max(vec a, vec b) {
    return FP(max)(a, b);
}

/* a < b ? a : b, so that a NaN in b stays. */
INLINE vec vec_min(vec a, vec b) {
    return FP(min)(a, b);
}

#else

/* NEON has vector types of its own; the casts change no bits. */
#if BRISK_DOUBLE
typedef float64x2_t neon;
#define NEON(name) name##q_f64
#else
typedef float32x4_t neon;
#define NEON(name) name##q_f32
#endif

INLINE vec vec_sqrt(vec a) {
    return (vec)NEON(vsqrt)((neon)a);
}

INLINE vec vec_max(vec a, vec b) {
    return (vec)NEON(vmax)((neon)a, (neon)b);
}

INLINE vec vec_min(vec a, vec b) {
    return (vec)NEON(vmin)((neon)a, (neon)b);
}

#endif
