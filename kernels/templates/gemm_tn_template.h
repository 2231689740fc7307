/* dW = A.T @ D on panels (see brisk.h). A is read along its columns.
 *
 * As in vector_tiles_template.h, a tile broadcasts words of A, or, where D has few columns, of D. Sums of many rows are
 * added up from runs whose length is fixed: threads never change a bit. */

enum {
    PREFETCH_C_ROWS = 256 /* rows of words in a sum from which it pays to fetch early what it is added to: 3 % of dW of
                  512-512 at a batch of 512, where fetching costs 784-256 at a batch of 128 half a percent */
};

/* See weights_template.h. */
static int64_t kc_tn_block(int n) {
    (void)n;
    return 128 * VNNI;
}

/* `height` rows of dW = A.T @ D, summed over m rows of words of A and D; C has v vectors of a panel. */
INLINE void micro_kernel_tn(int height, int v, const real* A, const real* D, int64_t m, real* C,
                            enum epilogue_kind kind, real shrink, real rate, struct next_batch* next_batch) {
    vec acc[MR_TN][2];
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            acc[i][j] = vec_splat(0);
    if (kind != BETA_0 && m >= PREFETCH_C_ROWS)
        for (int i = 0; i < height * NR; i += 64 / (int)sizeof(real))
            __builtin_prefetch(C + i, 1, 3);
    const int64_t every = next_batch == NULL ? m + 1 : (m + next_batch->per_call - 1) / next_batch->per_call;
    int64_t until = every;
    for (int64_t p = 0; p < m; p++, A += NR, D += NR) {
        if (--until == 0) {
            prefetch_next_batch(next_batch);
            until = every;
        }
        vec d[2];
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            d[j] = vec_load(D + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < height; i++) {
            const vec a = vec_splat(A[i]);
#pragma GCC unroll 2
            for (int j = 0; j < v; j++)
                acc[i][j] = vec_dot(a, d[j], acc[i][j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            apply_epilogue(C + i * NR + j * LANES, acc[i][j], kind, shrink, rate);
}

/* The tiles of rows 0 … rows of one block of dW; the last may be low. */
INLINE void block_tn(int v, const real* A, const real* D, int64_t m, int64_t rows, real* C, enum epilogue_kind kind,
                     real shrink, real rate, struct prefetch* next_A, struct prefetch* next_D,
                     struct next_batch* next_batch) {
    for (int64_t r = 0; r < rows; r += MR_TN) {
        prefetch_lines(next_A);
        prefetch_lines(next_D);
        if (r + MR_TN_HALF < rows)
            micro_kernel_tn(MR_TN, v, A + r, D, m, C + r * NR, kind, shrink, rate, next_batch);
        else
            micro_kernel_tn(MR_TN_HALF, v, A + r, D, m, C + r * NR, kind, shrink, rate, next_batch);
    }
}

static int64_t whole_mr_tn(int64_t n) {
    return (n + MR_TN_HALF - 1) / MR_TN_HALF * MR_TN_HALF;
}

/* Whether dW.T = D.T @ A takes so many fewer FMAs for a block of so many rows and columns, of m summands, that turning
 * it pays: 4 columns of float32 fill a quarter of a vector, and 32 rows two. The sums are the same, to the bit. To turn
 * a number takes as long as three FMAs of AVX-512: 784-30-10 lost 3 % where it saved fewer. */
static bool swap_pays(int64_t rows, int64_t columns, int64_t m) {
    const int64_t fewer = whole_mr_tn(rows) * vectors_of(columns, 0) - whole_mr_tn(columns) * vectors_of(rows, 0);
    return m * fewer > 3 * rows * columns;
}

/* How often such a block fetches: once for each of its tiles. */
static int64_t prefetches_of_block(int64_t rows, int64_t columns, int64_t m) {
    return ((swap_pays(rows, columns, m) ? columns : rows) + MR_TN - 1) / MR_TN;
}

static void block_tn_swapped(int v, const real* A, const real* D, int64_t m, int64_t rows, int64_t columns, real* C,
                             enum epilogue_kind kind, real shrink, real rate, struct prefetch* next_A,
                             struct prefetch* next_D, struct next_batch* next_batch) {
    real transposed[NR * NR], dW[NR * NR] = {0};
    if (vectors_of(rows, 0) == 2)
        block_tn(2, D, A, m, columns, transposed, BETA_0, 0, 0, next_D, next_A, next_batch);
    else
        block_tn(1, D, A, m, columns, transposed, BETA_0, 0, 0, next_D, next_A, next_batch);
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            dW[r * NR + c] = transposed[c * NR + r];
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < v; j++)
            apply_epilogue(C + r * NR + j * LANES, vec_load(dW + r * NR + j * LANES), kind, shrink, rate);
}

static void block_of_split(int64_t columns, const real* A, const real* D, int64_t m, int64_t rows, real* C,
                           enum epilogue_kind kind, real shrink, real rate, struct prefetch next_A,
                           struct prefetch next_D, struct next_batch* next_batch) {
    const int v = vectors_of(columns, 0);
    if (swap_pays(rows, columns, m))
        block_tn_swapped(v, A, D, m, rows, columns, C, kind, shrink, rate, &next_A, &next_D, next_batch);
    else if (v == 2)
        block_tn(2, A, D, m, rows, C, kind, shrink, rate, &next_A, &next_D, next_batch);
    else
        block_tn(1, A, D, m, rows, C, kind, shrink, rate, &next_A, &next_D, next_batch);
}

/* What the other parts add to a block of dW, A[a].T @ D[b] of a + b < n. */
static __attribute__((noinline)) void other_splits(int64_t columns, struct operand A, struct operand D, int n,
                                                   int64_t m, int64_t rows, real* C) {
    const struct prefetch none = {NULL, 0};
    for (int part = 1; part < n; part++) {
        block_of_split(columns, A.first, D.first + part * D.step, m, rows, C, BETA_1, 0, 0, none, none, NULL);
        block_of_split(columns, A.first + part * A.step, D.first, m, rows, C, BETA_1, 0, 0, none, none, NULL);
    }
}

/* dW of one block (panel, panel) of weights, of which so many rows and columns are true, from m rows of words: the sum
 * over the parts a + b < n. */
INLINE void gemm_tn_block(int64_t columns, struct operand A, struct operand D, int n, int64_t m, int64_t rows, real* C,
                          enum epilogue_kind kind, real shrink, real rate, struct prefetch next_A,
                          struct prefetch next_D, struct next_batch* next_batch) {
    block_of_split(columns, A.first, D.first, m, rows, C, kind, shrink, rate, next_A, next_D, next_batch);
    if (n > 1)
        other_splits(columns, A, D, n, m, rows, C);
}
