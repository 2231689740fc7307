/* The kernels for amx, which multiplies tiles of bfloat16; compiled for float32, without and with profiling. */
#define BRISK_VNNI 2
#define BRISK_TILES 1

#include "vec_amx.h"

#include "../templates/kernels_template.h"

#if BRISK_PROFILED
const struct brisk_kernels brisk_amx_float32_profiled = BRISK_TABLE(BRISK_AMX);
#else
const struct brisk_kernels brisk_amx_float32 = BRISK_TABLE(BRISK_AMX);
#endif
