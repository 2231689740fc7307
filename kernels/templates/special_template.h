/* The functions of one vector behind elu, selu, celu, softplus, softsign, hardtanh, relu6 and log_sigmoid, whose f' a
 * function of A is, and behind gelu, silu, mish and hardswish, which return f and write f' besides. All follow
 * PyTorch's definitions; NaN gives NaN. What vec_math_template.h says about subnormal numbers, polynomials and fused
 * multiply-adds holds here too. With u half an ulp of 1, 2^-24 or 2^-53:
 *
 *     expm1, log1p_exp and so elu, celu and softplus with alpha and beta 1, log_sigmoid, and gelu    2 ulp
 *     silu    3 ulp, and mish 4 ulp, where e^z is normal; where it is not, the result may be 0
 *     gelu_tanh    as silu, and for z < 0 another 3 |v| / 2 ulp, where v is the argument of its sigmoid
 *     f' of gelu, gelu_tanh, silu and mish    8 u, absolutely: they cross 0 */
#ifndef BRISK_SPECIAL_TEMPLATE_H
#define BRISK_SPECIAL_TEMPLATE_H

#include "../isa/vec.h"
#include "vec_math_template.h"

static const real SELU_SCALE = (real)1.0507009873554804934, SELU_ALPHA = (real)1.6732632423543772848;
static const real DENSITY = (real)0.39894228040143267794; /* the normal distribution's at 0: 1 / sqrt(2 pi) */
static const real GELU_LINEAR = (real)1.5957691216057307118, GELU_CUBIC = (real)0.071354816272600247; /* 2u / z */

#if BRISK_DOUBLE

static const real LOGISTIC_HIGHEST = 80;   /* z (1 - sigmoid z) is far below an ulp of 1 */
static const real GELU_TANH_HIGHEST = 22;  /* at it and at its negative, gelu_tanh's sigmoid is 1 and 0 */
static const real NORMAL_HIGHEST = 37.658; /* e^(-x^2 / 2) is less than the smallest normal number */
static const real NORMAL_SHIFT = 0x1.8p32; /* rounds to 2^-20, so that the square of the result is exact */
static const real NORMAL_OFFSET = 4.5;

/* (log(1 + e) - e) / e^2 for 0 <= e <= 1: degree 20; the relative error is 2^-55.6. */
static const real LOG1P[] = {-0.49999999999999999098,   0.33333333333332528046,    -0.24999999999880142116,
                             0.19999999992889143137,    -0.16666666442399399989,   0.14285709936740930392,
                             -0.12499943418548614631,   0.11110587974905784811,    -0.099964214183789579207,
                             0.090722560734458449046,   -0.082575812985329297445,  0.074484021198657878335,
                             -0.065111831126488614708,  0.053335425345019361638,   -0.039260582497408277109,
                             0.02480899097271428602,    -0.012820382596400847247,  0.0051260470279303248852,
                             -0.0014726549625570863354, 0.00026867444109303462272, -0.000023274578356634122384};

/* (x + NORMAL_OFFSET) R(x) at s = x / (x + NORMAL_OFFSET), where e^(-x^2 / 2) R(x) is the normal distribution's upper
 * tail, for 0 <= x <= NORMAL_HIGHEST: degree 22; the relative error is 2^-56.7. */
static const real NORMAL_TAIL[] = {
    2.2500000000000000196,  -5.8285811781290328466,   8.8740876437457969583,    -8.1724164870347016337,
    3.8315616137058122925,  0.16754199828979797146,   -1.0102842211306994552,   0.072359438791497246594,
    0.29359462030677425565, 0.0040309690678804685559, -0.079860941282466290985, -0.074177315431406151623,
    0.17375802310568194518, -0.3517538570305781875,   0.72242714833524117997,   -1.1295615046292377004,
    1.3633272786165063341,  -1.2811432614533503266,   0.90235257406548524381,   -0.45099282142226476121,
    0.14933140152599155774, -0.029199180668396996691, 0.0025403390438397437464};

#else

static const real LOGISTIC_HIGHEST = 40, GELU_TANH_HIGHEST = 12;
static const real NORMAL_HIGHEST = 13.2664f, NORMAL_SHIFT = 0x1.8p15f, NORMAL_OFFSET = 3.5f;

/* Degree 9; the relative error is 2^-26.7. */
static const real LOG1P[] = {-0.499999996f, 0.333332425f,   -0.249968923f, 0.199580182f,   -0.163716941f,
                             0.130518005f,  -0.0917005421f, 0.04960765f,   -0.0173405916f, 0.00283591385f};

