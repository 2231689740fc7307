/* The schedule: how each layer of a layer-parallel step is divided among the threads, and where they must wait. */
#include "../brisk.h"

/* Whether a layer is divided by whole panels, of which the last may have one vector: then each thread's panels stay in
 * its cache from step to step. Where panels divide unevenly, m rows or blocks of weights are divided instead, which
 * makes a step 5 % shorter for 100 columns of float32 (4 and 3 vectors). But rows may divide worse, because losses are
 * added up in whole runs of rows: with 16 rows, which are one run, a step of 784-100-10 took 57 µs by rows and 22 by
 * panels. */
static bool by_panels(int64_t threads, int64_t panels, int64_t vectors, int64_t m, int64_t run) {
    const int64_t most = 2 * divide_up(panels, threads);
    const int64_t most_rows = smaller(m, divide_up(divide_up(m, run), threads) * run);
    return threads == 1 || 8 * most * threads <= 9 * vectors || most * m < most_rows * vectors;
}

void brisk_set_schedule(struct brisk_work* work, int64_t m, int threads) {
    const struct brisk_kernels* kernels = work->kernels;
    const int64_t n_layers = work->plan.n_layers, lanes = kernels->panel / 2, run = kernels->rows;
    for (int64_t l = 0; l < n_layers; l++) {
        struct brisk_layer* layer = &work->layers[l];
        const struct brisk_schedule* below = l > 0 ? &layer[-1].schedule : NULL;
        const bool panels = by_panels(threads, layer->panels, divide_up(layer->n_out, lanes), m, run);
        const bool panels_in = by_panels(threads, layer->panels_in, divide_up(layer->n_in, lanes), m, run);
        /* The losses are computed by rows, so the last layer is too: then nobody waits between them. */
        const bool last = l + 1 == n_layers;
        struct brisk_schedule schedule = {
            .forward = panels && !last ? BRISK_BY_PANELS : BRISK_BY_ROWS,
            .dX = panels_in ? BRISK_BY_PANELS : BRISK_BY_ROWS,
            .dW = panels ? BRISK_BY_PANELS : BRISK_BY_INPUTS,
            .grain = last ? kernels->rows : kernels->row_grain,
        };
        /* A thread that reads only rows that it has written itself need not wait. */
        const bool own = below == NULL ? work->own_rows || schedule.forward == BRISK_BY_ROWS
                                       : below->forward == BRISK_BY_ROWS && schedule.forward == BRISK_BY_ROWS &&
                                             below->grain == schedule.grain;
        schedule.wait = threads > 1 && !own;
        layer->schedule = schedule;
    }
}
