/* Which instruction sets can run, and which should. With BRISK_EMULATED those that vec_emulated.h emulates can run
 * wherever AVX-512 can.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, sections 13.3, 14.3 and 15.2-15.4;
 * Linux, Documentation/arch/x86/xstate.rst. */
#define _DEFAULT_SOURCE /* syscall() */
#include "../brisk.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#ifndef BRISK_EMULATED
#define BRISK_EMULATED 0
#endif

#define BRISK_NAME(NAME, name, ...) #name,
const char* const brisk_isa_names[BRISK_ISA_COUNT] = {BRISK_ISAS(BRISK_NAME)};

/* What tells of ISAs: registers of CPUID's leaves 1 and 7 and of leaf 7's subleaf 1; and XCR0, the registers that the
 * operating system saves at a context switch. */
struct features {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_edx, leaf7_1_eax;
    uint64_t xcr0;
};

enum { OSXSAVE = 1 << 27 }; /* of leaf 1's ECX */

/* The bits that an ISA needs beyond those of the ISAs before it. */
static const struct features NEEDED[BRISK_ISA_COUNT] = {
    /* FMA, OSXSAVE, AVX; AVX2; XMM, YMM */
    [BRISK_AVX2] = {.leaf1_ecx = 1u << 12 | OSXSAVE | 1u << 28, .leaf7_ebx = 1u << 5, .xcr0 = 1u << 1 | 1u << 2},
    /* F, DQ, BW, VL; opmask, both halves of ZMM */
    [BRISK_AVX512] = {.leaf7_ebx = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, .xcr0 = 1u << 5 | 1u << 6 | 1u << 7},
    [BRISK_AVX512_BF16] = {.leaf7_1_eax = 1u << 5},
    /* BF16, TILE; XTILECFG, XTILEDATA */
    [BRISK_AMX] = {.leaf7_edx = 1u << 22 | 1u << 24, .xcr0 = 1u << 17 | 1u << 18},
};

static struct features read_features(void) {
    struct features is = {0};
#if defined(__x86_64__)
    uint32_t unused, low, high;
    __get_cpuid(1, &unused, &unused, &is.leaf1_ecx, &unused);
    __get_cpuid_count(7, 0, &unused, &is.leaf7_ebx, &unused, &is.leaf7_edx);
    __get_cpuid_count(7, 1, &is.leaf7_1_eax, &unused, &unused, &unused);
    if (is.leaf1_ecx & OSXSAVE) { /* else xgetbv faults; its intrinsic would need a processor that surely has it */
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        is.xcr0 = (uint64_t)high << 32 | low;
    }
#endif
    return is;
}

/* In <asm/prctl.h> only from Linux 5.16 on; a feature is named by its bit's number in XCR0. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

/* Whether Linux would grant tile registers to a process that asks. */
static bool tiles_are_granted(void) {
    uint64_t supported = 0;
#if defined(__x86_64__) && defined(__linux__)
    syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported);
#endif
    return supported >> XFEATURE_XTILEDATA & 1;
}

bool brisk_permits_tiles(void) {
#if defined(__x86_64__) && defined(__linux__) && !BRISK_EMULATED
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return BRISK_EMULATED;
#endif
}

unsigned brisk_isas_can_run(void) {
    const struct features is = read_features();
    unsigned isas = 1u << BRISK_PORTABLE;
    for (enum brisk_isa isa = BRISK_AVX2; isa < BRISK_ISA_COUNT; isa++) {
        const struct features* needs = &NEEDED[isa];
        const bool has = !(needs->leaf1_ecx & ~is.leaf1_ecx) && !(needs->leaf7_ebx & ~is.leaf7_ebx) &&
                         !(needs->leaf7_edx & ~is.leaf7_edx) && !(needs->leaf7_1_eax & ~is.leaf7_1_eax) &&
                         !(needs->xcr0 & ~is.xcr0) && (isa != BRISK_AMX || tiles_are_granted());
        if (!has && !(BRISK_EMULATED && isa > BRISK_AVX512))
            break;
        isas |= 1u << isa;
    }
    return isas;
}

enum brisk_isa brisk_isa_should_run(unsigned isas, enum brisk_precision precision) {
    const enum brisk_isa last = precision == BRISK_HIGHEST ? BRISK_AVX512 : BRISK_AVX512_BF16;
    const unsigned considered = isas & ((2u << last) - 1);
    return (enum brisk_isa)(31 - __builtin_clz(considered)); /* the highest bit */
}