/* Degree 9; the relative error is 2^-27.5. */
static const real NORMAL_TAIL[] = {1.75000001f,  -3.13704463f, 2.69471602f,   -0.710904746f, -0.477964227f,
                                   0.180413002f, 0.16823609f,  0.0286379212f, -0.15639583f,  0.0593039498f};

#endif

enum { LOG1P_LENGTH = sizeof LOG1P / sizeof *LOG1P, NORMAL_TAIL_LENGTH = sizeof NORMAL_TAIL / sizeof *NORMAL_TAIL };

/* Returns e^x - 1 for x <= 0, as -(1 - 2^n + 2^n g): 1 - 2^n is exact where its last bits count. */
INLINE vec vec_expm1(vec x) {
    struct exponential e = exponential(vec_min(vec_splat(LOWEST), -x), vec_splat(SHIFT), true);
    return vec_fnma(e.scale, e.g, e.scale - vec_splat(1));
}

/* Returns log(1 + e^-x) for x >= 0. e^-x is rounded only in the lower terms of the logarithm. */
INLINE vec vec_log1p_exp(vec x) {
    struct exponential p = exponential(vec_min(vec_splat(LOWEST), x), vec_splat(SHIFT), false);
    vec rest = p.scale * p.g, e = p.scale - rest, e2 = e * e;
    return p.scale + (polynomial(e, e2, LOG1P, LOG1P_LENGTH) * e2 - rest);
}

/* --- f' follows from A: f, and g f' --- */

INLINE vec vec_elu(vec z, vec alpha) {
    return vec_where_less(z, vec_splat(0), alpha * vec_expm1(z), z);
}

INLINE vec vec_elu_backward(vec g, vec A, vec alpha) {
    return vec_where_less(vec_splat(0), A, g, g * (A + alpha));
}

INLINE vec vec_selu(vec z) {
    const vec below = vec_splat(SELU_SCALE * SELU_ALPHA) * vec_expm1(z);
    return vec_where_less(z, vec_splat(0), below, vec_splat(SELU_SCALE) * z);
}

INLINE vec vec_selu_backward(vec g, vec A) {
    return g * vec_where_less(vec_splat(0), A, vec_splat(SELU_SCALE), A + vec_splat(SELU_SCALE * SELU_ALPHA));
}

INLINE vec vec_celu(vec z, vec alpha) {
    return vec_where_less(z, vec_splat(0), alpha * vec_expm1(z / alpha), z);
}

INLINE vec vec_celu_backward(vec g, vec A, vec alpha) {
    return vec_where_less(vec_splat(0), A, g, g * (A / alpha + vec_splat(1)));
}

/* The division by beta is a multiplication, so that a loop divides once. */
INLINE vec vec_softplus(vec z, vec beta, vec threshold) {
    const vec x = beta * z;
    const vec soft = vec_max(vec_splat(0), x) + vec_log1p_exp(vec_abs(x));
    return vec_where_less(threshold, x, z, soft * (vec_splat(1) / beta));
}

/* 1 - e^(-beta A), and 1 above the largest A below the threshold. */
INLINE vec vec_softplus_backward(vec g, vec A, vec beta, vec threshold) {
    const vec x = beta * A, highest = threshold + vec_log1p_exp(threshold);
    return vec_where_less(highest, x, g, -g * vec_expm1(-x));
}

INLINE vec vec_softsign(vec z) {
    return z / (vec_abs(z) + vec_splat(1));
}

INLINE vec vec_softsign_backward(vec g, vec A) {
    const vec root = vec_splat(1) - vec_abs(A);
    return g * (root * root);
}

INLINE vec vec_hardtanh(vec z, vec low, vec high) {
    return vec_min(high, vec_max(low, z));
}

INLINE vec vec_hardtanh_backward(vec g, vec A, vec low, vec high) {
    return vec_where_less(low, A, vec_where_less(A, high, g, vec_splat(0)), vec_splat(0));
}

INLINE vec vec_relu6(vec z) {
    return vec_hardtanh(z, vec_splat(0), vec_splat(6));
}

INLINE vec vec_relu6_backward(vec g, vec A) {
    return vec_hardtanh_backward(g, A, vec_splat(0), vec_splat(6));
}

INLINE vec vec_log_sigmoid(vec z) {
    return vec_min(vec_splat(0), z) - vec_log1p_exp(vec_abs(z));
}

INLINE vec vec_log_sigmoid_backward(vec g, vec A) {
    return -g * vec_expm1(A);
}

/* --- f' does not follow from A: f, which also writes f' --- */

