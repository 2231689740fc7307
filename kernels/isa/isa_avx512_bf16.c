/* The kernels for avx512_bf16, whose products read bfloat16 alone; compiled for float32, without and with profiling. */
#define BRISK_VNNI 2

#include "vec_avx512_bf16.h"

#include "../templates/kernels_template.h"

#if BRISK_PROFILED
const struct brisk_kernels brisk_avx512_bf16_float32_profiled = BRISK_TABLE(BRISK_AVX512_BF16);
#else
const struct brisk_kernels brisk_avx512_bf16_float32 = BRISK_TABLE(BRISK_AVX512_BF16);
#endif
