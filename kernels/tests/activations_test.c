/* The largest error of one function: over every float32 number, or over a sample of the float64 numbers.
 *
 *     activations_test NAME [STEP]
 *
 * takes every STEP-th number, prints the largest error and where it is, and returns 1 if that is above the bound.
 * Without a name it lists them. It is compiled like a kernel: BRISK_ISA and its flags choose the ISA, BRISK_DOUBLE the
 * type. Each number is tried with subnormal numbers flushed to 0, as in the kernels, and not. Float32 is held against
 * the C library in float64, float64 against it in long double; an error of that is some 2^-11 of what it would show
 * here. */
#include "../isa/vec.h"
#include "../runtime/float_state.h"
#include "../templates/activation_template.h"

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
#define WIDE(name) name##l
#define CONSTANT(x) x##L
#else
typedef double wide;
static const real SMALLEST = FLT_MIN, LARGEST = FLT_MAX, SPACING = 0x1p-149f;
enum { DIGITS = FLT_MANT_DIG };
#define WIDE(name) name
#define CONSTANT(x) x
#endif

enum { BLOCK = 1 << 12 };

/* --- the definitions --- */

static const wide ROOT_HALF_LOW = (wide)(BRISK_DOUBLE ? 1.8950325588932572e-20 : 0); /* what ROOT_HALF lacks */
static const wide ROOT_HALF = CONSTANT(0.70710678118654752440084436210485),
                  ROOT_2_PI = CONSTANT(2.5066282746310005024157652848110);

static wide sigmoid(wide z) {
    return 1 / (1 + WIDE(exp)(-z));
}

static wide softplus(wide z) {
    return WIDE(fmax)(z, 0) + WIDE(log1p)(WIDE(exp)(-WIDE(fabs)(z))) + (isnan(z) ? z : 0);
}

static wide elu(wide z) {
    return z < 0 ? WIDE(expm1)(z) : z;
}

static wide selu(wide z) {
    return CONSTANT(1.0507009873554804934193349852946) *
           (z < 0 ? CONSTANT(1.6732632423543772848170429916717) * WIDE(expm1)(z) : z);
}

static wide softplus_20(wide z) {
    return z > 20 ? z : softplus(z);
}

static wide softsign(wide z) {
    return z / (1 + WIDE(fabs)(z));
}

static wide hardtanh(wide z) {
    return z < -1 ? -1 : z > 1 ? 1 : z;
}

static wide relu6(wide z) {
    return z < 0 ? 0 : z > 6 ? 6 : z;
}

static wide log_sigmoid(wide z) {
    return -softplus(-z);
}

/* The normal distribution. erfc multiplies a relative error of its argument by twice its square: what rounding that
 * took away is made good to first order. */
static wide normal(wide z) {
    if (isinf(z))
        return z > 0;
    const wide x = -z * ROOT_HALF;
    const wide lost = WIDE(fma)(-z, ROOT_HALF, -x) - z * ROOT_HALF_LOW;
    return (WIDE(erfc)(x) - lost * CONSTANT(1.12837916709551257389615890312155) * WIDE(exp)(-x * x)) / 2;
}

static wide gelu(wide z) {
    return z * normal(z);
}

static wide gelu_slope(wide z) {
    return isinf(z) ? z > 0 : normal(z) + z * WIDE(exp)(-z * z / 2) / ROOT_2_PI;
}

static wide gelu_tanh_argument(wide z) {
    return CONSTANT(1.5957691216057307117597842397375) * (z + CONSTANT(0.044715) * z * z * z);
}

static wide gelu_tanh(wide z) {
    return z * sigmoid(gelu_tanh_argument(z));
}

static wide gelu_tanh_slope(wide z) {
    if (WIDE(fabs)(z) > 100)
        return z > 0;
    const wide v = gelu_tanh_argument(z),
               inner = CONSTANT(1.5957691216057307117597842397375) * (1 + 3 * CONSTANT(0.044715) * z * z);
    return sigmoid(v) + z * sigmoid(v) * sigmoid(-v) * inner;
}

/* v, of 5 roundings, changes f by 5 |v| ulp: as many times the bound for z >= 0. */
static wide gelu_tanh_condition(wide z) {
    return z < 0 ? 1 + WIDE(fabs)(gelu_tanh_argument(z)) : 1;
}

static wide silu(wide z) {
    return z * sigmoid(z);
}

static wide silu_slope(wide z) {
    return isinf(z) ? z > 0 : sigmoid(z) + z * sigmoid(z) * sigmoid(-z);
}

static wide mish(wide z) {
    return z * WIDE(tanh)(softplus(z));
}

static wide mish_slope(wide z) {
    const wide T = WIDE(tanh)(softplus(z)), half = WIDE(cosh)(softplus(z));
    return T + z * sigmoid(z) / (half * half);
}

static wide hardswish(wide z) {
    return z <= -3 ? 0 : z >= 3 ? z : z * ((z + 3) / 6);
}

static wide hardswish_slope(wide z) {
    return !(z < 3) ? 1 : z <= -3 ? 0 : z / 3 + CONSTANT(0.5);
}

/* --- ours, with the default parameters --- */

#define OF_ROW(name, NAME, p, q)                                                                                       \
    static vec ours_##name(vec z) {                                                                                    \
        vec slope;                                                                                                     \
        return activation(BRISK_##NAME, z, vec_splat(p), vec_splat(q), &slope);                                        \
    }
