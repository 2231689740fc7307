/* The gradients of weights and biases, and the update.
 *
 *     dW[l] = A[l-1].T @ delta[l]        db[l] = delta[l].sum(axis=0)
 *
 * Each (NR, NR) block of weights is moved as soon as its gradient is complete, while it is in cache, and WT follows at
 * once. Where plain gradient descent makes its step from one chunk of rows, dW goes from the registers into W and never
 * lies in memory. Other rules read it from a block on the stack. It lies in G only where it is added up over several
 * chunks, shards or runs of rows, or asked for. */
#pragma once

#include "../runtime/parts.h"
#include "backward_template.h"
#include "gemm_tn_template.h"
#include "update_template.h"

#include <string.h>

enum { KC_TN_WHOLE = 512 }; /* up to so many rows of A and D are summed at once */

/* KC of the batch dimension: more rows are summed in runs of this many, of which one panel of D, and where vectors
 * multiply one of A, stay in L1 while the next run is prefetched. m = 0 still makes one pass, which applies l2. */
static int64_t kc_tn_of(const struct brisk_work* work, int64_t m) {
    return m > KC_TN_WHOLE ? kc_tn_block(work->splits) : m > 0 ? m : 1;
}

/* How often all threads together prefetch while they compute dW of the lowest layer from m rows. */
static int64_t prefetches_of_dW(const struct brisk_work* work, int64_t m) {
    const struct brisk_layer* layer = &work->layers[0];
    const int64_t KC = kc_tn_of(work, m), runs = m > KC_TN_WHOLE ? (m + KC - 1) / KC : 1,
                  reals = (KC + VNNI - 1) / VNNI;
    const int64_t whole = layer->panels - 1, rest = layer->n_out - whole * NR;
    const int64_t of_panels = whole * prefetches_of_block(NR, NR, reals) + prefetches_of_block(NR, rest, reals);
    return layer->panels_in * runs * of_panels;
}

/* The destination of the gradient of a chunk of rows. `fused_sgd`: it moves W by plain gradient descent, from
 * registers; there is one chunk. `accumulate`: it is added up in G, and applied after the `last` chunk, or, if there is
 * no last, by apply_template.h. Neither: it is applied at once. */
struct grad_dest {
    bool fused_sgd, accumulate;
    bool first, last; /* of the chunks that are added up */
    real* G;          /* if accumulate */
    const struct brisk_batch* batch;
    struct next_batch* next_batch; /* to prefetch during dW of the lowest layer, or NULL */
};

/* Write the packed copies of a block of weights that products read, after the weights have moved: R, and, but for the
 * lowest layer, WT. */
static void write_copies(const struct brisk_work* work, int64_t l, int64_t j, int64_t k) {
    if (l > 0 || rounds(work))
        pack_block(work, &work->layers[l], j, k, l > 0 && work->training);
}

/* Store Σ W² of the valid weights of one block, for the l2 term of the loss. Rows are added up in vectors, because one
 * sum for each row takes longer than the rest: 1 % of a step of 784-100-10. */
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

/* The l2 term of the loss, Σ l2/2 W². */
static double penalty(const struct brisk_work* work) {
    double sum = 0;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        if (layer->l2 != 0)
            sum += layer->l2 / 2 * sum_of(work->penalties + layer->first_block, layer->panels_in * layer->panels);
    }
    return sum;
}

/* Move a block's weights along the gradient g plus l2 times the weights. */
static void move_block(const struct brisk_work* work, int64_t l, int64_t j, int64_t k, const real* g,
                       const struct brisk_batch* batch, double l2) {
    const struct brisk_layer* layer = &work->layers[l];
    const int64_t at = block_at(layer, j, k);
    const struct rule rule = rule_of(batch->rule, batch->rate * layer->rate_W, layer->decay_W, l2);
    update_tensor(&rule, work->plan.rule, (real*)work->P + at, g, (real*)work->S + at, work->n_packed,
                  block_rows(layer, k) * NR);
    write_copies(work, l, j, k);
}

/* Write the gradient g of n weights from offset `at` on, and its l2 term, to G. */
static void add_l2(const struct brisk_work* work, int64_t at, int64_t n, double l2, const real* g) {
    const real* W = (const real*)work->P + at;
    for (int64_t i = 0; i < n; i += LANES)
        vec_store((real*)work->G + at + i, vec_fma(vec_splat((real)l2), vec_load(W + i), vec_load(g + i)));
}

/* Apply a block's complete gradient g: move the weights, or write it to G with its l2 term. */
static void apply_block(const struct brisk_work* work, int64_t l, int64_t j, int64_t k, const real* g,
                        const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    const double l2 = layer->l2 * batch->scale;
    penalise_block(work, layer, j, k);
    if (batch->goal == BRISK_GRADIENT)
        add_l2(work, block_at(layer, j, k), block_rows(layer, k) * NR, l2, g);
    else
        move_block(work, l, j, k, g, batch, l2);
}

