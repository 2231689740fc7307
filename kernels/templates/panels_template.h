/* Panels (see brisk.h), and what lies where in them. */

enum {
    NR = 2 * LANES,
    ROW_STEP = NR / VNNI,                /* words of a panel's row, where neighbours share one */
    PACK_ROWS = BRISK_TILES ? NR : VNNI, /* rows whose words along columns are written together */
    LOSS_GRAIN = BRISK_TILES ? (int)PACK_ROWS
                             : (int)BRISK_LOSS_ROWS, /* of whole ones a chunk, and a member's part of the losses */
    MR_TN_HALF = MR_TN / 2
};

static inline int64_t whole_pack_rows(int64_t rows) {
    return (rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
}

/* Vectors of a panel that hold true columns, of n in the matrix. */
static inline int vectors_of(int64_t n, int64_t panel) {
    return n - panel * NR > LANES ? 2 : 1;
}

/* Where column j of a row lies, from where its column 0 does; `stride` numbers from panel to panel. */
static inline int64_t column(int64_t j, int64_t stride) {
    return j / NR * stride + j % NR;
}

/* Rows of a block of (panel, panel) weights that tiles write, and where it begins. */
static inline int64_t block_rows(const struct brisk_layer* layer, int64_t k) {
    const int64_t rows = smaller(NR, layer->n_in - k * NR);
    return (rows + MR_TN_HALF - 1) / MR_TN_HALF * MR_TN_HALF;
}

static inline int64_t block_at(const struct brisk_layer* layer, int64_t j, int64_t k) {
    return layer->W + j * layer->W_panel + k * NR * NR;
}

/* A block of a product: panels j0 … j1 of rows i0 … i1, which lie from C on. */
struct block {
    int64_t j0, j1, i0, i1;
    real* C;
    int64_t c_stride; /* from panel to panel */
};

/* A or delta as the rest of a step reads it: panels `stride` apart, whose rows are `row` apart, as either numbers or
 * words. */
struct saved {
    const real* data;
    int64_t stride, row;
};

static inline struct saved saved_at(const struct saved* saved, int64_t j, int64_t i) {
    return (struct saved){saved->data + j * saved->stride + i * saved->row, saved->stride, saved->row};
}
