/* The activations f and their derivatives f'. Softmax is no function of one element, so both leave it to the loss.
 * `slope` is leaky relu's slope below 0. */
#ifndef BRISK_ACTIVATION_TEMPLATE_H
#define BRISK_ACTIVATION_TEMPLATE_H

#include "../brisk.h"
#include "vec_math_template.h"

/* Expands CASE(f) for each activation whose backward pass has a loop of its own: each `case` calls an inlined loop with
 * a constant f, so that the loop itself does not branch. */
#define BRISK_EACH_ACTIVATION(CASE) CASE(BRISK_SIGMOID) CASE(BRISK_TANH) CASE(BRISK_RELU) CASE(BRISK_LEAKY_RELU)

/* f(Z). NaN gives NaN. */
INLINE vec activation(enum brisk_activation f, vec Z, vec slope) {
    switch (f) {
    case BRISK_SIGMOID:
        return vec_sigmoid(Z);
    case BRISK_TANH:
        return vec_tanh(Z);
    case BRISK_RELU:
        return vec_where_less(Z, vec_splat(0), vec_splat(0), Z);
    case BRISK_LEAKY_RELU:
        return vec_where_less(vec_splat(0), Z, Z, slope * Z);
    case BRISK_EXP:
        return vec_exp_any(Z);
    default:
        return Z;
    }
}

/* g · f'(Z), with f' computed from A = f(Z). Exp has no case: it is only the output of the poisson loss, whose delta
 * needs no f'. */
INLINE vec activation_backward(enum brisk_activation f, vec g, vec A, vec slope) {
    switch (f) {
    case BRISK_SIGMOID:
        return g * (A * (vec_splat(1) - A));
    case BRISK_TANH:
        return g * (vec_splat(1) - A * A);
    case BRISK_RELU:
        return vec_where_less(vec_splat(0), A, g, vec_splat(0));
    case BRISK_LEAKY_RELU:
        return vec_where_less(vec_splat(0), A, g, g * slope);
    default:
        return g;
    }
}

#endif
