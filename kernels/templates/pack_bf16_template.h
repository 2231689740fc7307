/* What products read, where a word is a pair of bfloat16 numbers: see vec_avx512_bf16.h. A product adds up both of a
 * word, so that in each operand neighbours along the summation share one:
 *
 *     Z = A @ W, dA = D @ WT     along rows: a row of a panel is ROW words of neighbours A[i, 2w], A[i, 2w + 1]
 *     dW = A.T @ D               along columns: two rows are NR words of pairs A[2p, i], A[2p + 1, i]
 *     W, WT, D on the right      pairs of rows, as along columns
 *
 * A and delta lie in both forms, the rows first: together they are as large as the numbers in float32. For bfloat16
 * they are all that is kept; where there are several parts, the numbers stay, and both forms of each part lie behind
 * them. Where a width or a number of rows is no multiple of what is summed together, the rest are 0 in both operands.
 *
 * For a unit that multiplies tiles the pairs of 32 rows of a panel are two tiles, one behind the other: 16 pairs of 16
 * columns each. Of A these are turned: 16 columns of 16 pairs. */

enum {
    BLOCK_REALS = NR * ROW_STEP,                             /* in a block of weights */
    VNNI_ROW = BRISK_TILES ? LANES : NR,                     /* words from one pair of rows to the next in a span, */
    VNNI_RIGHT = BRISK_TILES ? PACK_ROWS / 2 * LANES : LANES /* and to those of the right half */
};

/* Where the p-th pair of rows of a panel lies. */
INLINE int64_t vnni_row_at(int64_t p) {
    return BRISK_TILES ? p / (PACK_ROWS / 2) * BLOCK_REALS + p % (PACK_ROWS / 2) * VNNI_ROW : p * NR;
}

/* Whether A and delta stay as they were computed; else their only numbers are the words. */
static bool saves_f32(const struct brisk_work* work) {
    return work->splits > 1;
}

/* What the rest of a step reads of A or delta. */
static struct saved saved_of(const struct brisk_work* work, const real* x) {
    return saves_f32(work) ? (struct saved){x, work->panel_stride, NR}
                           : (struct saved){x, work->panel_stride / 2, ROW_STEP};
}

INLINE vec saved_vec(const struct saved* saved, int64_t i, int v) {
    const real* row = saved->data + i * saved->row;
    return saved->row == NR ? vec_load(row + v * LANES) : vec_load_bf16(row + v * LANES / 2);
}

/* One row of a panel. */
struct row {
    vec left, right;
};

INLINE struct row load_row(const real* x, int64_t columns) {
    if (columns >= NR)
        return (struct row){vec_load(x), vec_load(x + LANES)};
    return (struct row){vec_load_first(x, smaller(columns, LANES)),
                        columns > LANES ? vec_load_first(x + LANES, columns - LANES) : vec_splat(0)};
}

/* What bfloat16 leaves of a row. */
INLINE struct row residual(struct row x, vec words) {
    return (struct row){x.left - vec_cvt_f32(words, false), x.right - vec_cvt_f32(words, true)};
}

/* Where a panel of an operand is written, from one row on: words of neighbours and of pairs, and how far behind those
 * of a part the next one's lie. */
struct packed_panel {
    real *row_major_to, *vnni;
    int64_t row_major_step, vnni_step;
    bool with_vnni; /* whether there are pairs: those of A and delta are for dW */
};

static struct packed_panel packed_panel_at(const struct brisk_work* work, real* x, int64_t elements, int64_t j,
                                           int64_t i) {
    const struct operand rows = row_major(work, x, elements), vnni = vnni_layout(work, x, elements);
    const int64_t at = j * work->panel_stride / 2 + i * ROW_STEP;
    return (struct packed_panel){(real*)rows.first + at, (real*)vnni.first + at, rows.step, vnni.step, work->training};
}

/* The words of SPAN rows in n parts; x becomes what the parts leave. */
INLINE void pack_row_group(const struct packed_panel* to, int n, struct row x[PACK_ROWS], enum side side) {
    real *row_major_to = to->row_major_to, *vnni = to->vnni;
    for (int part = 0; part < n; part++, row_major_to += to->row_major_step, vnni += to->vnni_step) {
        vec left[PACK_ROWS / 2], right[PACK_ROWS / 2];
        for (int i = 0; i < PACK_ROWS; i += 2) {
            const vec even = vec_cvt_bf16(x[i].left, x[i].right);
            const vec odd = vec_cvt_bf16(x[i + 1].left, x[i + 1].right);
            vec_store(row_major_to + i * ROW_STEP, even);
            vec_store(row_major_to + (i + 1) * ROW_STEP, odd);
            if (part + 1 < n)
                x[i] = residual(x[i], even), x[i + 1] = residual(x[i + 1], odd);
            left[i / 2] = vec_interleave_rows(even, odd, false);
            right[i / 2] = vec_interleave_rows(even, odd, true);
        }
        if (!to->with_vnni)
            continue;
#if BRISK_TILES
        if (side == LEFT) {
            vec_transpose(left);
            vec_transpose(right);
        }
#else
        (void)side;
#endif
        for (int p = 0; p < PACK_ROWS / 2; p++) {
            vec_store(vnni + p * VNNI_ROW, left[p]);
            vec_store(vnni + p * VNNI_ROW + VNNI_RIGHT, right[p]);
        }
    }
}

