/* One step: forward, loss, backward, update. It is either data-parallel or layer-parallel, as layout.c decides. */
#ifndef BRISK_STEP_TEMPLATE_H
#define BRISK_STEP_TEMPLATE_H

#include "../runtime/parts.h"
#include "../runtime/profile.h"
#include "apply_template.h"
#include "backward_template.h"
#include "forward_template.h"
#include "loss_template.h"
#include "weights_template.h"

/* --- data parallel: each thread works alone on shards of the rows ------------------------------------------------ */

/* Return the un-normalised loss of m rows, and write their gradient to G, unless only the loss is asked for. */
static double shard_step(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                         const struct brisk_batch* batch, const int64_t* rows, int64_t m, real* G) {
    const int64_t n_layers = work->plan.n_layers;
    double loss = 0;
    for (int64_t start = 0; start == 0 || start < m; start += work->rows) {
        const int64_t n = smaller(work->rows, m - start);
        const struct part all_rows = {0, n};
        const struct grad_dest dest = {.accumulate = true, .first = start == 0, .G = G, .batch = batch};
        const struct masks here = {batch->epoch, batch->place + (rows - batch->rows) + start};
        const struct masks* masks = batch->goal == BRISK_UPDATE ? &here : NULL;
        forward_rows(work, space, data, rows + start, n, loss_activation(work), masks);
        loss_rows(work, space, data, rows + start, 0, n, batch->scale);
        lap(work, space, n_layers - 1, BRISK_PHASE_LOSS);
        loss += sum_losses(space, n);
        if (batch->goal == BRISK_LOSS)
            continue;
        for (int64_t l = n_layers - 1; l >= 0; l--) {
            const struct brisk_layer* layer = &work->layers[l];
            const struct part panels = {0, layer->panels}, panels_in = {0, layer->panels_in};
            if (l > 0) {
                backward_layer(work, space, l, masks, panels_in, all_rows);
                lap(work, space, l, BRISK_PHASE_DX);
            }
            weights_layer(work, space, l, n, panels, panels_in, &dest);
            lap(work, space, l, BRISK_PHASE_DW);
        }
    }
    return loss;
}

/* Compute the shards of a batch, or, for the loss alone, its chunks; then reduce the partial gradients. */
static double step_data_parallel(const struct brisk_work* work, const struct brisk_team* team,
                                 const struct brisk_data* data, const struct brisk_batch* batch) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const bool with_gradient = batch->goal != BRISK_LOSS;
    const int64_t shards = with_gradient ? work->n_shards : (batch->m + work->rows - 1) / work->rows;
    const struct part mine = part_of(team, shards);
    for (int64_t p = mine.first; p < mine.end; p++) {
        const int64_t first = with_gradient ? batch->m * p / shards : p * work->rows;
        const int64_t end = with_gradient ? batch->m * (p + 1) / shards : smaller(batch->m, first + work->rows);
        work->partial_losses[p] = shard_step(work, space, data, batch, batch->rows + first, end - first,
                                             with_gradient ? (real*)work->G + p * work->n_packed : NULL);
    }
    wait_after(work, team, 0);
    double loss = 0;
    for (int64_t p = 0; p < shards; p++)
        loss += work->partial_losses[p];
    if (clips(work, batch))
        clip_and_apply(work, team, batch);
    else if (with_gradient)
        apply_shards(work, space, team, batch);
    else
        for (int64_t l = 0; l < work->plan.n_layers; l++) {
            const struct brisk_layer* layer = &work->layers[l];
            const struct part blocks = part_of(team, layer->panels_in * layer->panels);
            for (int64_t block = blocks.first; block < blocks.end; block++)
                penalise_block(work, layer, block % layer->panels, block / layer->panels);
        }
    wait_after(work, team, 0);
    return loss;
}

/* --- layer parallel: all threads work on one layer at a time ----------------------------------------------------- */

/* The rows of a chunk that a thread has in the last layer, in units of LOSS_GRAIN, so that one thread adds up each
 * partial loss. */
static struct part output_rows(const struct brisk_team* team, int64_t m) {
    return rows_of(team, m, LOSS_GRAIN);
}

