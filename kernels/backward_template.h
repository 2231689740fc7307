/* The loss and the backward pass of one chunk of rows.
 *
 *     delta[L] = ∂E/∂Z[L]                       delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
 *     dW[l] = A[l-1].T @ delta[l]               db[l] = delta[l].sum(axis=0)
 *
 * `loss_rows` finishes the last layer: it writes delta[L], times the batch's scale, and the losses. The deltas lie in
 * the space, (rows, width) in panels; three buffers take turns, as one thread may still read delta[l+1] for dW while
 * another reads delta[l] to write delta[l-1]. */

INLINE real* D_of(const struct brisk_space* space, int64_t l) {
    return space->D[l % 3];
}

/* --- the loss of one row: writes delta, returns E ---------------------------------------------------------------- */

/* delta = factor · A (g - Σ g A), where A = softmax(Z) and g = 2 (A - Y); Σ (A - Y)². */
static double softmax_squared_error(real* A, const real* Y, real* D, int64_t stride, int64_t n, double factor) {
    double log_sum;
    softmax_row(A, stride, n, &log_sum);
    vec squares = vec_splat(0), along = vec_splat(0);
    const vec twice = vec_splat((real)(2 * factor));
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        const vec a = vec_load(A + at), error = vec_first(a - vec_load_first(Y + j, n - j), n - j, 0);
        const vec g = error * twice;
        squares = vec_fma(error, error, squares);
        along = vec_fma(g, vec_first(a, n - j, 0), along);
        vec_store(D + at, g);
    }
    const vec mean = vec_splat(vec_sum(along));
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        vec_store(D + at, vec_load(A + at) * (vec_load(D + at) - mean));
    }
    return (double)vec_sum(squares);
}

/* delta = factor · (A - Y), where A = sigmoid(Z); Σ softplus(Z) - Y Z. */
static double sigmoid_cross_entropy(const real* Z, const real* Y, real* D, int64_t stride, int64_t n, double factor) {
    const vec zero = vec_splat(0), one = vec_splat(1), factors = vec_splat((real)factor);
    vec losses = zero;
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        const vec z = vec_load(Z + at), y = vec_load_first(Y + j, n - j);
        const vec e = vec_exp(-vec_abs(z));
        const vec softplus = vec_where_less(z, zero, zero, z) + vec_log1p(e);
        losses = losses + vec_first(softplus - y * z, n - j, 0);
        const vec a = vec_where_less(z, zero, e, one) / (one + e);
        vec_store(D + at, (a - y) * factors);
    }
    return (double)vec_sum(losses);
}

/* delta = factor · (A - Y), where A = softmax(Z) and Y is 1 at the label; logsumexp(Z) - Z[label]. */
static double softmax_cross_entropy_label(real* Z, int64_t label, real* D, int64_t stride, int64_t n, double factor) {
    if ((uint64_t)label >= (uint64_t)n) /* changed behind our back since it was checked */
        return NAN;
    const int64_t at_label = column(label, stride);
    const double taken = (double)Z[at_label];
    double log_sum;
    const double highest = softmax_row(Z, stride, n, &log_sum);
    const vec factors = vec_splat((real)factor);
    for (int64_t j = 0; j < n; j += LANES)
        vec_store(D + column(j, stride), vec_load(Z + column(j, stride)) * factors);
    D[at_label] -= (real)factor;
    return log_sum - (taken - highest);
}

/* delta = factor · (A - Y), where A = softmax(Z); Σ Y (logsumexp(Z) - Z). */
static double softmax_cross_entropy(real* Z, const real* Y, real* D, int64_t stride, int64_t n, double factor) {
    double share = 0, taken = 0, log_sum;
    for (int64_t j = 0; j < n; j++) {
        share += (double)Y[j];
        taken += (double)Y[j] * (double)Z[column(j, stride)];
    }
    const double highest = softmax_row(Z, stride, n, &log_sum);
    const vec factors = vec_splat((real)factor);
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        vec_store(D + at, (vec_load(Z + at) - vec_load_first(Y + j, n - j)) * factors);
    }
    return log_sum * share - (taken - highest * share);
}

/* --- the loss of rows -------------------------------------------------------------------------------------------- */

/* delta = factor · w · 2 (A - Y) f'(Z) of rows i0 … i1; Σ w (A - Y)². */
INLINE double squared_error(enum brisk_activation f, const real* A, real* D, int64_t stride, int64_t n,
                            const struct brisk_data* data, const int64_t* rows, int64_t i0, int64_t i1, double factor) {
    const vec twice = vec_splat((real)(2 * factor));
    vec squares = vec_splat(0), w = vec_splat(1);
    for (int64_t i = i0; i < i1; i++) {
        const real* Y = (const real*)data->Y + rows[i] * n;
        if (data->weight != NULL)
            w = vec_splat(((const real*)data->weight)[rows[i]]);
        for (int64_t j = 0; j < n; j += LANES) {
            const int64_t at = column(j, stride) + i * PANEL;
            const vec a = vec_load(A + at), error = vec_first(a - vec_load_first(Y + j, n - j), n - j, 0);
            const vec weighted = w * error;
            squares = vec_fma(weighted, error, squares);
            vec_store(D + at, through(f, weighted * twice, a));
        }
    }
    return (double)vec_sum(squares);
}

