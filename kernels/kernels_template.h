/* All kernels for one ISA and dtype: an isa_*.c includes its vectors, then this, and fills its table. */
#include "brisk.h"
#include "parts.h"
#include "philox.h"
#include "pool.h"

#include <math.h>
#include <string.h>

#include "activations_template.h"

#include "slope_template.h"

#include "product_template.h"

#include "dropout_template.h"

#include "forward_template.h"

#include "loss_template.h"

#include "backward_template.h"

#include "update_template.h"

#include "weights_template.h"

#include "apply_template.h"

#include "step_template.h"

#define BRISK_TABLE(ISA)                                                                                               \
    {.isa = ISA,                                                                                                       \
     .size = sizeof(real),                                                                                             \
     .panel = PANEL,                                                                                                   \
     .enter = enter,                                                                                                   \
     .leave = leave,                                                                                                   \
     .turn = turn,                                                                                                     \
     .predict = predict,                                                                                               \
     .predict_few = predict_few,                                                                                       \
     .step = step,                                                                                                     \
     .finite = learned_is_finite,                                                                                      \
     .weigh = weigh,                                                                                                   \
     .add = add,                                                                                                       \
     .update = update}
