/* How work is divided among the threads of a team. */
#ifndef BRISK_PARTS_H
#define BRISK_PARTS_H

#include "../brisk.h"
#include "pool.h"

/* A thread's share of a range: first … end. */
struct part {
    int64_t first, end;
};

static inline struct part part_of(const struct brisk_team* team, int64_t n) {
    if (team->size == 1) /* saves two divisions each time, twenty in a step, which the smallest networks notice */
        return (struct part){0, n};
    return (struct part){n * team->rank / team->size, n * (team->rank + 1) / team->size};
}

/* Whether a layer is divided by whole panels, of which the last may have one vector: then each thread's panels stay in
 * its cache from step to step. Where panels divide unevenly, m rows or blocks of weights are divided instead, which
 * makes a step 5 % shorter for 100 columns of float32 (4 and 3 vectors). But rows may divide worse, because losses are
 * added up in whole runs of rows: with 16 rows, which are one run, a step of 784-100-10 took 57 µs by rows and 22 by
 * panels. */
static inline bool by_panels(const struct brisk_team* team, int64_t panels, int64_t vectors, int64_t m, int64_t run) {
    const int64_t size = team->size;
    if (size == 1)
        return true;
    const int64_t most = 2 * ((panels + size - 1) / size), runs = (m + run - 1) / run;
    const int64_t most_rows = smaller(m, (runs + size - 1) / size * run);
    return 8 * most * size <= 9 * vectors || most * m < most_rows * vectors;
}

/* A thread's share of m rows, in whole runs of so many. */
static inline struct part rows_of(const struct brisk_team* team, int64_t m, int64_t run) {
    const struct part runs = part_of(team, (m + run - 1) / run);
    return (struct part){smaller(m, runs.first * run), smaller(m, runs.end * run)};
}

/* The blocks of one layer, counted from 0, in a thread's share of the blocks of all layers; where there are none, end
 * <= first. */
static inline struct part blocks_of(const struct brisk_work* work, const struct brisk_team* team,
                                    const struct brisk_layer* layer) {
    const struct part all = part_of(team, work->n_blocks);
    const int64_t first = all.first - layer->first_block;
    return (struct part){first > 0 ? first : 0,
                         smaller(all.end - layer->first_block, layer->panels_in * layer->panels)};
}

#endif