/* The rows that it gathers, and has in the hidden layers, where they may be divided more evenly. */
static struct part hidden_rows(const struct brisk_work* work, const struct brisk_team* team, int64_t m) {
    return work->plan.n_layers == 1 ? output_rows(team, m) : rows_of(team, m, ROW_GRAIN);
}

/* The rows that a thread will gather next: those of this batch's next chunk, or of the next batch's first one, of which
 * `left` rows are left. They are prefetched over so many calls, one for each micro-kernel of dW. */
static struct next_batch next_batch_of(const struct brisk_work* work, const struct brisk_team* team,
                                       const struct brisk_data* data, const int64_t* rows, int64_t left,
                                       int64_t calls) {
    const int64_t n = smaller(left, work->rows);
    const struct part part = work->own_rows ? (struct part){0, n} : hidden_rows(work, team, n);
    const int64_t lines = (work->layers[0].n_in * (int64_t)sizeof(real) + 63) / 64;
    return (struct next_batch){
        .data = data,
        .rows = rows + part.first,
        .end = rows + part.end,
        .lines = lines,
        .per_call = (part.end - part.first) * lines / calls + 1,
    };
}

/* How often a thread prefetches while it computes its share of dW of the lowest layer from m rows. */
static int64_t prefetches_of_dW(const struct brisk_work* work, const struct brisk_team* team, int64_t m) {
    const struct brisk_layer* layer = &work->layers[0];
    const int64_t KC = kc_tn_of(work, m), runs = m > KC_TN_WHOLE ? (m + KC - 1) / KC : 1,
                  reals = (KC + VNNI - 1) / VNNI;
    const int64_t whole = layer->panels - 1, rest = layer->n_out - whole * NR;
    const int64_t of_panels = whole * prefetches_of_block(NR, NR, reals) + prefetches_of_block(NR, rest, reals);
    return (layer->panels_in * runs * of_panels + team->size - 1) / team->size;
}

/* Whether a layer's outputs, or, `below`, its inputs, are divided among threads by panels rather than by m rows. */
static bool divides(const struct brisk_team* team, const struct brisk_layer* layer, bool below, int64_t m) {
    const int64_t n = below ? layer->n_in : layer->n_out;
    return by_panels(team, below ? layer->panels_in : layer->panels, (n + LANES - 1) / LANES, m, LOSS_GRAIN);
}

/* A thread's share of dW[l] and db[l], and of the update. */
static void weights_part(const struct brisk_work* work, const struct brisk_team* team, int64_t l, int64_t m,
                         const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    struct part panels = {0, layer->panels}, panels_in = {0, layer->panels_in};
    if (divides(team, layer, false, m))
        panels = part_of(team, layer->panels);
    else
        panels_in = part_of(team, layer->panels_in);
    weights_layer(work, &work->spaces[team->rank], l, m, panels, panels_in, dest);
    if (profiled(work))
        lap_of(work, team, l, clips(work, dest->batch) ? BRISK_PHASE_DW : BRISK_PHASE_DW_UPDATE);
}

/* Gather, forward and loss of one chunk of m rows; returns its un-normalised loss. */
static double forward_chunk(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                            const int64_t* rows, int64_t m, double scale, const struct masks* masks) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const int64_t last = work->plan.n_layers - 1;
    const struct part own_rows = hidden_rows(work, team, m), outputs = output_rows(team, m);
    /* A thread with a view of its own gathers all rows, because lines that another core has just written come slowly.
     */
    const struct part gathered = work->own_rows ? (struct part){0, m} : own_rows;
    gather(work, space, data, rows, gathered.first, gathered.end);
    lap(work, space, 0, BRISK_PHASE_GATHER);
    if (!work->own_rows && last > 0 &&
        divides(team, &work->layers[0], false, m)) /* else each needs its own rows only */
        wait_after(work, team, 0);
    for (int64_t l = 0; l < last; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        if (divides(team, layer, false, m))
            forward_layer(work, space, l, layer->activation, masks, part_of(team, layer->panels), (struct part){0, m});
        else
            forward_layer(work, space, l, layer->activation, masks, (struct part){0, layer->panels}, own_rows);
        lap(work, space, l, BRISK_PHASE_FORWARD);
        wait_after(work, team, l);
    }
    forward_layer(work, space, last, loss_activation(work), NULL, (struct part){0, work->layers[last].panels}, outputs);
    lap(work, space, last, BRISK_PHASE_FORWARD);
    loss_rows(work, space, data, rows, outputs.first, outputs.end, scale);
    lap(work, space, last, BRISK_PHASE_LOSS);
    wait_after(work, team, last);
    return sum_losses(space, m);
}

