/* Prefetching: the operands that a product reads soon, and the rows of X that the next batch gathers. */
#pragma once

#include "../brisk.h"
#include "../isa/vec.h"

/* Memory to prefetch into L2: `lines` cache lines before each micro-kernel, because many at once would hinder the
 * micro-kernel's own loads. */
struct prefetch {
    const char* line;
    int64_t lines;
};

/* The i-th of n shares of so many elements from p on, spread over so many calls of prefetch_lines. */
static inline struct prefetch prefetch_share(const real* p, int64_t elements, int64_t i, int64_t n, int64_t calls) {
    const int64_t lines = (elements * (int64_t)sizeof(real) / 64 + n - 1) / n;
    return (struct prefetch){(const char*)p + lines * i * 64, (lines + calls - 1) / calls};
}

INLINE void prefetch_lines(struct prefetch* prefetch) {
    for (int64_t line = 0; line < prefetch->lines; line++, prefetch->line += 64)
        __builtin_prefetch(prefetch->line, 0, 2);
}

/* The rows of X that the next batch gathers. They are prefetched line by line while this batch computes its last dW: as
 * many lines at once as a block of weights takes made a step of 784-256-10 2 % longer. */
struct next_batch {
    const struct brisk_data* data;
    const int64_t *rows, *end;
    int64_t lines, line; /* cache lines of a row; the next one to prefetch */
    int64_t per_call;    /* lines for each micro-kernel of dW, at least 1 */
};

static void prefetch_next_batch(struct next_batch* next_batch) {
    if (next_batch->rows == next_batch->end)
        return;
    const int64_t row = *next_batch->rows * next_batch->data->X_step * (int64_t)sizeof(real);
    __builtin_prefetch((const char*)next_batch->data->X + row + next_batch->line * 64, 0, 2);
    if (++next_batch->line == next_batch->lines) {
        next_batch->line = 0;
        next_batch->rows++;
    }
}
