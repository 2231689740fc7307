/* The forward pass of one chunk of rows.
 *
 *     Z[l] = A[l-1] @ W[l] + b[l]        A[l] = f(Z[l])        l = 1 … L
 *
 * A[0] is gathered from the user's rows. All A[l] (rows, width l) lie in the space, in panels: as float32, or, but for
 * the last, which no product reads, as packed for the products. Different threads may compute different panels or rows
 * of a layer. */
#pragma once

#include "../runtime/profile.h"
#include "product_template.h"

/* Finish a block of A[l+1]: apply dropout, and pack it for the next layer. */
static void after_forward(const struct product* p, const struct block* block) {
    const int64_t l = p->l;
    if (drops(p->layer, p->masks))
        drop_rows(p->work, p->space, l, p->masks, block);
    if (rounds(p->work) && l + 1 < p->work->plan.n_layers)
        pack_rows(p->work, block, p->space->A[l + 1], A_size(p->work, l + 1), p->n, LEFT);
}

/* Compute these panels and rows of A[l+1] from A[l], with dropout; or Z itself where f is the identity. */
INLINE void forward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                          enum brisk_activation f, const struct masks* masks, struct part panels, struct part rows) {
    const struct brisk_layer* layer = &work->layers[l];
    const bool last = l + 1 == work->plan.n_layers, in_place = last || saves_f32(work);
    const real* P = work->P;
    const struct product forward = {
        .work = work,
        .space = space,
        .l = l,
        .masks = masks,
        .A = row_major(work, space->A[l], A_size(work, l)),
        .B = weights_at(work->R, work->n_packed, layer->W),
        .bias = work->plan.bias == BRISK_BIAS_NONE ? NULL : P + layer->b,
        .bias_step = work->plan.bias == BRISK_BIAS_NEURON,
        .C = in_place ? space->A[l + 1] : space->C,
        .b_stride = layer->W_panel / VNNI,
        .c_stride = in_place ? work->panel_stride : 0,
        .K = (layer->n_in + VNNI - 1) / VNNI,
        .n = layer->n_out,
        .S = space->S[l + 1],
        .f = f,
        .layer = layer,
        .post_op = drops(layer, masks) || (rounds(work) && !last) ? after_forward : NULL,
    };
    product(&forward, panels, rows);
}

/* Write m rows of A[L] to out (m, n_out). */
static void write_rows(const struct brisk_work* work, const struct brisk_space* space, int64_t m, real* out) {
    const int64_t n_layers = work->plan.n_layers, stride = work->panel_stride;
    const struct brisk_layer* layer = &work->layers[n_layers - 1];
    for (int64_t i = 0; i < m; i++, out += layer->n_out) {
        real* A = (real*)space->A[n_layers] + i * NR;
        double sum_exp;
        if (layer->activation == BRISK_SOFTMAX)
            softmax_row(A, stride, layer->n_out, &sum_exp);
        for (int64_t j = 0; j < layer->n_out; j += LANES)
            vec_store_first(out + j, vec_load(A + column(j, stride)), layer->n_out - j);
    }
}

static void predict(const struct brisk_work* work, int space_index, const struct brisk_data* data, const int64_t* rows,
                    int64_t m, void* out) {
    const struct brisk_space* space = &work->spaces[space_index];
    gather(work, space, data, rows, 0, m);
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        forward_layer(work, space, l, layer->activation, NULL, (struct part){0, layer->panels}, (struct part){0, m});
    }
    write_rows(work, space, m, out);
}
