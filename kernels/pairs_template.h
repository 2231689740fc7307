/* What products read, where a word is a pair of bfloat16 numbers: see vec_avx512_bf16.h. A product adds up both of a
 * word, so that in each operand neighbours along the summation share one:
 *
 *     Z = A @ W, dA = D @ WT     along rows: a row of a panel is ROW words of neighbours A[i, 2w], A[i, 2w + 1]
 *     dW = A.T @ D               along columns: two rows are PANEL words of pairs A[2p, i], A[2p + 1, i]
 *     W, WT, D on the right      pairs of rows, as along columns
 *
 * A and delta lie in both forms, the rows first: together they are as large as the numbers in float32. For bfloat16
 * they are all that is kept; for high the numbers stay, and both forms of both parts lie behind them. Where a width or
 * a number of rows is odd, the last word's second number is 0 in both operands. */

enum { WORDS = PANEL * ROW }; /* in a block of weights */

/* Whether A and delta stay as they were computed; else their only numbers are the words. */
static bool keeps_numbers(const struct brisk_work* work) {
    return work->plan.precision == BRISK_HIGH;
}

/* A or delta, of so many numbers with its pads, to be read along its rows. */
static struct operand along_rows(const struct brisk_work* work, const real* x, int64_t numbers) {
    if (!keeps_numbers(work))
        return (struct operand){x, NULL};
    return (struct operand){x + numbers, x + 2 * numbers};
}

/* The same, along its columns. */
static struct operand along_columns(const struct brisk_work* work, const real* x, int64_t numbers) {
    const struct operand rows = along_rows(work, x, numbers);
    return (struct operand){rows.high + numbers / 2, rows.low == NULL ? NULL : rows.low + numbers / 2};
}

/* Of n weights the part at `at`; behind them lie the low ones. */
static struct operand weights_at(const struct brisk_work* work, const void* x, int64_t n, int64_t at) {
    const real* high = (const real*)x + at / 2;
    return (struct operand){high, work->plan.precision == BRISK_HIGH ? high + n / 2 : NULL};
}

/* What the rest of a step reads of A or delta. */
static struct kept kept_of(const struct brisk_work* work, const real* x) {
    return keeps_numbers(work) ? (struct kept){x, work->panel_stride, PANEL}
                               : (struct kept){x, work->panel_stride / 2, ROW};
}

INLINE vec kept_vec(const struct kept* kept, int64_t i, int v) {
    const real* row = kept->numbers + i * kept->row;
    return kept->row == PANEL ? vec_load(row + v * LANES) : vec_load_neighbours(row + v * LANES / 2);
}

/* One row of a panel. */
struct row {
    vec left, right;
};

INLINE struct row load_row(const real* x, int64_t columns) {
    if (columns >= PANEL)
        return (struct row){vec_load(x), vec_load(x + LANES)};
    return (struct row){vec_load_first(x, smaller(columns, LANES)),
                        columns > LANES ? vec_load_first(x + LANES, columns - LANES) : vec_splat(0)};
}

INLINE struct row less_high(struct row x) {
    return (struct row){x.left - bfloat16(x.left), x.right - bfloat16(x.right)};
}

INLINE void write_neighbours(real* words, struct row x) {
    vec_store(words, vec_neighbours(x.left, x.right));
}

INLINE void write_pairs(real* words, struct row x, struct row y) {
    vec_store(words, vec_pairs(x.left, y.left));
    vec_store(words + LANES, vec_pairs(x.right, y.right));
}

/* Where one panel of an operand is written; `low` may be NULL. */
struct forms {
    real *rows, *pairs, *low_rows, *low_pairs;
};

static struct forms forms_at(const struct brisk_work* work, real* x, int64_t numbers, int64_t j, int64_t i) {
    const struct operand rows = along_rows(work, x, numbers), pairs = along_columns(work, x, numbers);
    const int64_t at = j * work->panel_stride / 2 + i * ROW;
    return (struct forms){(real*)rows.high + at, (real*)pairs.high + at, rows.low == NULL ? NULL : (real*)rows.low + at,
                          rows.low == NULL ? NULL : (real*)pairs.low + at};
}

