/* The activations f and their derivatives f', as operations.def has them; and softmax, which is no function of one
 * element, so that f leaves it to the loss. */
#pragma once

#include "panels_template.h"
#include "special_template.h"
#include "vec_math_template.h"

#include <math.h>

/* f(Z), with the parameters p and q; those that save f'(Z) write it to *slope. NaN gives NaN. */
INLINE vec activation(enum brisk_activation f, vec Z, vec p, vec q, vec* slope) {
    const vec zero = vec_splat(0);
    switch (f) {
#define ACTIVATION(NAME, where, saves, of_Z, backward) OPERATION(NAME, return of_Z)
#include "../operations.def"
    default:
        return Z;
    }
}

/* g · f'(Z), from what is saved: A = f(Z) or the slope S = f'(Z). */
INLINE vec activation_backward(enum brisk_activation f, vec g, vec saved, vec p, vec q) {
    const vec A = saved, S = saved, zero = vec_splat(0);
    switch (f) {
#define ACTIVATION(NAME, where, saves, of_Z, backward) OPERATION(NAME, return backward)
#include "../operations.def"
    default: /* BRISK_BY_SLOPE */
        return g * S;
    }
}

/* Overwrite one row of Z (n,) with softmax(Z); return max(Z), and write Σ e^(Z - max) to *sum_exp. */
static double softmax_row(real* Z, int64_t stride, int64_t n, double* sum_exp) {
    vec largest = vec_splat(-(real)INFINITY), sums = vec_splat(0);
    for (int64_t j = 0; j < n; j += LANES) {
        const vec z = vec_first(vec_load(Z + column(j, stride)), n - j, -(real)INFINITY);
        largest = vec_where_less(largest, z, z, largest);
    }
    const real highest = vec_largest(largest);
    for (int64_t j = 0; j < n; j += LANES) {
        real* z = Z + column(j, stride);
        const vec e = vec_first(vec_exp(vec_load(z) - vec_splat(highest)), n - j, 0);
        vec_store(z, e);
        sums = sums + e;
    }
    const real sum = vec_sum(sums);
    for (int64_t j = 0; j < n; j += LANES) {
        real* z = Z + column(j, stride);
        vec_store(z, vec_load(z) / vec_splat(sum));
    }
    *sum_exp = (double)sum;
    return (double)highest;
}
