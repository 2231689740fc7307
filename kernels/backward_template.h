/* The backward pass of one chunk of rows.
 *
 *     delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])        l = L-1 … 1
 *
 * delta[L] is the loss's matter (loss_template.h), dW and db are that of weights_template.h. */

/* Panels j0 … j1 of rows i0 … i1 of the delta of layer l-1, from that of layer l. */
static void backward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                           const struct masks* masks, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool dropped = drops(layer - 1, masks), rounded = rounds(work);
    const struct operand D = operand_D(work, space, l), WT = weights_at(work, work->WT, work->n_turned, layer->WT);
    const struct product backward = {
        .A = D.high,
        .A_low = D.low,
        .B = WT.high,
        .B_low = WT.low,
        .below = A_of(space, l),
        .C = D_of(space, l - 1),
        .stride = work->panel_stride,
        .b_stride = layer->WT_panel,
        .K = layer->n_out,
        .n = layer->n_in,
        .f = dropped ? BRISK_IDENTITY : layer->below,
        .slope = (real)work->plan.slope,
    };
    if (!dropped && !rounded) {
        product(&backward, j0, j1, i0, i1);
        return;
    }
    for (int64_t i = i0; i < i1; i += ROW_BLOCK) { /* as product() does: the rows are still in cache */
        product(&backward, j0, j1, i, smaller(i1, i + ROW_BLOCK));
        if (dropped)
            drop_delta(work, l - 1, A_of(space, l), D_of(space, l - 1), j0, j1, i, smaller(i1, i + ROW_BLOCK));
        if (rounded)
            round_D(work, space, l - 1, j0, j1, i, smaller(i1, i + ROW_BLOCK));
    }
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
