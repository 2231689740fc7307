/* exp, log1p, sigmoid and tanh of one vector, by polynomials. Each result is at most 2 ulp from the exact one wherever
 * that is normal; a subnormal result may be 0. Subnormal arguments may count as 0. NaN gives NaN.
 *
 * e^-x follows the classical reduction (Cody & Waite, Software Manual for the Elementary Functions, 1980):
 * x = m - n ln2 with an integer n and |m| <= ln2/2, so e^-x = 2^n e^-m. ln2 is stored as the sum of two numbers, of
 * which the higher has so few bits that n times it is exact. We never form e^-m, only g = 1 - e^-m, which keeps its
 * digits near 0: 2^n and 2^n g are added separately, and 2^n g is exact. A number is rounded to an integer by adding
 * SHIFT, which includes the exponent's bias, so that one shift of the sum's bits makes 2^n.
 *
 * Nothing here needs a fused multiply-add. Every polynomial has the least largest relative error of its degree (Remez
 * 1934) before its coefficients were rounded. */
#pragma once

#include "../isa/vec.h"

#include <stdbool.h>

#if BRISK_DOUBLE

static const real LOG2_E = 1.4426950408889634;
static const real LN2 = 0.6931471805599453;
static const real LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const real SHIFT = 0x1.8p52 + 1023;
static const real LOWEST = 709.1;                              /* e^-x is less than half the smallest normal number */
static const real HIGHEST = 710;                               /* e^x overflows */
static const real SIGMOID_LOWEST = -746, SIGMOID_HIGHEST = 38; /* beyond, the result is 0 or 1 */
enum { SIGMOID_SCALE = 64 };                                   /* keeps vec_sigmoid's denominator finite */
static const real SIGMOID_ONE = 0x1p-64;
static const real TANH_HIGHEST = 20; /* above, the result is 1 */

/* (e^-m - 1 + m) / m² for |m| <= ln2/2: degree 9; of e^-m the relative error is 2^-57.3. */
static const real EXP[] = {0.50000000000000000000,    -0.16666666666666433,      0.04166666666660387525,
                           -0.0083333333335002335948, 0.0013888888926833648615,  -0.0001984126946589264551,
                           2.4801508630690911396e-5,  -2.7557641044042104051e-6, 2.7625209302616817195e-7,
                           -2.4978364717110132114e-8};

/* (tanh(√u) / √u - 1) / u for 0 <= u <= TANH_NEAR²: degree 9; of tanh the relative error is 2^-55.4. */
static const real TANH_NEAR = 0.55;
static const real TANH[] = {-0.33333333333332313239,   0.13333333333168697576,    -0.05396825387607543834,
                            0.021869485974729053455,   -0.0088631945032545486632, 0.0035917196915366327454,
                            -0.0014532167298582386233, 0.00057913694147614427742, -0.00021030228473027246222,
                            0.000051021402520319456866};

/* (2 artanh(√u / 2) / √u - 1) / u for 0 <= u <= 4/9: degree 9; of artanh the relative error is 2^-59.3. */
static const real ARTANH[] = {0.083333333333332879772,     0.012500000000049138186,    0.0022321428553010715573,
                              0.00043402781190912039688,   0.000088778046505470647145, 0.000018782421796432572691,
                              0.0000040591349588001742349, 9.2362116622249055911e-7,   1.5907473049047491661e-7,
                              8.1150924503250194543e-8};

#else

static const real LOG2_E = 1.44269504f;
static const real LN2 = 0.693147181f;
static const real LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
static const real SHIFT = 0x1.8p23f + 127;
static const real LOWEST = 88, HIGHEST = 89;
static const real SIGMOID_LOWEST = -105, SIGMOID_HIGHEST = 18;
enum { SIGMOID_SCALE = 32 };
static const real SIGMOID_ONE = 0x1p-32f;
static const real TANH_HIGHEST = 10;

/* Degree 4; of 1 - e^-m the relative error is 2^-26.1, as rounded here. */
static const real EXP[] = {0x1.fffffep-2f, -0x1.5554aap-3f, 0x1.55579cp-5f, -0x1.122c64p-7f, 0x1.6ab852p-10f};

/* Degree 3; the relative error is 2^-27.7. */
static const real ARTANH[] = {0.083333016421581424948f, 0.012506780902724026027f, 0.0021874330810492754362f,
                              0.00054735250655519577645f};

#endif

#define LENGTH(c) ((int)(sizeof(c) / sizeof *(c)))

/* c[0] + c[1] x + … + c[length - 1] x^(length - 1), given x². Pairs of terms do not wait for each other, so it takes
 * half as long as Horner's rule, and as many operations where x² is needed anyway. */
