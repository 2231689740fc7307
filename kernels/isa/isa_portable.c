/* The kernels for portable; compiled for each dtype, without and with profiling. */
#include "vec_portable.h"

#include "../templates/kernels_template.h"

#if BRISK_DOUBLE && BRISK_PROFILED
const struct brisk_kernels brisk_portable_float64_profiled = BRISK_TABLE(BRISK_PORTABLE);
#elif BRISK_DOUBLE
const struct brisk_kernels brisk_portable_float64 = BRISK_TABLE(BRISK_PORTABLE);
#elif BRISK_PROFILED
const struct brisk_kernels brisk_portable_float32_profiled = BRISK_TABLE(BRISK_PORTABLE);
#else
const struct brisk_kernels brisk_portable_float32 = BRISK_TABLE(BRISK_PORTABLE);
#endif
