/* All kernels for one ISA and dtype: an isa_*.c includes its vectors, then this, and fills its table. */
#include "../brisk.h"
#include "../runtime/parts.h"
#include "../runtime/philox.h"
#include "../runtime/pool.h"
#include "../runtime/profile.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Whether products are of tiles: vec_amx.h. */
#ifndef BRISK_TILES
#define BRISK_TILES 0
#endif

/* Numbers in a word of what products read, of which vec_dot multiplies all. */
#ifndef BRISK_VNNI
#define BRISK_VNNI 1

INLINE vec vec_dot(vec a, vec b, vec c) {
    return vec_fma(a, b, c);
}
#endif

enum { VNNI = BRISK_VNNI };

#include "vec_math_template.h"

#include "activation_template.h"

#include "panels_template.h"

#include "rounding_template.h"

#if BRISK_VNNI == 2
#include "pack_bf16_template.h"
#else
#include "pack_f32_template.h"
#endif

#include "prefetch_template.h"

#include "epilogue_template.h"

#if BRISK_TILES
#include "matrix_tiles_template.h"
#else
#include "vector_tiles_template.h"

#include "gemm_tn_template.h"
#endif

#include "product_template.h"

#include "dropout_template.h"

#include "forward_template.h"

#if !BRISK_TILES
#include "few_rows_template.h"

#define BRISK_PREDICT_FEW .predict_few = predict_few
#else
#define BRISK_PREDICT_FEW .begin = tiles_configure, .end = tiles_release
#endif

#include "loss_template.h"

#include "backward_template.h"

#include "update_template.h"

#include "weights_template.h"

#include "apply_template.h"

#include "step_template.h"

#if BRISK_PROFILED

#include "limits_template.h"

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
     .finite = learned_is_finite,                                                                                      \
     .weigh = weigh,                                                                                                   \
     .add = add,                                                                                                       \
     .update = update,                                                                                                 \
     BRISK_LIMITS}
