/* Gradients that are complete only when all threads have added to G: partial gradients of shards are reduced, the norm
 * is clipped, and the result is applied. */
#pragma once

#include "weights_template.h"

#include <math.h>

/* Add up n elements of all shards' gradients from offset `at` on, in the order of the shards. */
static void reduce_shards(const struct brisk_work* work, int64_t at, int64_t n, real* sum) {
    const real* G = (const real*)work->G + at;
    for (int64_t i = 0; i < n; i += LANES) {
        vec g = vec_load(G + i);
        for (int64_t s = 1; s < work->n_shards; s++)
            g = g + vec_load(G + s * work->n_packed + i);
        vec_store(sum + i, g);
    }
}

/* How many biases are handled together with block (j, k) of weights: those of its panel with the first block of the
 * panel, and none with others. */
static int64_t biases_beside(const struct brisk_layer* layer, int64_t j, int64_t k) {
    return k == 0 && j * NR < layer->b_size ? smaller(NR, layer->n_b - j * NR) : 0;
}

/* Reduce the gradient of a block and of its biases, and apply it. */
static void reduce_and_apply(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t block,
                             const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    const int64_t k = block / layer->panels, j = block % layer->panels;
    reduce_shards(work, block_at(layer, j, k), block_rows(layer, k) * NR, space->block);
    apply_block(work, l, j, k, space->block, batch);
    if (biases_beside(layer, j, k) > 0) {
        reduce_shards(work, layer->b + j * NR, NR, space->block);
        apply_biases(work, l, layer->b + j * NR, NR, space->block, batch);
    }
}

/* --- clipping ---------------------------------------------------------------------------------------------------- */

/* Whether a step clips its gradient: then all of it stays in G until its norm is known. */
static bool clips(const struct brisk_work* work, const struct brisk_batch* batch) {
    return batch->goal == BRISK_UPDATE && work->plan.clip_norm < (double)INFINITY;
}

/* Σ g² over the valid columns of rows of a panel, in float64. */
static double sum_squares(const real* g, int64_t rows, int64_t columns) {
    double sums[NR] = {0}, sum = 0;
    for (int64_t r = 0; r < rows; r++, g += NR)
        for (int c = 0; c < NR; c++)
            sums[c] += (double)g[c] * (double)g[c];
    for (int64_t c = 0; c < columns; c++)
        sum += sums[c];
    return sum;
}

/* Complete the gradient of a block and of its biases (reduce shards, add l2), and store its Σ g². */
static void complete_block(const struct brisk_work* work, int64_t l, int64_t block, const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    const int64_t k = block / layer->panels, j = block % layer->panels;
    const int64_t at = block_at(layer, j, k), n = block_rows(layer, k) * NR, n_biases = biases_beside(layer, j, k);
    real *G = (real*)work->G + at, *b = (real*)work->G + layer->b + j * NR;
    if (work->n_shards > 1)
        reduce_shards(work, at, n, G);
    if (layer->l2 != 0)
        add_l2(work, at, n, layer->l2 * batch->scale, G);
    double sum = sum_squares(G, smaller(NR, layer->n_in - k * NR), smaller(NR, layer->n_out - j * NR));
    if (n_biases > 0) {
        if (work->n_shards > 1)
            reduce_shards(work, layer->b + j * NR, NR, b);
        sum += sum_squares(b, 1, n_biases);
    }
    work->squares[layer->first_block + block] = sum;
}

static void scale_elements(real* g, int64_t n, real factor) {
    for (int64_t i = 0; i < n && factor != 1; i += LANES)
        vec_store(g + i, vec_load(g + i) * vec_splat(factor));
}

/* The factor that clips the gradient. Every thread adds up the squares of all blocks, in the same order. */
static real clip_factor(const struct brisk_work* work) {
    const double norm = sqrt(sum_of(work->squares, work->n_blocks)) + work->plan.clip_epsilon;
    if (isinf(norm)) /* training has diverged, which NaN shows and a step of 0 would hide */
        return NAN;
    return (real)(norm > work->plan.clip_norm ? work->plan.clip_norm / norm : 1);
}

/* Clip the complete gradient of a block and of its biases, and apply it. */
static void clip_block(const struct brisk_work* work, int64_t l, int64_t block, real factor,
                       const struct brisk_batch* batch) {
    const struct brisk_layer* layer = &work->layers[l];
    const int64_t k = block / layer->panels, j = block % layer->panels, b = layer->b + j * NR;
    real* G = (real*)work->G + block_at(layer, j, k);
    scale_elements(G, block_rows(layer, k) * NR, factor);
    penalise_block(work, layer, j, k);
    move_block(work, l, j, k, G, batch, 0);
    if (biases_beside(layer, j, k) > 0) {
        scale_elements((real*)work->G + b, NR, factor);
        apply_biases(work, l, b, NR, (real*)work->G + b, batch);
    }
}
