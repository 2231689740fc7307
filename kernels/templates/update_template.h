/* The update rules, on runs of elements: those of operations.def, whose formulas are in briskmlp/operations/rules.py. g
 * is the gradient plus decay · w, unless the decay is decoupled.
 *
 * These are the rules of PyTorch's optimizers of the same names. Scikit-learn's are velocity, which has the rate
 * inside, and Adam with Kingma & Ba's ε̂, which is added before the second correction: it is ε/sqrt(1-β2^t) here. */
#pragma once

#include "../brisk.h"
#include "../isa/vec.h"

#include <math.h>

/* --- what depends on the step alone, once for each step ---------------------------------------------------------- */

static void no_factors(const double* hyper, double step, double* scalars, double* factors) {
    (void)hyper, (void)step, (void)scalars, (void)factors;
}

/* The first gradient enters whole. */
static void dampening(const double* hyper, double step, double* scalars, double* factors) {
    (void)scalars;
    factors[0] = step == 1 ? 1 : 1 - hyper[1];
}

/* 1 - β1^t and sqrt(1 - β2^t) */
static void corrections(const double* hyper, double step, double* scalars, double* factors) {
    (void)scalars;
    factors[0] = 1 - pow(hyper[0], step);
    factors[1] = sqrt(1 - pow(hyper[1], step));
}

/* Of g and of m; the scalar is the product of all μ so far. */
static void nadam_factors(const double* hyper, double step, double* scalars, double* factors) {
    corrections(hyper, step, scalars, factors);
    const double mu = hyper[0] * (1 - 0.5 * pow(0.96, step * hyper[3]));
    const double next = hyper[0] * (1 - 0.5 * pow(0.96, (step + 1) * hyper[3]));
    scalars[0] *= mu;
    factors[0] = (1 - mu) / (1 - scalars[0]);
    factors[2] = next / (1 - scalars[0] * next);
}

/* The rectification times sqrt(1 - β2^t), or 0 while the variance of 1/sqrt(v) is infinite. */
static void radam_factors(const double* hyper, double step, double* scalars, double* factors) {
    corrections(hyper, step, scalars, factors);
    const double power = pow(hyper[1], step), limit = 2 / (1 - hyper[1]) - 1;
    const double length = limit - 2 * step * power / (1 - power);
    factors[2] =
        length <= 5 ? 0 : factors[1] * sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length));
}

static void adagrad_factors(const double* hyper, double step, double* scalars, double* factors) {
    (void)scalars;
    factors[0] = 1 + (step - 1) * hyper[0];
}

/* Compute a step's factors, and move the scalars. */
static void set_factors(const struct brisk_plan* plan, int64_t step, double* scalars, double* factors) {
    switch (plan->rule) {
#define RULE(NAME, slots, n_scalars, factors_of, ...)                                                                  \
    OPERATION(NAME, factors_of(plan->hyper, (double)step, scalars, factors))
#include "../operations.def"
    default:
        break;
    }
}

/* --- what also depends on the tensor ------------------------------------------------------------------------------ */

/* A rule for one tensor and step. */
struct rule {
    enum brisk_rule kind;
    const double *hyper, *factors;
    double rate;
    real lr, shrink, decay;
    real mu, gain;              /* v = μ v + gain · g */
    real rest1, beta2, rest2;   /* 1 - β1, β2, 1 - β2 */
    real root, epsilon;         /* root divides sqrt(v) */
    real ahead, divides, alone; /* NAdam's rate along m; RAdam divides m by divides · (sqrt(v) + ε) + alone */
    bool nesterov;
};

static void no_constants(struct rule* rule) {
    (void)rule;
}

static void of_momentum(struct rule* rule) {
    rule->mu = (real)rule->hyper[0];
    rule->gain = (real)rule->factors[0];
    rule->nesterov = rule->hyper[2] != 0;
}

static void of_velocity(struct rule* rule) {
    rule->mu = (real)rule->hyper[0];
    rule->nesterov = rule->hyper[1] != 0;
}

static void of_means(struct rule* rule) {
    rule->rest1 = (real)(1 - rule->hyper[0]);
    rule->beta2 = (real)rule->hyper[1];
    rule->rest2 = (real)(1 - rule->hyper[1]);
    rule->root = (real)rule->factors[1];
    rule->epsilon = (real)rule->hyper[2];
}

static void of_adam(struct rule* rule) {
    of_means(rule);
    rule->lr = (real)(rule->rate / rule->factors[0]);
    if (rule->kind == BRISK_ADAM && rule->hyper[3] != 0)
        rule->epsilon = (real)(rule->hyper[2] / rule->factors[1]);
}

