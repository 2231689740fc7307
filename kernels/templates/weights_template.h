/* The gradients of weights and biases, and what becomes of them.
 *
 *     dW[l] = A[l-1].T @ delta[l]        db[l] = delta[l].sum(axis=0)
 *
 * The weights are moved block by block of (panel, panel), each as soon as its gradient is complete and while it is in
 * cache; WT follows at once. Where plain gradient descent makes its step from one chunk of rows, dW goes from the
 * registers into W and never lies in memory. Other rules find it in a block on the stack; it has a buffer of its own,
 * G, only where it is added up over several chunks, slices or runs of rows, or asked for. */

enum { KC_TN_WHOLE = 512 }; /* of A and D, that are summed in one go */

/* Of more, those that are: from a panel of D they stay in L1, as from one of A where the unit has vectors, and the next
 * are fetched. No rows: one round, which adds nothing. */
static int64_t kc_tn_of(const struct brisk_work* work, int64_t m) {
    return m > KC_TN_WHOLE ? kc_tn_block(work->splits) : m > 0 ? m : 1;
}

/* Where the gradient of these rows goes. `fused`: from one chunk, by plain gradient descent, into W. `kept`: added up
 * in G and applied when the `last` chunk is in it, or, where there is no last, by apply_template.h. Neither: applied at
 * once. */
struct grad_dest {
    bool fused_sgd, accumulate;
    bool first, last; /* of the chunks that share it */
    real* G;          /* if kept */
    const struct brisk_batch* batch;
    struct next_batch* next_batch; /* for the lowest layer, or NULL */
};

/* Whether products read copies of this layer's weights, to be written when these have moved. */
static bool has_copies(const struct brisk_work* work, int64_t l) {
    return l > 0 || rounds(work);
}

/* Write them for one block. */
static void write_copies(const struct brisk_work* work, int64_t l, int64_t j, int64_t k) {
    pack_block(work, &work->layers[l], j, k, l > 0 && work->training);
}

/* Σ W² of the true weights of one block, for the l2 term of the loss; summed up row by row in vectors, as one number
 * for each row takes longer than the rest: 1 % of a step of 784-100-10. */
static void penalise_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k) {
    if (layer->l2 == 0)
        return;
    const real* W = (const real*)work->P + block_at(layer, j, k);
    const int64_t rows = smaller(NR, layer->n_in - k * NR), columns = layer->n_out - j * NR;
    vec left = vec_splat(0), right = vec_splat(0);
    for (int64_t r = 0; r < rows; r++, W += NR) {
        const vec a = vec_load(W), b = vec_load(W + LANES);
        left = vec_fma(a, a, left);
        right = vec_fma(b, b, right);
    }
    left = vec_first(left, columns, 0);
    right = vec_first(right, columns > LANES ? columns - LANES : 0, 0);
    work->penalties[layer->first_block + k * layer->panels + j] = (double)vec_sum(left + right);
}

static double penalty(const struct brisk_work* work) {
    double sum = 0;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        double squares = 0;
        if (layer->l2 != 0)
            for (int64_t block = 0; block < layer->panels_in * layer->panels; block++)
                squares += work->penalties[layer->first_block + block];
        sum += layer->l2 / 2 * squares;
    }
    return sum;
}

static real* slot(const struct brisk_work* work, int64_t s) {
    return (real*)work->S + (s < work->plan.n_slots ? s * work->n_packed : 0);
}

/* Move a block's weights along the gradient g plus l2 times them. */
static void move_block(const struct brisk_work* work, int64_t l, int64_t j, int64_t k, const real* g,
                       const struct brisk_batch* batch, double l2) {
    const struct brisk_layer* layer = &work->layers[l];
    const int64_t at = block_at(layer, j, k);
    const struct rule rule = rule_of(&work->plan, batch->rate * layer->rate_W, layer->decay_W, l2, batch->step);
    update_tensor(&rule, (real*)work->P + at, g, slot(work, 0) + at, slot(work, 1) + at, block_rows(layer, k) * NR);
    if (has_copies(work, l))
        write_copies(work, l, j, k);
}

/* A block's gradient is complete, in g: move its weights, or leave the gradient in G. */
static void apply_block(const struct brisk_work* work, int64_t l, int64_t j, int64_t k, const real* g,
                        const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    const double l2 = layer->l2 * batch->scale;
    penalise_block(work, layer, j, k);
    if (batch->goal != BRISK_GRADIENT) {
        move_block(work, l, j, k, g, batch, l2);
        return;
    }
    const int64_t at = block_at(layer, j, k), n = block_rows(layer, k) * NR;
    const real* W = (const real*)work->P + at;
    real* G = (real*)work->G + at;
    for (int64_t i = 0; i < n; i += LANES)
        vec_store(G + i, vec_fma(vec_splat((real)l2), vec_load(W + i), vec_load(g + i)));
}

/* The same for n biases from `at` on. */
static void apply_biases(const struct brisk_work* work, int64_t l, int64_t at, int64_t n, const real* g,
                         const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    if (batch->goal == BRISK_GRADIENT) {
        if (g != (real*)work->G + at)
            memcpy((real*)work->G + at, g, (size_t)n * sizeof *g);
        return;
    }
    const struct rule rule = rule_of(&work->plan, batch->rate * layer->rate_b, layer->decay_b, 0, batch->step);
    update_tensor(&rule, (real*)work->P + at, g, slot(work, 0) + at, slot(work, 1) + at, n);
}

