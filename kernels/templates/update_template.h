/* The update rules, on runs of elements. g is the gradient plus decay · w, unless the decay is decoupled.
 *
 *     SGD        w -= lr g
 *     momentum   v = μ v + g                               w -= lr v, or lr (g + μ v) with Nesterov
 *       rated    v = μ v - lr g                            w += v, or μ v - lr g with Nesterov
 *     Adam       m += (1-β1)(g - m), v = β2 v + (1-β2) g²     w -= lr/(1-β1^t) m / (sqrt(v)/sqrt(1-β2^t) + ε)
 *     RMSprop    v = β2 v + (1-β2) g²                      w -= lr g / (sqrt(v) + ε)
 *
 * These are the rules of PyTorch's optimizers of the same names. Scikit-learn's are momentum with the rate inside the
 * velocity (rated), and Adam with Kingma & Ba's ε̂, which is added before the second correction: it is ε/sqrt(1-β2^t)
 * here. */
#ifndef BRISK_UPDATE_TEMPLATE_H
#define BRISK_UPDATE_TEMPLATE_H

#include "../brisk.h"
#include "../isa/vec.h"

#include <math.h>

/* A rule for one tensor and step. lr includes the correction of Adam's first moment; root is that of the second. */
struct rule {
    enum brisk_rule kind;
    bool nesterov, rated;
    real lr, shrink, decay, mu, rest1, beta2, rest2, root, epsilon;
};

static struct rule rule_of(const struct brisk_plan* plan, double rate, double decay, double l2, int64_t step) {
    const bool adam = plan->rule == BRISK_ADAM;
    const double root = adam ? sqrt(1 - pow(plan->beta2, (double)step)) : 1;
    return (struct rule){
        .kind = plan->rule,
        .nesterov = plan->nesterov,
        .rated = plan->lr_in_velocity,
        .lr = (real)(adam ? rate / (1 - pow(plan->beta1, (double)step)) : rate),
        .shrink = (real)(plan->decoupled ? rate * decay : 0),
        .decay = (real)(plan->decoupled ? l2 : decay + l2),
        .mu = (real)plan->momentum,
        .rest1 = (real)(1 - plan->beta1),
        .beta2 = (real)plan->beta2,
        .rest2 = (real)(1 - plan->beta2),
        .root = (real)root,
        .epsilon = (real)(plan->epsilon_hat ? plan->epsilon / root : plan->epsilon),
    };
}

/* Move one vector of weights w; s and t are its slots of state. */
INLINE vec move(const struct rule* rule, enum brisk_rule kind, bool rated, vec w, vec g, vec* s, vec* t) {
    const vec lr = vec_splat(rule->lr);
    g = vec_fma(vec_splat(rule->decay), w, g);
    w = vec_fnma(vec_splat(rule->shrink), w, w);
    switch (kind) {
    case BRISK_SGD:
        return vec_fnma(lr, g, w);
    case BRISK_MOMENTUM:
        if (rated) {
            *s = vec_fnma(lr, g, vec_splat(rule->mu) * *s);
            return w + (rule->nesterov ? vec_fnma(lr, g, vec_splat(rule->mu) * *s) : *s);
        }
        *s = vec_fma(vec_splat(rule->mu), *s, g);
        return vec_fnma(lr, rule->nesterov ? vec_fma(vec_splat(rule->mu), *s, g) : *s, w);
    case BRISK_ADAM:
        *s = vec_fma(vec_splat(rule->rest1), g - *s, *s);
        *t = vec_fma(vec_splat(rule->beta2), *t, vec_splat(rule->rest2) * (g * g));
        return w - lr * *s / (vec_sqrt(*t) / vec_splat(rule->root) + vec_splat(rule->epsilon));
    default:
        *s = vec_fma(vec_splat(rule->beta2), *s, vec_splat(rule->rest2) * (g * g));
        return w - lr * g / (vec_sqrt(*s) + vec_splat(rule->epsilon));
    }
}

/* Move n weights W by the gradient G; S and T hold the first and second slot of state of rules that have them. */
INLINE void update_elements(const struct rule* rule, enum brisk_rule kind, bool rated, real* W, const real* G, real* S,
                            real* T, int64_t n) {
    const bool one = kind != BRISK_SGD, two = kind == BRISK_ADAM;
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        vec s = one ? vec_load_first(S + i, left) : vec_splat(0), t = two ? vec_load_first(T + i, left) : vec_splat(0);
        const vec w = move(rule, kind, rated, vec_load_first(W + i, left), vec_load_first(G + i, left), &s, &t);
        vec_store_first(W + i, w, left);
        if (one)
            vec_store_first(S + i, s, left);
        if (two)
            vec_store_first(T + i, t, left);
    }
}

static void update_tensor(const struct rule* rule, real* W, const real* G, real* S, real* T, int64_t n) {
    switch (rule->kind) {
    case BRISK_SGD:
        update_elements(rule, BRISK_SGD, false, W, G, NULL, NULL, n);
        break;
    case BRISK_MOMENTUM:
        if (rule->rated)
            update_elements(rule, BRISK_MOMENTUM, true, W, G, S, NULL, n);
        else
            update_elements(rule, BRISK_MOMENTUM, false, W, G, S, NULL, n);
        break;
    case BRISK_ADAM:
        update_elements(rule, BRISK_ADAM, false, W, G, S, T, n);
        break;
    case BRISK_RMSPROP:
        update_elements(rule, BRISK_RMSPROP, false, W, G, S, NULL, n);
        break;
    }
}

/* Move the dense parameters W1 b1 W2 b2 … by one step. */
static void update(const struct brisk_plan* plan, const struct brisk_layer* layers, void* params, const void* grad,
                   void* state, int64_t step, double rate) {
    const int64_t n = plan->n_slots > 1 ? plan->n_parameters : 0; /* to the second slot */
    real *P = params, *S = plan->n_slots > 0 ? state : params;    /* a rule without slots does not touch S */
    const real* G = grad;
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct brisk_layer* layer = &layers[l];
        const int64_t W = layer->dense_W, b = layer->dense_b;
        const struct rule of_W = rule_of(plan, rate * layer->rate_W, layer->decay_W, 0, step);
        const struct rule of_b = rule_of(plan, rate * layer->rate_b, layer->decay_b, 0, step);
        update_tensor(&of_W, P + W, G + W, S + W, S + n + W, layer->n_in * layer->n_out);
        update_tensor(&of_b, P + b, G + b, S + b, S + n + b, layer->n_b);
    }
}

#endif
