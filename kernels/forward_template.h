/* The forward pass of one chunk of rows.
 *
 *     Z[l] = A[l-1] @ W[l] + b[l]        A[l] = f(Z[l])        l = 1 … L
 *
 * A[0] is gathered from the user's rows. All A[l] lie in the space, (rows, width) in panels. A layer's panels and rows
 * can be computed apart, by different threads. */

INLINE const real* A_of(const struct brisk_space* space, int64_t l) {
    return space->A[l];
}

/* Rows i0 … i1 of A[0] = X[rows]. A copy, although the products could read X: tiles then find their rows side by side,
 * and dW reads them a second time. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const int64_t n_in = work->layers[0].n_in, stride = work->panel_stride;
    for (int64_t i = i0; i < i1; i++) {
        const real* X = (const real*)data->X + rows[i] * data->X_step;
        real* A = (real*)space->A[0] + i * PANEL;
        int64_t j = 0;
        for (; j + PANEL <= n_in; j += PANEL, A += stride) {
            vec_store(A, vec_load(X + j));
            vec_store(A + LANES, vec_load(X + j + LANES));
        }
        if (j < n_in) {
            vec_store(A, vec_load_first(X + j, n_in - j));
            if (j + LANES < n_in)
                vec_store(A + LANES, vec_load_first(X + j + LANES, n_in - j - LANES));
        }
    }
}

/* Panels j0 … j1 of rows i0 … i1 of A[l+1], from A[l]; Z in its place where `f` is the identity. */
static void forward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                          enum brisk_activation f, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[l];
    const real* P = work->P;
    const struct product forward = {
        .A = A_of(space, l),
        .B = P + layer->W,
        .bias = work->plan.bias == BRISK_BIAS_NONE ? NULL : P + layer->b,
        .bias_step = work->plan.bias == BRISK_BIAS_NEURON,
        .C = space->A[l + 1],
        .stride = work->panel_stride,
        .b_stride = layer->W_panel,
        .K = layer->n_in,
        .n = layer->n_out,
        .f = f,
    };
    product(&forward, j0, j1, i0, i1);
}

/* Write softmax(Z) in place of one row of Z; return max(Z), and log Σ e^(Z - max) to log_sum. */
static double softmax_row(real* Z, int64_t stride, int64_t n, double* log_sum) {
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
    *log_sum = log((double)sum);
    return (double)highest;
}

/* What the loss reads of the last layer: A for squared errors, else Z. */
static enum brisk_activation loss_activation(const struct brisk_work* work) {
    const enum brisk_activation f = work->layers[work->plan.n_layers - 1].activation;
    return work->plan.loss == BRISK_MSE && f != BRISK_SOFTMAX ? f : BRISK_IDENTITY;
}

/* A[0] … A[L] for m rows, by one thread, of which the last is f of its Z. */
static void forward_rows(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                         const int64_t* rows, int64_t m, enum brisk_activation last) {
    const int64_t n_layers = work->plan.n_layers;
    gather(work, space, data, rows, 0, m);
    for (int64_t l = 0; l < n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        forward_layer(work, space, l, l + 1 < n_layers ? layer->activation : last, 0, layer->panels, 0, m);
    }
}

static void predict(const struct brisk_work* work, int space_index, const struct brisk_data* data, const int64_t* rows,
                    int64_t m, void* out) {
    const struct brisk_space* space = &work->spaces[space_index];
    const int64_t n_layers = work->plan.n_layers, stride = work->panel_stride;
    const struct brisk_layer* layer = &work->layers[n_layers - 1];
    forward_rows(work, space, data, rows, m, layer->activation);
    for (int64_t i = 0; i < m; i++) {
        real *A = (real*)space->A[n_layers] + i * PANEL, *to = (real*)out + i * layer->n_out;
        double log_sum;
        if (layer->activation == BRISK_SOFTMAX)
            softmax_row(A, stride, layer->n_out, &log_sum);
        for (int64_t j = 0; j < layer->n_out; j += LANES)
            vec_store_first(to + j, vec_load(A + column(j, stride)), layer->n_out - j);
    }
}
