/* What comes into cache early: memory that a product reads soon, and rows of X that the next batch gathers. */

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

/* Rows of X that the next batch gathers. They come into cache while this one computes its last gradient, a line now and
 * then: as many at once as a block of weights takes made a step of 784-256-10 2 % longer. */
struct ahead {
    const struct brisk_data* data;
    const int64_t *rows, *end;
    int64_t lines, line; /* in a row; the next one */
    int64_t per_tile;    /* of dW, at least 1 */
};

static void fetch_ahead(struct ahead* ahead) {
    if (ahead->rows == ahead->end)
        return;
    const int64_t row = *ahead->rows * ahead->data->X_step * (int64_t)sizeof(real);
    __builtin_prefetch((const char*)ahead->data->X + row + ahead->line * 64, 0, 2);
    if (++ahead->line == ahead->lines) {
        ahead->line = 0;
        ahead->rows++;
    }
}
