/* The vectors that the templates are compiled with: those of the ISA that was chosen, else the portable ones, with
 * which each template also opens in an editor. */
#ifndef BRISK_VEC_H
#define BRISK_VEC_H

#ifndef BRISK_DOUBLE /* whether `real` is double */
#define BRISK_DOUBLE 0
#endif

#ifdef BRISK_VECTORS
#include BRISK_VECTORS
#elif !defined(INLINE) /* an isa_*.c has included its own */
#include "vec_portable.h"
#endif

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

#endif
