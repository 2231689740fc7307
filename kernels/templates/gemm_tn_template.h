/* dW = A.T @ D on panels, one block of weights at a time, for units that multiply vectors. A is read along its columns.
 *
 * As in vector_tiles_template.h, a micro-kernel broadcasts reals of A, or, where D has few columns, of D. Sums of many
 * rows are added up in runs of a fixed length, so the number of threads never changes a bit. */
#pragma once

#include "gemm_template.h"

#if !BRISK_TILES

/* Sums of at least so many reals prefetch the C that they are added to: it gains 3 % of dW of 512-512 at a batch of
 * 512, but costs 784-256 at a batch of 128 half a percent. */
enum { PREFETCH_C_ROWS = 256 };

/* `height` rows × v vectors of dW, with A at the first of these rows. */
INLINE void micro_kernel_tn(int height, int v, const real* A, const real* D, int64_t m, struct next_batch* next_batch,
                            struct epilogue epilogue, real* C) {
    vec acc[MR_TN][2];
    UNROLL (i, height)
        UNROLL (j, v)
            acc[i][j] = vec_splat(0);
    if (epilogue.kind != BETA_0 && m >= PREFETCH_C_ROWS)
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
        UNROLL (j, v)
            d[j] = vec_load(D + j * LANES);
        UNROLL (i, height) {
            const vec a = vec_splat(A[i]);
            UNROLL (j, v)
                acc[i][j] = vec_dot(a, d[j], acc[i][j]);
        }
    }
    UNROLL (i, height)
        UNROLL (j, v)
            apply_epilogue(C + i * NR + j * LANES, acc[i][j], epilogue);
}

/* The micro-kernels of rows 0 … rows of one block; the last may be lower. */
INLINE void block_tn(int v, const real* A, const real* D, int64_t rows, const struct gemm_tn* g,
                     struct epilogue epilogue, real* C) {
    struct prefetch next_A = g->next_A, next_D = g->next_D;
    struct next_batch* next_batch = g->next_batch;
    const int64_t m = g->m;
    for (int64_t r = 0; r < rows; r += MR_TN) {
        prefetch_lines(&next_A);
        prefetch_lines(&next_D);
        if (r + MR_TN_HALF < rows)
            micro_kernel_tn(MR_TN, v, A + r, D, m, next_batch, epilogue, C + r * NR);
        else
            micro_kernel_tn(MR_TN_HALF, v, A + r, D, m, next_batch, epilogue, C + r * NR);
    }
}

/* Whether to compute dW.T = D.T @ A instead, which has the same sums, to the bit, and takes fewer FMAs where D has few
 * columns: 4 columns of float32 fill a quarter of a vector, and 32 rows two. To transpose an element takes as long as
 * three FMAs of AVX-512: 784-30-10 lost 3 % where it saved fewer. */
static bool swap_pays(int64_t rows, int64_t columns, int64_t m) {
    const int64_t fewer = whole_mr_tn(rows) * vectors_of(columns, 0) - whole_mr_tn(columns) * vectors_of(rows, 0);
    return m * fewer > 3 * rows * columns;
}

/* How often such a block prefetches: once for each of its micro-kernels. */
static int64_t prefetches_of_block(int64_t rows, int64_t columns, int64_t m) {
    return ((swap_pays(rows, columns, m) ? columns : rows) + MR_TN - 1) / MR_TN;
}

static void block_tn_swapped(const struct gemm_tn* g, real* C) {
    const struct epilogue beta_0 = {.kind = BETA_0};
    real transposed[NR * NR], dW[NR * NR] = {0};
    if (vectors_of(g->rows, 0) == 2)
        block_tn(2, g->D.first, g->A.first, g->columns, g, beta_0, transposed);
    else
        block_tn(1, g->D.first, g->A.first, g->columns, g, beta_0, transposed);
    for (int64_t c = 0; c < g->columns; c++)
        for (int64_t r = 0; r < g->rows; r++)
            dW[r * NR + c] = transposed[c * NR + r];
    for (int64_t r = 0; r < g->rows; r++)
        for (int j = 0; j < vectors_of(g->columns, 0); j++)
            apply_epilogue(C + r * NR + j * LANES, vec_load(dW + r * NR + j * LANES), g->epilogue);
}

static void block_of_split(const struct gemm_tn* g, real* C) {
    if (swap_pays(g->rows, g->columns, g->m))
        block_tn_swapped(g, C);
    else if (vectors_of(g->columns, 0) == 2)
        block_tn(2, g->A.first, g->D.first, g->rows, g, g->epilogue, C);
    else
        block_tn(1, g->A.first, g->D.first, g->rows, g, g->epilogue, C);
}

/* Add the products of the lower splits. It stands apart, to keep the common case small. */
static __attribute__((noinline)) void other_splits(const struct gemm_tn* g, real* C) {
    for (int split = 1; split < g->splits; split++) {
        struct gemm_tn other = {
            .A = g->A, .D = g->D, .rows = g->rows, .columns = g->columns, .m = g->m, .epilogue = {.kind = BETA_1}};
        other.D.first += split * g->D.step;
        block_of_split(&other, C);
        other.A.first += split * g->A.step;
        other.D = g->D;
        block_of_split(&other, C);
    }
}

/* One block of dW, or of the weights that it moves. */
INLINE void gemm_tn_block(const struct gemm_tn* g, real* C) {
    block_of_split(g, C);
    if (g->splits > 1)
        other_splits(g, C);
}

#endif
