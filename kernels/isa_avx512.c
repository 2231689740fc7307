/* The kernels for avx512; compiled once for each dtype. */
#include "vec_avx512.h"

#include "kernels_template.h"

#if BRISK_DOUBLE
const struct brisk_kernels brisk_avx512_float64 = BRISK_TABLE(BRISK_AVX512);
#else
const struct brisk_kernels brisk_avx512_float32 = BRISK_TABLE(BRISK_AVX512);
#endif
