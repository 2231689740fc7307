/* The arguments of the two products on one panel or block, in the manner of BLIS's micro-kernels and their auxinfo_t:
 * gemm_nn for A @ B, gemm_tn for A.T @ D. Vectors compute them in vector_tiles_template.h and gemm_tn_template.h,
 * matrix tiles in matrix_tiles_template.h. K and m count reals, each of which is VNNI summands. */
#pragma once

#include "epilogue_template.h"
#include "prefetch_template.h"
#include "rounding_template.h"

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
