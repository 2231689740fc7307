/* All kernels for one ISA and dtype: a file in isa/ includes its vectors, then this list, and fills its table. */
#include "activation_template.h"
#include "apply_template.h"
#include "backward_template.h"
#include "dropout_template.h"
#include "few_rows_template.h"
#include "forward_template.h"
#include "gemm_tn_template.h"
#include "limits_template.h"
#include "loss_template.h"
#include "matrix_tiles_template.h"
#include "pack_template.h"
#include "product_template.h"
#include "step_template.h"
#include "update_template.h"
#include "vector_tiles_template.h"
#include "weights_template.h"

#if BRISK_TILES
#define BRISK_PREDICT_FEW .begin = tiles_configure, .end = tiles_release
#else
#define BRISK_PREDICT_FEW .predict_few = predict_few
#endif

#if BRISK_PROFILED

static double recorded_step(const struct brisk_work* work, const struct brisk_team* team, const struct brisk_data* data,
                            const struct brisk_batch* batch) {
    brisk_begin(work, team->rank, batch);
    const double loss = step(work, team, data, batch);
    brisk_end(work, team->rank);
    return loss;
}

#define BRISK_STEP recorded_step
#define BRISK_LIMITS                                                                                                   \
    .chain_flops = CHAIN_FLOPS, .chains = chains, .stream_read = stream_read, .stream_triad = stream_triad
#else
#define BRISK_STEP step
#define BRISK_LIMITS .chain_flops = 0
#endif

#define BRISK_TABLE(ISA)                                                                                               \
    {.isa = ISA,                                                                                                       \
     .precision = VNNI == 1 || BRISK_TILES ? BRISK_HIGHEST : BRISK_HIGH,                                               \
     .size = sizeof(real),                                                                                             \
     .vnni = VNNI,                                                                                                     \
     .panel = NR,                                                                                                      \
     .rows = LOSS_GRAIN,                                                                                               \
     .block = VNNI == 1 ? 0 : MC * NC_PANELS * NR,                                                                     \
     .pack = pack,                                                                                                     \
     .unpack = unpack,                                                                                                 \
     .transpose = transpose,                                                                                           \
     .predict = predict,                                                                                               \
     BRISK_PREDICT_FEW,                                                                                                \
     .step = BRISK_STEP,                                                                                               \
     .finite = packed_is_finite,                                                                                       \
     .weigh = weigh,                                                                                                   \
     .add = add,                                                                                                       \
     .update = update,                                                                                                 \
     BRISK_LIMITS}
