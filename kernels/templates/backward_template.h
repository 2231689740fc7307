/* The backward pass of one chunk of rows.
 *
 *     delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])        l = L-1 … 1
 *
 * The loss computes delta[L] (loss_template.h); weights_template.h computes dW and db. */
#pragma once

#include "product_template.h"

/* Pack a block of the delta of layer l-1 for the layer below. */
static void pack_delta(const struct product* p, const struct block* block) {
    pack_rows(p->work, block, D_of(p->space, p->l - 1), D_size(p->work), p->n, RIGHT);
}

/* Compute these panels and rows of the delta of layer l-1 from that of layer l. */
INLINE void backward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                           const struct masks* masks, struct part panels, struct part rows) {
    const struct brisk_layer *layer = &work->layers[l], *source = layer - 1;
    const struct saved below =
        source->saves_slope ? (struct saved){space->S[l], work->panel_stride, NR} : saved_of(work, space->A[l]);
    const struct product backward = {
        .work = work,
        .space = space,
        .l = l,
        .A = row_major(work, D_of(space, l), D_size(work)),
        .B = weights_at(work->WT, work->n_transposed, layer->WT),
        .below = &below,
        .dropped = drops(source, masks) && !source->saves_slope, /* slopes that are saved have the mask in them */
        .C = saves_f32(work) ? D_of(space, l - 1) : space->C,
        .b_stride = layer->WT_panel / VNNI,
        .c_stride = saves_f32(work) ? work->panel_stride : 0,
        .K = (layer->n_out + VNNI - 1) / VNNI,
        .n = layer->n_in,
        .f = source->saves_slope ? BRISK_BY_SLOPE : source->activation,
        .layer = source,
        .post_op = rounds(work) ? pack_delta : NULL,
    };
    product(&backward, panels, rows);
}

/* Sum m rows of one panel of delta, of v vectors. There are four sums, because each waits for its last result. */
INLINE void sum_rows(const real* D, int64_t m, int v, vec sums[2]) {
    sums[0] = sums[1] = vec_splat(0);
    for (int j = 0; j < v; j++, D += LANES) {
        vec part[4] = {vec_splat(0), vec_splat(0), vec_splat(0), vec_splat(0)};
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
            UNROLL (p, 4)
                part[p] = part[p] + vec_load(D + (i + p) * NR);
        for (; i < m; i++)
            part[0] = part[0] + vec_load(D + i * NR);
        sums[j] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}

#if BRISK_VNNI == 2
/* The same from VNNI layout, in which the last pair may be one row and 0. */
INLINE void sum_vnni_rows(const real* D, int64_t m, int v, vec sums[2]) {
    sums[0] = sums[1] = vec_splat(0);
    for (int j = 0; j < v; j++, D += VNNI_RIGHT) {
        vec part[4] = {vec_splat(0), vec_splat(0), vec_splat(0), vec_splat(0)};
        for (int64_t p = 0; p < (m + 1) / 2; p++) {
            const vec pairs = vec_load(D + vnni_row_at(p));
            part[2 * (p % 2)] = part[2 * (p % 2)] + vec_even(pairs);
            part[2 * (p % 2) + 1] = part[2 * (p % 2) + 1] + vec_odd(pairs);
        }
        sums[j] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}
#endif

/* db of panel j of layer l: the sum of m rows of its delta. */
static void sum_delta(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t j, int64_t m,
                      vec sums[2]) {
    const int v = vectors_of(work->layers[l].n_out, j);
#if BRISK_VNNI == 2
    if (!saves_f32(work)) {
        const struct operand D = vnni_layout(work, D_of(space, l), D_size(work));
        sum_vnni_rows(D.first + j * work->panel_stride / VNNI, m, v, sums);
        return;
    }
#endif
    sum_rows(D_of(space, l) + j * work->panel_stride, m, v, sums);
}
