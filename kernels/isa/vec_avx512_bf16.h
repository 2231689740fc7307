/* Vectors of bfloat16 for AVX-512's BF16 instructions. A `vec` holds 16 pairs, the first number of each in the lower
 * half of the lane. The instructions round to nearest, ties to even, and take subnormal numbers for 0, whatever the
 * processor's control register says.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS and VCVTNE2PS2BF16. */
#pragma once

#include "vec_avx512.h"

#include <stdbool.h>

#define BRISK_VNNI 2

/* The first numbers of all pairs as float32, and the second ones. */
INLINE vec vec_even(vec words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(words), 16));
}

INLINE vec vec_odd(vec words) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(words), _mm512_set1_epi32(-0x10000)));
}

#if BRISK_EMULATED
#include "vec_emulated.h"
#else

/* c plus, in each lane, the products of the first and of the second numbers of a and b. */
INLINE vec vec_dot(vec a, vec b, vec c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

/* a and b rounded to bfloat16, in row-major order: the 16 numbers of a, then those of b. */
INLINE vec vec_cvt_bf16(vec a, vec b) {
    return (vec)_mm512_cvtne2ps_pbh(b, a);
}

#endif

/* The inverse: the first 16 numbers as float32, or, where `right`, the last 16. */
INLINE vec vec_cvt_f32(vec words, bool right) {
    const __m512i w = _mm512_castps_si512(words);
    const __m256i half = right ? _mm512_extracti64x4_epi64(w, 1) : _mm512_castsi512_si256(w);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* LANES adjacent bfloat16 numbers as float32. */
INLINE vec vec_load_bf16(const real* words) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)words);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Two row-major rows of bfloat16 in the VNNI layout: the pairs x[0] y[0], x[1] y[1], … of the first 16 columns, or,
 * where `right`, of the last 16. */
INLINE vec vec_interleave_rows(vec x, vec y, bool right) {
    const __m512i left = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                          37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i order = right ? _mm512_add_epi16(left, _mm512_set1_epi16(16)) : left;
    return _mm512_castsi512_ps(_mm512_permutex2var_epi16(_mm512_castps_si512(x), order, _mm512_castps_si512(y)));
}

/* Transpose 16 vectors: the i-th lane of the j-th becomes the j-th lane of the i-th. */
INLINE void vec_transpose(vec x[16]) {
    vec y[16];
    UNROLL (i, 8) {
        y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    UNROLL (q, 4)
        UNROLL (j, 2) {
            const __m512d a = _mm512_castps_pd(y[4 * q + j]), b = _mm512_castps_pd(y[4 * q + j + 2]);
            x[4 * q + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            x[4 * q + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    /* Now x[4 q + c] has column 4 lane + c of rows 4 q … 4 q + 3 in each lane of 4 numbers. */
    UNROLL (c, 4) {
        const vec even = _mm512_shuffle_f32x4(x[c], x[4 + c], 0x88), odd = _mm512_shuffle_f32x4(x[c], x[4 + c], 0xDD);
        const vec even_low = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0x88);
        const vec odd_low = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0xDD);
        x[c] = _mm512_shuffle_f32x4(even, even_low, 0x88);
        x[4 + c] = _mm512_shuffle_f32x4(odd, odd_low, 0x88);
        x[8 + c] = _mm512_shuffle_f32x4(even, even_low, 0xDD);
        x[12 + c] = _mm512_shuffle_f32x4(odd, odd_low, 0xDD);
    }
}
