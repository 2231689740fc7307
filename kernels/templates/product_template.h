/* A @ B on panels (see brisk.h): forward, and the delta of the layer below. A is read along its rows.
 *
 * `multiply` adds up all words of some rows of one panel, or as many words as a block has: vector_tiles_template.h, or
 * matrix_tiles_template.h where a unit multiplies tiles. */

enum {
    ROW_BLOCK = 384, /* rows of A that are kept in L2 while the panels of B pass by */
    GROUP = 64,      /* rows of C that are in L1 when they are finished */
    PANELS = 12      /* of C, or of blocks of dW in both directions: what is summed in one go, and stays in L2 */
};

/* Panels j0 … j1 of rows i0 … i1 of C = f(init + A @ B).
 *
 * A (rows, K words), B (K, n words) and C (rows, n numbers) have panels a_stride, b_stride and c_stride apart. `bias`
 * is a row of n numbers, or one number for all where bias_step is 0. The last operation on each tile, while it is in
 * L1, is an activation, or, where `below` is given, the multiplication with f' of the activations that lie there. When
 * a block of C is complete, `then` is called for it, if given. Where C is to hold no more than one such block, c_stride
 * is 0. */
struct product {
    struct operand A, B;
    int parts; /* of each that are read */
    const real* bias;
    real* C;
    int64_t a_stride, b_stride, c_stride, K, n, bias_step;
    const struct kept* below; /* or NULL */
    enum brisk_activation f;
    real slope; /* of leaky relu */
    void (*then)(const struct product*, const struct block*);
    const struct pass* pass; /* for it */
};

/* Where and in which layer; `masks` may be NULL: see dropout_template.h. */
struct pass {
    const struct brisk_work* work;
    const struct brisk_space* space;
    int64_t l;
    const struct masks* masks;
};

INLINE void finish_rows(enum brisk_activation f, real slope, const struct kept* below, real* C, int64_t rows, int v) {
    const vec slopes = vec_splat(slope);
    for (int64_t i = 0; i < rows; i++, C += PANEL)
        for (int j = 0; j < v; j++) {
            const vec c = vec_load(C + j * LANES);
            vec_store(C + j * LANES,
                      below != NULL ? through(f, c, kept_vec(below, i, j), slopes) : activation(f, c, slopes));
        }
}

/* The last operation on a group of rows; each case is a loop of its own. */
static void finish(enum brisk_activation f, real slope, const struct kept* below, real* C, int64_t rows, int v) {
    switch (f) {
    case BRISK_SIGMOID:
        if (below != NULL)
            finish_rows(BRISK_SIGMOID, 0, below, C, rows, v);
        else
            finish_rows(BRISK_SIGMOID, 0, NULL, C, rows, v);
        break;
    case BRISK_TANH:
        if (below != NULL)
            finish_rows(BRISK_TANH, 0, below, C, rows, v);
        else
            finish_rows(BRISK_TANH, 0, NULL, C, rows, v);
        break;
    case BRISK_RELU:
        finish_rows(BRISK_RELU, 0, below, C, rows, v);
        break;
    case BRISK_LEAKY_RELU:
        finish_rows(BRISK_LEAKY_RELU, slope, below, C, rows, v);
        break;
    case BRISK_EXP: /* of an output alone */
        finish_rows(BRISK_EXP, 0, NULL, C, rows, v);
        break;
    case BRISK_IDENTITY:
    case BRISK_SOFTMAX: /* works on whole rows: the loss's matter */
        break;
    }
}

/* Words k … k + K of the sums of one block. */
static void product_block(const struct product* p, const struct block* block, int64_t k, int64_t K) {
    const int64_t i0 = block->i0, i1 = block->i1;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct operand B = {p->B.first + j * p->b_stride + k * PANEL, p->B.step};
        real row[PANEL];
        const real* init = row;
        if (k > 0)
            init = NULL;
        else if (p->bias_step > 0)
            init = p->bias + j * PANEL;
        else
            for (int c = 0; c < PANEL; c++)
                row[c] = p->bias == NULL ? 0 : *p->bias;
        const int64_t columns = p->n - j * PANEL;
        struct fetch next = {NULL, 0};
        if (K < p->K && j + 1 < block->j1)
            next = fetch_part(B.first + p->b_stride, K * PANEL, 0, 1, fetches_of_rows(i1 - i0, K));
        for (int64_t i = i0; i < i1; i += GROUP) {
            const int64_t rows = smaller(GROUP, i1 - i);
            const struct operand A = {p->A.first + k / ROW * p->a_stride + i * ROW, p->A.step};
            real* C = block->C + (j - block->j0) * block->c_stride + (i - i0) * PANEL;
            multiply(rows, columns, A, p->a_stride, K, B, p->parts, init, C, &next);
            if (k + K == p->K) {
                const struct kept below = p->below == NULL ? (struct kept){NULL, 0, 0} : kept_at(p->below, j, i);
                finish(p->f, p->slope, p->below == NULL ? NULL : &below, C, rows, vectors_of(p->n, j));
            }
        }
    }
}

/* Loops: blocks of rows; blocks of panels; blocks of K; and in a block its panels of B; groups of rows, whose part of C
 * is in L1 for its last operation; tiles. */
static void product(const struct product* p, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const bool whole = p->K <= words_whole(p->parts), alone = p->c_stride == 0;
    const int64_t panels = !whole ? PANELS : alone ? 1 : j1 - j0, k_block = whole ? p->K : words_in_block(p->parts);
    struct block block = {.c_stride = p->c_stride};
    for (int64_t i = i0; i < i1; i += ROW_BLOCK)
        for (int64_t j = j0; j < j1; j += panels) {
            block.j0 = j, block.j1 = smaller(j1, j + panels);
            block.i0 = i, block.i1 = smaller(i1, i + ROW_BLOCK);
            if (alone)
                block.C = p->C, block.c_stride = whole_spans(block.i1 - i) * PANEL;
            else
                block.C = p->C + j * p->c_stride + i * PANEL;
            for (int64_t k = 0; k < p->K; k += k_block)
                product_block(p, &block, k, smaller(k_block, p->K - k));
            if (p->then != NULL)
                p->then(p, &block);
        }
}
