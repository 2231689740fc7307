/* What becomes of a tile of dW: it is written to a gradient, added to one, or makes the step of gradient descent,
 * W = W - share W - rate dW. */
enum outcome { SET, ADD, STEP };

INLINE void settle(real* C, vec value, enum outcome outcome, real share, real rate) {
    if (outcome == ADD)
        value = vec_load(C) + value;
    else if (outcome == STEP) {
        const vec w = vec_load(C);
        value = vec_fnma(vec_splat(rate), value, vec_fnma(vec_splat(share), w, w));
    }
    vec_store(C, value);
}
