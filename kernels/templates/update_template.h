/* The update rules, on runs of elements: those of operations.def, whose formulas are in briskmlp/operations/rules.py. g
 * is the gradient plus decay · w, unless the decay is decoupled.
 *
 * These are the rules of PyTorch's optimizers of the same names. Scikit-learn's are velocity, which has the rate
 * inside, and Adam with Kingma & Ba's ε̂, which is added before the second correction: it is ε/sqrt(1-β2^t) here. */
#pragma once

#include "../brisk.h"
#include "../isa/vec.h"

#include <math.h>

/* --- what a rule needs to know, once for each step ---------------------------------------------------------------- */

/* A rule at one step, and then for one tensor. */
struct rule {
    bool nesterov, decoupled;
    double correction, share; /* lr = rate / correction · share */
    double following;         /* ahead = rate · following */
    real mu, gain;            /* v = μ v + gain · g */
    real rest1, beta2, rest2; /* 1 - β1, β2, 1 - β2 */
    real root, epsilon;       /* root divides sqrt(v) */
    real divides, alone;      /* RAdam divides m by divides · (sqrt(v) + ε) + alone */
    real lr, ahead;           /* of a tensor: rates along g, m or v, and along NAdam's m */
    real shrink, decay;       /* of a tensor: w = w - shrink · w, and g = g + decay · w */
};

static void of_momentum(struct rule* r, const double* hyper, double step) {
    r->mu = (real)hyper[0];
    r->gain = (real)(step == 1 ? 1 : 1 - hyper[1]); /* the first gradient enters whole */
    r->nesterov = hyper[2] != 0;
}

static void of_velocity(struct rule* r, const double* hyper) {
    r->mu = (real)hyper[0];
    r->nesterov = hyper[1] != 0;
}

/* The running means of g and g², corrected by 1 - β1^t and sqrt(1 - β2^t); returns the latter. */
static double of_means(struct rule* r, const double* hyper, double step) {
    const double root = sqrt(1 - pow(hyper[1], step));
    r->correction = 1 - pow(hyper[0], step);
    r->rest1 = (real)(1 - hyper[0]);
    r->beta2 = (real)hyper[1];
    r->rest2 = (real)(1 - hyper[1]);
    r->root = (real)root;
    r->epsilon = (real)hyper[2];
    return root;
}

static void of_adam(struct rule* r, const double* hyper, double step) {
    const double root = of_means(r, hyper, step);
    if (hyper[3] != 0)
        r->epsilon = (real)(hyper[2] / root);
}

/* The shares of g and of m; the scalar is the product of all μ so far. */
static void of_nadam(struct rule* r, const double* hyper, double step, double* scalars) {
    const double mu = hyper[0] * (1 - 0.5 * pow(0.96, step * hyper[3]));
    const double next = hyper[0] * (1 - 0.5 * pow(0.96, (step + 1) * hyper[3]));
    of_means(r, hyper, step);
    scalars[0] *= mu;
    r->correction = 1;
    r->share = (1 - mu) / (1 - scalars[0]);
    r->following = next / (1 - scalars[0] * next);
}

/* The share is the rectification times sqrt(1 - β2^t); or m is alone while the variance of 1/sqrt(v) is infinite. */
static void of_radam(struct rule* r, const double* hyper, double step) {
    const double root = of_means(r, hyper, step), power = pow(hyper[1], step), limit = 2 / (1 - hyper[1]) - 1;
    const double length = limit - 2 * step * power / (1 - power);
    r->divides = length > 5;
    r->alone = length <= 5;
    if (length > 5)
        r->share = root * sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length));
}

static void of_adagrad(struct rule* r, const double* hyper, double step) {
    r->correction = 1 + (step - 1) * hyper[0];
    r->epsilon = (real)hyper[1];
}

/* ρ or α, ε and perhaps μ */
static void of_rmsprop(struct rule* r, const double* hyper) {
    r->beta2 = (real)hyper[0];
    r->rest2 = (real)(1 - hyper[0]);
    r->epsilon = (real)hyper[1];
    r->mu = (real)hyper[2];
}

