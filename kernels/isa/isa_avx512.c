/* The kernels for avx512; compiled for each dtype, without and with profiling. */
#include "vec_avx512.h"

#include "../templates/kernels_template.h"

#if BRISK_DOUBLE && BRISK_PROFILED
const struct brisk_kernels brisk_avx512_float64_profiled = BRISK_TABLE(BRISK_AVX512);
#elif BRISK_DOUBLE
const struct brisk_kernels brisk_avx512_float64 = BRISK_TABLE(BRISK_AVX512);
#elif BRISK_PROFILED
const struct brisk_kernels brisk_avx512_float32_profiled = BRISK_TABLE(BRISK_AVX512);
#else
const struct brisk_kernels brisk_avx512_float32 = BRISK_TABLE(BRISK_AVX512);
#endif
