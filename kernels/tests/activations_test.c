/* The largest error of one activation: over every float32 number, or over a sample of the float64 numbers.
 *
 *     activations_test exp|exp_any|sigmoid|tanh|log1p [STEP]
 *
 * takes every STEP-th number, prints the largest error in ulp and where it is, and returns 1 if that is above the
 * bound. It is compiled like a kernel: BRISK_ISA and its flags choose the ISA, BRISK_DOUBLE the type. Each number is
 * tried with subnormal numbers flushed to 0, as in the kernels, and not. Float32 is held against the C library in
 * float64, float64 against it in long double; an error of that is some 2^-11 of what it would show here. */
#include "../isa/vec.h"
#include "../runtime/float_state.h"
#include "../templates/vec_math_template.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if BRISK_DOUBLE
typedef long double wide;
static const real SMALLEST = DBL_MIN, LARGEST = DBL_MAX, SPACING = 0x1p-1074;
enum { DIGITS = DBL_MANT_DIG };
#else
typedef double wide;
static const real SMALLEST = FLT_MIN, LARGEST = FLT_MAX, SPACING = 0x1p-149f;
enum { DIGITS = FLT_MANT_DIG };
#endif

enum { BLOCK = 1 << 12 };
static const double BOUND = 2; /* ulp */

static wide wide_exp(wide x) {
    return BRISK_DOUBLE ? (wide)expl(x) : (wide)exp((double)x);
}

static wide wide_sigmoid(wide z) {
    return 1 / (1 + wide_exp(-z));
}

static wide wide_tanh(wide z) {
    return BRISK_DOUBLE ? (wide)tanhl(z) : (wide)tanh((double)z);
}

static wide wide_log1p(wide x) {
    return BRISK_DOUBLE ? (wide)log1pl(x) : (wide)log1p((double)x);
}

static const struct function {
    const char* name;
    vec (*ours)(vec);
    wide (*exact)(wide);
    real low, high; /* its arguments */
} FUNCTIONS[] = {{"exp", vec_exp, wide_exp, -INFINITY, 0},
                 {"exp_any", vec_exp_any, wide_exp, -INFINITY, INFINITY},
                 {"sigmoid", vec_sigmoid, wide_sigmoid, -INFINITY, INFINITY},
                 {"tanh", vec_tanh, wide_tanh, -INFINITY, INFINITY},
                 {"log1p", vec_log1p, wide_log1p, 0, 1}};

__attribute__((noinline)) static void compute(const struct function* f, const real* x, real* y) {
    for (int k = 0; k < BLOCK; k += LANES)
        vec_store(y + k, f->ours(vec_load(x + k)));
}

/* In ulp of the exact result; infinite for what is simply wrong. */
static double error(real result, wide exact) {
    if (isnan(exact) || isnan(result))
        return isnan(exact) && isnan(result) ? 0 : INFINITY;
    const wide size = exact < 0 ? -exact : exact;
    if (isinf(result)) /* within the bound of what overflows */
        return result > 0 && exact > (wide)LARGEST * (1 - (wide)BOUND * (wide)SPACING / (wide)SMALLEST) ? 0 : INFINITY;
    if (size < (wide)SMALLEST) {
        const wide off = (wide)result - exact;
        return result == 0 || (off <= (wide)SPACING && -off <= (wide)SPACING) ? 0 : INFINITY;
    }
    int exponent;
    (void)(BRISK_DOUBLE ? (wide)frexpl(size, &exponent) : (wide)frexp((double)size, &exponent));
    const wide off = (wide)result - exact;
    return fabs(BRISK_DOUBLE ? (double)ldexpl(off, DIGITS - exponent) : ldexp((double)off, DIGITS - exponent));
}

#if BRISK_DOUBLE

/* The next pseudorandom number: xorshift64*. */
static uint64_t next(uint64_t* state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1D;
}

enum { COUNT = 20000000 };

/* The i-th argument: of random bits, or uniform where the functions change. */
static real argument(uint64_t i, uint64_t* state) {
    static const real edge[] = {INFINITY, -INFINITY, NAN, 0.0, -0.0, DBL_MAX, -DBL_MAX, DBL_MIN, -DBL_MIN, 1, -1};
    if (i < sizeof edge / sizeof *edge)
        return edge[i];
    const uint64_t bits = next(state);
    const real uniform = (real)(bits >> 11) * 0x1p-53 * 2 - 1;
    real x;
    switch (i % 4) {
    case 0:
        memcpy(&x, &bits, sizeof x);
        return x;
    case 1:
        return uniform * 760;
    case 2:
        return uniform * 21;
    default:
        return ldexp(uniform, -(int)(bits & 31));
    }
}

#else

static const uint64_t COUNT = (uint64_t)1 << 32;

/* The number of these bits. */
static real argument(uint64_t i, uint64_t* state) {
    (void)state;
    const uint32_t bits = (uint32_t)i;
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif

int main(int argc, char** argv) {
    const struct function* f = FUNCTIONS;
    const struct function* end = FUNCTIONS + sizeof FUNCTIONS / sizeof *FUNCTIONS;
    while (f < end && (argc < 2 || strcmp(f->name, argv[1]) != 0))
        f++;
    const uint64_t step = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    if (f == end || step == 0) {
        fprintf(stderr, "usage: activations_test exp|sigmoid|tanh|log1p [STEP]\n");
        return 2;
    }

    uint64_t state = 1, tried = 0;
    double largest = 0;
    real where = 0;
    for (uint64_t i = 0; i < COUNT;) {
        static real x[BLOCK], y[2][BLOCK];
        int n = 0;
        for (; n < BLOCK && i < COUNT; i += step) {
            const real a = argument(BRISK_DOUBLE ? i / step : i, &state);
            const bool subnormal = a != 0 && fabs((double)a) < (double)SMALLEST;
            if (!subnormal && !(a < f->low || a > f->high))
                x[n++] = a;
        }
        for (int k = n; k < BLOCK; k++)
            x[k] = 0;

        compute(f, x, y[0]);
        const uint64_t before = brisk_float_state_enter();
        compute(f, x, y[1]);
        brisk_float_state_leave(before);
        for (int k = 0; k < n; k++) {
            const wide exact = f->exact((wide)x[k]);
            for (int flush = 0; flush < 2; flush++) {
                const double e = error(y[flush][k], exact);
                if (e > largest) {
                    largest = e;
                    where = x[k];
                }
            }
        }
        tried += (uint64_t)n;
    }
    printf("%-8s %s, vectors of %d: %.3f ulp at %.17g (%a), of %llu numbers\n", f->name,
           BRISK_DOUBLE ? "float64" : "float32", (int)LANES, largest, (double)where, (double)where,
           (unsigned long long)tried);
    return !(largest <= BOUND);
}
