/* dW = A.T @ D on panels (see brisk.h). A is read along its columns.
 *
 * As in vector_tiles_template.h, a tile broadcasts words of A, or, where D has few columns, of D. Sums of many rows are
 * added up from runs whose length is fixed: threads never change a bit. */

enum {
    LONG = 256 /* rows of words in a sum from which it pays to fetch early what it is added to: 3 % of dW of 512-512 at
                  a batch of 512, where fetching costs 784-256 at a batch of 128 half a percent */
};

/* See weights_template.h. */
static int64_t rows_in_turn(int n) {
    (void)n;
    return 128 * UNIT;
}

/* `height` rows of dW = A.T @ D, summed over m rows of words of A and D; C has v vectors of a panel. */
INLINE void tile_turned(int height, int v, const real* A, const real* D, int64_t m, real* C, enum outcome outcome,
                        real share, real rate, struct ahead* ahead) {
    vec acc[TILE_T][2];
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            acc[i][j] = vec_splat(0);
    if (outcome != SET && m >= LONG)
        for (int i = 0; i < height * PANEL; i += 64 / (int)sizeof(real))
            __builtin_prefetch(C + i, 1, 3);
    const int64_t every = ahead == NULL ? m + 1 : (m + ahead->per_tile - 1) / ahead->per_tile;
    int64_t until = every;
    for (int64_t p = 0; p < m; p++, A += PANEL, D += PANEL) {
        if (--until == 0) {
            fetch_ahead(ahead);
            until = every;
        }
        vec d[2];
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            d[j] = vec_load(D + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < height; i++) {
            const vec a = vec_splat(A[i]);
#pragma GCC unroll 2
            for (int j = 0; j < v; j++)
                acc[i][j] = vec_dot(a, d[j], acc[i][j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < v; j++)
            settle(C + i * PANEL + j * LANES, acc[i][j], outcome, share, rate);
}

/* The tiles of rows 0 … rows of one block of dW; the last may be low. */
INLINE void block_turned(int v, const real* A, const real* D, int64_t m, int64_t rows, real* C, enum outcome outcome,
                         real share, real rate, struct fetch* next_A, struct fetch* next_D, struct ahead* ahead) {
    for (int64_t r = 0; r < rows; r += TILE_T) {
        fetch_lines(next_A);
        fetch_lines(next_D);
        if (r + TILE_LOW < rows)
            tile_turned(TILE_T, v, A + r, D, m, C + r * PANEL, outcome, share, rate, ahead);
        else
            tile_turned(TILE_LOW, v, A + r, D, m, C + r * PANEL, outcome, share, rate, ahead);
    }
}

static int64_t whole_tiles(int64_t n) {
    return (n + TILE_LOW - 1) / TILE_LOW * TILE_LOW;
}

/* Whether dW.T = D.T @ A takes so many fewer FMAs for a block of so many rows and columns, of m summands, that turning
 * it pays: 4 columns of float32 fill a quarter of a vector, and 32 rows two. The sums are the same, to the bit. To turn
 * a number takes as long as three FMAs of AVX-512: 784-30-10 lost 3 % where it saved fewer. */
static bool by_columns(int64_t rows, int64_t columns, int64_t m) {
    const int64_t fewer = whole_tiles(rows) * vectors_of(columns, 0) - whole_tiles(columns) * vectors_of(rows, 0);
    return m * fewer > 3 * rows * columns;
}

/* How often such a block fetches: once for each of its tiles. */
static int64_t fetches_of_block(int64_t rows, int64_t columns, int64_t m) {
    return ((by_columns(rows, columns, m) ? columns : rows) + TILE_T - 1) / TILE_T;
}

static void block_by_columns(int v, const real* A, const real* D, int64_t m, int64_t rows, int64_t columns, real* C,
                             enum outcome outcome, real share, real rate, struct fetch* next_A, struct fetch* next_D,
                             struct ahead* ahead) {
    real turned[PANEL * PANEL], dW[PANEL * PANEL] = {0};
    if (vectors_of(rows, 0) == 2)
        block_turned(2, D, A, m, columns, turned, SET, 0, 0, next_D, next_A, ahead);
    else
        block_turned(1, D, A, m, columns, turned, SET, 0, 0, next_D, next_A, ahead);
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            dW[r * PANEL + c] = turned[c * PANEL + r];
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < v; j++)
            settle(C + r * PANEL + j * LANES, vec_load(dW + r * PANEL + j * LANES), outcome, share, rate);
}

static void part_of_block(int64_t columns, const real* A, const real* D, int64_t m, int64_t rows, real* C,
                          enum outcome outcome, real share, real rate, struct fetch next_A, struct fetch next_D,
                          struct ahead* ahead) {
    const int v = vectors_of(columns, 0);
    if (by_columns(rows, columns, m))
        block_by_columns(v, A, D, m, rows, columns, C, outcome, share, rate, &next_A, &next_D, ahead);
    else if (v == 2)
        block_turned(2, A, D, m, rows, C, outcome, share, rate, &next_A, &next_D, ahead);
    else
        block_turned(1, A, D, m, rows, C, outcome, share, rate, &next_A, &next_D, ahead);
}

/* What the other parts add to a block of dW, A[a].T @ D[b] of a + b < n. */
static __attribute__((noinline)) void other_parts(int64_t columns, struct operand A, struct operand D, int n, int64_t m,
                                                  int64_t rows, real* C) {
    const struct fetch none = {NULL, 0};
    for (int part = 1; part < n; part++) {
        part_of_block(columns, A.first, D.first + part * D.step, m, rows, C, ADD, 0, 0, none, none, NULL);
        part_of_block(columns, A.first + part * A.step, D.first, m, rows, C, ADD, 0, 0, none, none, NULL);
    }
}

/* dW of one block (panel, panel) of weights, of which so many rows and columns are true, from m rows of words: the sum
 * over the parts a + b < n. */
INLINE void weights_block(int64_t columns, struct operand A, struct operand D, int n, int64_t m, int64_t rows, real* C,
                          enum outcome outcome, real share, real rate, struct fetch next_A, struct fetch next_D,
                          struct ahead* ahead) {
    part_of_block(columns, A.first, D.first, m, rows, C, outcome, share, rate, next_A, next_D, ahead);
    if (n > 1)
        other_parts(columns, A, D, n, m, rows, C);
}
