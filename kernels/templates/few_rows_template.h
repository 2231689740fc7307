/* The forward pass of a few rows, straight from dense parameters. */

/* Z[l+1] of a row in columns j … j + 8 vectors, or fewer at the right edge, where `n` columns are left. */
INLINE void dense_columns(const struct brisk_layer* layer, const real* A, int64_t a_stride, const real* W,
                          const real* bias, int64_t bias_step, real* Z, int64_t z_stride, int64_t j, bool edge,
                          bool rounded) {
    enum { WIDE = 8 };
    vec acc[WIDE];
    const int64_t n = edge ? layer->n_out - j : WIDE * LANES;
    for (int v = 0; v < WIDE; v++) {
        const int64_t left = edge ? (n > v * LANES ? n - v * LANES : 0) : LANES;
        acc[v] = bias == NULL     ? vec_splat(0)
                 : bias_step == 0 ? vec_splat(*bias)
                                  : vec_load_first(bias + j + smaller(v * LANES, n), left);
    }
    for (int64_t k = 0; k < layer->n_in; k += VNNI, W += VNNI * layer->n_out) {
        const vec a = vec_splat(A[k / NR * a_stride + k % NR / VNNI]);
        const int64_t next = k + 1 < layer->n_in ? layer->n_out : 0;
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) {
            const int64_t left = edge ? (n > v * LANES ? n - v * LANES : 0) : LANES;
            const real* w = W + j + (edge ? smaller(v * LANES, n) : v * LANES);
            acc[v] = vec_dot(a, load_dense(w, next, left, rounded), acc[v]);
        }
    }
    for (int v = 0; v < WIDE && v * LANES < n; v++)
        vec_store(Z + column(v * LANES, z_stride), acc[v]);
}

/* As predict, but by one thread and from the user's parameters: each weight is read once for each row, where packing
 * them all would read, write and read them. The same bits, as sums run in the same order; but not for high, whose three
 * products would. */
static void predict_few(const struct brisk_work* work, const void* params, const struct brisk_data* data,
                        const int64_t* rows, int64_t m, void* out) {
    enum { STEP_OF_PANELS = 8 * LANES / NR };
    const struct brisk_space* space = work->spaces;
    const bool rounded = rounds(work);
    gather(work, space, data, rows, 0, m);
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        const bool last = l + 1 == work->plan.n_layers, in_place = last || saves_f32(work);
        const real* W = (const real*)params + layer->dense_W;
        const real* b = work->plan.bias == BRISK_BIAS_NONE ? NULL : (const real*)params + layer->dense_b;
        const int64_t a_stride = work->panel_stride / VNNI, b_step = work->plan.bias == BRISK_BIAS_NEURON;
        for (int64_t j = 0; j < layer->panels; j += STEP_OF_PANELS) {
            struct block block = {j, smaller(layer->panels, j + STEP_OF_PANELS), 0, m, space->C, m * NR};
            if (in_place)
                block.C = (real*)space->A[l + 1] + j * work->panel_stride, block.c_stride = work->panel_stride;
            for (int64_t i = 0; i < m; i++) {
                const real* A = (const real*)space->A[l] + i * ROW_STEP;
                real* Z = block.C + i * NR;
                const bool edge = (j + STEP_OF_PANELS) * NR > layer->n_out;
                if (rounded && edge)
                    dense_columns(layer, A, a_stride, W, b, b_step, Z, block.c_stride, j * NR, true, true);
                else if (rounded)
                    dense_columns(layer, A, a_stride, W, b, b_step, Z, block.c_stride, j * NR, false, true);
                else if (edge)
                    dense_columns(layer, A, a_stride, W, b, b_step, Z, block.c_stride, j * NR, true, false);
                else
                    dense_columns(layer, A, a_stride, W, b, b_step, Z, block.c_stride, j * NR, false, false);
            }
            for (int64_t p = j; p < block.j1; p++)
                epilogue_rows(layer->activation, (real)work->plan.slope, NULL, block.C + (p - j) * block.c_stride, m,
                              vectors_of(layer->n_out, p));
            if (rounded && !last)
                pack_rows(work, &block, space->A[l + 1], A_size(work, l + 1), layer->n_out, LEFT);
        }
    }
    write_rows(work, space, m, out);
}
