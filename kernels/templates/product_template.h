/* The product C = f(init + A @ B) on panels: the forward pass, and the delta of the layer below. BLIS's five loops, in
 * the order that suits operands which are packed already:
 *
 *     for i in rows by MC                   MC rows of A stay in L2 while panels of B pass
 *       for j in panels by NC_PANELS        only where K is cut; otherwise all panels, or one at a time
 *         for k in K by KC                  only where K > kc_whole: then MC × NC_PANELS panels of C stay in L2
 *           macro_kernel
 *             for each panel of B           KC × NR elements of B, read from L1
 *               for rows by EPILOGUE_ROWS   so that C is in L1 for its epilogue, f or f'
 *                 micro-kernels             MR × NR elements of C, in registers: multiply()
 *         post_op                           dropout and packing, while the block of C is in L2
 *
 * (F. G. Van Zee, R. A. van de Geijn, BLIS: A Framework for Rapidly Instantiating BLAS Functionality, 2015) */
#pragma once

#include "../runtime/parts.h"
#include "dropout_template.h"
#include "matrix_tiles_template.h"
#include "vector_tiles_template.h"

enum {
    MC = 384,           /* rows of A that stay in L2 while the panels of B pass */
    EPILOGUE_ROWS = 64, /* rows of a panel of C that are still in L1 for the epilogue */
    NC_PANELS = 12      /* panels of C, or blocks of dW each way, whose sums stay in L2 */
};

/* A product of layer l. A (rows, K reals), B (K reals, n columns) and C (rows, n) lie in panels, those of B and C
 * b_stride and c_stride apart. The epilogue of each element is the activation f, or, where `below` is given, the
 * multiplication with f' from what is saved there, and dropout. `post_op`, if given, is called for each complete block
 * of C. c_stride is 0 where C has room for one block only. */
struct product {
    const struct brisk_work* work;
    const struct brisk_space* space;
    int64_t l;
    const struct masks* masks; /* or NULL (dropout_template.h) */
    struct operand A, B;
    const real* bias;
    real* C;
    int64_t b_stride, c_stride, K, n, bias_step; /* bias_step is 0 where one bias serves all columns */
    const struct saved* below;                   /* or NULL */
    bool dropped;                                /* whether units that A marks there have a gradient of 0 */
    real* S;                                     /* where f writes its slopes, in panels as activations; or NULL */
    enum brisk_activation f;
    const struct brisk_layer* layer; /* the one that has f */
    void (*post_op)(const struct product*, const struct block*);
};

INLINE void forward_loop(enum brisk_activation f, const double* parameters, real* S, real* C, int64_t rows, int v) {
    const vec p = vec_splat((real)parameters[0]), q = vec_splat((real)parameters[1]);
    const enum brisk_saves saves = brisk_activations[f].saves;
    for (int64_t i = 0; i < rows && saves != BRISK_SAVES_NOTHING; i++, C += NR)
        for (int j = 0; j < v; j++) {
            vec slope;
            const vec a = activation(f, vec_load(C + j * LANES), p, q, &slope);
            vec_store(C + j * LANES, a);
            if (S == NULL || saves < BRISK_SAVES_EXACT_A)
                continue;
            if (saves == BRISK_SAVES_EXACT_A)
                slope = activation_backward(f, vec_splat(1), a, p, q);
            vec_store(S + i * NR + j * LANES, slope);
        }
}

/* f of `rows` rows of v vectors of a panel of C, and its slopes to S, if not NULL. Each f has a loop of its own;
 * softmax needs whole rows, so the loss computes it. */
static void forward_epilogue(enum brisk_activation f, const double* parameters, real* S, real* C, int64_t rows, int v) {
    switch (f) {
#define ACTIVATION(NAME, ...) OPERATION(NAME, forward_loop(BRISK_##NAME, parameters, S, C, rows, v))
#include "../operations.def"
    default:
        break;
    }
}

/* Where units were dropped, the A that is saved has the factor s, and so has delta; -0 marks a dropped unit. */
INLINE void backward_loop(enum brisk_activation f, const struct product* product, const struct saved* below, real* C,
                          int64_t rows, int v, bool dropped) {
    const double* parameters = product->layer->parameters;
    const vec p = vec_splat((real)parameters[0]), q = vec_splat((real)parameters[1]);
    const vec zero = vec_splat(0), one = vec_splat(1);
    const real s = keep_scale(product->layer), rest = (real)(65536 - product->layer->threshold) / 65536; /* exact */
    for (int64_t i = 0; i < rows; i++, C += NR)
        for (int j = 0; j < v; j++) {
            const vec g = vec_load(C + j * LANES), a = saved_vec(below, i, j);
            if (!dropped) {
                vec_store(C + j * LANES, activation_backward(f, g, a, p, q));
                continue;
            }
            const vec sign = vec_where_less(zero, vec_abs(a), one, vec_copysign(one, a)); /* -1 for -0 alone */
            vec_store(C + j * LANES, vec_where_less(sign, zero, zero, activation_backward(f, g * s, a * rest, p, q)));
        }
}