/* z Phi(z) with the normal distribution Phi, and Phi(z) + z phi(z) with its density. Both come from x = |z|, the upper
 * tail e^(-x^2 / 2) R(x), and Phi(x) = 1 - Phi(-x):
 *
 *     f = max(z, 0) - e^(-x^2 / 2) x R(x)    f' = G for z < 0, else 1 - G, with G = e^(-x^2 / 2) (R(x) - x phi(0))
 *
 * x^2 is the sum of the exact square of x rounded to half its digits and a small rest, so that e^(-x^2 / 2) is as good
 * as vec_exp. */
INLINE vec vec_gelu(vec z, vec* slope) {
    const vec one = vec_splat(1), half = vec_splat((real)0.5);
    const vec x = vec_min(vec_splat(NORMAL_HIGHEST), vec_abs(z));
    const vec high = (x + vec_splat(NORMAL_SHIFT)) - vec_splat(NORMAL_SHIFT);
    const vec square = half * high * high, rest = (half * (x + high)) * (x - high);
    const vec shifted = vec_fma(square + rest, vec_splat(-LOG2_E), vec_splat(SHIFT));
    const vec n = shifted - vec_splat(SHIFT);
    const vec m = vec_fma(n, vec_splat(LN2_HIGH), square) + vec_fma(n, vec_splat(LN2_LOW), rest);
    const vec scale = vec_power_of_two(shifted), g = one_minus_exp(m);

    const vec s = x / (x + vec_splat(NORMAL_OFFSET));
    const vec p = polynomial(s, s * s, NORMAL_TAIL, NORMAL_TAIL_LENGTH);
    const vec tail = s * p;
    const vec R = p * ((one - s) * vec_splat(1 / NORMAL_OFFSET));
    const vec G = vec_fnma(x, vec_splat(DENSITY), R);
    const vec below = scale * vec_fnma(G, g, G);
    *slope = vec_where_less(z, vec_splat(0), below, one - below);
    return vec_max(vec_splat(0), z) - scale * vec_fnma(tail, g, tail);
}

/* sigmoid z, as vec_sigmoid computes it, and 1 minus it, neither by a difference; z <= LOGISTIC_HIGHEST. */
struct logistic {
    vec s, rest;
};

INLINE struct logistic logistic(vec z) {
    const vec one = vec_splat(SIGMOID_ONE);
    struct exponential e = exponential(z, vec_splat(SHIFT - (real)SIGMOID_SCALE), false);
    vec inverse = vec_splat(1) / (vec_fnma(e.scale, e.g, one) + e.scale);
    return (struct logistic){one * inverse, vec_fnma(e.scale, e.g, e.scale) * inverse};
}

/* z sigmoid(z). */
INLINE vec vec_silu(vec z, vec* slope) {
    const vec x = vec_max(vec_splat(SIGMOID_LOWEST), vec_min(vec_splat(LOGISTIC_HIGHEST), z));
    const struct logistic y = logistic(x);
    *slope = vec_fma(x * y.s, y.rest, y.s);
    return z * y.s;
}

/* z (1 + tanh u) / 2 = z sigmoid(2u) with 2u = 2 sqrt(2 / pi) (z + 0.044715 z^3). */
INLINE vec vec_gelu_tanh(vec z, vec* slope) {
    const vec x = vec_max(vec_splat(-GELU_TANH_HIGHEST), vec_min(vec_splat(GELU_TANH_HIGHEST), z));
    const vec cubic = vec_splat(GELU_CUBIC) * (x * x), linear = vec_splat(GELU_LINEAR);
    const vec v = x * (linear + cubic);
    const struct logistic y = logistic(vec_max(vec_splat(SIGMOID_LOWEST), vec_min(vec_splat(LOGISTIC_HIGHEST), v)));
    *slope = vec_fma(x * vec_fma(vec_splat(3), cubic, linear), y.s * y.rest, y.s);
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
    const vec inverse = one / vec_fma(two, vec_where_less(z, zero, one, e2), t);
    const vec T = t * inverse, h = vec_where_less(z, zero, e, e2) * vec_splat(4);
    *slope = vec_fma(z, h * (one + e) * (inverse * inverse), T);
    return z * T;
}

/* z min(max(z + 3, 0), 6) / 6. */
INLINE vec vec_hardswish(vec z, vec* slope) {
    const vec zero = vec_splat(0), one = vec_splat(1), three = vec_splat(3);
    const vec x = vec_max(-three, z);
    const vec inner = vec_fma(z, vec_splat((real)(1.0 / 3)), vec_splat((real)0.5));
    *slope = vec_where_less(-three, z, vec_where_less(z, three, inner, one), zero);
    return x * (vec_min(vec_splat(6), x + three) * vec_splat((real)(1.0 / 6)));
}

#endif
