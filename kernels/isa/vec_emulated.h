/* The instructions of AVX-512 BF16 and AMX, emulated with those of AVX-512 for tests on processors that lack them. The
 * bits are the same, because kernels run with the control register that those instructions assume (float_state.h), but
 * they take some ten times as long.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS, VCVTNE2PS2BF16, TDPBF16PS.
 */
#pragma once

#ifndef BRISK_EMULATED
#define BRISK_EMULATED 1
#endif
#include "vec_avx512_bf16.h"

/* --- AVX-512 BF16 ------------------------------------------------------------------------------------------------ */

INLINE vec vec_dot(vec a, vec b, vec c) {
    return vec_fma(vec_even(a), vec_even(b), vec_fma(vec_odd(a), vec_odd(b), c));
}

/* Each lane rounded to bfloat16, 16 bits each; a NaN becomes quiet. */
INLINE __m256i emulated_bfloat16(vec a) {
    const __m512i bits = _mm512_castps_si512(a), quiet = _mm512_set1_epi32(0x400000);
    const vec subnormal_is_0 = vec_where_less(vec_abs(a), vec_splat(0x1p-126f), vec_copysign(vec_splat(0), a), a);
    __m512i rounded = _mm512_castps_si512(vec_upper_half(subnormal_is_0));
    rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits, quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

INLINE vec vec_cvt_bf16(vec a, vec b) {
    const __m512i low = _mm512_castsi256_si512(emulated_bfloat16(a));
    return _mm512_castsi512_ps(_mm512_inserti64x4(low, emulated_bfloat16(b), 1));
}

/* --- AMX --------------------------------------------------------------------------------------------------------- */

/* The functions have the names of the intrinsics, which are macros. */
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps

struct emulated_tile {
    vec rows[16];
};

static _Thread_local struct emulated_tile emulated_tiles[8];

static inline void _tile_zero(int t) {
    for (int m = 0; m < 16; m++)
        emulated_tiles[t].rows[m] = vec_splat(0);
}

static inline void _tile_loadd(int t, const real* p, int64_t bytes) {
    for (int m = 0; m < 16; m++)
        emulated_tiles[t].rows[m] = vec_load(p + m * bytes / (int64_t)sizeof *p);
}

static inline void _tile_stored(int t, real* p, int64_t bytes) {
    for (int m = 0; m < 16; m++)
        vec_store(p + m * bytes / (int64_t)sizeof *p, emulated_tiles[t].rows[m]);
}

/* As the instruction does, the products of all pairs' first numbers are summed apart from those of the second ones; the
 * two sums are added to each other, and the result to c. */
static inline void _tile_dpbf16ps(int c, int a, int b) {
    for (int m = 0; m < 16; m++) {
        vec firsts = vec_splat(0), seconds = vec_splat(0);
        for (int k = 0; k < 16; k++) {
            const vec word = vec_splat(emulated_tiles[a].rows[m][k]), row = emulated_tiles[b].rows[k];
            firsts = vec_fma(vec_even(word), vec_even(row), firsts);
            seconds = vec_fma(vec_odd(word), vec_odd(row), seconds);
        }
        emulated_tiles[c].rows[m] = emulated_tiles[c].rows[m] + (firsts + seconds);
    }
}
