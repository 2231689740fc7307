/* What becomes of a tile of dW: it is written to a gradient, added to one, or makes the step of gradient descent,
 * W = W - share W - rate dW. */
enum epilogue_kind { BETA_0, BETA_1, FUSED_SGD };

INLINE void apply_epilogue(real* C, vec value, enum epilogue_kind kind, real shrink, real rate) {
    if (kind == BETA_1)
        value = vec_load(C) + value;
    else if (kind == FUSED_SGD) {
        const vec w = vec_load(C);
        value = vec_fnma(vec_splat(rate), value, vec_fnma(vec_splat(shrink), w, w));
    }
    vec_store(C, value);
}
