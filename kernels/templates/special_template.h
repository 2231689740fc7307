/* The functions of one vector behind the activations from elu on: f, and g f' from A where f' follows from A, or f and
 * f' from Z. All follow PyTorch's definitions; f of NaN is NaN. What vec_math_template.h says about subnormal numbers,
 * polynomials and fused multiply-adds holds here too. No f is further from the exact one than
 *
 *     2 ulp    expm1, log1p_exp, elu and celu with alpha 1, softplus with beta 1, softsign, log_sigmoid
 *     3.5 ulp  selu, hardswish
 *     9 ulp    gelu (found: 5): e^(-x^2 / 2) has 2 u, where u is half an ulp of 1, R 5 u, and two roundings follow
 *     5 ulp    silu (found: 3): e^-z has 1 ulp or 2 u, and three more roundings follow
 *     7.5 ulp  mish (found: 4): e^z 2 u, and five more roundings, and e^2's, which counts a third
 *     5 + 5 |v| ulp  gelu_tanh: silu, and for z < 0 the argument v of its sigmoid, which is rounded five times
 *
 * The last three are a product of z and a number that may have become 0 where |f| < 750 times the smallest normal
 * number. With another beta, rounding beta z changes softplus below 0 by |beta z| u more. f' crosses 0; of gelu, silu
 * and hardswish it is at most 8 u off, of mish and gelu_tanh 16 u. */
#pragma once

#include "../isa/vec.h"
#include "vec_math_template.h"

static const real HALF = (real)0.5;
static const real SELU_SCALE = (real)1.0507009873554804934, SELU_ALPHA = (real)1.6732632423543772848;
static const real LOG1P_C = (real)(91.0 / 128), LOG1P_LOG = (real)0.34117075740276712476; /* -log(LOG1P_C) */
static const real DENSITY = (real)0.39894228040143267794; /* the normal distribution's at 0: 1 / sqrt(2 pi) */
static const real GELU_LINEAR = (real)1.5957691216057307118, GELU_CUBIC = (real)0.071354816272600247; /* 2u / z */

#if BRISK_DOUBLE

static const real LOGISTIC_HIGHEST = 80;   /* z (1 - sigmoid z) is far below an ulp of 1 */
static const real GELU_TANH_HIGHEST = 22;  /* at it and at its negative, gelu_tanh's sigmoid is 1 and 0 */
static const real NORMAL_HIGHEST = 37.658; /* e^(-x^2 / 2) is less than the smallest normal number */
static const real NORMAL_SHIFT = 0x1.8p32; /* rounds to 2^-20, so that the square of the result is exact */
static const real NORMAL_OFFSET = 4.5;

/* K(t) = (log(1 + t) - t) / t^2 for 0 <= t <= 0.422: degree 14; of log(1 + t) the relative error is 2^-56.9. */
static const real LOG1P[] = {-0.50000000000000000000,  0.33333333333331351594,   -0.24999999999645794954,
                             0.19999999974942187506,   -0.16666665735239737119,  0.14285693350354387627,
                             -0.12499691259855725614,  0.11107967113296239692,   -0.099771554003523970115,
                             0.089700118026348730373,  -0.078618296390402676837, 0.063296676915838898145,
                             -0.042173863270800389481, 0.019709336124397271068,  -0.0046505392469424282099};

/* (x + NORMAL_OFFSET) R(x) at x / (x + NORMAL_OFFSET) - 1/2, where e^(-x^2 / 2) R(x) is the normal distribution's upper
 * tail, for 0 <= x <= NORMAL_HIGHEST: degree 22; the relative error is 2^-56.7. */
static const real NORMAL_TAIL[] = {
    0.76323052897020313421,   -1.2805155205052343465,    1.7858100682227117104,   -2.025134399607666617,
    1.7821215451236081602,    -1.0838824376794082989,    0.27031125633876616402,  0.22385031328258341758,
    -0.2349431056629214838,   0.0032671313356293997684,  0.11473176566728963569,  -0.032630632572466933913,
    -0.058310818611971098262, 0.026130638174763161467,   0.035111133956686344917, -0.016369636313456939938,
    -0.024837733483507915655, 0.008033249905612848107,   0.018209813523051149067, -0.0016205253140408389106,
    -0.010555415710431706159, -0.0012554511861598154802, 0.0025403390438397437464};

#else

static const real LOGISTIC_HIGHEST = 40, GELU_TANH_HIGHEST = 12;
static const real NORMAL_HIGHEST = 13.2664f, NORMAL_SHIFT = 0x1.8p15f, NORMAL_OFFSET = 3.5f;