static void of_nadam(struct rule* rule) {
    of_means(rule);
    rule->lr = (real)(rule->rate * rule->factors[0]);
    rule->ahead = (real)(rule->rate * rule->factors[2]);
}

static void of_radam(struct rule* rule) {
    of_means(rule);
    const double rectification = rule->factors[2];
    rule->divides = rectification > 0;
    rule->alone = rectification <= 0;
    rule->lr = (real)(rule->rate / rule->factors[0] * (rectification > 0 ? rectification : 1));
}

static void of_adagrad(struct rule* rule) {
    rule->lr = (real)(rule->rate / rule->factors[0]);
    rule->epsilon = (real)rule->hyper[1];
}

/* ρ or α, ε and perhaps μ */
static void of_rmsprop(struct rule* rule) {
    rule->beta2 = (real)rule->hyper[0];
    rule->rest2 = (real)(1 - rule->hyper[0]);
    rule->epsilon = (real)rule->hyper[1];
    rule->mu = (real)rule->hyper[2];
}

INLINE struct rule rule_of(const struct brisk_plan* plan, double rate, double decay, double l2, const double* factors) {
    struct rule rule = {
        .kind = plan->rule,
        .hyper = plan->hyper,
        .factors = factors,
        .rate = rate,
        .lr = (real)rate,
        .shrink = (real)(plan->decoupled ? rate * decay : 0),
        .decay = (real)(plan->decoupled ? l2 : decay + l2),
    };
    switch (plan->rule) {
#define RULE(NAME, slots, n_scalars, factors_of, constants, ...) OPERATION(NAME, constants(&rule))
#include "../operations.def"
    default:
        break;
    }
    return rule;
}

/* --- the moves: each returns w after the step, and moves its slots s ---------------------------------------------- */

INLINE vec move_sgd(const struct rule* r, vec w, vec g, vec* s) {
    (void)s;
    return vec_fnma(vec_splat(r->lr), g, w);
}

INLINE vec move_momentum(const struct rule* r, vec w, vec g, vec* s) {
    const vec lr = vec_splat(r->lr), mu = vec_splat(r->mu);
    s[0] = vec_fma(mu, s[0], vec_splat(r->gain) * g);
    return vec_fnma(lr, r->nesterov ? vec_fma(mu, s[0], g) : s[0], w);
}

INLINE vec move_velocity(const struct rule* r, vec w, vec g, vec* s) {
    const vec lr = vec_splat(r->lr), mu = vec_splat(r->mu);
    s[0] = vec_fnma(lr, g, mu * s[0]);
    return w + (r->nesterov ? vec_fnma(lr, g, mu * s[0]) : s[0]);
}

/* Move a running mean of g, in which the new g has the share `rest`. */
INLINE vec mean_of(real rest, vec g, vec m) {
    return vec_fma(vec_splat(rest), g - m, m);
}

/* Move a running mean of g². */
INLINE vec squares_of(const struct rule* r, vec g, vec v) {
    return vec_fma(vec_splat(r->beta2), v, vec_splat(r->rest2) * (g * g));
}

INLINE void move_means(const struct rule* r, vec g, vec* s) {
    s[0] = mean_of(r->rest1, g, s[0]);
    s[1] = squares_of(r, g, s[1]);
}

/* What divides the mean of g: the corrected root of the mean of g², and ε. */
INLINE vec corrected_root(const struct rule* r, vec v) {
    return vec_sqrt(v) / r->root + r->epsilon;
}

INLINE vec move_adam(const struct rule* r, vec w, vec g, vec* s) {
    move_means(r, g, s);
    return w - r->lr * s[0] / corrected_root(r, s[1]);
}

INLINE vec move_amsgrad(const struct rule* r, vec w, vec g, vec* s) {
    move_means(r, g, s);
    s[2] = vec_max(s[2], s[1]);
    return w - r->lr * s[0] / corrected_root(r, s[2]);
}

INLINE vec move_nadam(const struct rule* r, vec w, vec g, vec* s) {
    move_means(r, g, s);
    return w - vec_fma(vec_splat(r->lr), g, r->ahead * s[0]) / corrected_root(r, s[1]);
}

INLINE vec move_radam(const struct rule* r, vec w, vec g, vec* s) {
    move_means(r, g, s);
    const vec divisor = vec_sqrt(s[1]) + r->epsilon;
    return w - r->lr * s[0] / vec_fma(vec_splat(r->divides), divisor, vec_splat(r->alone));
}

