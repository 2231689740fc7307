/* A @ B on panels (see brisk.h): forward, and the delta of the layer below. A is read along its rows.
 *
 * `multiply` adds up all words of some rows of one panel, or as many words as a block has: vector_tiles_template.h, or
 * matrix_tiles_template.h where a unit multiplies tiles. */

enum {
    MC = 384,           /* rows of A that are kept in L2 while the panels of B pass by */
    EPILOGUE_ROWS = 64, /* rows of C that are in L1 when they are finished */
    NC_PANELS = 12      /* of C, or of blocks of dW in both directions: what is summed in one go, and stays in L2 */
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
    int splits; /* of each that are read */
    const real* bias;
    real* C;
    int64_t a_stride, b_stride, c_stride, K, n, bias_step;
    const struct saved* below; /* or NULL */
    enum brisk_activation f;
    real slope; /* of leaky relu */
    void (*post_op)(const struct product*, const struct block*);
    const struct pass* pass; /* for it */
};

/* Where and in which layer; `masks` may be NULL: see dropout_template.h. */
struct pass {
    const struct brisk_work* work;
    const struct brisk_space* space;
    int64_t l;
    const struct masks* masks;
};

INLINE void epilogue_loop(enum brisk_activation f, real slope, const struct saved* below, real* C, int64_t rows,
                          int v) {
    const vec slopes = vec_splat(slope);
    for (int64_t i = 0; i < rows; i++, C += NR)
        for (int j = 0; j < v; j++) {
            const vec c = vec_load(C + j * LANES);
            vec_store(C + j * LANES, below != NULL ? activation_backward(f, c, saved_vec(below, i, j), slopes)
                                                   : activation(f, c, slopes));
        }
}

/* The last operation on a group of rows; each case is a loop of its own. */
static void epilogue_rows(enum brisk_activation f, real slope, const struct saved* below, real* C, int64_t rows,
                          int v) {
    switch (f) {
    case BRISK_SIGMOID:
        if (below != NULL)
            epilogue_loop(BRISK_SIGMOID, 0, below, C, rows, v);
        else
            epilogue_loop(BRISK_SIGMOID, 0, NULL, C, rows, v);
        break;
    case BRISK_TANH:
        if (below != NULL)
            epilogue_loop(BRISK_TANH, 0, below, C, rows, v);
        else
            epilogue_loop(BRISK_TANH, 0, NULL, C, rows, v);
        break;
    case BRISK_RELU:
        epilogue_loop(BRISK_RELU, 0, below, C, rows, v);
        break;
    case BRISK_LEAKY_RELU:
        epilogue_loop(BRISK_LEAKY_RELU, slope, below, C, rows, v);
        break;
    case BRISK_EXP: /* of an output alone */
        epilogue_loop(BRISK_EXP, 0, NULL, C, rows, v);
        break;
    case BRISK_IDENTITY:
    case BRISK_SOFTMAX: /* works on whole rows: the loss's matter */
        break;
    }
}

/* Words k … k + K of the sums of one block. */
static void macro_kernel(const struct product* p, const struct block* block, int64_t k, int64_t K) {
    const int64_t i0 = block->i0, i1 = block->i1;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct operand B = {p->B.first + j * p->b_stride + k * NR, p->B.step};
        real row[NR];
        const real* init = row;
        if (k > 0)
            init = NULL;
        else if (p->bias_step > 0)
            init = p->bias + j * NR;
        else
            for (int c = 0; c < NR; c++)
                row[c] = p->bias == NULL ? 0 : *p->bias;
        const int64_t columns = p->n - j * NR;
        struct prefetch next = {NULL, 0};
        if (K < p->K && j + 1 < block->j1)
            next = prefetch_share(B.first + p->b_stride, K * NR, 0, 1, prefetches_of_rows(i1 - i0, K));
        for (int64_t i = i0; i < i1; i += EPILOGUE_ROWS) {
            const int64_t rows = smaller(EPILOGUE_ROWS, i1 - i);
            const struct operand A = {p->A.first + k / ROW_STEP * p->a_stride + i * ROW_STEP, p->A.step};
            real* C = block->C + (j - block->j0) * block->c_stride + (i - i0) * NR;
            multiply(rows, columns, A, p->a_stride, K, B, p->splits, init, C, &next);
            if (k + K == p->K) {
                const struct saved below = p->below == NULL ? (struct saved){NULL, 0, 0} : saved_at(p->below, j, i);
                epilogue_rows(p->f, p->slope, p->below == NULL ? NULL : &below, C, rows, vectors_of(p->n, j));
            }
        }
    }
}

/* Loops: blocks of rows; blocks of panels; blocks of K; and in a block its panels of B; groups of rows, whose part of C
 * is in L1 for its last operation; tiles. */
static void product(const struct product* p, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const bool whole = p->K <= kc_whole(p->splits), alone = p->c_stride == 0;
    const int64_t panels = !whole ? NC_PANELS : alone ? 1 : j1 - j0, k_block = whole ? p->K : kc_block(p->splits);
    struct block block = {.c_stride = p->c_stride};
    for (int64_t i = i0; i < i1; i += MC)
        for (int64_t j = j0; j < j1; j += panels) {
            block.j0 = j, block.j1 = smaller(j1, j + panels);
            block.i0 = i, block.i1 = smaller(i1, i + MC);
            if (alone)
                block.C = p->C, block.c_stride = whole_pack_rows(block.i1 - i) * NR;
            else
                block.C = p->C + j * p->c_stride + i * NR;
            for (int64_t k = 0; k < p->K; k += k_block)
                macro_kernel(p, &block, k, smaller(k_block, p->K - k));
            if (p->post_op != NULL)
                p->post_op(p, &block);
        }
}