/* Degree 6; of log(1 + t) the relative error is 2^-27, as rounded here. */
static const real LOG1P[] = {-0.5f,         0.333331043f, -0.249910756f, 0.198672963f,
                             -0.156996969f, 0.104624264f, -0.0396775241f};

/* Degree 9; the relative error is 2^-27.5. */
static const real NORMAL_TAIL[] = {0.744416075f, -1.13112352f,  1.26169984f,    -0.928421286f, 0.278522066f,
                                   0.207718152f, -0.203610524f, -0.0632098516f, 0.110471944f,  0.0593039498f};

#endif

/* The same as polynomial, in groups of four terms from the third on: a long one takes little more than half as long. */
INLINE vec long_polynomial(vec x, const real* c, int length) {
    const vec x2 = x * x, x4 = x2 * x2;
    int k = ((length - 3) & ~3) + 2;
    vec p = polynomial(x, x2, c + k, length - k);
    for (k -= 4; k >= 2; k -= 4)
        p = vec_fma(p, x4, polynomial(x, x2, c + k, 4));
    return vec_fma(p, x2, vec_fma(vec_splat(c[1]), x, vec_splat(c[0])));
}

/* Returns e^x - 1 for x <= 0, as -(1 - 2^n + 2^n g): 1 - 2^n is exact where its last bits count. */
INLINE vec vec_expm1(vec x) {
    const struct exponential e = exponential(vec_min(vec_splat(LOWEST), -x), vec_splat(SHIFT), true);
    return vec_fnma(e.scale, e.g, e.scale - 1);
}

/* Returns log(1 + e^z) = max(z, 0) + log(1 + e) with e = e^-|z| = 2^n (1 - g). Where e is small, log(1 + e) is
 * t + t^2 K(t) with t = e. Where it is large, log(1 / C) is added and t = C (1 + e) - 1, for which K has a third fewer
 * terms; C has so few bits that C 2^n + C - 1 is exact. */
INLINE vec vec_log1p_exp(vec z) {
    const vec zero = vec_splat(0), near = vec_splat((real)0.8675); /* e = 0.42 */
    const vec x = vec_min(vec_splat(LOWEST), vec_abs(z));
    const struct exponential e = exponential(x, vec_splat(SHIFT), false);
    const vec C = LOG1P_C * e.scale, large = vec_fnma(C, e.g, C + (LOG1P_C - 1));
    const vec t = vec_where_less(x, near, large, e.scale * (1 - e.g)), t2 = t * t;
    const vec above = vec_max(zero, z) + vec_where_less(x, near, vec_splat(LOG1P_LOG), zero);
    return vec_fma(polynomial(t, t2, LOG1P, LENGTH(LOG1P)), t2, t) + above;
}

/* --- f' follows from A: f, and g f', where they are more than the rows of operations.def say --- */

/* The division by beta is a multiplication, so that a loop divides once. */
INLINE vec vec_softplus(vec z, vec beta, vec threshold) {
    const vec x = beta * z;
    return vec_where_less(threshold, x, z, vec_log1p_exp(x) * (1 / beta));
}

/* 1 - e^(-beta A), and 1 above the largest A below the threshold. */
INLINE vec vec_softplus_backward(vec g, vec A, vec beta, vec threshold) {
    const vec x = beta * A, lowest = vec_splat(LOWEST), highest = vec_min(lowest, vec_log1p_exp(threshold));
    const struct exponential e = exponential(vec_where_less(highest, x, lowest, x), vec_splat(SHIFT), true);
    return g * vec_fma(e.scale, e.g, 1 - e.scale);
}

/* g between the bounds, 0 on them. */
INLINE vec vec_hardtanh_backward(vec g, vec A, vec low, vec high) {
    return vec_where_less(low, A, vec_where_less(A, high, g, vec_splat(0)), vec_splat(0));
}

/* --- f' does not follow from A: f, which also writes f' --- */

/* z Phi(z) with the normal distribution Phi, and Phi(z) + z phi(z) with its density phi. Both come from x = |z| and
 * the upper tail Q(x) = e^(-x^2 / 2) R(x):
 *
 *     f = z Q, f' = G for z < 0    f = z (1 - Q), f' = 1 - G else    with G = e^(-x^2 / 2) (R - x phi(0))
 *
 * x^2 is the sum of the exact square of x rounded to half its digits and a small rest, so that e^(-x^2 / 2) is as good
 * as vec_exp; for z < 0 its power of two is multiplied last, as Q may be subnormal where f is not. */
