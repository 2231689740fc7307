/* Packing of the operands where products read single elements: at the highest precision these are A, delta and W as
 * they are; otherwise bf16-rounded values stored as float32, which holds the products of two exactly, so that the
 * micro-kernels compute the sums of a bf16 unit.
 *
 * For bfloat16, A and delta are rounded in place; for high they stay, and both splits lie behind them. Rounded weights
 * lie in R beside the parameters P, and once more in WT. */
#pragma once

#include "panels_template.h"
#include "rounding_template.h"

#if BRISK_VNNI == 1

INLINE vec saved_vec(const struct saved* saved, int64_t i, int v) {
    return vec_load(saved->data + i * saved->row + v * LANES);
}

/* Write the splits of n elements; `low` may be NULL, and `high` may be x itself. */
static void round_splits(const real* x, real* high, real* low, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vec a = vec_load(x + i), a1 = bfloat16(a);
        vec_store(high + i, a1);
        if (low != NULL)
            vec_store(low + i, bfloat16(a - a1));
    }
}

/* Pack a block of x, an A or delta of so many elements in n columns, after it has been computed. */
static void pack_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t elements, int64_t n,
                      enum side side) {
    (void)n, (void)side;
    const struct operand splits = row_major(work, x, elements);
    for (int64_t j = block->j0; j < block->j1; j++) {
        const int64_t at = j * work->panel_stride + block->i0 * NR;
        real* first = (real*)splits.first + at;
        round_splits(x + at, first, work->splits == 1 ? NULL : first + splits.step, (block->i1 - block->i0) * NR);
    }
}

/* Transpose block (j, k) of one split of W into WT. */
static void transpose_block(const struct brisk_layer* layer, int64_t j, int64_t k, const real* W, real* WT) {
    WT += layer->WT + k * layer->WT_panel + j * NR * NR;
    const int64_t rows = smaller(NR, layer->n_in - k * NR), columns = smaller(NR, layer->n_out - j * NR);
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            WT[c * NR + r] = W[r * NR + c];
}

/* Pack block (j, k) of W after an update, and, if `transposed`, write it to WT. */
static void pack_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k,
                       bool transposed) {
    const int64_t at = block_at(layer, j, k);
    const struct operand W = weights_at(work->R, work->n_packed, at);
    const bool low = work->splits > 1;
    if (rounds(work))
        round_splits((const real*)work->P + at, (real*)W.first, low ? (real*)W.first + W.step : NULL,
                     block_rows(layer, k) * NR);
    if (!transposed)
        return;
    transpose_block(layer, j, k, W.first, work->WT);
    if (low)
        transpose_block(layer, j, k, W.first + W.step, (real*)work->WT + work->n_transposed);
}

/* Load a vector of dense weights, of which so many columns are valid. `next` is for bf16 pairs alone. */
INLINE vec load_dense(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)next;
    const vec x = vec_load_valid(w, columns);
    return rounded ? bfloat16(x) : x;
}

/* Copy rows i0 … i1 of A[0] = X[rows] into panels. The products could read X itself, but from the copy micro-kernels
 * read rows side by side, and dW reads it a second time. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const int64_t n_in = work->layers[0].n_in, stride = work->panel_stride;
    for (int64_t i = i0; i < i1; i++) {
        const real* X = (const real*)data->X + rows[i] * data->X_step;
        real* A = (real*)space->A[0] + i * NR;
        int64_t j = 0;
        for (; j + NR <= n_in; j += NR, A += stride) {
            vec_store(A, vec_load(X + j));
            vec_store(A + LANES, vec_load(X + j + LANES));
        }
        if (j < n_in) {
            vec_store(A, vec_load_first(X + j, n_in - j));
            if (j + LANES < n_in)
                vec_store(A + LANES, vec_load_first(X + j + LANES, n_in - j - LANES));
        }
    }
    if (rounds(work)) {
        const int64_t panels = work->layers[0].panels_in;
        const struct block block = {.j0 = 0, .j1 = panels, .i0 = i0, .i1 = i1};
        pack_rows(work, &block, space->A[0], panels * stride, n_in, LEFT);
    }
}

#endif
