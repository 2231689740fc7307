/* The arguments of the two products on one panel or block, in the manner of BLIS's micro-kernels and their auxinfo_t:
 * gemm_nn for A @ B, gemm_tn for A.T @ D. Vectors compute them in vector_tiles_template.h and gemm_tn_template.h,
 * matrix tiles in matrix_tiles_template.h. K and m count reals, each of which is VNNI summands. */
#pragma once

#include "panels_template.h"
#include "rounding_template.h"

/* KC of A @ B (product_template.h). Vectors: up to kc_whole a panel of B is read whole, from L2, for each MC rows of A;
 * for larger K, MC rows of NC_PANELS panels of C stay in L2 while blocks of A and B pass, and KC × NR elements of B
 * stay in L1. Tiles: to load and store a square's sums counts as two steps of one product, so KC is as long as it is;
 * with three splits the operands of a block are three times as large. */
static inline int64_t kc_whole(void) {
    return BRISK_TILES ? 256 : 896 / VNNI;
}

static inline int64_t kc_block(int splits) {
    return !BRISK_TILES ? 512 / (int64_t)sizeof(real) : splits == 1 ? 256 : 128;
}

/* KC of a batch that is not summed at once (weights_template.h). */
static inline int64_t kc_tn_block(int splits) {
    return !BRISK_TILES ? 128 * VNNI : splits == 1 ? 512 : 256;
}

/* --- the epilogue of dW's micro-kernels, on sums that are still in registers ------------------------------------ */

/* BETA_0 overwrites C, BETA_1 adds to it, as in BLAS; FUSED_SGD takes C for the weights and makes the step of gradient
 * descent, C = C - shrink · C - rate · dW, where `shrink` is the rate times weight decay and l2. */
enum epilogue_kind { BETA_0, BETA_1, FUSED_SGD };

struct epilogue {
    enum epilogue_kind kind;
    real shrink, rate;
};

INLINE void apply_epilogue(real* C, vec value, struct epilogue epilogue) {
    if (epilogue.kind == BETA_1)
        value = vec_load(C) + value;
    else if (epilogue.kind == FUSED_SGD) {
        const vec w = vec_load(C);
        value = vec_fnma(vec_splat(epilogue.rate), value, vec_fnma(vec_splat(epilogue.shrink), w, w));
    }
    vec_store(C, value);
}

/* --- prefetching: the operands that a product reads soon, and the rows of X that the next batch gathers ----------- */

/* Memory to prefetch into L2: `lines` cache lines before each micro-kernel, because many at once would hinder the
 * micro-kernel's own loads. */
struct prefetch {
    const char* line;
    int64_t lines;
};

/* The i-th of n shares of so many elements from p on, spread over so many calls of prefetch_lines. */
static inline struct prefetch prefetch_share(const real* p, int64_t elements, int64_t i, int64_t n, int64_t calls) {
    const int64_t lines = (elements * (int64_t)sizeof(real) / 64 + n - 1) / n;
    return (struct prefetch){(const char*)p + lines * i * 64, (lines + calls - 1) / calls};
}

INLINE void prefetch_lines(struct prefetch* prefetch) {
    for (int64_t line = 0; line < prefetch->lines; line++, prefetch->line += 64)
        __builtin_prefetch(prefetch->line, 0, 2);
}

/* The rows of X that the next batch gathers. They are prefetched line by line while this batch computes its last dW: as
 * many lines at once as a block of weights takes made a step of 784-256-10 2 % longer. */
struct next_batch {
    const struct brisk_data* data;
    const int64_t *rows, *end;
    int64_t lines, line; /* cache lines of a row; the next one to prefetch */
    int64_t per_call;    /* lines for each micro-kernel of dW, at least 1 */
};

static void prefetch_next_batch(struct next_batch* next_batch) {
    if (next_batch->rows == next_batch->end)
        return;
    const int64_t row = *next_batch->rows * next_batch->data->X_step * (int64_t)sizeof(real);
    __builtin_prefetch((const char*)next_batch->data->X + row + next_batch->line * 64, 0, 2);
    if (++next_batch->line == next_batch->lines) {
        next_batch->line = 0;
        next_batch->rows++;
    }
}

/* --- the arguments ---------------------------------------------------------------------------------------------- */

/* C (rows, NR) = init + A (rows, K) @ B (K, NR), summed over the splits A[a] @ B[b] with a + b < splits. */
struct gemm_nn {
    struct operand A, B;
    int splits;
    int64_t a_stride, K; /* A's panels are a_stride apart */
    const real* init;    /* a row, the bias, from which each sum begins; or NULL, and C is added to (beta = 1) */
    struct prefetch* prefetch;
};

/* A block dW (rows, columns) = A.T @ D of m rows, summed over the splits as above. `columns` are the valid ones of at
 * most NR; `rows` are rounded up to whole micro-kernels. */
struct gemm_tn {
    struct operand A, D;
    int splits;
    int64_t rows, columns, m;
    struct epilogue epilogue;
    struct prefetch next_A, next_D;
    struct next_batch* next_batch; /* or NULL */
};
