/* Words of two bfloat16 numbers, the first in the lower half, for AVX-512's BF16 instructions. They round to nearest,
 * ties to even, and take what is below the smallest normal number for 0, whatever the processor's modes say.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS and VCVTNE2PS2BF16. */
#ifndef VEC_AVX512_BF16_H
#define VEC_AVX512_BF16_H

#include "vec_avx512.h"

/* c + the two products of each word of a and b. */
INLINE vec vec_dot(vec a, vec b, vec c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

/* Words of neighbours: a[0] a[1], a[2] a[3], … and b's behind them. */
INLINE vec vec_neighbours(vec a, vec b) {
    return (vec)_mm512_cvtne2ps_pbh(b, a);
}

/* Words a[0] b[0], a[1] b[1], …. */
INLINE vec vec_pairs(vec a, vec b) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a)));
}

/* The first numbers of words, and the second ones. */
INLINE vec vec_firsts(vec words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(words), 16));
}

INLINE vec vec_seconds(vec words) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(words), _mm512_set1_epi32(-0x10000)));
}

/* LANES numbers that lie side by side. */
INLINE vec vec_load_neighbours(const real* words) {
    const __m256i halves = _mm256_loadu_si256((const __m256i*)words);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

#endif