/* The same for n biases from offset `at` on. */
static void apply_biases(const struct brisk_work* work, int64_t l, int64_t at, int64_t n, const real* g,
                         const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    if (batch->goal == BRISK_GRADIENT) {
        memmove((real*)work->G + at, g, (size_t)n * sizeof *g); /* g may lie there already */
        return;
    }
    const struct rule rule = rule_of(batch->rule, batch->rate * layer->rate_b, layer->decay_b, 0);
    update_tensor(&rule, work->plan.rule, (real*)work->P + at, g, (real*)work->S + at, work->n_packed, n);
}

/* Compute and apply db of these panels; where a layer shares one bias, all of its db with the first panel. */
static void biases_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                         struct part panels, const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool shared = work->plan.bias == BRISK_BIAS_LAYER;
    if (work->plan.bias == BRISK_BIAS_NONE || (shared && panels.first > 0))
        return;
    vec total = vec_splat(0);
    for (int64_t j = shared ? 0 : panels.first; j < (shared ? layer->panels : panels.end); j++) {
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

/* Add some rows of a run of m to up to NC_PANELS × NC_PANELS blocks of weights. Each panel of D meets all panels of A,
 * and each block prefetches its share of the next rows. */
static void weights_macro_kernel(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                                 struct part panels, struct part panels_in, struct part run,
                                 const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool first = dest->first && run.first == 0, last = dest->last && run.end == m;
    const double lr = dest->batch->rate * layer->rate_W;
    const real shrink = (real)(first ? lr * (layer->decay_W + layer->l2 * dest->batch->scale) : 0);
    const int64_t stride = work->panel_stride / VNNI, here = run.first * ROW_STEP;
    const int64_t rows = (run.end - run.first + VNNI - 1) / VNNI;
    const struct operand A = vnni_layout(work, space->A[l], A_size(work, l));
    const struct operand D = vnni_layout(work, D_of(space, l), D_size(work));
    const bool next_run = m > KC_TN_WHOLE && run.end < m;
    struct gemm_tn g = {
        .A = A,
        .D = D,
        .splits = work->splits,
        .m = rows,
        .epilogue = {dest->fused_sgd ? FUSED_SGD
                     : first         ? BETA_0
                                     : BETA_1,
                     shrink, (real)lr},
        .next_batch = l == 0 ? dest->next_batch : NULL,
    };
    real own[NR * NR]; /* the space's block would be shared by all threads */
    if (!dest->fused_sgd && !dest->accumulate)
        memset(own, 0, sizeof own); /* the update reads its padding */
    for (int64_t j = panels.first; j < panels.end; j++)
        for (int64_t k = panels_in.first; k < panels_in.end; k++) {
            g.A.first = A.first + k * stride + here;
            g.D.first = D.first + j * stride + here;
            g.rows = block_rows(layer, k);
            g.columns = smaller(NR, layer->n_out - j * NR);
            const int64_t j0 = panels.first, k0 = panels_in.first, n = rows * NR;
            g.next_A.lines = 0;
            if (next_run) {
                const int64_t calls = prefetches_of_block(g.rows, g.columns, rows);
                g.next_A = prefetch_share(g.A.first + n, n, j - j0, panels.end - j0, calls);
                g.next_D = prefetch_share(g.D.first + n, n, k - k0, panels_in.end - k0, calls);
            } else if (l == 0 && !work->own_rows && j == j0 && k + 1 < panels_in.end)
                /* Other threads have gathered rows of A[0]'s next panel, which come slowly from their caches. */
                g.next_A = prefetch_share(g.A.first + stride, n, 0, 1, prefetches_of_block(g.rows, g.columns, rows));
            const int64_t at = block_at(layer, j, k);
            if (dest->fused_sgd) {
                if (first)
                    penalise_block(work, layer, j, k);
                gemm_tn_block(&g, (real*)work->P + at);
                if (last)
                    write_copies(work, l, j, k);
            } else {
                real* dW = dest->accumulate ? dest->G + at : own;
                gemm_tn_block(&g, dW);
                if (last)
                    apply_block(work, l, j, k, dW, dest->batch);
            }
        }
}

/* Compute and apply dW[l] of these panels of delta and panels of A, from m rows, and db of the panels of delta. */
static void weights_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                          struct part panels, struct part panels_in, const struct grad_dest* dest) {
    const int64_t rows = kc_tn_of(work, m);
    if (panels_in.first == 0 && panels_in.end > 0 && panels.end > panels.first)
        biases_layer(work, space, l, m, panels, dest);
    for (int64_t j = panels.first; j < panels.end; j += NC_PANELS)
        for (int64_t k = panels_in.first; k < panels_in.end; k += NC_PANELS)
            for (int64_t i = 0; i == 0 || i < m; i += rows) {
                weights_macro_kernel(work, space, l, m, (struct part){j, smaller(panels.end, j + NC_PANELS)},
                                     (struct part){k, smaller(panels_in.end, k + NC_PANELS)},
                                     (struct part){i, smaller(m, i + rows)}, dest);
            }
}
