/* The contract between the C files: what each offers the others. */
#ifndef BRISK_H
#define BRISK_H

/* Instruction sets, slowest first. Each includes the ones before it. */
enum brisk_isa {
    BRISK_PORTABLE, /* plain C */
    BRISK_AVX2,     /* AVX2 and FMA */
    BRISK_AVX512,   /* AVX-512 F, BW, DQ and VL */
    BRISK_AMX,      /* AMX-TILE and AMX-BF16 */
    BRISK_ISA_COUNT
};

/* The names used everywhere else: "portable", "avx2", "avx512", "amx". */
extern const char* const brisk_isa_names[BRISK_ISA_COUNT];

/* What can run here: bit i is set if the processor has ISA i and the operating system saves its registers.
 * Has no side effect: before its first AMX tile the process must still ask for them (ARCH_REQ_XCOMP_PERM), which Linux
 * refuses while any thread has a signal stack too small for them. */
unsigned brisk_isas_can_run(void);

/* What should run, of the set `isas`, where no reduced precision was asked for: the fastest that computes in
 * float32 and float64, so never AMX, which multiplies bfloat16. */
enum brisk_isa brisk_isa_should_run(unsigned isas);

#endif