static double squared_error_of(enum brisk_activation f, const real* A, real* D, int64_t stride, int64_t n,
                               const struct brisk_data* data, const int64_t* rows, int64_t i0, int64_t i1,
                               double factor) {
    switch (f) {
    case BRISK_SIGMOID:
        return squared_error(BRISK_SIGMOID, A, D, stride, n, data, rows, i0, i1, factor);
    case BRISK_TANH:
        return squared_error(BRISK_TANH, A, D, stride, n, data, rows, i0, i1, factor);
    case BRISK_RELU:
        return squared_error(BRISK_RELU, A, D, stride, n, data, rows, i0, i1, factor);
    default:
        return squared_error(BRISK_IDENTITY, A, D, stride, n, data, rows, i0, i1, factor);
    }
}

/* Rows i0 … i1, of which i0 is a multiple of BRISK_LOSS_ROWS: the losses of each so many rows go to space->losses. */
static void loss_rows(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                      const int64_t* rows, int64_t i0, int64_t i1, double scale) {
    const struct brisk_plan* plan = &work->plan;
    const int64_t last = plan->n_layers - 1, n = work->layers[last].n_out, stride = work->panel_stride;
    const enum brisk_activation f = work->layers[last].activation;
    real *Z = space->A[last + 1], *D = D_of(space, last);
    for (int64_t start = i0; start < i1; start += BRISK_LOSS_ROWS) {
        const int64_t end = smaller(i1, start + BRISK_LOSS_ROWS);
        double loss = 0;
        if (plan->loss == BRISK_MSE && f != BRISK_SOFTMAX)
            loss = plan->loss_scale *
                   squared_error_of(f, Z, D, stride, n, data, rows, start, end, plan->loss_scale * scale);
        else
            for (int64_t i = start; i < end; i++) {
                const double w =
                    plan->loss_scale * (data->weight == NULL ? 1 : (double)((const real*)data->weight)[rows[i]]);
                const real* Y = data->labels == NULL ? (const real*)data->Y + rows[i] * n : NULL;
                real *z = Z + i * PANEL, *d = D + i * PANEL;
                loss +=
                    w * (plan->loss == BRISK_MSE ? softmax_squared_error(z, Y, d, stride, n, w * scale)
                         : f == BRISK_SIGMOID    ? sigmoid_cross_entropy(z, Y, d, stride, n, w * scale)
                         : Y == NULL ? softmax_cross_entropy_label(z, data->labels[rows[i]], d, stride, n, w * scale)
                                     : softmax_cross_entropy(z, Y, d, stride, n, w * scale));
            }
        space->losses[start / BRISK_LOSS_ROWS] = loss;
    }
}

/* Σ of the losses of m rows. */
static double sum_losses(const struct brisk_space* space, int64_t m) {
    double sum = 0;
    for (int64_t i = 0; i < m; i += BRISK_LOSS_ROWS)
        sum += space->losses[i / BRISK_LOSS_ROWS];
    return sum;
}

/* --- the layers below -------------------------------------------------------------------------------------------- */

/* Panels j0 … j1 of rows i0 … i1 of the delta of layer l-1, from that of layer l. */
static void backward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t j0,
                           int64_t j1, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[l];
    const struct product backward = {
        .A = D_of(space, l),
        .B = (const real*)work->WT + layer->WT,
        .below = A_of(space, l),
        .C = D_of(space, l - 1),
        .stride = work->panel_stride,
        .b_stride = layer->WT_panel,
        .K = layer->n_out,
        .n = layer->n_in,
        .f = layer->below,
    };
    product(&backward, j0, j1, i0, i1);
}

/* One panel of db: the sum of m rows of v vectors of delta. Four sums, as each waits for its last result. */
INLINE void sum_rows(const real* D, int64_t m, int v, vec sums[2]) {
    sums[0] = sums[1] = vec_splat(0);
    for (int j = 0; j < v; j++, D += LANES) {
        vec part[4] = {vec_splat(0), vec_splat(0), vec_splat(0), vec_splat(0)};
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                part[p] = part[p] + vec_load(D + (i + p) * PANEL);
        for (; i < m; i++)
            part[0] = part[0] + vec_load(D + i * PANEL);
        sums[j] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}
