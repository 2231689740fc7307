/* The packed layout: where elements of weights, activations and deltas lie in panels (see brisk.h). */
#pragma once

#include "../brisk.h"
#include "../isa/vec.h"

enum {
    NR = 2 * LANES,                      /* columns of a panel: two vectors */
    ROW_STEP = NR / VNNI,                /* reals of a row that products read: a bf16 pair takes one */
    PACK_ROWS = BRISK_TILES ? NR : VNNI, /* rows whose VNNI layout is written at once */
    /* A chunk has a multiple of so many rows, and each thread's share of the losses begins at one. */
    LOSS_GRAIN = BRISK_TILES ? (int)PACK_ROWS : (int)BRISK_LOSS_ROWS,
    ROW_GRAIN = BRISK_TILES ? (int)PACK_ROWS : 4, /* of rows that threads divide: no two write the same group or pair */
    MR_TN_HALF = MR_TN / 2                        /* the lower of the two heights of dW's micro-kernels */
};

/* Round a number of rows up to whole groups of PACK_ROWS. */
static inline int64_t whole_pack_rows(int64_t rows) {
    return (rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
}

/* How many vectors of a panel hold valid columns, where the matrix has n columns. */
static inline int vectors_of(int64_t n, int64_t panel) {
    return n - panel * NR > LANES ? 2 : 1;
}

/* Where column j of a row lies, relative to column 0, if panels are `stride` elements apart. */
static inline int64_t column(int64_t j, int64_t stride) {
    return j / NR * stride + j % NR;
}

/* Rows of dW, rounded up to whole micro-kernels. */
static inline int64_t whole_mr_tn(int64_t rows) {
    return (rows + MR_TN_HALF - 1) / MR_TN_HALF * MR_TN_HALF;
}

/* The rows of block (·, k) of weights that micro-kernels write. */
static inline int64_t block_rows(const struct brisk_layer* layer, int64_t k) {
    return whole_mr_tn(smaller(NR, layer->n_in - k * NR));
}

/* Where block (j, k) of weights begins in the packed parameters. */
static inline int64_t block_at(const struct brisk_layer* layer, int64_t j, int64_t k) {
    return layer->W + j * layer->W_panel + k * NR * NR;
}

static inline double sum_of(const double* x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* A block of a product C: panels j0 … j1 of rows i0 … i1, of which the first element lies at C. */
struct block {
    int64_t j0, j1, i0, i1;
    real* C;
    int64_t c_stride; /* elements from panel to panel */
};

/* Elements in all panels of A[l]. */
static int64_t A_size(const struct brisk_work* work, int64_t l) {
    return (l == 0 ? work->layers[0].panels_in : work->layers[l - 1].panels) * work->panel_stride;
}

/* delta[l], (rows, width l) in panels. Three buffers are used in turn, because one thread may still read delta[l+1] for
 * dW while another reads delta[l] to write delta[l-1]. */
INLINE real* D_of(const struct brisk_space* space, int64_t l) {
    return space->D[l % 3];
}

/* Elements in each of these buffers. */
static int64_t D_size(const struct brisk_work* work) {
    return work->delta_panels * work->panel_stride;
}

/* An A or delta that is saved for later in the step, as float32 or as row-major bf16. Its panels are `stride` reals
 * apart and the rows of a panel `row` reals. */
struct saved {
    const real* data;
    int64_t stride, row;
};

/* Whether the saved A and delta are float32 elements, rather than bf16 pairs. */
static inline bool saves_f32(const struct brisk_work* work) {
    return VNNI == 1 || work->splits > 1;
}

/* A or delta as saved for the rest of the step. */
static inline struct saved saved_of(const struct brisk_work* work, const real* x) {
    return saves_f32(work) ? (struct saved){x, work->panel_stride, NR}
                           : (struct saved){x, work->panel_stride / 2, ROW_STEP};
}

static inline struct saved saved_at(const struct saved* saved, int64_t j, int64_t i) {
    return (struct saved){saved->data + j * saved->stride + i * saved->row, saved->stride, saved->row};
}