/* The plan's rule at a step, for which it moves its scalars. */
static struct rule rule_at(const struct brisk_plan* plan, int64_t count, double* scalars) {
    struct rule rule = {.decoupled = plan->decoupled, .correction = 1, .share = 1}, *r = &rule;
    const double *hyper = plan->hyper, step = (double)count;
    switch (plan->rule) {
#define RULE(NAME, slots, n_scalars, constants, move) OPERATION(NAME, constants)
#include "../operations.def"
    default:
        break;
    }
    return rule;
}

/* The same for a tensor. */
INLINE struct rule rule_of(const struct rule* at_step, double rate, double decay, double l2) {
    struct rule rule = *at_step;
    rule.lr = (real)(rate / rule.correction * rule.share);
    rule.ahead = (real)(rate * rule.following);
    rule.shrink = (real)(rule.decoupled ? rate * decay : 0);
    rule.decay = (real)(rule.decoupled ? l2 : decay + l2);
    return rule;
}

/* --- the moves: each returns w after the step, and moves its slots s ---------------------------------------------- */

INLINE vec move_along(const struct rule* r, vec w, vec direction) {
    return vec_fnma(vec_splat(r->lr), direction, w);
}

INLINE vec move_momentum(const struct rule* r, vec w, vec g, vec* s) {
    const vec mu = vec_splat(r->mu);
    s[0] = vec_fma(mu, s[0], vec_splat(r->gain) * g);
    return move_along(r, w, r->nesterov ? vec_fma(mu, s[0], g) : s[0]);
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

/* Along g over the root of the sum or the mean of its squares. */
INLINE vec move_over_root(const struct rule* r, vec w, vec g, vec squares) {
    return w - r->lr * g / (vec_sqrt(squares) + r->epsilon);
}

INLINE vec move_adadelta(const struct rule* r, vec w, vec g, vec* s) {
    s[0] = squares_of(r, g, s[0]);
    const vec delta = vec_sqrt(s[1] + r->epsilon) / vec_sqrt(s[0] + r->epsilon) * g;
    s[1] = squares_of(r, delta, s[1]);
    return move_along(r, w, delta);
}

/* Move v and return g over its root; or, centered, also the mean of g, and over the root of the variance, which
 * rounding can take below 0. */
INLINE vec scaled(const struct rule* r, vec g, vec* v) {
    *v = squares_of(r, g, *v);
    return g / (vec_sqrt(*v) + r->epsilon);
}

INLINE vec centered(const struct rule* r, vec g, vec* v, vec* mean) {
    *v = squares_of(r, g, *v);
    *mean = mean_of(r->rest2, g, *mean);
    return g / (vec_sqrt(vec_max(vec_splat(0), vec_fnma(*mean, *mean, *v))) + r->epsilon);
}

/* Move a velocity, and return it. */
INLINE vec accumulated(const struct rule* r, vec direction, vec* velocity) {
    return *velocity = vec_fma(vec_splat(r->mu), *velocity, direction);
}

INLINE vec move(const struct rule* r, enum brisk_rule kind, vec w, vec g, vec* s) {
    g = vec_fma(vec_splat(r->decay), w, g);
    w = vec_fnma(vec_splat(r->shrink), w, w);
    switch (kind) {
#define RULE(NAME, slots, n_scalars, constants, move) OPERATION(NAME, return move)
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

static void update_tensor(const struct rule* rule, enum brisk_rule kind, real* W, const real* G, real* S,
                          int64_t stride, int64_t n) {
    switch (kind) {
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
    const struct rule rule = rule_at(plan, step, scalars);
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct brisk_layer* layer = &layers[l];
        const int64_t W = layer->dense_W, b = layer->dense_b, n = plan->n_parameters;
        const struct rule of_W = rule_of(&rule, rate * layer->rate_W, layer->decay_W, 0);
        const struct rule of_b = rule_of(&rule, rate * layer->rate_b, layer->decay_b, 0);
        update_tensor(&of_W, plan->rule, P + W, G + W, S + W, n, layer->n_in * layer->n_out);
        update_tensor(&of_b, plan->rule, P + b, G + b, S + b, n, layer->n_b);
    }
}
