/* One step: forward, loss, backward, update. See layout.c for the two ways a batch takes. */

/* --- slices: each member alone with its rows --------------------------------------------------------------------- */

/* The un-normalised loss of m rows; unless the loss is all that is wanted, their gradient goes to G. */
static double shard_step(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                         const struct brisk_batch* batch, const int64_t* rows, int64_t m, real* G) {
    const int64_t n_layers = work->plan.n_layers;
    double loss = 0;
    for (int64_t start = 0; start == 0 || start < m; start += work->rows) {
        const int64_t n = smaller(work->rows, m - start);
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
            if (l > 0) {
                backward_layer(work, space, l, masks, 0, layer->panels_in, 0, n);
                lap(work, space, l, BRISK_PHASE_DX);
            }
            weights_layer(work, space, l, n, 0, layer->panels, 0, layer->panels_in, &dest);
            lap(work, space, l, BRISK_PHASE_DW);
        }
    }
    return loss;
}

/* The loss of a batch in parts: its slices, or, where nothing but the loss is wanted, its chunks. */
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

/* --- layers: the team together ----------------------------------------------------------------------------------- */

/* The rows of a chunk whose losses a member has: whole runs, whose words nobody else writes. */
static struct part output_rows(const struct brisk_team* team, int64_t m) {
    return rows_of(team, m, LOSS_GRAIN);
}

/* The rows that it gathers, and has in the hidden layers, which may divide more evenly. */
static struct part hidden_rows(const struct brisk_work* work, const struct brisk_team* team, int64_t m) {
    return work->plan.n_layers == 1 ? output_rows(team, m) : rows_of(team, m, ROW_GRAIN);
}

/* What a member will gather next, of so many rows: this batch's next chunk, or the next batch's first; fetched over so
 * many tiles of dW. */
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

/* Whether a team divides a layer's outputs, or, `below`, its inputs, by panels, for m rows. */
static bool divides(const struct brisk_team* team, const struct brisk_layer* layer, bool below, int64_t m) {
    const int64_t n = below ? layer->n_in : layer->n_out;
    return by_panels(team, below ? layer->panels_in : layer->panels, (n + LANES - 1) / LANES, m, LOSS_GRAIN);
}

/* A member's part of dW[l] and db[l], and of the update. */
static void weights_part(const struct brisk_work* work, const struct brisk_team* team, int64_t l, int64_t m,
                         const struct grad_dest* dest) {
    const struct brisk_layer* layer = &work->layers[l];
    if (divides(team, layer, false, m)) {
        const struct part panels = part_of(team, layer->panels);
        weights_layer(work, &work->spaces[team->rank], l, m, panels.first, panels.end, 0, layer->panels_in, dest);
    } else {
        const struct part blocks = part_of(team, layer->panels_in);
        weights_layer(work, &work->spaces[team->rank], l, m, 0, layer->panels, blocks.first, blocks.end, dest);
    }
    if (profiled(work))
        lap_of(work, team, l, clips(work, dest->batch) ? BRISK_PHASE_DW : BRISK_PHASE_DW_UPDATE);
}

