/* The instruction sets, slowest first. Each includes the ones before it. A row has the name in C, the name used
 * everywhere else, whether it is one of x86-64's, and whether it has kernels for float64. */
#pragma once

/* clang-format off */
#define BRISK_ISAS(ROW) \
    ROW(PORTABLE, portable, false, true)        /* plain C */ \
    ROW(AVX2, avx2, true, true)                 /* AVX2 and FMA */ \
    ROW(AVX512, avx512, true, true)             /* AVX-512 F, BW, DQ and VL */ \
    ROW(AVX512_BF16, avx512_bf16, true, false)  /* and BF16: multiplies bfloat16 alone, twice as many numbers at once */ \
    ROW(AMX, amx, true, false)                  /* AMX-TILE and AMX-BF16 */
/* clang-format on */

#define BRISK_ENUMERATOR(NAME, ...) BRISK_##NAME,
enum brisk_isa { BRISK_ISAS(BRISK_ENUMERATOR) BRISK_ISA_COUNT };