/* Forward and backward through all layers. Between two waits each thread writes only what no other reads or writes. */
static double step_layer_parallel(const struct brisk_work* work, const struct brisk_team* team,
                                  const struct brisk_data* data, const struct brisk_batch* batch) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const int64_t last = work->plan.n_layers - 1;
    const bool one_chunk = batch->m <= work->rows, clipped = clips(work, batch);
    double loss = 0;
    for (int64_t start = 0; start == 0 || start < batch->m; start += work->rows) {
        const int64_t m = smaller(work->rows, batch->m - start);
        const int64_t* rows = batch->rows + start;
        const struct masks here = {batch->epoch, batch->place + start};
        const struct masks* masks = batch->goal == BRISK_UPDATE ? &here : NULL;
        loss += forward_chunk(work, team, data, rows, m, batch->scale, masks);

        const bool fused = batch->goal == BRISK_UPDATE && work->plan.rule == BRISK_SGD && one_chunk && !clipped &&
                           (work->splits == 1 || BRISK_TILES); /* vectors add up the splits of dW in memory */
        struct grad_dest dest = {
            .fused_sgd = fused,
            .accumulate = !fused && (batch->goal == BRISK_GRADIENT || !one_chunk || m > KC_TN_WHOLE || clipped),
            .first = start == 0,
            .last = start + m == batch->m && !clipped,
            .G = work->G,
            .batch = batch,
        };
        /* Between the two waits of round l, threads write delta[l-1], W[l+1], WT[l+1] and b[l+1], and read delta[l],
         * delta[l+1], A[l], A[l+1] and WT[l]. Three buffers keep the deltas apart, and WT[l+1] was last read in round
         * l+1. */
        for (int64_t l = last; l > 0; l--) {
            const struct brisk_layer* layer = &work->layers[l];
            if (divides(team, layer, true, m))
                backward_layer(work, space, l, masks, part_of(team, layer->panels_in), (struct part){0, m});
            else
                backward_layer(work, space, l, masks, (struct part){0, layer->panels_in}, hidden_rows(work, team, m));
            lap(work, space, l, BRISK_PHASE_DX);
            if (l < last)
                weights_part(work, team, l + 1, m, &dest);
            wait_after(work, team, l);
        }
        if (last > 0)
            weights_part(work, team, 1, m, &dest);
        const int64_t left = batch->m - start - m > 0 ? batch->m - start - m : batch->n_next;
        struct next_batch next_batch;
        if (left > 0) {
            next_batch = next_batch_of(work, team, data, rows + m, left, prefetches_of_dW(work, team, m));
            dest.next_batch = &next_batch;
        }
        weights_part(work, team, 0, m, &dest);
        wait_after(work, team, 0);
    }
    if (clipped) {
        clip_and_apply(work, team, batch);
        wait_after(work, team, last);
    }
    return loss;
}

static double step(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                   struct brisk_batch* batch) {
    if (batch->goal == BRISK_UPDATE)
        set_factors(&work->plan, batch->step, batch->scalars, batch->factors);
    if (profiled(work))
        brisk_begin(work, team->rank, batch);
    const double loss = batch->goal == BRISK_LOSS || work->n_shards > 1 ? step_data_parallel(work, team, data, batch)
                                                                        : step_layer_parallel(work, team, data, batch);
    if (profiled(work))
        brisk_end(work, team->rank);
    return loss * work->plan.report_scale + penalty(work);
}

#endif
