/* One step: forward, loss, backward, update. It is either data-parallel or layer-parallel, as layout.c decides, and in
 * a layer-parallel step each layer is divided as schedule.c decides. tests/schedule_test.c checks that between two
 * waits no thread reads or writes what another one writes. */
#pragma once

#include "../runtime/parts.h"
#include "../runtime/profile.h"
#include "apply_template.h"
#include "backward_template.h"
#include "forward_template.h"
#include "loss_template.h"
#include "weights_template.h"

/* --- gradients that are complete only when all threads have added to G -------------------------------------------- */

/* Apply the complete gradient in G, or in its shards: one thread's share of the blocks. It is clipped first, if at all:
 * then all threads must have added to its norm. Without a gradient, compute the penalty alone. */
static void finish_blocks(const struct brisk_work* work, const struct brisk_team* team,
                          const struct brisk_batch* batch) {
    const bool clipped = clips(work, batch);
    real factor = 1;
    for (int64_t l = 0; clipped && l < work->plan.n_layers; l++) {
        const struct part part = blocks_of(work, team, &work->layers[l]);
        for (int64_t block = part.first; block < part.end; block++)
            complete_block(work, l, block, batch);
        lap(work, team, l, BRISK_PHASE_NORM);
    }
    if (clipped) {
        wait_after(work, team, 0);
        factor = clip_factor(work);
    }
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part part = blocks_of(work, team, layer);
        for (int64_t block = part.first; block < part.end; block++)
            if (batch->goal == BRISK_LOSS)
                penalise_block(work, layer, block % layer->panels, block / layer->panels);
            else if (clipped)
                clip_block(work, l, block, factor, batch);
            else
                reduce_and_apply(work, &work->spaces[team->rank], l, block, batch);
        lap(work, team, l, BRISK_PHASE_UPDATE);
    }
}

/* --- rows: a team works on one layer at a time; a thread that has rows of its own is a team of one ---------------- */

/* A thread's share of dW[l] and db[l], and of the update. */
static void weights_part(const struct brisk_work* work, const struct brisk_team* team, int64_t l, int64_t m,
                         const struct grad_dest* dest) {
    const struct share share = dW_share(team, &work->layers[l]);
    weights_layer(work, &work->spaces[team->rank], l, m, share.panels, share.others, dest);
    if (profiled(work))
        lap(work, team, l, clips(work, dest->batch) || work->n_shards > 1 ? BRISK_PHASE_DW : BRISK_PHASE_DW_UPDATE);
}

/* dW of the lowest layer, which prefetches the rows that the thread will gather next: those of this batch's next chunk,
 * or of the next batch's first one, of which `left` rows are left. They are spread over the micro-kernels. */
static void lowest_weights_part(const struct brisk_work* work, const struct brisk_team* team,
                                const struct brisk_data* data, const int64_t* rows, int64_t m, int64_t left,
                                struct grad_dest* dest) {
    const struct part part = gather_part(work, team, smaller(left, work->rows));
    const int64_t lines = (work->layers[0].n_in * (int64_t)sizeof(real) + 63) / 64;
    struct next_batch next_batch = {
        .data = data,
        .rows = rows + m + part.first,
        .end = rows + m + part.end,
        .lines = lines,
    };
    dest->next_batch = NULL;
    if (left > 0) {
        const int64_t calls = (prefetches_of_dW(work, m) + team->size - 1) / team->size;
        next_batch.per_call = (part.end - part.first) * lines / calls + 1;
        dest->next_batch = &next_batch;
    }
    weights_part(work, team, 0, m, dest);
}

/* Gather, forward and loss of one chunk of m rows; returns its un-normalised loss. */
static double forward_chunk(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                            const int64_t* rows, int64_t m, double scale, const struct masks* masks) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const int64_t last = work->plan.n_layers - 1;
    const struct part gathered = gather_part(work, team, m);
    gather(work, space, data, rows, gathered.first, gathered.end);
    lap(work, team, 0, BRISK_PHASE_GATHER);
    for (int64_t l = 0; l <= last; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct share share = forward_share(team, layer, m);
        if (layer->schedule.wait)
            wait_after(work, team, l > 0 ? l - 1 : 0);
        forward_layer(work, space, l, l < last ? layer->activation : loss_activation(work), masks, share.panels,
                      share.others);
        lap(work, team, l, BRISK_PHASE_FORWARD);
    }
    const struct part outputs = forward_share(team, &work->layers[last], m).others;
    loss_rows(work, space, data, rows, outputs.first, outputs.end, scale);
    lap(work, team, last, BRISK_PHASE_LOSS);
    wait_after(work, team, last);
    return sum_losses(space, m);
}

/* Backward, dW and update of one chunk of m rows, whose delta[L] is there, all but dW[1].
 *
 * Between the two waits of round l, threads write delta[l-1], W[l+1], WT[l+1] and b[l+1], and read delta[l],
 * delta[l+1], A[l], A[l+1] and WT[l]. Three buffers keep the deltas apart, and WT[l+1] was last read in round l+1. */
