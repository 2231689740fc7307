/* The kernels for avx2; compiled for each dtype, without and with profiling. */
#include "vec_avx2.h"

#include "../templates/kernels_template.h"

#if BRISK_DOUBLE && BRISK_PROFILED
const struct brisk_kernels brisk_avx2_float64_profiled = BRISK_TABLE(BRISK_AVX2);
#elif BRISK_DOUBLE
const struct brisk_kernels brisk_avx2_float64 = BRISK_TABLE(BRISK_AVX2);
#elif BRISK_PROFILED
const struct brisk_kernels brisk_avx2_float32_profiled = BRISK_TABLE(BRISK_AVX2);
#else
const struct brisk_kernels brisk_avx2_float32 = BRISK_TABLE(BRISK_AVX2);
#endif
