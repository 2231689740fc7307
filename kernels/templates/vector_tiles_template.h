/* The register tiles of A @ B, for units that multiply vectors.
 *
 * A tile broadcasts one word of A at a time and multiplies it with one or two vectors of B. A word is a number, or, for
 * a unit that adds up products of two, UNIT = 2 bfloat16 numbers. All addresses inside a panel are constants apart, so
 * that a tile needs two pointers and no index. Accumulators are added to in the order of the summation index and in no
 * other: tile heights and threads never change a bit. */

/* A panel of B of up to so many rows of words is read in one go, from L2. Of more, a block at a time: then MC
 * rows of NC_PANELS panels of C stay in L2 while blocks of A and B pass, and a panel of B's block in L1. */
static int64_t kc_whole(int n) {
    (void)n;
    return 896 / VNNI;
}

static int64_t kc_block(int n) {
    (void)n;
    return 512 / (int64_t)sizeof(real);
}

/* `count` tiles, one below the other: C (height, v vectors) = init + A (height, K words) @ B (K, v vectors of words).
 * A's panels are a_stride apart. init is one row for all, or NULL: then C is added to. */
INLINE void micro_kernel(int height, int v, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                         const real* init, real* C, struct prefetch* prefetch) {
    for (; count > 0; count--, A += height * ROW_STEP, C += height * NR) {
        vec acc[8][2];
        prefetch_lines(prefetch);
#pragma GCC unroll 8
        for (int i = 0; i < height; i++)
#pragma GCC unroll 2
            for (int j = 0; j < v; j++)
                acc[i][j] = init != NULL ? vec_load(init + j * LANES) : vec_load(C + i * NR + j * LANES);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW_STEP, a += a_stride) {
            const int columns = (int)smaller(ROW_STEP, K - k);
            for (int p = 0; p < columns; p++, b += NR) {
                vec row[2];
#pragma GCC unroll 2
                for (int j = 0; j < v; j++)
                    row[j] = vec_load(b + j * LANES);
#pragma GCC unroll 8
                for (int i = 0; i < height; i++) {
                    const vec word = vec_splat(a[i * ROW_STEP + p]);
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
                vec_store(C + i * NR + j * LANES, acc[i][j]);
    }
}

/* The tile of a height known only now. */
INLINE void micro_kernel_of(int height, int v, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                            const real* init, real* C, struct prefetch* prefetch) {
    switch (height) {
    case 1:
        micro_kernel(1, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    case 2:
        micro_kernel(2, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    case 3:
        micro_kernel(3, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    case 4:
        micro_kernel(4, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    case 5:
        micro_kernel(5, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    case 6:
        micro_kernel(6, v, count, A, a_stride, K, B, init, C, prefetch);
        return;
    default: /* where there are registers for them */
        if (MR == 8 && height == 7)
            micro_kernel(7, v, count, A, a_stride, K, B, init, C, prefetch);
        else if (MR == 8)
            micro_kernel(8, v, count, A, a_stride, K, B, init, C, prefetch);
    }
}

static void micro_kernel_single(int height, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                                const real* init, real* C, struct prefetch* prefetch) {
    micro_kernel_of(height, 1, count, A, a_stride, K, B, init, C, prefetch);
}

static void micro_kernel_double(int height, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                                const real* init, real* C, struct prefetch* prefetch) {
    micro_kernel_of(height, 2, count, A, a_stride, K, B, init, C, prefetch);
}

#ifdef BRISK_QUADS

/* As tile, for matrices C of up to 4 columns: a vector is 4 rows of 4 columns. A quarter of the FMAs, but one more
 * instruction to spread each 4 words of A. */
INLINE void micro_kernel_quads(int quads, int64_t count, const real* A, int64_t a_stride, int64_t K, const real* B,
                               const real* init, real* C, struct prefetch* prefetch) {
    for (; count > 0; count--, A += quads * 4 * ROW_STEP, C += quads * 4 * NR) {
        vec acc[8];
        prefetch_lines(prefetch);
#pragma GCC unroll 8
        for (int q = 0; q < quads; q++)
            acc[q] = init != NULL ? vec_load_quad(init, 0) : vec_load_quad(C + q * 4 * NR, NR);
        const real *a = A, *b = B;
        for (int64_t k = 0; k < K; k += ROW_STEP, a += a_stride) {
            const int columns = (int)smaller(ROW_STEP, K - k);
            for (int p = 0; p < columns; p += 4, b += 4 * NR) {
                vec rows[8];
#pragma GCC unroll 8
                for (int q = 0; q < quads; q++)
                    rows[q] = vec_load_quad(a + q * 4 * ROW_STEP + p, ROW_STEP);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    if (p + i >= columns)
                        break;
                    const vec row = vec_load_quad(b + i * NR, 0);
#pragma GCC unroll 8
                    for (int q = 0; q < quads; q++)
                        acc[q] = vec_dot(vec_splat_quad(rows[q], i), row, acc[q]);
                }
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < quads; q++)
            vec_store_quad(C + q * 4 * NR, NR, acc[q]);
    }
}

/* As many of the rows as make whole tiles; returns how many these are. */
static int64_t micro_kernels_quads(int64_t rows, const real* A, int64_t a_stride, int64_t K, const real* B,
                                   const real* init, real* C, struct prefetch* prefetch) {
    const int64_t eight = rows / 32, four = rows % 32 / 16;
    micro_kernel_quads(8, eight, A, a_stride, K, B, init, C, prefetch);
    const int64_t done = eight * 32;
    micro_kernel_quads(4, four, A + done * ROW_STEP, a_stride, K, B, init, C + done * NR, prefetch);
    return done + four * 16;
}

#endif

/* So many rows of one panel of C, in tiles whose heights differ by one at most: a low tile waits for its own results.
 */
INLINE void micro_kernels(int64_t rows, int64_t columns, const real* A, int64_t a_stride, int64_t K, const real* B,
                          const real* init, real* C, struct prefetch* prefetch) {
    const int v = vectors_of(columns, 0);
#ifdef BRISK_QUADS
    if (columns <= 4 && rows >= 16) {
        const int64_t done = micro_kernels_quads(rows, A, a_stride, K, B, init, C, prefetch);
        rows -= done, A += done * ROW_STEP, C += done * NR;
        if (rows == 0)
            return;
    }
#endif
    const int64_t n = (rows + MR - 1) / MR, height = n == 1 ? rows : (rows + n - 1) / n;
    const int64_t tall = rows - n * (height - 1);
    for (int64_t run = 0; run < 2; run++) {
        const int64_t h = height - run, count = run == 0 ? tall : n - tall;
        if (count == 0)
            break;
        if (v == 2)
            micro_kernel_double((int)h, count, A, a_stride, K, B, init, C, prefetch);
        else
            micro_kernel_single((int)h, count, A, a_stride, K, B, init, C, prefetch);
        A += count * h * ROW_STEP;
        C += count * h * NR;
    }
}

enum { ROW_GRAIN = 4 }; /* rows of a block whose words along columns nobody else writes */

/* How often `multiply` fetches, for so many rows. */
static int64_t prefetches_of_rows(int64_t rows, int64_t K) {
    (void)K;
    return rows / MR + 1;
}

/* `rows` rows of one panel of C, of which so many columns are true: C = init + Σ A[a] @ B[b] over the parts a + b < n.
 * A's panels are a_stride apart; init is a row. */
INLINE void multiply(int64_t rows, int64_t columns, struct operand A, int64_t a_stride, int64_t K, struct operand B,
                     int n, const real* init, real* C, struct prefetch* prefetch) {
    micro_kernels(rows, columns, A.first, a_stride, K, B.first, init, C, prefetch);
    for (int part = 1; part < n; part++) {
        micro_kernels(rows, columns, A.first, a_stride, K, B.first + part * B.step, NULL, C, prefetch);
        micro_kernels(rows, columns, A.first + part * A.step, a_stride, K, B.first, NULL, C, prefetch);
    }
}