INLINE vec polynomial(vec x, vec x2, const real* c, int length) {
    int k = (length - 1) & ~1;
    vec p = k == length - 1 ? vec_splat(c[k]) : vec_fma(vec_splat(c[k + 1]), x, vec_splat(c[k]));
    for (k -= 2; k >= 0; k -= 2)
        p = vec_fma(p, x2, vec_fma(vec_splat(c[k + 1]), x, vec_splat(c[k])));
    return p;
}

/* z, or the nearer of both bounds; NaN stays. */
INLINE vec vec_clamp(vec z, real low, real high) {
    return vec_max(vec_splat(low), vec_min(vec_splat(high), z));
}

/* Returns 1 - e^-m for |m| <= ln2/2. */
INLINE vec one_minus_exp(vec m) {
    const vec m2 = m * m;
    return vec_fnma(vec_fma(polynomial(m, m2, EXP + 1, LENGTH(EXP) - 1), m, vec_splat(EXP[0])), m2, m);
}

/* e^-x = scale (1 - g) */
struct exponential {
    vec scale, g;
};

/* Returns scale = 2^(n - down) and g = 1 - e^-m, where x = m - n ln2, and shift is SHIFT - down. A reduction in one
 * step leaves in e^-x a relative error of |n| times that of LN2: too little to be seen where e^-x < 1 is added to 1. */
INLINE struct exponential exponential(vec x, vec shift, bool one_step) {
    vec shifted = vec_fma(x, vec_splat(-LOG2_E), shift);
    vec n = shifted - shift;
    vec m = vec_fma(n, vec_splat(one_step ? LN2 : LN2_HIGH), x);
    if (!one_step)
        m = vec_fma(n, vec_splat(LN2_LOW), m);
    return (struct exponential){vec_power_of_two(shifted), one_minus_exp(m)};
}

/* Returns e^x for x <= 0. */
INLINE vec vec_exp(vec x) {
    const struct exponential e = exponential(vec_min(vec_splat(LOWEST), -x), vec_splat(SHIFT), false);
    return e.scale * (1 - e.g);
}

/* Returns e^x for any x; infinity where it overflows. Where x > 0, half of it is computed: 2^n may overflow before e^x
 * does. */
INLINE vec vec_exp_any(vec x) {
    const vec zero = vec_splat(0), shift = vec_where_less(zero, x, vec_splat(SHIFT - 1), vec_splat(SHIFT));
    const struct exponential e = exponential(-vec_clamp(x, -LOWEST, HIGHEST), shift, false);
    return e.scale * (1 - e.g) * vec_where_less(zero, x, vec_splat(2), vec_splat(1));
}

/* Returns log(1 + x) for 0 <= x <= 1, as 2 artanh(s / 2) with s = 2x / (2 + x) <= 2/3. */
INLINE vec vec_log1p(vec x) {
    const vec s = (x + x) / (x + 2), u = s * s;
    return vec_fma(polynomial(u, u * u, ARTANH, LENGTH(ARTANH)) * u, s, s);
}

/* Returns 1 / (1 + e^-z). Numerator and denominator are multiplied by 2^-SIGMOID_SCALE: then the denominator does not
 * overflow before the quotient has underflowed to 0. 1 and scale are not added first: beyond the precision of the type
 * the smaller one would be lost, 2.4 ulp. */
INLINE vec vec_sigmoid(vec z) {
    const vec one = vec_splat(SIGMOID_ONE);
    const vec x = vec_clamp(z, SIGMOID_LOWEST, SIGMOID_HIGHEST);
    const struct exponential e = exponential(x, vec_splat(SHIFT - (real)SIGMOID_SCALE), false);
    return one / (vec_fnma(e.scale, e.g, one) + e.scale);
}

/* Returns tanh z = (1 - e^-2|z|) / (1 + e^-2|z|) with z's sign. Near 0, where n = 0, the numerator is g. */
INLINE vec vec_tanh(vec z) {
    const vec x = vec_min(vec_splat(TANH_HIGHEST), vec_abs(z));
    const struct exponential e = exponential(x + x, vec_splat(SHIFT), true);
    vec tanh = vec_fma(e.scale, e.g, 1 - e.scale) / vec_fnma(e.scale, e.g, 1 + e.scale);
#if BRISK_DOUBLE
    /* Up to 0.55 that could be 2.2 ulp off; in float32 it is below 2, every number tried. */
    const vec u = x * x, near = vec_fma(polynomial(u, u * u, TANH, LENGTH(TANH)) * u, x, x);
    tanh = vec_where_less(x, vec_splat(TANH_NEAR), near, tanh);
#endif
    return vec_copysign(tanh, z);
}
