/* What products read, where their words are single numbers: for highest the numbers themselves.
 *
 * Otherwise bfloat16 numbers in the clothes of float32, which holds their products exactly: tiles add up what a unit
 * for bfloat16 would. bfloat16 rounds A and delta in their place; for high they stay whole, and both parts lie behind
 * them. Weights are rounded beside the parameters, and again in WT. */

/* Whether A and delta stay as they were computed, or are rounded there. */
static bool saves_f32(const struct brisk_work* work) {
    (void)work;
    return true;
}

/* What the rest of a step reads of A or delta. */
static struct saved saved_of(const struct brisk_work* work, const real* x) {
    return (struct saved){x, work->panel_stride, NR};
}

INLINE vec saved_vec(const struct saved* saved, int64_t i, int v) {
    return vec_load(saved->data + i * saved->row + v * LANES);
}

/* The parts of n numbers; `low` may be NULL, and `high` be x. */
static void round_splits(const real* x, real* high, real* low, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vec a = vec_load(x + i), a1 = bfloat16(a);
        vec_store(high + i, a1);
        if (low != NULL)
            vec_store(low + i, bfloat16(a - a1));
    }
}

/* A block of A or delta, x of so many numbers in n columns, has been written: write what products read. */
static void pack_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t elements, int64_t n,
                      enum side side) {
    (void)n, (void)side;
    const struct operand parts = row_major(work, x, elements);
    for (int64_t j = block->j0; j < block->j1; j++) {
        const int64_t at = j * work->panel_stride + block->i0 * NR;
        real* first = (real*)parts.first + at;
        round_splits(x + at, first, work->splits == 1 ? NULL : first + parts.step, (block->i1 - block->i0) * NR);
    }
}

/* Write one block of WT, or of its low part. */
static void transpose_elements(const struct brisk_layer* layer, int64_t j, int64_t k, const real* W, real* WT) {
    WT += layer->WT + k * layer->WT_panel + j * NR * NR;
    const int64_t rows = smaller(NR, layer->n_in - k * NR), columns = smaller(NR, layer->n_out - j * NR);
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            WT[c * NR + r] = W[r * NR + c];
}

/* Block (j, k) of W has moved: write what products read of it, and, if `turned`, of WT. */
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
    transpose_elements(layer, j, k, W.first, work->WT);
    if (low)
        transpose_elements(layer, j, k, W.first + W.step, (real*)work->WT + work->n_transposed);
}

/* Words of so many columns of dense weights; the row after lies `next` on. */
INLINE vec load_dense(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)next;
    const vec x = columns >= LANES ? vec_load(w) : vec_load_first(w, columns);
    return rounded ? bfloat16(x) : x;
}

/* Rows i0 … i1 of A[0] = X[rows]. A copy, although the products could read X: tiles then find their rows side by side,
 * and dW reads them a second time. */
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