INLINE vec move_adamax(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = mean_of(r->rest1, g, s[0]);
    s[1] = vec_max(r->beta2 * s[1], vec_abs(g) + r->epsilon);
    return w - r->lr * s[0] / s[1];
}

INLINE vec move_adagrad(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = vec_fma(g, g, s[0]);
    return w - r->lr * g / (vec_sqrt(s[0]) + r->epsilon);
}

INLINE vec move_adadelta(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = squares_of(r, g, s[0]);
    const vec delta = vec_sqrt(s[1] + r->epsilon) / vec_sqrt(s[0] + r->epsilon) * g;
    s[1] = squares_of(r, delta, s[1]);
    return vec_fnma(vec_splat(r->lr), delta, w);
}

INLINE vec move_rmsprop(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = squares_of(r, g, s[0]);
    return w - r->lr * g / (vec_sqrt(s[0]) + r->epsilon);
}

INLINE vec move_rmsprop_momentum(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = squares_of(r, g, s[0]);
    s[1] = vec_fma(vec_splat(r->mu), s[1], g / (vec_sqrt(s[0]) + r->epsilon));
    return vec_fnma(vec_splat(r->lr), s[1], w);
}

/* Move v and the mean of g, and return g over the root of the variance, which rounding can take below 0. */
INLINE vec centered(const struct rule* r, vec g, vec* v, vec* mean) {
    *v = squares_of(r, g, *v);
    *mean = mean_of(r->rest2, g, *mean);
    return g / (vec_sqrt(vec_max(vec_splat(0), vec_fnma(*mean, *mean, *v))) + r->epsilon);
}

INLINE vec move_rmsprop_centered(const struct rule* r, vec w, vec g, vec* s) {
    return vec_fnma(vec_splat(r->lr), centered(r, g, &s[0], &s[1]), w);
}

INLINE vec move_rmsprop_centered_momentum(const struct rule* r, vec w, vec g, vec* s) {
    s[1] = vec_fma(vec_splat(r->mu), s[1], centered(r, g, &s[0], &s[2]));
    return vec_fnma(vec_splat(r->lr), s[1], w);
}

INLINE vec move(const struct rule* r, enum brisk_rule kind, vec w, vec g, vec* s) {
    g = vec_fma(vec_splat(r->decay), w, g);
    w = vec_fnma(vec_splat(r->shrink), w, w);
    switch (kind) {
#define RULE(NAME, slots, n_scalars, factors, constants, moves) OPERATION(NAME, return moves(r, w, g, s))
#include "../operations.def"
    default:
        return w;
    }
}

/* Move n weights W by the gradient G; their slots lie at S, stride elements apart, if the rule has any. */
INLINE void update_elements(const struct rule* rule, enum brisk_rule kind, real* W, const real* G, real* S,
                            int64_t stride, int64_t n) {
    const int slots = brisk_rules[kind].slots;
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        vec s[BRISK_SLOTS];
        for (int k = 0; k < slots; k++)
            s[k] = vec_load_first(S + k * stride + i, left);
        vec_store_first(W + i, move(rule, kind, vec_load_first(W + i, left), vec_load_first(G + i, left), s), left);
        for (int k = 0; k < slots; k++)
            vec_store_first(S + k * stride + i, s[k], left);
    }
}

static void update_tensor(const struct rule* rule, real* W, const real* G, real* S, int64_t stride, int64_t n) {
    switch (rule->kind) {
#define RULE(NAME, ...) OPERATION(NAME, update_elements(rule, BRISK_##NAME, W, G, S, stride, n))
#include "../operations.def"
    default:
        break;
    }
}

/* Move the dense parameters W1 b1 W2 b2 … by one step. */
static void update(const struct brisk_plan* plan, const struct brisk_layer* layers, void* params, const void* grad,
                   void* state, double* scalars, int64_t step, double rate) {
    real *P = params, *S = plan->n_slots > 0 ? state : params; /* a rule without slots does not touch S */
    const real* G = grad;
    double factors[BRISK_FACTORS];
    set_factors(plan, step, scalars, factors);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct brisk_layer* layer = &layers[l];
        const int64_t W = layer->dense_W, b = layer->dense_b, n = plan->n_parameters;
        const struct rule of_W = rule_of(plan, rate * layer->rate_W, layer->decay_W, 0, factors);
        const struct rule of_b = rule_of(plan, rate * layer->rate_b, layer->decay_b, 0, factors);
        update_tensor(&of_W, P + W, G + W, S + W, n, layer->n_in * layer->n_out);
        update_tensor(&of_b, P + b, G + b, S + b, n, layer->n_b);
    }
}
