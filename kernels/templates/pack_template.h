/* Copies between the user's dense arrays and packed ones, and checks of packed ones. */
#pragma once

#include "../runtime/parts.h"
#include "weights_template.h"

enum direction { PACK, UNPACK, ADD_TO };

/* Pack one dense row of n elements, with zeros as padding; or unpack it, or add the packed row to the dense one. */
INLINE void copy_row(real* dense, real* packed, int64_t stride, int64_t n, enum direction direction) {
    for (int64_t j = 0; j < n; j += LANES) {
        real *d = dense + j, *p = packed + column(j, stride);
        if (direction == PACK)
            vec_store(p, vec_load_first(d, n - j));
        else if (direction == UNPACK)
            vec_store_first(d, vec_load(p), n - j);
        else
            vec_store_first(d, vec_load_first(d, n - j) + vec_load(p), n - j);
    }
}

/* The same for one thread's share of all tensors. */
INLINE void copy(const struct brisk_work* work, const struct brisk_team* team, real* dense, real* packed,
                 enum direction direction) {
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part rows = part_of(team, layer->n_in);
        for (int64_t k = rows.first; k < rows.end; k++)
            copy_row(dense + layer->dense_W + k * layer->n_out, packed + layer->W + k * NR, layer->W_panel,
                     layer->n_out, direction);
        if (team->rank == 0)
            copy_row(dense + layer->dense_b, packed + layer->b, NR, layer->n_b, direction);
    }
}

static void pack(const struct brisk_work* work, const struct brisk_team* team, const void* dense, void* packed) {
    copy(work, team, (real*)dense, packed, PACK);
}

static void unpack(const struct brisk_work* work, const struct brisk_team* team, const void* packed, void* dense) {
    copy(work, team, dense, (real*)packed, UNPACK);
}

static void add(const struct brisk_work* work, const void* packed, void* dense) {
    const struct brisk_team alone = {.size = 1};
    copy(work, &alone, dense, (real*)packed, ADD_TO);
}

/* Write the copies of packed weights that products read, WT and R. */
static void transpose(const struct brisk_work* work, const struct brisk_team* team) {
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part blocks = part_of(team, layer->panels_in * layer->panels);
        for (int64_t block = blocks.first; block < blocks.end; block++)
            write_copies(work, l, block % layer->panels, block / layer->panels);
    }
}

/* Whether n elements from p on are finite: 0 · x is 0 for these alone. */
static bool all_finite(const real* p, int64_t n) {
    vec zeros = vec_splat(0);
    for (int64_t i = 0; i < n; i += LANES)
        zeros = vec_fma(vec_load_first(p + i, n - i), vec_splat(0), zeros);
    return vec_sum(zeros) == 0;
}

static bool packed_is_finite(const struct brisk_work* work, const struct brisk_team* team, const void* packed) {
    bool result = true;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part rows = part_of(team, layer->n_in);
        for (int64_t j = 0; j < layer->panels; j++)
            for (int64_t k = rows.first; k < rows.end; k++)
                result &= all_finite((const real*)packed + layer->W + j * layer->W_panel + k * NR,
                                     smaller(NR, layer->n_out - j * NR));
        if (team->rank == 0)
            result &= all_finite((const real*)packed + layer->b, layer->n_b);
    }
    return result;
}

/* Σ weight of m examples, in float64. */
static double weigh(const void* weight, const int64_t* rows, int64_t m) {
    double sum = 0;
    for (int64_t i = 0; i < m; i++)
        sum += (double)((const real*)weight)[rows[i]];
    return sum;
}
