/* The activations f and their derivatives f', as operations.def has them. Softmax is no function of one element, so
 * both leave it to the loss. */
#pragma once

#include "../brisk.h"
#include "special_template.h"
#include "vec_math_template.h"

/* f(Z), with the parameters p and q; those that save f'(Z) write it to *slope. NaN gives NaN. */
INLINE vec activation(enum brisk_activation f, vec Z, vec p, vec q, vec* slope) {
    (void)p, (void)q, (void)slope;
    switch (f) {
#define ACTIVATION(NAME, where, saves, of_Z, backward)                                                                 \
    case BRISK_##NAME:                                                                                                 \
        return of_Z;
#include "../operations.def"
    default:
        return Z;
    }
}

/* g · f'(Z), from what is saved: A = f(Z) or the slope S = f'(Z). */
INLINE vec activation_backward(enum brisk_activation f, vec g, vec saved, vec p, vec q) {
    const vec A = saved, S = saved;
    (void)p, (void)q, (void)A;
    switch (f) {
#define ACTIVATION(NAME, where, saves, of_Z, backward)                                                                 \
    case BRISK_##NAME:                                                                                                 \
        return backward;
#include "../operations.def"
    default: /* BRISK_BY_SLOPE */
        return g * S;
    }
}
