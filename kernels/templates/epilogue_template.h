/* The epilogue of dW's micro-kernels, on sums that are still in registers. */
#pragma once

#include "../isa/vec.h"

/* BETA_0 overwrites C, BETA_1 adds to it, as in BLAS; FUSED_SGD takes C for the weights and makes the step of gradient
 * descent, C = C - shrink · C - rate · dW, where `shrink` is the rate times weight decay and l2. */
enum epilogue_kind { BETA_0, BETA_1, FUSED_SGD };

struct epilogue {
    enum epilogue_kind kind;
    real shrink, rate;
};

INLINE void apply_epilogue(real* C, vec value, struct epilogue epilogue) {
    if (epilogue.kind == BETA_1)
        value = vec_load(C) + value;
    else if (epilogue.kind == FUSED_SGD) {
        const vec w = vec_load(C);
        value = vec_fnma(vec_splat(epilogue.rate), value, vec_fnma(vec_splat(epilogue.shrink), w, w));
    }
    vec_store(C, value);
}
