/* Packing of the operands where products read bf16 pairs (vec_avx512_bf16.h). A product adds up both elements of a
 * pair, so neighbours along the summation share one:
 *
 *     Z = A @ W, dA = D @ WT     A and D are row-major bf16: a row of a panel is ROW_STEP pairs A[i, 2w], A[i, 2w + 1]
 *     dW = A.T @ D               A and D are in VNNI layout: two rows are NR pairs A[2p, i], A[2p + 1, i]
 *     W, WT, D on the right      VNNI layout
 *
 * A and delta are therefore stored twice, first row-major, then in VNNI layout, which together take as much memory as
 * float32 would. For bfloat16 nothing else is stored; with several splits the float32 elements stay, and both layouts
 * of each split lie behind them. Where a width or a number of rows is odd, or no multiple of PACK_ROWS, the padding is
 * 0 in both operands.
 *
 * For AMX the VNNI layout of 32 rows of a panel is two tiles, one behind the other, each of 16 pairs of 16 columns; for
 * A, the left operand, both are transposed to 16 columns of 16 pairs. */
#pragma once

#include "panels_template.h"
#include "rounding_template.h"

#include <string.h>

#if BRISK_VNNI == 2

enum {
    BLOCK_REALS = NR * ROW_STEP,                             /* reals of a packed block of weights */
    VNNI_ROW = BRISK_TILES ? LANES : NR,                     /* from one pair of rows to the next in VNNI layout */
    VNNI_RIGHT = BRISK_TILES ? PACK_ROWS / 2 * LANES : LANES /* from the left half of a panel to the right one */
};

/* Where the p-th pair of rows of a panel lies in VNNI layout. */
INLINE int64_t vnni_row_at(int64_t p) {
    return BRISK_TILES ? p / (PACK_ROWS / 2) * BLOCK_REALS + p % (PACK_ROWS / 2) * VNNI_ROW : p * NR;
}

INLINE vec saved_vec(const struct saved* saved, int64_t i, int v) {
    const real* row = saved->data + i * saved->row;
    return saved->row == NR ? vec_load(row + v * LANES) : vec_load_bf16(row + v * LANES / 2);
}

/* One row of a panel in float32. */
struct row {
    vec left, right;
};

INLINE struct row load_row(const real* x, int64_t columns) {
    if (columns >= NR)
        return (struct row){vec_load(x), vec_load(x + LANES)};
    return (struct row){vec_load_first(x, columns),
                        columns > LANES ? vec_load_first(x + LANES, columns - LANES) : vec_splat(0)};
}

/* x less its bf16 rounding, for the next splits. */
INLINE struct row residual(struct row x, vec rounded) {
    return (struct row){x.left - vec_cvt_f32(rounded, false), x.right - vec_cvt_f32(rounded, true)};
}

/* Where a panel of an operand is packed to, from one row on, in both layouts. */
struct packed_panel {
    real *row_major, *vnni;
    int64_t row_major_step, vnni_step; /* from split to split */
    bool with_vnni;                    /* A and delta need the VNNI layout for dW alone */
};

static struct packed_panel packed_panel_at(const struct brisk_work* work, real* x, int64_t elements, int64_t j,
                                           int64_t i) {
    const struct operand rows = row_major(work, x, elements), vnni = vnni_layout(work, x, elements);
    const int64_t at = j * work->panel_stride / 2 + i * ROW_STEP;
    return (struct packed_panel){(real*)rows.first + at, (real*)vnni.first + at, rows.step, vnni.step, work->training};
}

/* Write n splits of PACK_ROWS rows; x is left with the residual. */
INLINE void pack_row_group(const struct packed_panel* to, int n, struct row x[PACK_ROWS], enum side side) {
    real *rows = to->row_major, *vnni = to->vnni;
    for (int split = 0; split < n; split++, rows += to->row_major_step, vnni += to->vnni_step) {
        vec left[PACK_ROWS / 2], right[PACK_ROWS / 2];
        for (int i = 0; i < PACK_ROWS; i += 2) {
            const vec even = vec_cvt_bf16(x[i].left, x[i].right);
            const vec odd = vec_cvt_bf16(x[i + 1].left, x[i + 1].right);
            vec_store(rows + i * ROW_STEP, even);
            vec_store(rows + (i + 1) * ROW_STEP, odd);
            if (split + 1 < n)
                x[i] = residual(x[i], even), x[i + 1] = residual(x[i + 1], odd);
            left[i / 2] = vec_interleave_rows(even, odd, false);
            right[i / 2] = vec_interleave_rows(even, odd, true);
        }
        if (!to->with_vnni)
            continue;
#if BRISK_TILES
        if (side == LEFT) {
            vec_transpose(left);
            vec_transpose(right);
        }
#else
        (void)side;
#endif
        for (int p = 0; p < PACK_ROWS / 2; p++) {
            vec_store(vnni + p * VNNI_ROW, left[p]);
            vec_store(vnni + p * VNNI_ROW + VNNI_RIGHT, right[p]);
        }
    }
}