/* Rows p and p + 1 of a panel, of which p is even. */
INLINE void write_forms(const struct forms* to, int64_t p, struct row x, struct row y) {
    write_neighbours(to->rows + p * ROW, x);
    write_neighbours(to->rows + (p + 1) * ROW, y);
    write_pairs(to->pairs + p * ROW, x, y);
    if (to->low_rows == NULL)
        return;
    x = less_high(x), y = less_high(y);
    write_neighbours(to->low_rows + p * ROW, x);
    write_neighbours(to->low_rows + (p + 1) * ROW, y);
    write_pairs(to->low_pairs + p * ROW, x, y);
}

/* `rows` rows of numbers, a panel's. */
INLINE void write_panel(const struct forms* to, const real* x, int64_t rows, int64_t columns) {
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t p = 0; p < rows; p += 2, x += 2 * PANEL)
        write_forms(to, p, load_row(x, columns), p + 1 < rows ? load_row(x + PANEL, columns) : none);
}

/* A block of A or delta, x of so many numbers in n columns, has been written: write what products read. */
static void round_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t numbers, int64_t n) {
    const int64_t rows = block->i1 - block->i0;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct forms to = forms_at(work, x, numbers, j, block->i0);
        const real* from = block->C + (j - block->j0) * block->c_stride;
        if (n - j * PANEL >= PANEL)
            write_panel(&to, from, rows, PANEL);
        else
            write_panel(&to, from, rows, n - j * PANEL);
    }
}

/* Block (j, k) of W has moved: write what products read of it, and, if `turned`, of WT: W's neighbours are WT's pairs.
 */
static void round_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k,
                        bool turned) {
    const int64_t at = block_at(layer, j, k), turned_at = layer->WT + k * layer->WT_panel + j * PANEL * PANEL;
    const int64_t rows = smaller(PANEL, layer->n_in - k * PANEL), columns = smaller(PANEL, layer->n_out - j * PANEL);
    const struct operand W = weights_at(work, work->R, work->n_packed, at);
    const struct operand WT = weights_at(work, work->WT, work->n_turned, turned_at);
    real neighbours[2][WORDS];
    const struct forms to = {neighbours[0], (real*)W.high, W.low == NULL ? NULL : neighbours[1], (real*)W.low};
    write_panel(&to, (const real*)work->P + at, rows, columns);
    for (int part = 0; turned && part < (W.low == NULL ? 1 : 2); part++) {
        real* words = (real*)(part == 0 ? WT.high : WT.low);
        for (int64_t c = 0; c < (columns + 1) / 2; c++)
            for (int64_t r = 0; r < rows; r++)
                words[c * PANEL + r] = neighbours[part][r * ROW + c];
    }
}

/* Words of so many columns of dense weights; the row after lies `next` on, 0: there is none. */
INLINE vec dense_words(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)rounded;
    const vec x = columns >= LANES ? vec_load(w) : vec_load_first(w, columns);
    if (next == 0)
        return vec_pairs(x, vec_splat(0));
    return vec_pairs(x, columns >= LANES ? vec_load(w + next) : vec_load_first(w + next, columns));
}

/* Rows i0 … i1 of A[0] = X[rows]; i0 is even. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[0];
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t i = i0; i < i1; i += 2) {
        const real* x = (const real*)data->X + rows[i] * data->X_step;
        const real* y = i + 1 < i1 ? (const real*)data->X + rows[i + 1] * data->X_step : NULL;
        for (int64_t j = 0; j < layer->panels_in; j++) {
            const int64_t at = j * PANEL, columns = layer->n_in - at;
            const struct forms to = forms_at(work, space->A[0], layer->panels_in * work->panel_stride, j, i);
            write_forms(&to, 0, load_row(x + at, columns), y == NULL ? none : load_row(y + at, columns));
        }
    }
}