/* The words of `rows` rows of a panel of numbers, and zeros to the end of a span. */
INLINE void pack_panel(struct packed_panel to, int n, const real* x, int64_t rows, int64_t columns, enum side side) {
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t i = 0; i < rows; i += PACK_ROWS, x += PACK_ROWS * NR) {
        struct row group[PACK_ROWS];
        for (int r = 0; r < PACK_ROWS; r++)
            group[r] = i + r < rows ? load_row(x + r * NR, columns) : none;
        pack_row_group(&to, n, group, side);
        to.row_major_to += PACK_ROWS * ROW_STEP;
        to.vnni += PACK_ROWS * ROW_STEP;
    }
}

/* A block of A or delta, x of so many numbers in n columns, has been written: write what products read. */
static void pack_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t elements, int64_t n,
                      enum side side) {
    const int64_t rows = block->i1 - block->i0;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct packed_panel to = packed_panel_at(work, x, elements, j, block->i0);
        const real* from = block->C + (j - block->j0) * block->c_stride;
        if (n - j * NR >= NR)
            pack_panel(to, work->splits, from, rows, NR, side);
        else
            pack_panel(to, work->splits, from, rows, n - j * NR, side);
    }
}

/* Block (j, k) of W has moved: write what products read of it, and, if `turned`, of WT: W's neighbours are WT's pairs.
 */
static void pack_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k,
                       bool transposed) {
    const int64_t at = block_at(layer, j, k), transposed_at = layer->WT + k * layer->WT_panel + j * NR * NR;
    const int64_t rows = smaller(NR, layer->n_in - k * NR), columns = smaller(NR, layer->n_out - j * NR);
    const struct operand W = weights_at(work->R, work->n_packed, at);
    const struct operand WT = weights_at(work->WT, work->n_transposed, transposed_at);
    real row_major_to[MAX_SPLITS * BLOCK_REALS];
    if (rows < NR)
        memset(row_major_to, 0, sizeof row_major_to);
    const struct packed_panel to = {row_major_to, (real*)W.first, BLOCK_REALS, W.step, true};
    pack_panel(to, work->splits, (const real*)work->P + at, rows, columns, RIGHT);
    for (int part = 0; transposed && part < work->splits; part++)
        for (int half = 0; half < 2; half++) {
            vec words[LANES];
            for (int r = 0; r < LANES; r++)
                words[r] = vec_load(row_major_to + part * BLOCK_REALS + (half * LANES + r) * ROW_STEP);
            vec_transpose(words);
            for (int c = 0; c < LANES; c++)
                vec_store((real*)WT.first + part * WT.step + c * VNNI_ROW + half * VNNI_RIGHT, words[c]);
        }
}

/* Words of so many columns of dense weights; the row after lies `next` on, 0: there is none. */
INLINE vec load_dense(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)rounded;
    const vec x = columns >= LANES ? vec_load(w) : vec_load_first(w, columns);
    vec y = vec_splat(0);
    if (next > 0)
        y = columns >= LANES ? vec_load(w + next) : vec_load_first(w + next, columns);
    return vec_interleave_rows(vec_cvt_bf16(x, x), vec_cvt_bf16(y, y), false);
}

/* Rows i0 … i1 of A[0] = X[rows]; i0 is a multiple of SPAN. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[0];
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t i = i0; i < i1; i += PACK_ROWS) {
        const real* X[PACK_ROWS];
        for (int64_t r = 0; r < PACK_ROWS; r++)
            X[r] = i + r < i1 ? (const real*)data->X + rows[i + r] * data->X_step : NULL;
        for (int64_t j = 0; j < layer->panels_in; j++) {
            const int64_t at = j * NR, columns = layer->n_in - at;
            const struct packed_panel to =
                packed_panel_at(work, space->A[0], layer->panels_in * work->panel_stride, j, i);
            struct row group[PACK_ROWS];
            for (int r = 0; r < PACK_ROWS; r++)
                group[r] = X[r] == NULL ? none : load_row(X[r] + at, columns);
            pack_row_group(&to, work->splits, group, LEFT);
        }
    }
}
