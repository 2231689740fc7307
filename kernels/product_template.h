/* A @ B on panels (see brisk.h): forward, and the delta of the layer below. A is read along its rows.
 *
 * A tile broadcasts one word of A at a time and multiplies it with one or two vectors of B. A word is a number, or, for
 * a unit that adds up products of two, UNIT = 2 bfloat16 numbers: see rounding_template.h. All addresses inside a panel
 * are constants apart, so that a tile needs two pointers and no index. Accumulators are added to in the order of the
 * summation index and in no other: tile heights and threads never change a bit. */

enum {
    ROW_BLOCK = 384, /* rows of A that are kept in L2 while the panels of B pass by */
    GROUP = 64,      /* rows of C that are in L1 when they are finished */
    PANELS = 12,     /* of C, or of blocks of dW in both directions: what is summed in one go, and stays in L2 */
    /* A panel of B of up to WHOLE rows of words is read in one go, from L2. Of more, K_BLOCK at a time: then ROW_BLOCK
     * rows of PANELS panels of C stay in L2 while blocks of A and B pass, and a panel of B's block in L1. */
    WHOLE = 896 / UNIT,
    K_BLOCK = 512 / sizeof(real)
};

/* Memory to fetch into L2 meanwhile, so many cache lines before each tile: many at once would hinder its own loads. */
struct fetch {
    const char* line;
    int64_t lines;
};

/* The i-th of n parts of so many numbers from p on, over so many tiles. */
static inline struct fetch fetch_part(const real* p, int64_t numbers, int64_t i, int64_t n, int64_t tiles) {
    const int64_t lines = (numbers * (int64_t)sizeof(real) / 64 + n - 1) / n;
    return (struct fetch){(const char*)p + lines * i * 64, (lines + tiles - 1) / tiles};
}

INLINE void fetch_lines(struct fetch* fetch) {
    for (int64_t line = 0; line < fetch->lines; line++, fetch->line += 64)
        __builtin_prefetch(fetch->line, 0, 2);
}

/* `count` tiles, one below the other: C (height, v vectors) = init + A (height, K words) @ B (K, v vectors of words).
 * A's panels are a_stride apart. init is one row for all, or NULL: then C is added to. */
INLINE void tile(int height, int v, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                 const real* init, real* C, struct fetch* fetch) {
    for (; count > 0; count--, A += height * ROW, C += height * PANEL) {
        vec acc[8][2];
        fetch_lines(fetch);
#pragma GCC unroll 8
        for (int i = 0; i < height; i++)
#pragma GCC unroll 2
            for (int j = 0; j < v; j++)
                acc[i][j] = init != NULL ? vec_load(init + j * LANES) : vec_load(C + i * PANEL + j * LANES);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW, a += a_stride) {
            const int columns = (int)smaller(ROW, K - k);
            for (int p = 0; p < columns; p++, b += PANEL) {
                vec row[2];
#pragma GCC unroll 2
                for (int j = 0; j < v; j++)
                    row[j] = vec_load(b + j * LANES);
#pragma GCC unroll 8
                for (int i = 0; i < height; i++) {
                    const vec word = vec_splat(a[i * ROW + p]);
#pragma GCC unroll 2
                    for (int j = 0; j < v; j++)
                        acc[i][j] = vec_dot(word, row[j], acc[i][j]);
                }
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < height; i++)
#pragma GCC unroll 2
            for (int j = 0; j < v; j++)
                vec_store(C + i * PANEL + j * LANES, acc[i][j]);
    }
}

