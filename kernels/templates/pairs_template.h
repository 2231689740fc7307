/* What products read, where a word is a pair of bfloat16 numbers: see vec_avx512_bf16.h. A product adds up both of a
 * word, so that in each operand neighbours along the summation share one:
 *
 *     Z = A @ W, dA = D @ WT     along rows: a row of a panel is ROW words of neighbours A[i, 2w], A[i, 2w + 1]
 *     dW = A.T @ D               along columns: two rows are PANEL words of pairs A[2p, i], A[2p + 1, i]
 *     W, WT, D on the right      pairs of rows, as along columns
 *
 * A and delta lie in both forms, the rows first: together they are as large as the numbers in float32. For bfloat16
 * they are all that is kept; where there are several parts, the numbers stay, and both forms of each part lie behind
 * them. Where a width or a number of rows is no multiple of what is summed together, the rest are 0 in both operands.
 *
 * For a unit that multiplies tiles the pairs of 32 rows of a panel are two tiles, one behind the other: 16 pairs of 16
 * columns each. Of A these are turned: 16 columns of 16 pairs. */

enum {
    WORDS = PANEL * ROW,                                 /* in a block of weights */
    PAIR = BRISK_TILES ? LANES : PANEL,                  /* words from one pair of rows to the next in a span, */
    RIGHT_PAIRS = BRISK_TILES ? SPAN / 2 * LANES : LANES /* and to those of the right half */
};

/* Where the p-th pair of rows of a panel lies. */
INLINE int64_t pair_at(int64_t p) {
    return BRISK_TILES ? p / (SPAN / 2) * WORDS + p % (SPAN / 2) * PAIR : p * PANEL;
}

/* Whether A and delta stay as they were computed; else their only numbers are the words. */
static bool keeps_numbers(const struct brisk_work* work) {
    return work->parts > 1;
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

/* What bfloat16 leaves of a row. */
INLINE struct row rest_of(struct row x, vec words) {
    return (struct row){x.left - vec_numbers(words, false), x.right - vec_numbers(words, true)};
}

/* Where a panel of an operand is written, from one row on: words of neighbours and of pairs, and how far behind those
 * of a part the next one's lie. */
struct forms {
    real *neighbours, *pairs;
    int64_t neighbours_step, pairs_step;
    bool paired; /* whether there are pairs: those of A and delta are for dW */
};

static struct forms forms_at(const struct brisk_work* work, real* x, int64_t numbers, int64_t j, int64_t i) {
    const struct operand rows = along_rows(work, x, numbers), pairs = along_columns(work, x, numbers);
    const int64_t at = j * work->panel_stride / 2 + i * ROW;
    return (struct forms){(real*)rows.first + at, (real*)pairs.first + at, rows.step, pairs.step, work->training};
}

/* The words of SPAN rows in n parts; x becomes what the parts leave. */
INLINE void write_span(const struct forms* to, int n, struct row x[SPAN], enum side side) {
    real *neighbours = to->neighbours, *pairs = to->pairs;
    for (int part = 0; part < n; part++, neighbours += to->neighbours_step, pairs += to->pairs_step) {
        vec left[SPAN / 2], right[SPAN / 2];
        for (int i = 0; i < SPAN; i += 2) {
            const vec even = vec_neighbours(x[i].left, x[i].right);
            const vec odd = vec_neighbours(x[i + 1].left, x[i + 1].right);
            vec_store(neighbours + i * ROW, even);
            vec_store(neighbours + (i + 1) * ROW, odd);
            if (part + 1 < n)
                x[i] = rest_of(x[i], even), x[i + 1] = rest_of(x[i + 1], odd);
            left[i / 2] = vec_pairs(even, odd, false);
            right[i / 2] = vec_pairs(even, odd, true);
        }
        if (!to->paired)
            continue;
#if BRISK_TILES
        if (side == LEFT) {
            vec_turn(left);
            vec_turn(right);
        }
#else
        (void)side;
#endif
        for (int p = 0; p < SPAN / 2; p++) {
            vec_store(pairs + p * PAIR, left[p]);
            vec_store(pairs + p * PAIR + RIGHT_PAIRS, right[p]);
        }
    }
}

/* The words of `rows` rows of a panel of numbers, and zeros to the end of a span. */
INLINE void write_panel(struct forms to, int n, const real* x, int64_t rows, int64_t columns, enum side side) {
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t i = 0; i < rows; i += SPAN, x += SPAN * PANEL) {
        struct row span[SPAN];
        for (int r = 0; r < SPAN; r++)
            span[r] = i + r < rows ? load_row(x + r * PANEL, columns) : none;
        write_span(&to, n, span, side);
        to.neighbours += SPAN * ROW;
        to.pairs += SPAN * ROW;
    }
}