/* Pack `rows` rows of a panel of float32 elements, and zeros to the end of the last group. */
INLINE void pack_panel(struct packed_panel to, int n, const real* x, int64_t rows, int64_t columns, enum side side) {
    const struct row padding = {vec_splat(0), vec_splat(0)};
    for (int64_t i = 0; i < rows; i += PACK_ROWS, x += PACK_ROWS * NR) {
        struct row group[PACK_ROWS];
        for (int r = 0; r < PACK_ROWS; r++)
            group[r] = i + r < rows ? load_row(x + r * NR, columns) : padding;
        pack_row_group(&to, n, group, side);
        to.row_major += PACK_ROWS * ROW_STEP;
        to.vnni += PACK_ROWS * ROW_STEP;
    }
}

/* Pack a block of x, an A or delta of so many elements in n columns, after it has been computed in block->C. */
static void pack_rows(const struct brisk_work* work, const struct block* block, real* x, int64_t elements, int64_t n,
                      enum side side) {
    const int64_t rows = block->i1 - block->i0;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const struct packed_panel to = packed_panel_at(work, x, elements, j, block->i0);
        const real* from = block->C + (j - block->j0) * block->c_stride;
        if (n - j * NR >= NR)
            pack_panel(to, work->splits, from, rows, NR, side);
        else
            pack_panel(to, work->splits, from, rows, n - j * NR, side);
    }
}

/* Pack block (j, k) of W after an update, and, if `transposed`, write it to WT, whose VNNI layout is the transpose of
 * W's row-major one. */
static void pack_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k,
                       bool transposed) {
    const int64_t at = block_at(layer, j, k), transposed_at = layer->WT + k * layer->WT_panel + j * NR * NR;
    const int64_t rows = smaller(NR, layer->n_in - k * NR), columns = smaller(NR, layer->n_out - j * NR);
    const struct operand W = weights_at(work->R, work->n_packed, at);
    const struct operand WT = weights_at(work->WT, work->n_transposed, transposed_at);
    real row_major[MAX_SPLITS * BLOCK_REALS];
    if (rows < NR)
        memset(row_major, 0, sizeof row_major);
    const struct packed_panel to = {row_major, (real*)W.first, BLOCK_REALS, W.step, true};
    pack_panel(to, work->splits, (const real*)work->P + at, rows, columns, RIGHT);
    for (int split = 0; transposed && split < work->splits; split++)
        for (int half = 0; half < 2; half++) {
            vec pairs[LANES];
            for (int r = 0; r < LANES; r++)
                pairs[r] = vec_load(row_major + split * BLOCK_REALS + (half * LANES + r) * ROW_STEP);
            vec_transpose(pairs);
            for (int c = 0; c < LANES; c++)
                vec_store((real*)WT.first + split * WT.step + c * VNNI_ROW + half * VNNI_RIGHT, pairs[c]);
        }
}

/* Load a vector of dense weights as pairs with the row below, which lies `next` on, or with 0 where that is 0. So many
 * columns are valid. */
INLINE vec load_dense(const real* w, int64_t next, int64_t columns, bool rounded) {
    (void)rounded;
    const vec x = vec_load_valid(w, columns), y = next > 0 ? vec_load_valid(w + next, columns) : vec_splat(0);
    return vec_interleave_rows(vec_cvt_bf16(x, x), vec_cvt_bf16(y, y), false);
}

/* Pack rows i0 … i1 of A[0] = X[rows]; i0 is a multiple of PACK_ROWS. */
static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    const struct brisk_layer* layer = &work->layers[0];
    const struct row padding = {vec_splat(0), vec_splat(0)};
    for (int64_t i = i0; i < i1; i += PACK_ROWS) {
        const real* X[PACK_ROWS];
        for (int64_t r = 0; r < PACK_ROWS; r++)
            X[r] = i + r < i1 ? (const real*)data->X + rows[i + r] * data->X_step : NULL;
        for (int64_t j = 0; j < layer->panels_in; j++) {
            const int64_t at = j * NR, columns = layer->n_in - at;
            const struct packed_panel to = packed_panel_at(work, space->A[0], A_size(work, 0), j, i);
            struct row group[PACK_ROWS];
            for (int r = 0; r < PACK_ROWS; r++)
                group[r] = X[r] == NULL ? padding : load_row(X[r] + at, columns);
            pack_row_group(&to, work->splits, group, LEFT);
        }
    }
}

#endif
