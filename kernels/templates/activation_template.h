/* f and f' of the Plan's activations. Softmax is no function of one number: both leave it to the loss. `slope` is that
 * of leaky relu below 0. */

/* f(Z). NaN comes through. */
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

/* g · f'(Z), with f' computed from A = f(Z). Exp is the output of one loss alone, whose delta needs no f'. */
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
