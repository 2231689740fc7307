/* Which instruction sets can run, and which should.
 *
 * It is not enough that the processor has an instruction set: the operating system must save its registers at a context
 * switch, which XCR0 tells, and Linux grants AMX's tiles only to a process that asks for them.
 *
 * With BRISK_EMULATED the ISAs that vec_emulated.h emulates can run wherever AVX-512 can.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, sections 13.3, 14.3 and 15.2-15.4;
 * Linux, Documentation/arch/x86/xstate.rst. */
#define _DEFAULT_SOURCE /* syscall() */
#include "../brisk.h"

#define BRISK_NAME(NAME, name, ...) #name,
const char* const brisk_isa_names[BRISK_ISA_COUNT] = {BRISK_ISAS(BRISK_NAME)};

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* CPUID leaf 1, ECX */
static const uint32_t FMA = 1u << 12, OSXSAVE = 1u << 27, AVX = 1u << 28;
/* CPUID leaf 7, EBX and, for AMX, EDX */
static const uint32_t AVX2 = 1u << 5;
static const uint32_t AVX512_F_DQ_BW_VL = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
static const uint32_t AMX_BF16_TILE = 1u << 22 | 1u << 24;
/* CPUID leaf 7, subleaf 1, EAX */
static const uint32_t AVX512_BF16 = 1u << 5;
/* XCR0: the registers that the operating system saves */
static const uint64_t XMM_YMM = 1u << 1 | 1u << 2;
static const uint64_t OPMASK_ZMM = 1u << 5 | 1u << 6 | 1u << 7;
static const uint64_t XTILECFG = 1u << 17, XTILEDATA = 1u << 18;

static bool has(uint64_t bits, uint64_t wanted) {
    return (bits & wanted) == wanted;
}

/* In assembler, because the intrinsic would need this file to be compiled for processors that have it. */
static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

#if defined(__linux__)
/* In <asm/prctl.h> only from Linux 5.16 on; a feature is named by its bit's number in XCR0. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
#endif

/* Whether the kernel would grant tile registers to a process that asks. */
static bool kernel_grants_tiles(void) {
#if defined(__linux__)
    uint64_t supported = 0;
    return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) == 0 && has(supported, XTILEDATA);
#else
    return false;
#endif
}

bool brisk_permits_tiles(void) {
#if BRISK_EMULATED
    return true;
#elif defined(__linux__)
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

unsigned brisk_isas_can_run(void) {
    unsigned isas = 1u << BRISK_PORTABLE;
    uint32_t eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has(ecx, OSXSAVE | AVX | FMA))
        return isas;
    uint64_t xcr0 = read_xcr0(); /* faults without OSXSAVE */
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !has(ebx, AVX2) || !has(xcr0, XMM_YMM))
        return isas;
    isas |= 1u << BRISK_AVX2;

    if (!has(ebx, AVX512_F_DQ_BW_VL) || !has(xcr0, OPMASK_ZMM))
        return isas;
    isas |= 1u << BRISK_AVX512;
#if BRISK_EMULATED
    return isas | 1u << BRISK_AVX512_BF16 | 1u << BRISK_AMX;
#endif

    uint32_t more, unused;
    if (!__get_cpuid_count(7, 1, &more, &unused, &unused, &unused) || !has(more, AVX512_BF16))
        return isas;
    isas |= 1u << BRISK_AVX512_BF16;

    if (!has(edx, AMX_BF16_TILE) || !has(xcr0, XTILECFG | XTILEDATA) || !kernel_grants_tiles())
        return isas;
    return isas | 1u << BRISK_AMX;
}

#else

unsigned brisk_isas_can_run(void) {
    return 1u << BRISK_PORTABLE;
}

bool brisk_permits_tiles(void) {
    return false;
}

#endif

enum brisk_isa brisk_isa_should_run(unsigned isas, enum brisk_precision precision) {
    const enum brisk_isa last = precision == BRISK_HIGHEST ? BRISK_AVX512 : BRISK_AVX512_BF16;
    enum brisk_isa best = BRISK_PORTABLE;
    for (enum brisk_isa isa = BRISK_PORTABLE; isa <= last; isa++)
        if (isas & 1u << isa)
            best = isa;
    return best;
}
