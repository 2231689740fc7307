/* The kernels for portable; compiled once for each dtype. */
#include "vec_portable.h"

#include "kernels_template.h"

#if BRISK_DOUBLE
const struct brisk_kernels brisk_portable_float64 = BRISK_TABLE(BRISK_PORTABLE);
#else
const struct brisk_kernels brisk_portable_float32 = BRISK_TABLE(BRISK_PORTABLE);
#endif
