/* The tables of kernels that this build has. */
#include "../brisk.h"

extern const struct brisk_kernels brisk_portable_float32, brisk_portable_float64;
extern const struct brisk_kernels brisk_portable_float32_profiled, brisk_portable_float64_profiled;
#if defined(__x86_64__)
extern const struct brisk_kernels brisk_avx2_float32, brisk_avx2_float64, brisk_avx512_float32, brisk_avx512_float64;
extern const struct brisk_kernels brisk_avx2_float32_profiled, brisk_avx2_float64_profiled;
extern const struct brisk_kernels brisk_avx512_float32_profiled, brisk_avx512_float64_profiled;
extern const struct brisk_kernels brisk_avx512_bf16_float32, brisk_avx512_bf16_float32_profiled;
extern const struct brisk_kernels brisk_amx_float32, brisk_amx_float32_profiled;
#endif

/* By ISA; float32, float64, and the same profiled. */
static const struct brisk_kernels* const tables[BRISK_ISA_COUNT][4] = {
    [BRISK_PORTABLE] = {&brisk_portable_float32, &brisk_portable_float64, &brisk_portable_float32_profiled,
                        &brisk_portable_float64_profiled},
#if defined(__x86_64__)
    [BRISK_AVX2] = {&brisk_avx2_float32, &brisk_avx2_float64, &brisk_avx2_float32_profiled,
                    &brisk_avx2_float64_profiled},
    [BRISK_AVX512] = {&brisk_avx512_float32, &brisk_avx512_float64, &brisk_avx512_float32_profiled,
                      &brisk_avx512_float64_profiled},
    [BRISK_AVX512_BF16] = {&brisk_avx512_bf16_float32, NULL, &brisk_avx512_bf16_float32_profiled, NULL},
    [BRISK_AMX] = {&brisk_amx_float32, NULL, &brisk_amx_float32_profiled, NULL},
#endif
};

const struct brisk_kernels* brisk_kernels_of(enum brisk_isa isa, size_t size, bool profiled) {
    return tables[isa][2 * profiled + (size != sizeof(float))];
}
