/* How work is divided among the threads of a team. A team may have fewer threads than the schedule was made for. */
#ifndef BRISK_PARTS_H
#define BRISK_PARTS_H

#include "../brisk.h"

/* A thread's share of a range: first … end. */
struct part {
    int64_t first, end;
};

static inline struct part part_of(const struct brisk_team* team, int64_t n) {
    if (team->size == 1) /* saves two divisions each time, twenty in a step, which the smallest networks notice */
        return (struct part){0, n};
    return (struct part){n * team->rank / team->size, n * (team->rank + 1) / team->size};
}

/* A thread's share of m rows, in whole runs of so many. */
static inline struct part rows_of(const struct brisk_team* team, int64_t m, int64_t run) {
    if (team->size == 1)
        return (struct part){0, m};
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

/* --- by the schedule of a layer-parallel step -------------------------------------------------------------------- */

/* A thread's share of a layer's work: panels of the outputs, or in dX of the inputs; and `others`, rows, or in dW
 * panels of the inputs. */
struct share {
    struct part panels, others;
};

static inline struct share share_of(const struct brisk_team* team, enum brisk_division division, int64_t panels,
                                    int64_t others, int64_t grain) {
    if (division == BRISK_BY_PANELS)
        return (struct share){part_of(team, panels), {0, others}};
    return (struct share){{0, panels}, rows_of(team, others, grain)};
}

/* The part of m rows of X that a thread gathers. With a view of its own it gathers all, because lines that another core
 * has just written come slowly. */
static inline struct part gather_part(const struct brisk_work* work, const struct brisk_team* team, int64_t m) {
    return work->own_rows ? (struct part){0, m} : rows_of(team, m, work->layers[0].schedule.grain);
}

static inline struct share forward_share(const struct brisk_team* team, const struct brisk_layer* layer, int64_t m) {
    return share_of(team, layer->schedule.forward, layer->panels, m, layer->schedule.grain);
}

/* The rows are those of the layer below, whose delta is computed. */
static inline struct share dX_share(const struct brisk_team* team, const struct brisk_layer* layer, int64_t m) {
    return share_of(team, layer->schedule.dX, layer->panels_in, m, layer[-1].schedule.grain);
}

static inline struct share dW_share(const struct brisk_team* team, const struct brisk_layer* layer) {
    return share_of(team, layer->schedule.dW, layer->panels, layer->panels_in, 1);
}

#endif