/* Forward and backward through all layers. Between two waits each member writes what nobody else reads or writes. */
static double step_layer_parallel(const struct brisk_work* work, const struct brisk_team* team,
                                  const struct brisk_data* data, const struct brisk_batch* batch) {
    const struct brisk_space* space = &work->spaces[team->rank];
    const int64_t last = work->plan.n_layers - 1;
    const bool one_chunk = batch->m <= work->rows, clipped = clips(work, batch);
    double loss = 0;
    for (int64_t start = 0; start == 0 || start < batch->m; start += work->rows) {
        const int64_t m = smaller(work->rows, batch->m - start);
        const int64_t* rows = batch->rows + start;
        const struct part own_rows = hidden_rows(work, team, m), outputs = output_rows(team, m);
        const struct masks here = {batch->epoch, batch->place + start};
        const struct masks* masks = batch->goal == BRISK_UPDATE ? &here : NULL;
        if (work->own_rows) { /* of no use to others, who would wait for lines that this core has just written */
            gather(work, space, data, rows, 0, m);
            lap(work, space, 0, BRISK_PHASE_GATHER);
        } else {
            gather(work, space, data, rows, own_rows.first, own_rows.end);
            lap(work, space, 0, BRISK_PHASE_GATHER);
            if (last > 0 && divides(team, &work->layers[0], false, m)) /* else each goes on with its own rows */
                wait_after(work, team, 0);
        }
        for (int64_t l = 0; l < last; l++) {
            const struct brisk_layer* layer = &work->layers[l];
            if (divides(team, layer, false, m)) {
                const struct part panels = part_of(team, layer->panels);
                forward_layer(work, space, l, layer->activation, masks, panels.first, panels.end, 0, m);
            } else
                forward_layer(work, space, l, layer->activation, masks, 0, layer->panels, own_rows.first, own_rows.end);
            lap(work, space, l, BRISK_PHASE_FORWARD);
            wait_after(work, team, l);
        }
        forward_layer(work, space, last, loss_activation(work), NULL, 0, work->layers[last].panels, outputs.first,
                      outputs.end);
        lap(work, space, last, BRISK_PHASE_FORWARD);
        loss_rows(work, space, data, rows, outputs.first, outputs.end, batch->scale);
        lap(work, space, last, BRISK_PHASE_LOSS);
        wait_after(work, team, last);
        loss += sum_losses(space, m);

        const bool fused = batch->goal == BRISK_UPDATE && work->plan.rule == BRISK_SGD && one_chunk && !clipped &&
                           (work->splits == 1 || BRISK_TILES); /* else dW is a sum of products */
        struct grad_dest dest = {
            .fused_sgd = fused,
            .accumulate = !fused && (batch->goal == BRISK_GRADIENT || !one_chunk || m > KC_TN_WHOLE || clipped),
            .first = start == 0,
            .last = start + m == batch->m && !clipped,
            .G = work->G,
            .batch = batch,
        };
        /* Between two waits of round l delta[l-1], W[l+1], WT[l+1] and b[l+1] are written, and delta[l], delta[l+1],
         * A[l], A[l+1] and WT[l] are read: three buffers keep the deltas apart, and WT[l+1] was last read in round l+1.
         */
        for (int64_t l = last; l > 0; l--) {
            const struct brisk_layer* layer = &work->layers[l];
            if (divides(team, layer, true, m)) {
                const struct part panels = part_of(team, layer->panels_in);
                backward_layer(work, space, l, masks, panels.first, panels.end, 0, m);
            } else
                backward_layer(work, space, l, masks, 0, layer->panels_in, own_rows.first, own_rows.end);
            lap(work, space, l, BRISK_PHASE_DX);
            if (l < last)
                weights_part(work, team, l + 1, m, &dest);
            wait_after(work, team, l);
        }
        if (last > 0)
            weights_part(work, team, 1, m, &dest);
        const int64_t run = kc_tn_of(work, m), runs = m > KC_TN_WHOLE ? (m + run - 1) / run : 1;
        const int64_t words = (run + VNNI - 1) / VNNI;
        const int64_t whole = work->layers[0].panels - 1, rest = work->layers[0].n_out - whole * NR;
        const int64_t in_row = whole * prefetches_of_block(NR, NR, words) + prefetches_of_block(NR, rest, words);
        const int64_t calls = work->layers[0].panels_in * runs * in_row;
        const int64_t left = batch->m - start - m > 0 ? batch->m - start - m : batch->n_next;
        struct next_batch next_batch =
            next_batch_of(work, team, data, rows + m, left, (calls + team->size - 1) / team->size);
        dest.next_batch = left > 0 ? &next_batch : NULL;
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
                   const struct brisk_batch* batch) {
    if (profiled(work))
        brisk_begin(work, team->rank, batch);
    const double loss = batch->goal == BRISK_LOSS || work->n_shards > 1 ? step_data_parallel(work, team, data, batch)
                                                                        : step_layer_parallel(work, team, data, batch);
    if (profiled(work))
        brisk_end(work, team->rank);
    return loss * work->plan.report_scale + penalty(work);
}

/* --- dense and packed numbers ------------------------------------------------------------------------------------ */

enum direction { PACK, UNPACK, ADD_TO };

/* Copy one dense row of n numbers to panels, pads included as zeros, or back, or add it to what is there. */
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

static void transpose(const struct brisk_work* work, const struct brisk_team* team) {
    for (int64_t l = has_copies(work, 0) ? 0 : 1; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part blocks = part_of(team, layer->panels_in * layer->panels);
        for (int64_t block = blocks.first; block < blocks.end; block++)
            write_copies(work, l, block % layer->panels, block / layer->panels);
    }
}

/* Whether n numbers from p on are finite: 0 · x is 0 for these alone. */
static bool all_finite(const real* p, int64_t n) {
    vec zeros = vec_splat(0);
    for (int64_t i = 0; i < n; i += LANES)
        zeros = vec_fma(vec_load_first(p + i, n - i), vec_splat(0), zeros);
    return vec_sum(zeros) == 0;
}

static bool learned_is_finite(const struct brisk_work* work, const struct brisk_team* team, const void* packed) {
    const real* P = packed;
    bool result = true;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const struct part rows = part_of(team, layer->n_in);
        for (int64_t j = 0; j < layer->panels; j++)
            for (int64_t k = rows.first; k < rows.end; k++)
                result &= all_finite(P + layer->W + j * layer->W_panel + k * NR, smaller(NR, layer->n_out - j * NR));
        if (team->rank == 0)
            result &= all_finite(P + layer->b, layer->n_b);
    }
    return result;
}

static double weigh(const void* weight, const int64_t* rows, int64_t m) {
    double sum = 0;
    for (int64_t i = 0; i < m; i++)
        sum += (double)((const real*)weight)[rows[i]];
    return sum;
}