/* db of panels j0 … j1, or, if the layer shares one bias, of all of it, which the first panel stands for. */
static void biases_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                         int64_t j0, int64_t j1, const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool shared = work->plan.bias == BRISK_BIAS_LAYER;
    if (work->plan.bias == BRISK_BIAS_NONE || (shared && j0 > 0))
        return;
    vec total = vec_splat(0);
    for (int64_t j = shared ? 0 : j0; j < (shared ? layer->panels : j1); j++) {
        vec sums[2];
        sum_delta(work, space, l, j, m, sums);
        const int64_t n = layer->n_out - j * NR;
        total = total + vec_first(sums[0], n, 0) + vec_first(sums[1], n > LANES ? n - LANES : 0, 0);
        if (shared && j + 1 < layer->panels)
            continue;
        real db[NR];
        const int64_t at = layer->b + (shared ? 0 : j * NR);
        vec_store(db, sums[0]);
        vec_store(db + LANES, sums[1]);
        if (shared)
            db[0] = vec_sum(total);
        const real* g = db;
        if (dest->accumulate) {
            real* G = dest->G + at;
            for (int64_t i = 0; i < NR; i++)
                G[i] = dest->first ? db[i] : G[i] + db[i];
            g = G;
        }
        if (dest->last)
            apply_biases(work, l, at, NR, g, dest->batch);
    }
}

/* What weights_layer works on, of a layer. */
struct macro_block {
    int64_t j0, j1, k0, k1; /* panels of D, of A: blocks of weights */
    int64_t i, rows, m;     /* rows of both, of all m */
    bool first, last;       /* of the runs of rows that a gradient is summed over */
};

/* One square of blocks, one run of rows: each panel of D meets all those of A. Each block fetches its share of the next
 * run. */
static void weights_macro_kernel(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                                 const struct macro_block* block, const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    const double lr = dest->batch->rate * layer->rate_W;
    const real shrink = (real)(block->first ? lr * (layer->decay_W + layer->l2 * dest->batch->scale) : 0);
    const int64_t stride = work->panel_stride / VNNI, here = block->i * ROW_STEP,
                  rows = (block->rows + VNNI - 1) / VNNI;
    const struct operand A = vnni_layout(work, space->A[l], A_size(work, l));
    const struct operand D = vnni_layout(work, D_of(space, l), D_size(work));
    const bool prefetch = block->m > KC_TN_WHOLE && block->i + block->rows < block->m;
    real own[NR * NR]; /* the space's block belongs to the whole team */
    if (!dest->fused_sgd && !dest->accumulate)
        memset(own, 0, sizeof own); /* its pads are read */
    for (int64_t j = block->j0; j < block->j1; j++)
        for (int64_t k = block->k0; k < block->k1; k++) {
            const struct operand a = {A.first + k * stride + here, A.step}, d = {D.first + j * stride + here, D.step};
            const int64_t columns = smaller(NR, layer->n_out - j * NR);
            const int64_t at = block_at(layer, j, k), used = block_rows(layer, k);
            struct prefetch next_A = {NULL, 0}, next_D = {NULL, 0};
            if (prefetch) {
                const int64_t times = prefetches_of_block(used, columns, rows);
                next_A = prefetch_share(a.first + rows * NR, rows * NR, j - block->j0, block->j1 - block->j0, times);
                next_D = prefetch_share(d.first + rows * NR, rows * NR, k - block->k0, block->k1 - block->k0, times);
            } else if (l == 0 && !work->own_rows && j == block->j0 && k + 1 < block->k1)
                /* of the next panel others have gathered some rows, which come slowly */
                next_A = prefetch_share(a.first + stride, rows * NR, 0, 1, prefetches_of_block(used, columns, rows));
            struct next_batch* next_batch = l == 0 ? dest->next_batch : NULL;
            if (dest->fused_sgd) {
                if (block->first)
                    penalise_block(work, layer, j, k);
                gemm_tn_block(columns, a, d, work->splits, rows, used, (real*)work->P + at, FUSED_SGD, shrink, (real)lr,
                              next_A, next_D, next_batch);
                if (block->last && has_copies(work, l))
                    write_copies(work, l, j, k);
            } else {
                real* g = dest->accumulate ? dest->G + at : own;
                gemm_tn_block(columns, a, d, work->splits, rows, used, g, block->first ? BETA_0 : BETA_1, 0, 0, next_A,
                              next_D, next_batch);
                if (block->last)
                    apply_block(work, l, j, k, g, dest->batch);
            }
        }
}

/* Blocks k0 … k1 of panels j0 … j1 of dW[l], from m rows, and the biases of these panels. */
static void weights_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                          int64_t j0, int64_t j1, int64_t k0, int64_t k1, const struct grad_dest* dest) {
    const int64_t rows = kc_tn_of(work, m);
    if (k0 == 0 && k1 > k0 && j1 > j0)
        biases_layer(work, space, l, m, j0, j1, dest);
    for (int64_t j = j0; j < j1; j += NC_PANELS)
        for (int64_t k = k0; k < k1; k += NC_PANELS)
            for (int64_t i = 0; i == 0 || i < m; i += rows) {
                const struct macro_block block = {
                    .j0 = j,
                    .j1 = smaller(j1, j + NC_PANELS),
                    .k0 = k,
                    .k1 = smaller(k1, k + NC_PANELS),
                    .i = i,
                    .rows = smaller(rows, m - i),
                    .m = m,
                    .first = dest->first && i == 0,
                    .last = dest->last && i + rows >= m,
                };
                weights_macro_kernel(work, space, l, &block, dest);
            }
}
