/* Panels (see brisk.h), and what lies where in them. */

enum {
    PANEL = 2 * LANES,
    ROW = PANEL / UNIT,                                   /* words of a panel's row, where neighbours share one */
    SPAN = BRISK_TILES ? PANEL : UNIT,                    /* rows whose words along columns are written together */
    RUN = BRISK_TILES ? (int)SPAN : (int)BRISK_LOSS_ROWS, /* of whole ones a chunk, and a member's part of the losses */
    TILE_LOW = TILE_T / 2
};

static inline int64_t whole_spans(int64_t rows) {
    return (rows + SPAN - 1) / SPAN * SPAN;
}

/* Vectors of a panel that hold true columns, of n in the matrix. */
static inline int vectors_of(int64_t n, int64_t panel) {
    return n - panel * PANEL > LANES ? 2 : 1;
}

/* Where column j of a row lies, from where its column 0 does; `stride` numbers from panel to panel. */
static inline int64_t column(int64_t j, int64_t stride) {
    return j / PANEL * stride + j % PANEL;
}

/* Rows of a block of (panel, panel) weights that tiles write, and where it begins. */
static inline int64_t block_rows(const struct brisk_layer* layer, int64_t k) {
    const int64_t rows = smaller(PANEL, layer->n_in - k * PANEL);
    return (rows + TILE_LOW - 1) / TILE_LOW * TILE_LOW;
}

static inline int64_t block_at(const struct brisk_layer* layer, int64_t j, int64_t k) {
    return layer->W + j * layer->W_panel + k * PANEL * PANEL;
}

/* A block of a product: panels j0 … j1 of rows i0 … i1, which lie from C on. */
struct block {
    int64_t j0, j1, i0, i1;
    real* C;
    int64_t c_stride; /* from panel to panel */
};

/* A or delta as the rest of a step reads it: panels `stride` apart, whose rows are `row` apart, as either numbers or
 * words. */
struct kept {
    const real* numbers;
    int64_t stride, row;
};

static inline struct kept kept_at(const struct kept* kept, int64_t j, int64_t i) {
    return (struct kept){kept->numbers + j * kept->stride + i * kept->row, kept->stride, kept->row};
}