/* The tile of a height known only now. */
INLINE void tile_of(int height, int v, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                    const real* init, real* C, struct fetch* fetch) {
    switch (height) {
    case 1:
        tile(1, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    case 2:
        tile(2, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    case 3:
        tile(3, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    case 4:
        tile(4, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    case 5:
        tile(5, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    case 6:
        tile(6, v, count, A, a_stride, K, B, init, C, fetch);
        return;
    default: /* where there are registers for them */
        if (TILE == 8 && height == 7)
            tile(7, v, count, A, a_stride, K, B, init, C, fetch);
        else if (TILE == 8)
            tile(8, v, count, A, a_stride, K, B, init, C, fetch);
    }
}

static void tile_single(int height, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                        const real* init, real* C, struct fetch* fetch) {
    tile_of(height, 1, count, A, a_stride, K, B, init, C, fetch);
}

static void tile_double(int height, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                        const real* init, real* C, struct fetch* fetch) {
    tile_of(height, 2, count, A, a_stride, K, B, init, C, fetch);
}

#ifdef BRISK_QUADS

/* As tile, for matrices C of up to 4 columns: a vector is 4 rows of 4 columns. A quarter of the FMAs, but one more
 * instruction to spread each 4 words of A. */
INLINE void tile_quads(int quads, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                       const real* init, real* C, struct fetch* fetch) {
    for (; count > 0; count--, A += quads * 4 * ROW, C += quads * 4 * PANEL) {
        vec acc[8];
        fetch_lines(fetch);
#pragma GCC unroll 8
        for (int q = 0; q < quads; q++)
            acc[q] = init != NULL ? vec_load_quad(init, 0) : vec_load_quad(C + q * 4 * PANEL, PANEL);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW, a += a_stride) {
            const int columns = (int)smaller(ROW, K - k);
            for (int p = 0; p < columns; p += 4, b += 4 * PANEL) {
                vec rows[8];
#pragma GCC unroll 8
                for (int q = 0; q < quads; q++)
                    rows[q] = vec_load_quad(a + q * 4 * ROW + p, ROW);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    if (p + i >= columns)
                        break;
                    const vec row = vec_load_quad(b + i * PANEL, 0);
#pragma GCC unroll 8
                    for (int q = 0; q < quads; q++)
                        acc[q] = vec_dot(vec_splat_quad(rows[q], i), row, acc[q]);
                }
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < quads; q++)
            vec_store_quad(C + q * 4 * PANEL, PANEL, acc[q]);
    }
}

/* As many of the rows as make whole tiles; returns how many these are. */
static int64_t tiles_of_quads(int64_t rows, const real* A, int64_t a_stride, int64_t K, const real* B, const real* init,
                              real* C, struct fetch* fetch) {
    const int64_t eight = rows / 32, four = rows % 32 / 16;
    tile_quads(8, eight, A, a_stride, K, B, init, C, fetch);
    const int64_t done = eight * 32;
    tile_quads(4, four, A + done * ROW, a_stride, K, B, init, C + done * PANEL, fetch);
    return done + four * 16;
}

#endif

/* Panels j0 … j1 of rows i0 … i1 of C = f(init + A @ B).
 *
 * A (rows, K words), B (K, n words) and C (rows, n numbers) have panels a_stride, b_stride and c_stride apart. `bias`
 * is a row of n numbers, or one number for all where bias_step is 0. The last operation on each tile, while it is in
 * L1, is an activation, or, where `below` is given, the multiplication with f' of the activations that lie there. When
 * a block of C is complete, `then` is called for it, if given. Where C is to hold no more than one such block, c_stride
 * is 0. */
struct product {
    const real *A, *B, *bias;
    const real *A_low, *B_low; /* or NULL: A @ B_low + A_low @ B is added */
    real* C;
    int64_t a_stride, b_stride, c_stride, K, n, bias_step;
    const struct kept* below; /* or NULL */
    enum brisk_activation f;
    real slope; /* of leaky relu */
    void (*then)(const struct product*, const struct block*);
    const struct pass* pass; /* for it */
};

/* Where and in which layer; `masks` may be NULL: see dropout_template.h. */
struct pass {
    const struct brisk_work* work;
    const struct brisk_space* space;
    int64_t l;
    const struct masks* masks;
};

INLINE void finish_rows(enum brisk_activation f, real slope, const struct kept* below, real* C, int64_t rows, int v) {
    const vec slopes = vec_splat(slope);
    for (int64_t i = 0; i < rows; i++, C += PANEL)
        for (int j = 0; j < v; j++) {
            const vec c = vec_load(C + j * LANES);
            vec_store(C + j * LANES,
                      below != NULL ? through(f, c, kept_vec(below, i, j), slopes) : activation(f, c, slopes));
        }
}

/* The last operation on a group of rows; each case is a loop of its own. */
static void finish(enum brisk_activation f, real slope, const struct kept* below, real* C, int64_t rows, int v) {
    switch (f) {
    case BRISK_SIGMOID:
        if (below != NULL)
            finish_rows(BRISK_SIGMOID, 0, below, C, rows, v);
        else
            finish_rows(BRISK_SIGMOID, 0, NULL, C, rows, v);
        break;
    case BRISK_TANH:
        if (below != NULL)
            finish_rows(BRISK_TANH, 0, below, C, rows, v);
        else
            finish_rows(BRISK_TANH, 0, NULL, C, rows, v);
        break;
    case BRISK_RELU:
        finish_rows(BRISK_RELU, 0, below, C, rows, v);
        break;
    case BRISK_LEAKY_RELU:
        finish_rows(BRISK_LEAKY_RELU, slope, below, C, rows, v);
        break;
    case BRISK_EXP: /* of an output alone */
        finish_rows(BRISK_EXP, 0, NULL, C, rows, v);
        break;
    case BRISK_IDENTITY:
    case BRISK_SOFTMAX: /* works on whole rows: the loss's matter */
        break;
    }
}

/* So many rows of one panel of C, in tiles whose heights differ by one at most: a low tile waits for its own results.
 */
INLINE void tiles(int64_t rows, int64_t columns, const real* A, int64_t a_stride, int64_t K, const real* B,
                  const real* init, real* C, struct fetch* fetch) {
    const int v = vectors_of(columns, 0);
#ifdef BRISK_QUADS
    if (columns <= 4 && rows >= 16) {
        const int64_t done = tiles_of_quads(rows, A, a_stride, K, B, init, C, fetch);
        rows -= done, A += done * ROW, C += done * PANEL;
        if (rows == 0)
            return;
    }
#endif
    const int64_t n = (rows + TILE - 1) / TILE, height = n == 1 ? rows : (rows + n - 1) / n;
    const int64_t tall = rows - n * (height - 1);
    for (int64_t run = 0; run < 2; run++) {
        const int64_t h = height - run, count = run == 0 ? tall : n - tall;
        if (count == 0)
            break;
        if (v == 2)
            tile_double((int)h, count, A, a_stride, K, B, init, C, fetch);
        else
            tile_single((int)h, count, A, a_stride, K, B, init, C, fetch);
        A += count * h * ROW;
        C += count * h * PANEL;
    }
}

/* Words k … k + K of the sums of one block. */
static void product_block(const struct product* p, const struct block* block, int64_t k, int64_t K) {
    const int64_t i0 = block->i0, i1 = block->i1;
    for (int64_t j = block->j0; j < block->j1; j++) {
        const real* B = p->B + j * p->b_stride + k * PANEL;
        real row[PANEL];
        const real* init = row;
        if (k > 0)
            init = NULL;
        else if (p->bias_step > 0)
            init = p->bias + j * PANEL;
        else
            for (int c = 0; c < PANEL; c++)
                row[c] = p->bias == NULL ? 0 : *p->bias;
        const int64_t columns = p->n - j * PANEL;
        struct fetch next = {NULL, 0};
        if (K < p->K && j + 1 < block->j1)
            next = fetch_part(B + p->b_stride, K * PANEL, 0, 1, (i1 - i0) / TILE + 1);
        for (int64_t i = i0; i < i1; i += GROUP) {
            const int64_t rows = smaller(GROUP, i1 - i), from = k / ROW * p->a_stride + i * ROW;
            real* C = block->C + (j - block->j0) * block->c_stride + (i - i0) * PANEL;
            tiles(rows, columns, p->A + from, p->a_stride, K, B, init, C, &next);
            if (p->B_low != NULL) {
                const real* B_low = p->B_low + j * p->b_stride + k * PANEL;
                tiles(rows, columns, p->A + from, p->a_stride, K, B_low, NULL, C, &next);
                tiles(rows, columns, p->A_low + from, p->a_stride, K, B, NULL, C, &next);
            }
            if (k + K == p->K) {
                const struct kept below = p->below == NULL ? (struct kept){NULL} : kept_at(p->below, j, i);
                finish(p->f, p->slope, p->below == NULL ? NULL : &below, C, rows, vectors_of(p->n, j));
            }
        }
    }
}

/* Loops: blocks of rows; blocks of panels; blocks of K; and in a block its panels of B; groups of rows, whose part of C
 * is in L1 for its last operation; tiles. */
static void product(const struct product* p, int64_t j0, int64_t j1, int64_t i0, int64_t i1) {
    const bool whole = p->K <= WHOLE, alone = p->c_stride == 0;
    const int64_t panels = !whole ? PANELS : alone ? 1 : j1 - j0, k_block = whole ? p->K : K_BLOCK;
    struct block block = {.c_stride = p->c_stride};
    for (int64_t i = i0; i < i1; i += ROW_BLOCK)
        for (int64_t j = j0; j < j1; j += panels) {
            block.j0 = j, block.j1 = smaller(j1, j + panels);
            block.i0 = i, block.i1 = smaller(i1, i + ROW_BLOCK);
            if (alone)
                block.C = p->C, block.c_stride = (block.i1 - i) * PANEL;
            else
                block.C = p->C + j * p->c_stride + i * PANEL;
            for (int64_t k = 0; k < p->K; k += k_block)
                product_block(p, &block, k, smaller(k_block, p->K - k));
            if (p->then != NULL)
                p->then(p, &block);
        }
}
