/* A part of train_test: the rows of operations.def that no kernel computes with, because the loss does, must hand on
 * what they are given. */
#define BRISK_ISA portable
#define BRISK_DOUBLE 1
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../templates/loss_template.h"

int failing_operations(void);

static bool same(vec a, vec b) {
    real x[LANES], y[LANES];
    vec_store(x, a), vec_store(y, b);
    return memcmp(x, y, sizeof x) == 0;
}

int failing_operations(void) {
    const vec Z = vec_splat(-0.75), g = vec_splat(0.5), p = vec_splat(2), q = vec_splat(3);
    int failures = 0;
    for (enum brisk_activation f = 0; f < BRISK_ACTIVATIONS; f++) {
        const bool saves_nothing = brisk_activations[f].saves == BRISK_SAVES_NOTHING;
        vec slope;
        if (saves_nothing)
            failures += !same(activation(f, Z, p, q, &slope), Z);
        if (saves_nothing || brisk_activations[f].where == BRISK_OUTPUT)
            failures += !same(activation_backward(f, g, Z, p, q), g);
    }
    for (enum brisk_loss loss = 0; loss < BRISK_LOSSES; loss++) {
        vec losses = p;
        if (brisk_error_factors[loss] == 0)
            failures += !same(error_loss(loss, q, Z, g, &losses), Z) + !same(losses, p);
    }
    return failures;
}