/* A block of A or delta, x of so many numbers in n columns, has been written: write what products read. */
static void round_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t numbers, int64_t n,
                       enum side side) {
    const int64_t rows = block->i1 - block->i0;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct forms to = forms_at(work, x, numbers, j, block->i0);
        const real* from = block->C + (j - block->j0) * block->c_stride;
        if (n - j * PANEL >= PANEL)
            write_panel(to, work->parts, from, rows, PANEL, side);
        else
            write_panel(to, work->parts, from, rows, n - j * PANEL, side);
    }
}

/* Block (j, k) of W has moved: write what products read of it, and, if `turned`, of WT: W's neighbours are WT's pairs.
 */
static void round_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k,
                        bool turned) {
    const int64_t at = block_at(layer, j, k), turned_at = layer->WT + k * layer->WT_panel + j * PANEL * PANEL;
    const int64_t rows = smaller(PANEL, layer->n_in - k * PANEL), columns = smaller(PANEL, layer->n_out - j * PANEL);
    const struct operand W = weights_at(work->R, work->n_packed, at);
    const struct operand WT = weights_at(work->WT, work->n_turned, turned_at);
    real neighbours[MOST_PARTS * WORDS];
    if (rows < PANEL)
        memset(neighbours, 0, sizeof neighbours);
    const struct forms to = {neighbours, (real*)W.first, WORDS, W.step, true};
    write_panel(to, work->parts, (const real*)work->P + at, rows, columns, RIGHT);
    for (int part = 0; turned && part < work->parts; part++)
        for (int half = 0; half < 2; half++) {
            vec words[LANES];
            for (int r = 0; r < LANES; r++)
                words[r] = vec_load(neighbours + part * WORDS + (half * LANES + r) * ROW);
            vec_turn(words);
            for (int c = 0; c < LANES; c++)
                vec_store((real*)WT.first + part * WT.step + c * PAIR + half * RIGHT_PAIRS, words[c]);
        }
}

/* Words of so many columns of dense weights; the row after lies `next` on, 0: there is none. */
INLINE vec dense_words(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)rounded;
    const vec x = columns >= LANES ? vec_load(w) : vec_load_first(w, columns);
    vec y = vec_splat(0);
    if (next > 0)
        y = columns >= LANES ? vec_load(w + next) : vec_load_first(w + next, columns);
    return vec_pairs(vec_neighbours(x, x), vec_neighbours(y, y), false);
}

/* Rows i0 … i1 of A[0] = X[rows]; i0 is a multiple of SPAN. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[0];
    const struct row none = {vec_splat(0), vec_splat(0)};
    for (int64_t i = i0; i < i1; i += SPAN) {
        const real* X[SPAN];
        for (int64_t r = 0; r < SPAN; r++)
            X[r] = i + r < i1 ? (const real*)data->X + rows[i + r] * data->X_step : NULL;
        for (int64_t j = 0; j < layer->panels_in; j++) {
            const int64_t at = j * PANEL, columns = layer->n_in - at;
            const struct forms to = forms_at(work, space->A[0], layer->panels_in * work->panel_stride, j, i);
            struct row span[SPAN];
            for (int r = 0; r < SPAN; r++)
                span[r] = X[r] == NULL ? none : load_row(X[r] + at, columns);
            write_span(&to, work->parts, span, LEFT);
        }
    }
}