static void backward_chunk(const struct brisk_work* work, const struct brisk_team* team, int64_t m,
                           const struct masks* masks, const struct grad_dest* dest) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const int64_t last = work->plan.n_layers - 1;
    for (int64_t l = last; l > 0; l--) {
        const struct share share = dX_share(team, &work->layers[l], m);
        backward_layer(work, space, l, masks, share.panels, share.others);
        lap(work, team, l, BRISK_PHASE_DX);
        if (l < last)
            weights_part(work, team, l + 1, m, dest);
        wait_after(work, team, l);
    }
    if (last > 0)
        weights_part(work, team, 1, m, dest);
}

/* Forward and backward through all layers of these rows of the batch; returns their un-normalised loss. */
static double step_rows(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                        const struct brisk_batch* batch, struct part part, struct grad_dest dest) {
    const bool applied = dest.last;
    double loss = 0;
    for (int64_t start = part.first; start == part.first || start < part.end; start += work->rows) {
        const int64_t m = smaller(work->rows, part.end - start), left = part.end - start - m;
        const int64_t* rows = batch->rows + start;
        const struct masks here = {batch->epoch, batch->place + start};
        const struct masks* masks = batch->goal == BRISK_UPDATE ? &here : NULL;
        loss += forward_chunk(work, team, data, rows, m, batch->scale, masks);
        if (batch->goal == BRISK_LOSS)
            continue;
        dest.first = start == part.first, dest.last = applied && left == 0;
        backward_chunk(work, team, m, masks, &dest);
        lowest_weights_part(work, team, data, rows, m, left > 0 || work->n_shards > 1 ? left : batch->n_next, &dest);
        wait_after(work, team, 0);
    }
    return loss;
}

/* --- data parallel: each thread works alone on shards of the rows, or, for the loss alone, on chunks ---------------
 */

static double step_data_parallel(const struct brisk_work* work, const struct brisk_team* team,
                                 const struct brisk_data* data, const struct brisk_batch* batch) {
    const struct brisk_team alone = {.rank = team->rank, .size = 1};
    const bool with_gradient = batch->goal != BRISK_LOSS;
    const int64_t m = batch->m, shards = with_gradient ? work->n_shards : (m + work->rows - 1) / work->rows;
    const struct part mine = part_of(team, shards);
    for (int64_t p = mine.first; p < mine.end; p++) {
        const struct part rows = with_gradient ? (struct part){m * p / shards, m * (p + 1) / shards}
                                               : (struct part){p * work->rows, smaller(m, (p + 1) * work->rows)};
        real* G = with_gradient ? (real*)work->G + p * work->n_packed : NULL;
        const struct grad_dest dest = {.accumulate = true, .G = G, .batch = batch};
        store_partial_loss(work, p, step_rows(work, &alone, data, batch, rows, dest));
    }
    wait_after(work, team, 0);
    const double loss = sum_partial_losses(work, shards);
    finish_blocks(work, team, batch);
    wait_after(work, team, 0);
    return loss;
}

/* --- layer parallel: all threads work on one layer at a time ----------------------------------------------------- */

static double step_layer_parallel(const struct brisk_work* work, const struct brisk_team* team,
                                  const struct brisk_data* data, const struct brisk_batch* batch) {
    const bool one_chunk = batch->m <= work->rows, clipped = clips(work, batch);
    const bool fused = batch->goal == BRISK_UPDATE && work->plan.rule == BRISK_SGD && one_chunk && !clipped &&
                       (work->splits == 1 || BRISK_TILES); /* vectors add up the splits of dW in memory */
    const struct grad_dest dest = {
        .fused_sgd = fused,
        .accumulate = !fused && (batch->goal == BRISK_GRADIENT || !one_chunk || batch->m > KC_TN_WHOLE || clipped),
        .last = !clipped,
        .G = work->G,
        .batch = batch,
    };
    const double loss = step_rows(work, team, data, batch, (struct part){0, batch->m}, dest);
    if (clipped) {
        finish_blocks(work, team, batch);
        wait_after(work, team, work->plan.n_layers - 1);
    }
    return loss;
}

static double step(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                   struct brisk_batch* batch) {
    struct rule rule;
    if (batch->goal == BRISK_UPDATE)
        rule = rule_at(&work->plan, batch->step, batch->scalars);
    batch->rule = &rule;
    if (profiled(work))
        brisk_begin(work, team->rank, batch);
    const double loss = batch->goal == BRISK_LOSS || work->n_shards > 1 ? step_data_parallel(work, team, data, batch)
                                                                        : step_layer_parallel(work, team, data, batch);
    if (profiled(work))
        brisk_end(work, team->rank);
    return loss * work->plan.report_scale + penalty(work);
}
