/* All kernels, for the vectors that BRISK_ISA and BRISK_DOUBLE choose. */
#ifndef BRISK_KERNELS_TEMPLATE_H
#define BRISK_KERNELS_TEMPLATE_H

#include "../brisk.h"
#include "../isa/vec.h"
#include "../runtime/parts.h"
#include "../runtime/philox.h"
#include "../runtime/pool.h"
#include "../runtime/profile.h"

#include <float.h>
#include <math.h>
#include <string.h>

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
#endif

#include "loss_template.h"

#include "backward_template.h"

#include "update_template.h"

#include "weights_template.h"

#include "apply_template.h"

#include "step_template.h"

#include "limits_template.h"

#endif
