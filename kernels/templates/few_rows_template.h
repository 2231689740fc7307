/* The forward pass of a few rows, straight from the user's dense parameters. */
#pragma once

#include "forward_template.h"

#if !BRISK_TILES

enum { WIDE = 8 /* vectors of Z that are summed at once */ };

/* A layer's product with dense weights W; bias may be NULL, and bias_step is 0 where one bias serves all columns. */
struct dense_product {
    const struct brisk_layer* layer;
    const real *W, *bias;
    int64_t bias_step, a_stride, z_stride;
};

/* Columns j … j + WIDE vectors of a row of Z, or fewer at the right edge. */
INLINE void dense_columns(const struct dense_product* p, const real* A, real* Z, int64_t j, bool edge, bool rounded) {
    const int64_t n_in = p->layer->n_in, n_out = p->layer->n_out, n = edge ? n_out - j : WIDE * LANES;
    const real* W = p->W;
    vec acc[WIDE];
    for (int v = 0; v < WIDE; v++) {
        const int64_t left = edge ? (n > v * LANES ? n - v * LANES : 0) : LANES;
        acc[v] = p->bias == NULL     ? vec_splat(0)
                 : p->bias_step == 0 ? vec_splat(*p->bias)
                                     : vec_load_first(p->bias + j + smaller(v * LANES, n), left);
    }
    for (int64_t k = 0; k < n_in; k += VNNI, W += VNNI * n_out) {
        const vec a = vec_splat(A[k / NR * p->a_stride + k % NR / VNNI]);
        const int64_t next = k + 1 < n_in ? n_out : 0;
        UNROLL (v, WIDE) {
            const int64_t left = edge ? (n > v * LANES ? n - v * LANES : 0) : LANES;
            const real* w = W + j + (edge ? smaller(v * LANES, n) : v * LANES);
            acc[v] = vec_dot(a, load_dense(w, next, left, rounded), acc[v]);
        }
    }
    for (int v = 0; v < WIDE && v * LANES < n; v++)
        vec_store(Z + column(v * LANES, p->z_stride), acc[v]);
}

/* As predict, but by one thread and from the user's parameters: each weight is read once for each row, while packing
 * all of them would read, write and read them. The bits are the same, because sums run in the same order; with several
 * splits they would not be. */
static void predict_few(const struct brisk_work* work, const void* params, const struct brisk_data* data,
                        const int64_t* rows, int64_t m, void* out) {
    enum { PANELS_AT_ONCE = WIDE * LANES / NR };
    const struct brisk_space* space = work->spaces;
    const bool rounded = rounds(work);
    gather(work, space, data, rows, 0, m);
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const bool last = l + 1 == work->plan.n_layers, in_place = last || saves_f32(work);
        struct dense_product p = {
            .layer = layer,
            .W = (const real*)params + layer->dense_W,
            .bias = work->plan.bias == BRISK_BIAS_NONE ? NULL : (const real*)params + layer->dense_b,
            .bias_step = work->plan.bias == BRISK_BIAS_NEURON,
            .a_stride = work->panel_stride / VNNI,
        };
        for (int64_t j = 0; j < layer->panels; j += PANELS_AT_ONCE) {
            struct block block = {j, smaller(layer->panels, j + PANELS_AT_ONCE), 0, m, space->C, m * NR};
            if (in_place)
                block.C = (real*)space->A[l + 1] + j * work->panel_stride, block.c_stride = work->panel_stride;
            p.z_stride = block.c_stride;
            for (int64_t i = 0; i < m; i++) {
                const real* A = (const real*)space->A[l] + i * ROW_STEP;
                real* Z = block.C + i * NR;
                const bool edge = (j + PANELS_AT_ONCE) * NR > layer->n_out;
                if (rounded && edge)
                    dense_columns(&p, A, Z, j * NR, true, true);
                else if (rounded)
                    dense_columns(&p, A, Z, j * NR, false, true);
                else if (edge)
                    dense_columns(&p, A, Z, j * NR, true, false);
                else
                    dense_columns(&p, A, Z, j * NR, false, false);
            }
            for (int64_t panel = j; panel < block.j1; panel++)
                forward_epilogue(layer->activation, layer->parameters, NULL, block.C + (panel - j) * block.c_stride, m,
                                 vectors_of(layer->n_out, panel));
            if (rounded && !last)
                pack_rows(work, &block, space->A[l + 1], A_size(work, l + 1), layer->n_out, LEFT);
        }
    }
    write_rows(work, space, m, out);
}

#endif
