/* The activations of one vector, by polynomials; at most 2 ulp from the exact result wherever that is normal.
 *
 * e^-x follows the classical reduction (Cody & Waite, Software Manual for the Elementary Functions, 1980):
 * x = m - n ln2 with an integer n and |m| <= ln2/2, and e^-x = 2^n e^-m. ln2 is the sum of two numbers, the higher with
 * so few bits that n times it is exact. What follows is ours: e^-m is never formed, only 1 - e^-m, which stays
 * accurate near 0, and 2^n is added to whatever is exact with it before the one rounding that counts. Where an integer
 * is rounded to, by adding SHIFT, the exponent's bias is in SHIFT too, so that one shift of bits makes 2^n.
 *
 * Every polynomial has the least largest relative error of its degree (Remez 1934), here for exact coefficients. */

#include <stdbool.h>

#if BRISK_DOUBLE

static const real LOG2_E = 1.4426950408889634;
static const real LN2 = 0.6931471805599453;
static const real LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const real SHIFT = 0x1.8p52 + 1023;
static const real LOWEST = 709.1;                              /* e^-x is less than half the smallest normal number */
enum { UNIT = 64 };                                            /* see vec_sigmoid */
static const real SIGMOID_LOWEST = -746, SIGMOID_HIGHEST = 38; /* beyond, the result is 0 or 1 */
static const real TANH_HIGHEST = 20;

/* (e^-m - 1 + m) / m² for |m| <= ln2/2: degree 9; of e^-m the relative error is 2^-57.9. */
static const real EXP[] = {0.50000000000000106422,    -0.16666666666666412148,   0.041666666666530003638,
                           -0.0083333333334946546352, 0.001388888894367682077,   -0.0001984126950627063877,
                           2.4801493045218105858e-5,  -2.7557586546377842709e-6, 2.7630269197273348916e-7,
                           -2.5000040336224868286e-8};

/* (artanh(√u) / √u - 1) / u for 0 <= u <= 1/9: degree 9; of artanh the relative error is 2^-59.3. */
static const real ARTANH[] = {0.33333333333333151909,  0.20000000000078621098,  0.14285714273926857967,
                              0.1111111198487348216,   0.090908719621601942676, 0.076932799678187817742,
                              0.066504867164982054664, 0.060530436749557141282, 0.04170048614969505654,
                              0.085092911811920075993};

#else

static const real LOG2_E = 1.44269504f;
static const real LN2 = 0.693147181f;
static const real LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
static const real SHIFT = 0x1.8p23f + 127;
static const real LOWEST = 88;
enum { UNIT = 32 };
static const real SIGMOID_LOWEST = -105, SIGMOID_HIGHEST = 18;
static const real TANH_HIGHEST = 10;

/* Degree 4; the relative error is 2^-28.2. */
static const real EXP[] = {0x1.fffffep-2f, -0x1.5554aap-3f, 0x1.55579cp-5f, -0x1.122c64p-7f, 0x1.6ab852p-10f};

/* Degree 3; the relative error is 2^-27.7. */
static const real ARTANH[] = {0.33333206568632569979f, 0.20010849444358441643f, 0.13999571718715362792f,
                              0.14012224167813011877f};

#endif

/* c[0] + c[1] x + … + c[degree] x^degree, given x². Pairs of terms do not wait for each other, and two vectors wait
 * half as long as in Horner's rule, for one operation more: here x² is needed anyway. */
INLINE vec polynomial(vec x, vec x2, const real* c, int degree) {
    int k = degree & ~1;
    vec p = k == degree ? vec_splat(c[k]) : vec_fma(vec_splat(c[degree]), x, vec_splat(c[k]));
    for (k -= 2; k >= 0; k -= 2)
        p = vec_fma(p, x2, vec_fma(vec_splat(c[k + 1]), x, vec_splat(c[k])));
    return p;
}

/* e^-x = scale (1 - g), for n in the range of exponents. */
struct exponential {
    vec scale, g;
};

/* Returns scale = 2^(n - unit) and g = 1 - e^-m, where x = m - n ln2. One step of reduction makes the relative error of
 * e^-x |n| times that of LN2, which for float32 cannot be seen where e^-x < 1 is added to 1. */
INLINE struct exponential exponential(vec x, int unit, bool one_step) {
    const real shift = SHIFT - (real)unit;
    const int degree = sizeof EXP / sizeof *EXP - 1;
    vec shifted = vec_fma(x, vec_splat(-LOG2_E), vec_splat(shift));
    vec n = shifted - vec_splat(shift);
    vec m = vec_fma(n, vec_splat(one_step ? LN2 : LN2_HIGH), x);
    if (!one_step)
        m = vec_fma(n, vec_splat(LN2_LOW), m);
    vec m2 = m * m;
    vec g = vec_fnma(polynomial(m, m2, EXP, degree), m2, m);
    return (struct exponential){vec_power_of_two(shifted), g};
}

/* Returns e^x for x <= 0. */
INLINE vec vec_exp(vec x) {
    struct exponential e = exponential(vec_min(vec_splat(LOWEST), -x), 0, false);
    return e.scale * (vec_splat(1) - e.g);
}

/* Returns log(1 + x) for 0 <= x <= 1, as 2 artanh(s) with s = x / (2 + x) <= 1/3. */
INLINE vec vec_log1p(vec x) {
    const int degree = sizeof ARTANH / sizeof *ARTANH - 1;
    vec s = x / (x + vec_splat(2));
    vec u = s * s;
    s = s + s;
    return vec_fma(polynomial(u, u * u, ARTANH, degree) * u, s, s);
}

/* Returns 1 / (1 + e^-z). Numerator and denominator are 2^-UNIT of that: then the denominator does not overflow
 * before the quotient has underflowed to 0. */
INLINE vec vec_sigmoid(vec z) {
    const vec one = vec_splat(BRISK_DOUBLE ? (real)0x1p-64 : (real)0x1p-32);
    vec x = vec_max(vec_splat(SIGMOID_LOWEST), vec_min(vec_splat(SIGMOID_HIGHEST), z));
    struct exponential e = exponential(x, UNIT, false);
    return one / (vec_fnma(e.scale, e.g, one) + e.scale);
}

/* Returns tanh z = (1 - e^-2|z|) / (1 + e^-2|z|) with z's sign. Near 0, where n = 0, the numerator is g, exactly. */
INLINE vec vec_tanh(vec z) {
    const vec one = vec_splat(1);
    vec x = vec_min(vec_splat(TANH_HIGHEST), vec_abs(z));
    struct exponential e = exponential(x + x, 0, !BRISK_DOUBLE);
    vec numerator = vec_fma(e.scale, e.g, one - e.scale);
    vec denominator = vec_fnma(e.scale, e.g, one + e.scale);
    if (BRISK_DOUBLE) {
        /* With both rounded the error could be 2.1 ulp (in float32 it is 1.95, every number tried). So the numerator
         * takes up what the denominator lost, times their quotient, before it is rounded itself. There is no time to
         * wait for the quotient, but (1 - 2^n)² is near enough, and 0 where n = 0. */
        vec lost = vec_fnma(e.scale, e.g, one + e.scale - denominator);
        vec rest = one - e.scale;
        numerator = rest + vec_fnma(lost, rest * rest, e.scale * e.g);
    }
    return vec_copysign(numerator / denominator, z);
}