INLINE void backward_loops(enum brisk_activation f, const struct product* p, const struct saved* below, real* C,
                           int64_t rows, int v) {
    if (p->dropped)
        backward_loop(f, p, below, C, rows, v, true);
    else if (f != BRISK_IDENTITY)
        backward_loop(f, p, below, C, rows, v, false);
}

/* The multiplication of the same rows with f' of what is saved below. */
static void backward_epilogue(const struct product* p, const struct saved* below, real* C, int64_t rows, int v) {
    switch (p->f) {
#define ACTIVATION(NAME, ...)                                                                                          \
    OPERATION(NAME, if (brisk_reads_A(BRISK_##NAME) || BRISK_##NAME == BRISK_IDENTITY)                                 \
                        backward_loops(BRISK_##NAME, p, below, C, rows, v))
#include "../operations.def"
    default:
        backward_loop(BRISK_BY_SLOPE, p, below, C, rows, v, false);
    }
}

/* Add summands k … k + K to one block of C. */
static void macro_kernel(const struct product* p, const struct block* block, int64_t k, int64_t K) {
    const int64_t i0 = block->i0, i1 = block->i1;
    struct prefetch next = {NULL, 0};
    struct gemm_nn g = {
        .A.step = p->A.step,
        .B.step = p->B.step,
        .splits = p->work->splits,
        .a_stride = p->work->panel_stride / VNNI,
        .K = K,
        .prefetch = &next,
    };
    real row[NR];
    for (int64_t j = block->j0; j < block->j1; j++) {
        g.B.first = p->B.first + j * p->b_stride + k * NR;
        if (k == 0 && p->bias_step > 0)
            g.init = p->bias + j * NR;
        else if (k == 0) {
            for (int c = 0; c < NR; c++)
                row[c] = p->bias == NULL ? 0 : *p->bias;
            g.init = row;
        }
        const int64_t columns = p->n - j * NR;
        next.lines = 0;
        if (K < p->K && j + 1 < block->j1)
            next = prefetch_share(g.B.first + p->b_stride, K * NR, 0, 1, prefetches_of_rows(i1 - i0, K));
        for (int64_t i = i0; i < i1; i += EPILOGUE_ROWS) {
            const int64_t rows = smaller(EPILOGUE_ROWS, i1 - i);
            real* C = block->C + (j - block->j0) * block->c_stride + (i - i0) * NR;
            g.A.first = p->A.first + k / ROW_STEP * g.a_stride + i * ROW_STEP;
            multiply(rows, columns, &g, C);
            if (k + K == p->K) {
                const int v = vectors_of(p->n, j);
                if (p->below == NULL) {
                    real* S = p->S == NULL ? NULL : p->S + j * p->work->panel_stride + i * NR;
                    forward_epilogue(p->f, p->layer->parameters, S, C, rows, v);
                } else {
                    const struct saved below = saved_at(p->below, j, i);
                    backward_epilogue(p, &below, C, rows, v);
                }
            }
        }
    }
}

/* Compute these panels and rows of C. */
static void product(const struct product* p, struct part panels, struct part rows) {
    const bool whole = p->K <= kc_whole(), one_block = p->c_stride == 0;
    const int64_t KC = whole ? p->K : kc_block(p->work->splits);
    const int64_t nc = !whole ? NC_PANELS : one_block ? 1 : panels.end - panels.first;
    struct block block = {.c_stride = p->c_stride};
    for (int64_t i = rows.first; i < rows.end; i += MC)
        for (int64_t j = panels.first; j < panels.end; j += nc) {
            block.j0 = j, block.j1 = smaller(panels.end, j + nc);
            block.i0 = i, block.i1 = smaller(rows.end, i + MC);
            if (one_block)
                block.C = p->C, block.c_stride = whole_pack_rows(block.i1 - i) * NR;
            else
                block.C = p->C + j * p->c_stride + i * NR;
            for (int64_t k = 0; k < p->K; k += KC)
                macro_kernel(p, &block, k, smaller(KC, p->K - k));
            if (p->post_op != NULL)
                p->post_op(p, &block);
        }
}
