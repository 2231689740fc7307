/* A processor's limits, for rooflines: products that touch no memory, and streams that do little else. */
#pragma once

#include "../isa/vec.h"

#if BRISK_TILES

enum { ROUNDS_OF_A_SQUARE = 16, CHAIN_FLOPS = 4 * 2 * TILE_ROWS * TILE_ROWS * VNNI * LANES / ROUNDS_OF_A_SQUARE };

/* As many products of four tiles as take about as long as `rounds` of chains of vectors; the result must be used. */
static double chains(int64_t rounds) {
    enum { STEP = 2 * LANES };
    real C[2 * TILE_ROWS * STEP], words[2 * TILE_ROWS * LANES];
    for (int i = 0; i < 2 * TILE_ROWS; i++)
        vec_store(words + i * LANES, vec_cvt_bf16(vec_splat(1), vec_splat((real)0.5)));
    tiles_begin(2, 2, NULL, 0);
    tiles_left(2, words);
    tiles_right(2, words);
    for (int64_t i = 0; i < rounds; i += ROUNDS_OF_A_SQUARE)
        tiles_dot(2, 2);
    tiles_store(2, 2, C, STEP);
    return (double)C[0];
}

#else

/* The number of independent chains: at least two FMA units times a latency of four or five cycles, at most what the
 * registers hold. They start from different numbers, or the compiler would compute only one. */
enum { CHAINS = MR == 8 ? 24 : 12, CHAIN_FLOPS = 2 * VNNI * LANES * CHAINS };

/* `rounds` times a = a / 2 + 1, or a = a + x y for pairs of bfloat16, in all chains; the result must be used. */
static double chains(int64_t rounds) {
    vec acc[CHAINS], sum = vec_splat(0);
    const vec x = vec_splat((real)0.5), y = vec_splat(1);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = vec_splat((real)(c + 1));
    for (int64_t i = 0; i < rounds; i++)
        UNROLL (c, CHAINS)
            acc[c] = VNNI == 1 ? vec_fma(acc[c], x, y) : vec_dot(x, y, acc[c]);
    for (int c = 0; c < CHAINS; c++)
        sum = sum + acc[c];
    return (double)vec_sum(sum);
}

#endif

/* Σ A over n numbers, a multiple of eight vectors. */
static double stream_read(const void* numbers, int64_t n) {
    const real* A = numbers;
    vec sums[8], sum = vec_splat(0);
    for (int s = 0; s < 8; s++)
        sums[s] = vec_splat(0);
    for (int64_t i = 0; i < n; i += 8 * LANES)
        UNROLL (s, 8)
            sums[s] = sums[s] + vec_load(A + i + s * LANES);
    for (int s = 0; s < 8; s++)
        sum = sum + sums[s];
    return (double)vec_sum(sum);
}

/* A = B + C / 2: STREAM's triad, J. D. McCalpin, https://www.cs.virginia.edu/stream. */
static void stream_triad(void* a, const void* b, const void* c, int64_t n) {
    real* A = a;
    const real *B = b, *C = c;
    for (int64_t i = 0; i < n; i += LANES)
        vec_store(A + i, vec_fma(vec_splat((real)0.5), vec_load(C + i), vec_load(B + i)));
}
