/* Both products for units that multiply matrix tiles (vec_amx.h). Each is a sum of squares of 2 × 2 tiles of C, for
 * which a step of PACK_ROWS summands takes two tiles on the left and two on the right:
 *
 *     Z = A @ W, dA = D @ WT     32 rows of A × a panel of W: a step is one panel of A, and 16 rows of pairs of W
 *     dW = A.T @ D               a panel of A, transposed × a panel of D: a step is 32 rows of the batch
 *
 * The products of 2 or 3 splits are all added up in one pass, in an order in which each has a tile in common with the
 * one before, and which ends with the first splits: 14 tiles are loaded for 6 products, not 24. Squares at the edges
 * take fewer tiles; they write rows beyond the last, which nothing reads. The sums of a square run in one order,
 * whichever thread computes it.
 */
#pragma once

#include "gemm_template.h"

#if BRISK_TILES

enum { SQUARE = 2 * TILE_ROWS }; /* rows of C; its columns are a panel */

static int64_t steps_of(int64_t pairs) {
    return (pairs + TILE_ROWS - 1) / TILE_ROWS;
}

/* How often `multiply` prefetches, for so many rows, and `gemm_tn_block`. */
static int64_t prefetches_of_rows(int64_t rows, int64_t K) {
    return (rows / SQUARE + 1) * steps_of(K);
}

static int64_t prefetches_of_block(int64_t rows, int64_t columns, int64_t m) {
    (void)rows, (void)columns;
    return m > 0 ? steps_of(m) : 1;
}

/* A square C = init + Σ left[a] @ right[b], over the splits a + b < n and so many steps. From step to step the left
 * operand moves on by left_step reals, the right one by the rows of a tile. */
struct square {
    struct operand left, right;
    int64_t left_step, steps;
    const real* init; /* NULL for 0; its rows are init_step elements apart, 0 for one row */
    int64_t init_step;
    struct prefetch *next_left, *next_right; /* next_right may be NULL, as next_batch may */
    struct next_batch* next_batch;
};

/* Prefetch before a step. It stands apart, to leave the step its registers. */
static __attribute__((noinline)) void prefetch_square(const struct square* s) {
    prefetch_lines(s->next_left);
    if (s->next_right != NULL)
        prefetch_lines(s->next_right);
    if (s->next_batch != NULL)
        for (int64_t line = 0; line < s->next_batch->per_call; line++)
            prefetch_next_batch(s->next_batch);
}

/* r × v tiles of a square, of n splits. */
INLINE void sum_square(int r, int v, int n, const struct square* s, real* C) {
    const real *A = s->left.first, *B = s->right.first;
    const bool prefetch =
        s->next_left->lines > 0 || (s->next_right != NULL && s->next_right->lines > 0) || s->next_batch != NULL;
    tiles_begin(r, v, s->init, s->init_step);
    for (int64_t step = 0; step < s->steps; step++, A += s->left_step, B += TILE_ROWS * NR) {
        if (prefetch)
            prefetch_square(s);
        tiles_left(r, A);
        if (n == 3) {
            tiles_right(v, B + 2 * s->right.step);
            tiles_dot(r, v);
        }
        if (n > 1) {
            tiles_right(v, B + s->right.step);
            tiles_dot(r, v);
        }
        if (n == 3) {
            tiles_left(r, A + s->left.step);
            tiles_dot(r, v);
        }
        tiles_right(v, B);
        if (n > 1) {
            tiles_dot(r, v);
            tiles_left(r, A + (n - 1) * s->left.step);
        }
        tiles_dot(r, v);
        if (n == 3) {
            tiles_left(r, A);
            tiles_dot(r, v);
        }
    }
    tiles_store(r, v, C, NR);
}

/* The square of so many rows and columns; each combination is a loop of its own. */
static void square(int64_t rows, int64_t columns, int n, const struct square* s, real* C) {
    switch (100 * (rows > TILE_ROWS ? 2 : 1) + 10 * vectors_of(columns, 0) + n) {
#define CASE(R, V, N)                                                                                                  \
    case 100 * R + 10 * V + N:                                                                                         \
        sum_square(R, V, N, s, C);                                                                                     \
        break;
#define CASES(R, V) CASE(R, V, 1) CASE(R, V, 2) CASE(R, V, 3)
        CASES(1, 1) CASES(1, 2) CASES(2, 1) CASES(2, 2)
#undef CASES
#undef CASE
    }
}

/* `rows` rows of one panel of C, of which so many columns are valid. */
static void multiply(int64_t rows, int64_t columns, const struct gemm_nn* g, real* C) {
    struct square s = {
        .left = g->A,
        .right = g->B,
        .left_step = g->a_stride,
        .steps = steps_of(g->K),
        .init_step = g->init == NULL ? NR : 0,
        .next_left = g->prefetch,
    };
    for (; rows > 0; rows -= SQUARE, s.left.first += SQUARE * ROW_STEP, C += SQUARE * NR) {
        s.init = g->init == NULL ? C : g->init;
        square(rows, columns, g->splits, &s, C);
    }
}

/* One block of dW, or of the weights that it moves. */
static void gemm_tn_block(struct gemm_tn* g, real* C) {
    real dW[NR * NR];
    const bool fused = g->epilogue.kind == FUSED_SGD;
    const struct square s = {
        .left = g->A,
        .right = g->D,
        .left_step = PACK_ROWS * ROW_STEP,
        .steps = steps_of(g->m),
        .init = g->epilogue.kind == BETA_1 ? C : NULL,
        .init_step = NR,
        .next_left = &g->next_A,
        .next_right = &g->next_D,
        .next_batch = g->next_batch,
    };
    square(g->rows, g->columns, g->splits, &s, fused ? dW : C);
    for (int64_t i = 0; fused && i < g->rows; i++)
        for (int j = 0; j < vectors_of(g->columns, 0); j++)
            apply_epilogue(C + i * NR + j * LANES, vec_load(dW + i * NR + j * LANES), g->epilogue);
}

#endif
