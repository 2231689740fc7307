/* The tables of kernels that this build has. */
#include "brisk.h"

extern const struct brisk_kernels brisk_portable_float32, brisk_portable_float64;
#if defined(__x86_64__)
extern const struct brisk_kernels brisk_avx2_float32, brisk_avx2_float64, brisk_avx512_float32, brisk_avx512_float64;
#endif

const struct brisk_kernels* brisk_kernels_of(enum brisk_isa isa, size_t size) {
    const bool single = size == sizeof(float);
    switch (isa) {
    case BRISK_PORTABLE:
        return single ? &brisk_portable_float32 : &brisk_portable_float64;
#if defined(__x86_64__)
    case BRISK_AVX2:
        return single ? &brisk_avx2_float32 : &brisk_avx2_float64;
    case BRISK_AVX512:
        return single ? &brisk_avx512_float32 : &brisk_avx512_float64;
#endif
    default:
        return NULL;
    }
}
