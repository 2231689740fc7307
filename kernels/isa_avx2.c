/* The kernels for avx2; compiled once for each dtype. */
#include "vec_avx2.h"

#include "kernels_template.h"

#if BRISK_DOUBLE
const struct brisk_kernels brisk_avx2_float64 = BRISK_TABLE(BRISK_AVX2);
#else
const struct brisk_kernels brisk_avx2_float32 = BRISK_TABLE(BRISK_AVX2);
#endif
