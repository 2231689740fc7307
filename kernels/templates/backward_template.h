/* The backward pass of one chunk of rows.
 *
 *     delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])        l = L-1 … 1
 *
 * delta[L] is the loss's matter (loss_template.h), dW and db are that of weights_template.h. */

/* A block of the delta of layer l-1 is complete, but for what dropout does. */
static void after_backward(const struct product* product, const struct block* block) {
    const struct pass* pass = product->pass;
    const struct brisk_work* work = pass->work;
    const struct brisk_layer* layer = &work->layers[pass->l];
    if (drops(layer - 1, pass->masks)) {
        const struct kept A = kept_of(work, pass->space->A[pass->l]);
        drop_delta(work, pass->l - 1, &A, block);
    }
    if (rounds(work))
        round_rows(work, block, D_of(pass->space, pass->l - 1), D_size(work), layer->n_in, RIGHT);
}

/* Panels j0 … j1 of rows i0 … i1 of the delta of layer l-1, from that of layer l. */
static void backward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                           const struct masks* masks, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool dropped = drops(layer - 1, masks);
    const struct kept below = kept_of(work, space->A[l]);
    const struct pass pass = {work, space, l, masks};
    const struct product backward = {
        .A = along_rows(work, D_of(space, l), D_size(work)),
        .B = weights_at(work->WT, work->n_turned, layer->WT),
        .parts = work->parts,
        .below = &below,
        .C = keeps_numbers(work) ? D_of(space, l - 1) : space->C,
        .a_stride = work->panel_stride / UNIT,
        .b_stride = layer->WT_panel / UNIT,
        .c_stride = keeps_numbers(work) ? work->panel_stride : 0,
        .K = (layer->n_out + UNIT - 1) / UNIT,
        .n = layer->n_in,
        .f = dropped ? BRISK_IDENTITY : layer->below,
        .slope = (real)work->plan.slope,
        .then = dropped || rounds(work) ? after_backward : NULL,
        .pass = &pass,
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

#if BRISK_UNIT == 2
/* The same from pairs of rows, of which the last may be one row and 0. */
INLINE void sum_pairs(const real* D, int64_t m, int v, vec sums[2]) {
    sums[0] = sums[1] = vec_splat(0);
    for (int j = 0; j < v; j++, D += RIGHT_PAIRS) {
        vec part[4] = {vec_splat(0), vec_splat(0), vec_splat(0), vec_splat(0)};
        for (int64_t p = 0; p < (m + 1) / 2; p++) {
            const vec words = vec_load(D + pair_at(p));
            part[2 * (p % 2)] = part[2 * (p % 2)] + vec_firsts(words);
            part[2 * (p % 2) + 1] = part[2 * (p % 2) + 1] + vec_seconds(words);
        }
        sums[j] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}
#endif

/* The sum of m rows of panel j of the delta of layer l. */
static void sum_delta(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t j, int64_t m,
                      vec sums[2]) {
    const int v = vectors_of(work->layers[l].n_out, j);
#if BRISK_UNIT == 2
    if (!keeps_numbers(work)) {
        const struct operand D = along_columns(work, D_of(space, l), D_size(work));
        sum_pairs(D.first + j * work->panel_stride / UNIT, m, v, sums);
        return;
    }
#endif
    sum_rows(D_of(space, l) + j * work->panel_stride, m, v, sums);
}
