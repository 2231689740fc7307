/* The vectors of the ISA that BRISK_ISA names, for float64 where BRISK_DOUBLE is 1. Without either they are the
 * portable ones for float32, with which each header opens in an editor. */
#pragma once

#ifndef BRISK_DOUBLE /* whether `real` is double */
#define BRISK_DOUBLE 0
#endif

#ifndef BRISK_ISA
#define BRISK_ISA portable
#endif

#define BRISK_STRING(text) #text
#define BRISK_VEC_HEADER(isa) BRISK_STRING(vec_##isa.h)
#define BRISK_VEC_HEADER_OF(isa) BRISK_VEC_HEADER(isa)
#include BRISK_VEC_HEADER_OF(BRISK_ISA)

/* Whether products are computed by matrix tiles (vec_amx.h) instead of vectors. */
#ifndef BRISK_TILES
#define BRISK_TILES 0
#endif

/* The VNNI factor: how many neighbours along the summation vec_dot multiplies and adds at once. Where it is 2, a `real`
 * of an operand holds a pair of bfloat16 numbers. */
#ifndef BRISK_VNNI
#define BRISK_VNNI 1

INLINE vec vec_dot(vec a, vec b, vec c) {
    return vec_fma(a, b, c);
}
#endif

enum { VNNI = BRISK_VNNI };