OF_ROW(elu, ELU, 1, 0)
OF_ROW(selu, SELU, 0, 0)
OF_ROW(celu, CELU, 1, 0)
OF_ROW(softplus, SOFTPLUS, 1, 20)
OF_ROW(softsign, SOFTSIGN, 0, 0)
OF_ROW(hardtanh, HARDTANH, -1, 1)
OF_ROW(relu6, RELU6, 0, 0)
OF_ROW(log_sigmoid, LOG_SIGMOID, 0, 0)

#define WITH_SLOPE(name)                                                                                               \
    static vec ours_##name(vec z) {                                                                                    \
        vec slope;                                                                                                     \
        return vec_##name(z, &slope);                                                                                  \
    }                                                                                                                  \
    static vec ours_##name##_slope(vec z) {                                                                            \
        vec slope;                                                                                                     \
        vec_##name(z, &slope);                                                                                         \
        return slope;                                                                                                  \
    }
WITH_SLOPE(gelu)
WITH_SLOPE(gelu_tanh)
WITH_SLOPE(silu)
WITH_SLOPE(mish)
WITH_SLOPE(hardswish)

/* The error's bound is in ulp of the exact result, or, where it is `absolute`, in halves of an ulp of 1. */
static const struct function {
    const char* name;
    vec (*ours)(vec);
    wide (*exact)(wide);
    double bound;
    real low, high;          /* its arguments */
    wide (*condition)(wide); /* multiplies the bound */
    bool absolute;
    bool product; /* of z and a number that may have become 0 where the product is normal */
} FUNCTIONS[] = {
#define ANY .low = -INFINITY, .high = INFINITY
    {"exp", vec_exp, WIDE(exp), 2, .low = -INFINITY, .high = 0},
    {"exp_any", vec_exp_any, WIDE(exp), 2, ANY},
    {"sigmoid", vec_sigmoid, sigmoid, 2, ANY},
    {"tanh", vec_tanh, WIDE(tanh), 2, ANY},
    {"log1p", vec_log1p, WIDE(log1p), 2, .low = 0, .high = 1},
    {"expm1", vec_expm1, WIDE(expm1), 2, .low = -INFINITY, .high = 0},
    {"elu", ours_elu, elu, 2, ANY},
    {"selu", ours_selu, selu, 3.5, ANY},
    {"celu", ours_celu, elu, 2, ANY},
    {"softplus", ours_softplus, softplus_20, 2, ANY},
    {"softsign", ours_softsign, softsign, 2, ANY},
    {"hardtanh", ours_hardtanh, hardtanh, 0, ANY},
    {"relu6", ours_relu6, relu6, 0, ANY},
    {"log_sigmoid", ours_log_sigmoid, log_sigmoid, 2, ANY},
    {"gelu", ours_gelu, gelu, 9, ANY},
    {"gelu_slope", ours_gelu_slope, gelu_slope, 8, ANY, .absolute = true},
    {"gelu_tanh", ours_gelu_tanh, gelu_tanh, 5, ANY, .condition = gelu_tanh_condition, .product = true},
    {"gelu_tanh_slope", ours_gelu_tanh_slope, gelu_tanh_slope, 16, ANY, .absolute = true},
    {"silu", ours_silu, silu, 5, ANY, .product = true},
    {"silu_slope", ours_silu_slope, silu_slope, 8, ANY, .absolute = true},
    {"mish", ours_mish, mish, 7.5, ANY, .product = true},
    {"mish_slope", ours_mish_slope, mish_slope, 16, ANY, .absolute = true},
    {"hardswish", ours_hardswish, hardswish, 3.5, ANY},
    {"hardswish_slope", ours_hardswish_slope, hardswish_slope, 8, ANY, .absolute = true},
};
enum { PRODUCT_FEW = 750 }; /* |z| where e^z is the smallest number */

__attribute__((noinline)) static void compute(const struct function* f, const real* x, real* y) {
    for (int k = 0; k < BLOCK; k += LANES)
        vec_store(y + k, f->ours(vec_load(x + k)));
}

/* In units of the bound; infinite for what is simply wrong. */
static double error(const struct function* f, real x, real result) {
    const wide exact = f->exact((wide)x), size = WIDE(fabs)(exact), off = WIDE(fabs)((wide)result - exact);
    if (isnan(exact) || isnan(result))
        return isnan(exact) && isnan(result) ? 0 : INFINITY;
    if ((wide)result == exact)
        return 0;
    if (isinf(result)) /* within the bound of what overflows */
        return result > 0 && exact > (wide)LARGEST * (1 - 2 * (wide)SPACING / (wide)SMALLEST) ? 0 : INFINITY;
    int exponent = 0;
    if (!f->absolute) {
        const wide few = f->product ? PRODUCT_FEW : 1;
        if (size < few * (wide)SMALLEST && (result == 0 || off <= (few + 1) * (wide)SPACING))
            return 0;
        (void)WIDE(frexp)(size, &exponent);
    }
    return (double)(WIDE(ldexp)(off, DIGITS - exponent) / (f->condition ? f->condition((wide)x) : 1));
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
        for (f = FUNCTIONS; f < end; f++)
            puts(f->name);
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
        brisk_float_state_write(before);
        for (int k = 0; k < n; k++) {
            for (int flush = 0; flush < 2; flush++) {
                const double e = error(f, x[k], y[flush][k]);
                if (e > largest) {
                    largest = e;
                    where = x[k];
                }
            }
        }
        tried += (uint64_t)n;
    }
    printf("%-15s %s, vectors of %d: %.3f %s at %.17g (%a), of %llu numbers\n", f->name,
           BRISK_DOUBLE ? "float64" : "float32", (int)LANES, largest, f->absolute ? "half ulp of 1" : "ulp",
           (double)where, (double)where, (unsigned long long)tried);
    return !(largest <= f->bound);
}
