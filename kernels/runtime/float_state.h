/* The floating-point control register inside kernels: denormals count as zero, because each could cost a hundred
 * cycles, rounding is to nearest, and exceptions do not trap. On processors other than these nothing is changed.
 *
 * The compiler does not know that arithmetic depends on this register and may move it across these calls. The
 * arithmetic in between therefore belongs in a function that is not inlined, such as a region of pool.h. */
#ifndef BRISK_FLOAT_STATE_H
#define BRISK_FLOAT_STATE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
/* MXCSR at power-on (all exceptions masked, to nearest); flush results to zero; take inputs as zero */
#define BRISK_FLOAT_STATE (0x1F80u | 1u << 15 | 1u << 6)
#elif defined(__aarch64__)
/* FPCR.FZ flushes results and inputs alike; all else zero is the default */
#define BRISK_FLOAT_STATE (1u << 24)
#else
#define BRISK_FLOAT_STATE 0u
#endif

static inline uint64_t brisk_float_state_read(void) {
    uint64_t state = 0;
#if defined(__x86_64__)
    state = _mm_getcsr();
#elif defined(__aarch64__)
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(state));
#endif
    return state;
}

/* On x86 that includes the exception flags: what is restored is as it was, whatever was raised in between. */
static inline void brisk_float_state_write(uint64_t state) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)state);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(state) : "memory");
#else
    (void)state;
#endif
}

/* Set the register for kernels; return its previous value, to be written back. */
static inline uint64_t brisk_float_state_enter(void) {
    const uint64_t old = brisk_float_state_read();
    brisk_float_state_write(BRISK_FLOAT_STATE);
    return old;
}

#endif
