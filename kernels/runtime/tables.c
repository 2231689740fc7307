/* The tables of kernels that this build has: isa/kernels.c exports one for each ISA and dtype. The compiler folds the
 * conditions, so that no table is referred to that is not there. */
#include "../brisk.h"

#if defined(__x86_64__)
enum { X86 = true };
#else
enum { X86 = false };
#endif

#define BRISK_DECLARE(NAME, name, x86, float64)                                                                        \
    extern const struct brisk_kernels brisk_##name##_float32, brisk_##name##_float64;
BRISK_ISAS(BRISK_DECLARE)

#define BRISK_TABLES(NAME, name, x86, float64)                                                                         \
    [BRISK_##NAME] = {X86 || !(x86) ? &brisk_##name##_float32 : NULL,                                                  \
                      (X86 || !(x86)) && (float64) ? &brisk_##name##_float64 : NULL},
static const struct brisk_kernels* const tables[BRISK_ISA_COUNT][2] = {BRISK_ISAS(BRISK_TABLES)};

const struct brisk_kernels* brisk_kernels_of(enum brisk_isa isa, size_t size) {
    return tables[isa][size != sizeof(float)];
}
