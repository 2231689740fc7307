/* The products for units that multiply tiles: see vec_amx.h. Both are sums of squares of 2 × 2 tiles of C, for which a
 * step of SPAN summands takes two tiles on the left and two on the right:
 *
 *     Z = A @ W, dA = D @ WT     32 rows of A × a panel of W: a step is one panel of A, and 16 rows of words of W
 *     dW = A.T @ D               a panel of A, turned × a panel of D: a step is 32 rows of the batch
 *
 * Of 2 or 3 parts of each number all products are added up in one pass, in an order in which each has a tile in common
 * with the one before, and that of the first parts is the last: 14 tiles are loaded for 6 products, not 24. Squares at
 * the edges take fewer tiles; the rows that they write beyond the last are nobody's. A square's sums run in one order,
 * whoever computes it.
 *
 * Loading a square's sums and storing them counts as two steps of one product, which is why blocks are as long as they
 * are below. */

enum {
    SQUARE = 2 * TILE_ROWS, /* rows of C; and columns, a panel */
    ROW_GRAIN = PACK_ROWS   /* rows of a block whose words along columns nobody else writes */
};

/* See product_template.h and weights_template.h. Of three parts the operands of a block are three times as large. */
static int64_t kc_whole(int n) {
    (void)n;
    return 256;
}

static int64_t kc_block(int n) {
    return n == 1 ? 256 : 128;
}

static int64_t kc_tn_block(int n) {
    return n == 1 ? 512 : 256;
}

static int64_t steps_of(int64_t words) {
    return (words + TILE_ROWS - 1) / TILE_ROWS;
}

/* How often `multiply` fetches, for so many rows and words, and `gemm_tn_block`. */
static int64_t prefetches_of_rows(int64_t rows, int64_t K) {
    return (rows / SQUARE + 1) * steps_of(K);
}

static int64_t prefetches_of_block(int64_t rows, int64_t columns, int64_t m) {
    (void)rows, (void)columns;
    return m > 0 ? steps_of(m) : 1;
}

/* What a square fetches in each of its steps. */
struct square_prefetch {
    struct prefetch* left;
    struct prefetch* right; /* or NULL, as ahead */
    struct next_batch* next_batch;
};

static bool any_prefetch(const struct square_prefetch* prefetches) {
    return prefetches->left->lines > 0 || (prefetches->right != NULL && prefetches->right->lines > 0) ||
           prefetches->next_batch != NULL;
}

/* Apart, to leave the step its registers. */
static __attribute__((noinline)) void prefetch_square(const struct square_prefetch* prefetches) {
    prefetch_lines(prefetches->left);
    if (prefetches->right != NULL)
        prefetch_lines(prefetches->right);
    if (prefetches->next_batch != NULL)
        for (int64_t line = 0; line < prefetches->next_batch->per_call; line++)
            prefetch_next_batch(prefetches->next_batch);
}

/* C = init + the sum over parts a + b < n, and so many steps, of left[a] @ right[b]. From step to step the left operand
 * goes on by left_step words, the right one by the rows of a tile. init is 0 where it is NULL, else its rows are
 * init_step numbers apart: 0 for one row. */
INLINE void sum_square(int r, int v, int n, int64_t steps, struct operand left, int64_t left_step, struct operand right,
                       const real* init, int64_t init_step, real* C, const struct square_prefetch* prefetches) {
    const real *A = left.first, *B = right.first;
    const bool prefetch = any_prefetch(prefetches);
    tiles_begin(r, v, init, init_step);
    for (int64_t step = 0; step < steps; step++, A += left_step, B += TILE_ROWS * NR) {
        if (prefetch)
            prefetch_square(prefetches);
        tiles_left(r, A);
        if (n == 3) {
            tiles_right(v, B + 2 * right.step);
            tiles_dot(r, v);
        }
        if (n > 1) {
            tiles_right(v, B + right.step);
            tiles_dot(r, v);
        }
        if (n == 3) {
            tiles_left(r, A + left.step);
            tiles_dot(r, v);
        }
        tiles_right(v, B);
        if (n > 1) {
            tiles_dot(r, v);
            tiles_left(r, A + (n - 1) * left.step);
        }
        tiles_dot(r, v);
        if (n == 3) {
            tiles_left(r, A);
            tiles_dot(r, v);
        }
    }
    tiles_store(r, v, C, NR);
}

INLINE void square_of(int r, int v, int n, int64_t steps, struct operand left, int64_t left_step, struct operand right,
                      const real* init, int64_t init_step, real* C, const struct square_prefetch* prefetches) {
    if (n == 1)
        sum_square(r, v, 1, steps, left, left_step, right, init, init_step, C, prefetches);
    else if (n == 2)
        sum_square(r, v, 2, steps, left, left_step, right, init, init_step, C, prefetches);
    else
        sum_square(r, v, 3, steps, left, left_step, right, init, init_step, C, prefetches);
}

static void square(int r, int v, int n, int64_t steps, struct operand left, int64_t left_step, struct operand right,
                   const real* init, int64_t init_step, real* C, const struct square_prefetch* prefetches) {
    if (r == 2 && v == 2)
        square_of(2, 2, n, steps, left, left_step, right, init, init_step, C, prefetches);
    else if (r == 2)
        square_of(2, 1, n, steps, left, left_step, right, init, init_step, C, prefetches);
    else if (v == 2)
        square_of(1, 2, n, steps, left, left_step, right, init, init_step, C, prefetches);
    else
        square_of(1, 1, n, steps, left, left_step, right, init, init_step, C, prefetches);
}

/* `rows` rows of one panel of C, of which so many columns are true: C = init + Σ A[a] @ B[b] over the parts a + b < n,
 * or, without init, C is added to. A's panels are a_stride apart; init is a row. */
static void multiply(int64_t rows, int64_t columns, struct operand A, int64_t a_stride, int64_t K, struct operand B,
                     int n, const real* init, real* C, struct prefetch* prefetch) {
    const int v = vectors_of(columns, 0);
    const struct square_prefetch prefetches = {.left = prefetch};
    for (; rows > 0; rows -= SQUARE, A.first += SQUARE * ROW_STEP, C += SQUARE * NR)
        square(rows > TILE_ROWS ? 2 : 1, v, n, steps_of(K), A, a_stride, B, init == NULL ? C : init,
               init == NULL ? NR : 0, C, &prefetches);
}

/* dW of one block (panel, panel) of weights, of which so many rows and columns are true, from m rows of words. */
static void gemm_tn_block(int64_t columns, struct operand A, struct operand D, int n, int64_t m, int64_t rows, real* C,
                          enum epilogue_kind kind, real shrink, real rate, struct prefetch next_A,
                          struct prefetch next_D, struct next_batch* next_batch) {
    const int v = vectors_of(columns, 0);
    const struct square_prefetch prefetches = {&next_A, &next_D, next_batch};
    real dW[NR * NR];
    square(rows > TILE_ROWS ? 2 : 1, v, n, steps_of(m), A, PACK_ROWS * ROW_STEP, D, kind == BETA_1 ? C : NULL, NR,
           kind == FUSED_SGD ? dW : C, &prefetches);
    if (kind == FUSED_SGD)
        for (int64_t i = 0; i < rows; i++)
            for (int j = 0; j < v; j++)
                apply_epilogue(C + i * NR + j * LANES, vec_load(dW + i * NR + j * LANES), FUSED_SGD, shrink, rate);
}
