/* Dropout after a hidden layer: in training, each unit of each example is dropped at random, and the units that stay
 * are multiplied by s, so that the expected sum is the same.
 *
 *     A = keep ? s · A : 0        delta = keep ? s · delta · f'(Z) : 0        s = 65536 / (65536 - threshold)
 *
 * Unit u of the place-th example of an epoch is dropped if its 16-bit random number is below the layer's threshold.
 * UNITS neighbouring units share a block of Philox with key (seed, epoch) and counter (u / UNITS + 1, place, layer, 2),
 * so masks depend neither on how rows are divided nor on which thread draws them.
 *
 * The backward pass draws nothing. Where slopes are saved, they are multiplied by the mask too; otherwise in A a
 * dropped unit is -0, and a unit that stays and is 0 is +0. */
#pragma once

#include "../runtime/philox.h"
#include "activation_template.h"
#include "pack_bf16_template.h"
#include "pack_f32_template.h"

enum {
    UNITS = 16,
    DRAWN = 32 /* rows drawn at once, because vectors would wait for random numbers on their way to the cache */
};

/* The masks of a chunk of rows, by the epoch and the place in it of the chunk's first row. NULL drops nothing. */
struct masks {
    int64_t epoch, place;
};

static bool drops(const struct brisk_layer* layer, const struct masks* masks) {
    return masks != NULL && layer->threshold > 0;
}

static real keep_scale(const struct brisk_layer* layer) {
    return (real)(65536.0 / (double)(65536 - layer->threshold));
}

/* Apply dropout to a block of A[l+1], and to its slopes. Panels narrower than a block of units share its draws. */
static void drop_rows(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                      const struct masks* masks, const struct block* of) {
    const struct brisk_layer* layer = &work->layers[l];
    const vec threshold = vec_splat((real)layer->threshold), s = vec_splat(keep_scale(layer));
    const vec dropped = vec_splat(-(real)0), zero = vec_splat(0);
    const int64_t first = of->j0 * NR, end = smaller(of->j1 * NR, layer->n_out);
    union {
        uint64_t words[UNITS / 4];
        uint16_t of[UNITS]; /* the lowest 16 bits come first, on little-endian processors */
    } draws[DRAWN];
    for (int64_t block = first / UNITS; block * UNITS < end; block++)
        for (int64_t i = of->i0; i < of->i1; i += DRAWN) {
            const int64_t n = smaller(DRAWN, of->i1 - i);
            for (int64_t r = 0; r < n; r++)
                brisk_philox((uint64_t)block + 1, (uint64_t)(masks->place + i + r), (uint64_t)l, BRISK_STREAM_DROPOUT,
                             work->plan.seed, (uint64_t)masks->epoch, draws[r].words);
            for (int c = 0; c < UNITS; c += LANES) {
                const int64_t unit = block * UNITS + c;
                if (unit < first || unit >= end)
                    continue;
                real* a = of->C + column(unit - first, of->c_stride) + (i - of->i0) * NR;
                real* slope =
                    layer->saves_slope ? (real*)space->S[l + 1] + column(unit, work->panel_stride) + i * NR : NULL;
                for (int64_t r = 0; r < n; r++, a += NR) {
                    real drawn[LANES];
                    for (int u = 0; u < LANES; u++)
                        drawn[u] = (real)(int)draws[r].of[c + u];
                    const vec kept = vec_load(a) * s + zero; /* +0 where it would be -0 */
                    vec_store(a, vec_where_less(vec_load(drawn), threshold, dropped, kept));
                    if (slope == NULL)
                        continue;
                    vec_store(slope, vec_where_less(vec_load(drawn), threshold, zero, vec_load(slope) * s));
                    slope += NR;
                }
            }
        }
}
