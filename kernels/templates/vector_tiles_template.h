/* The micro-kernels of A @ B for units that multiply vectors: up to MR rows of one or two vectors of C in registers.
 *
 * A micro-kernel broadcasts one real of A at a time and multiplies it with a row of B: one element, or, where VNNI is
 * 2, a pair of bf16 neighbours along the summation. All addresses inside a panel are constants apart, so it needs two
 * pointers and no index. Sums run in the order of the summation index, so neither the height of a micro-kernel nor the
 * number of threads changes a bit. */
#pragma once

#include "gemm_template.h"

#if !BRISK_TILES

/* `count` micro-kernels, one below the other, of `height` rows × v vectors of C, from A. */
INLINE void micro_kernel(int height, int v, int64_t count, const struct gemm_nn* g, const real* A, real* C) {
    const int64_t a_stride = g->a_stride, K = g->K;
    const real *B = g->B.first, *init = g->init;
    for (; count > 0; count--, A += height * ROW_STEP, C += height * NR) {
        vec acc[8][2];
        prefetch_lines(g->prefetch);
        UNROLL (i, height)
            UNROLL (j, v)
                acc[i][j] = init != NULL ? vec_load(init + j * LANES) : vec_load(C + i * NR + j * LANES);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW_STEP, a += a_stride) {
            const int columns = (int)smaller(ROW_STEP, K - k);
            for (int p = 0; p < columns; p++, b += NR) {
                vec row[2];
                UNROLL (j, v)
                    row[j] = vec_load(b + j * LANES);
                UNROLL (i, height) {
                    const vec broadcast = vec_splat(a[i * ROW_STEP + p]);
                    UNROLL (j, v)
                        acc[i][j] = vec_dot(broadcast, row[j], acc[i][j]);
                }
            }
        }
        UNROLL (i, height)
            UNROLL (j, v)
                vec_store(C + i * NR + j * LANES, acc[i][j]);
    }
}

/* The micro-kernels of each height up to MR, which registers have room for. */
static void micro_kernel_of(int height, int v, int64_t count, const struct gemm_nn* g, const real* A, real* C) {
    switch (10 * height + v) {
#define CASE(HEIGHT, V)                                                                                                \
    case 10 * HEIGHT + V:                                                                                              \
        if (HEIGHT <= MR)                                                                                              \
            micro_kernel(HEIGHT, V, count, g, A, C);                                                                   \
        break;
#define CASES(V) CASE(1, V) CASE(2, V) CASE(3, V) CASE(4, V) CASE(5, V) CASE(6, V) CASE(7, V) CASE(8, V)
        CASES(1) CASES(2)
#undef CASES
#undef CASE
    }
}

#ifdef BRISK_QUADS

/* As micro_kernel, for matrices C of up to 4 columns: a vector is 4 rows of 4 columns. It takes a quarter of the FMAs,
 * but one more instruction to spread each 4 reals of A. */
INLINE void micro_kernel_quads(int quads, int64_t count, const struct gemm_nn* g, const real* A, real* C) {
    const int64_t a_stride = g->a_stride, K = g->K;
    const real *B = g->B.first, *init = g->init;
    for (; count > 0; count--, A += quads * 4 * ROW_STEP, C += quads * 4 * NR) {
        vec acc[8];
        prefetch_lines(g->prefetch);
        UNROLL (q, quads)
            acc[q] = init != NULL ? vec_load_quad(init, 0) : vec_load_quad(C + q * 4 * NR, NR);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW_STEP, a += a_stride) {
            const int columns = (int)smaller(ROW_STEP, K - k);
            for (int p = 0; p < columns; p += 4, b += 4 * NR) {
                vec rows[8];
                UNROLL (q, quads)
                    rows[q] = vec_load_quad(a + q * 4 * ROW_STEP + p, ROW_STEP);
                UNROLL (i, 4) {
                    if (p + i >= columns)
                        break;
                    const vec row = vec_load_quad(b + i * NR, 0);
                    UNROLL (q, quads)
                        acc[q] = vec_dot(vec_splat_quad(rows[q], i), row, acc[q]);
                }
            }
        }
        UNROLL (q, quads)
            vec_store_quad(C + q * 4 * NR, NR, acc[q]);
    }
}

/* Compute as many of the rows as make whole micro-kernels of quads, and return how many these are. */
static int64_t micro_kernels_quads(int64_t rows, const struct gemm_nn* g, real* C) {
    const int64_t eight = rows / 32, four = rows % 32 / 16, done = eight * 32;
    micro_kernel_quads(8, eight, g, g->A.first, C);
    micro_kernel_quads(4, four, g, g->A.first + done * ROW_STEP, C + done * NR);
    return done + four * 16;
}

#endif

/* `rows` rows of one panel of C, of one split. The heights of the micro-kernels differ by one at most, because a low
 * one waits for its own results. */
INLINE void micro_kernels(int64_t rows, int64_t columns, const struct gemm_nn* g, real* C) {
    const real* A = g->A.first;
#ifdef BRISK_QUADS
    if (columns <= 4 && rows >= 16) {
        const int64_t done = micro_kernels_quads(rows, g, C);
        rows -= done, A += done * ROW_STEP, C += done * NR;
        if (rows == 0)
            return;
    }
#endif
    const int64_t n = (rows + MR - 1) / MR, height = n == 1 ? rows : (rows + n - 1) / n;
    const int64_t tall = rows - n * (height - 1);
    for (int64_t lower = 0; lower < 2; lower++) {
        const int64_t h = height - lower, count = lower == 0 ? tall : n - tall;
        if (count == 0)
            break;
        micro_kernel_of((int)h, vectors_of(columns, 0), count, g, A, C);
        A += count * h * ROW_STEP;
        C += count * h * NR;
    }
}

/* How often `multiply` prefetches for so many rows. */
static int64_t prefetches_of_rows(int64_t rows, int64_t K) {
    (void)K;
    return rows / MR + 1;
}

/* `rows` rows of one panel of C, of which so many columns are valid. */
INLINE void multiply(int64_t rows, int64_t columns, const struct gemm_nn* g, real* C) {
    micro_kernels(rows, columns, g, C);
    for (int split = 1; split < g->splits; split++) {
        struct gemm_nn other = *g;
        other.init = NULL;
        other.B.first = g->B.first + split * g->B.step;
        micro_kernels(rows, columns, &other, C);
        other.A.first = g->A.first + split * g->A.step;
        other.B.first = g->B.first;
        micro_kernels(rows, columns, &other, C);
    }
}

#endif