INLINE vec vec_gelu(vec z, vec* slope) {
    const vec zero = vec_splat(0), one = vec_splat(1);
    const vec x = vec_min(vec_splat(NORMAL_HIGHEST), vec_abs(z)), high = (x + NORMAL_SHIFT) - NORMAL_SHIFT;
    const vec square = HALF * high * high, rest = (HALF * (x + high)) * (x - high);
    const vec shifted = vec_fma(square + rest, vec_splat(-LOG2_E), vec_splat(SHIFT)), n = shifted - SHIFT;
    const vec m = vec_fma(n, vec_splat(LN2_HIGH), square) + vec_fma(n, vec_splat(LN2_LOW), rest);
    const vec scale = vec_power_of_two(shifted), g = one_minus_exp(m);

    const vec inverse = 1 / (x + NORMAL_OFFSET), s = vec_fma(x, inverse, vec_splat(-HALF));
    const vec R = long_polynomial(s, NORMAL_TAIL, LENGTH(NORMAL_TAIL)) * inverse;
    const vec Q = vec_fnma(R, g, R), difference = vec_fnma(x, vec_splat(DENSITY), R);
    const vec G = scale * vec_fnma(difference, g, difference);
    *slope = vec_where_less(z, zero, G, 1 - G);
    return z * vec_where_less(z, zero, Q, vec_fnma(Q, scale, one)) * vec_where_less(z, zero, scale, one);
}

/* sigmoid z, as vec_sigmoid computes it, and 1 minus it, neither by a difference; z <= LOGISTIC_HIGHEST. */
struct logistic {
    vec s, rest;
};

INLINE struct logistic logistic(vec z) {
    const vec one = vec_splat(SIGMOID_ONE);
    const struct exponential e = exponential(z, vec_splat(SHIFT - (real)SIGMOID_SCALE), false);
    const vec inverse = 1 / (vec_fnma(e.scale, e.g, one) + e.scale);
    return (struct logistic){one * inverse, vec_fnma(e.scale, e.g, e.scale) * inverse};
}

/* z sigmoid(z). */
INLINE vec vec_silu(vec z, vec* slope) {
    const vec x = vec_clamp(z, SIGMOID_LOWEST, LOGISTIC_HIGHEST);
    const struct logistic y = logistic(x);
    *slope = vec_fma(x * y.s, y.rest, y.s);
    return z * y.s;
}

/* z (1 + tanh u) / 2 = z sigmoid(2u) with 2u = 2 sqrt(2 / pi) (z + 0.044715 z^3). */
INLINE vec vec_gelu_tanh(vec z, vec* slope) {
    const vec x = vec_clamp(z, -GELU_TANH_HIGHEST, GELU_TANH_HIGHEST), cubic = GELU_CUBIC * (x * x);
    const struct logistic y = logistic(vec_clamp(x * (GELU_LINEAR + cubic), SIGMOID_LOWEST, LOGISTIC_HIGHEST));
    *slope = vec_fma(x * vec_fma(vec_splat(3), cubic, vec_splat(GELU_LINEAR)), y.s * y.rest, y.s);
    return z * y.s;
}

/* z T with T = tanh(log(1 + e^z)) = ((1 + e^z)^2 - 1) / ((1 + e^z)^2 + 1). In terms of e = e^-|z| that is t / d with
 *
 *     t = 2e + e^2, d = t + 2 for z < 0    t = 2e + 1, d = t + 2 e^2 else
 *
 * and T' = 4 h (1 + e) / d^2, where h is e for z < 0, else e^2. */
INLINE vec vec_mish(vec z, vec* slope) {
    const vec zero = vec_splat(0), one = vec_splat(1), two = vec_splat(2);
    const vec e = vec_exp(-vec_abs(z)), e2 = e * e;
    const vec t = vec_fma(two, e, vec_where_less(z, zero, e2, one));
    const vec inverse = 1 / vec_fma(two, vec_where_less(z, zero, one, e2), t);
    const vec T = t * inverse, h = vec_where_less(z, zero, e, e2) * 4;
    *slope = vec_fma(z, h * (1 + e) * (inverse * inverse), T);
    return z * T;
}

/* z min(max(z + 3, 0), 6) / 6. */
INLINE vec vec_hardswish(vec z, vec* slope) {
    const vec three = vec_splat(3), x = vec_max(-three, z),
              inner = vec_fma(z, vec_splat((real)(1.0 / 3)), vec_splat(HALF));
    *slope = vec_where_less(z, three, vec_where_less(-three, z, inner, vec_splat(0)), vec_splat(1));
    return x * (vec_min(vec_splat(6), x + 3) * (real)(1.0 / 6));
}
