/* AMX's tiles have 16 rows of 16 float32 sums or of 16 pairs of bfloat16. The eight tiles compute a square of 2 × 2:
 * its sums C are in 0 to 3, the two left operands in 4 and 5, and the two right ones in 6 and 7. Of the square, r × v
 * tiles are used.
 *
 * The left operand is row-major: a row has 32 consecutive elements of the summation. The right one has the VNNI layout:
 * a row has two consecutive elements of the summation for each of 16 columns. A product sums the first numbers of all
 * pairs and the second ones, each in their order, and adds both sums to C. It takes subnormal numbers for 0 and rounds
 * to nearest, whatever the processor's control register says.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD and TDPBF16PS.
 */
#pragma once

#include "vec_avx512_bf16.h"

#define BRISK_TILES 1

enum { TILE_ROWS = 16 };

/* The compiler must finish all stores before a tile is loaded: GCC's intrinsics do not say that they read memory. */
INLINE void in_memory(void) {
    __asm__ volatile("" ::: "memory");
}

/* A thread configures its tiles before it uses them, and releases them because they slow down context switches. */
static void tiles_configure(void) {
#if !BRISK_EMULATED
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int t = 0; t < 8; t++)
        config.row_bytes[t] = 64, config.rows[t] = TILE_ROWS;
    in_memory();
    _tile_loadconfig(&config);
#endif
}

static void tiles_release(void) {
#if !BRISK_EMULATED
    _tile_release();
#endif
}

/* Set the square's sums to 0 where C is NULL, else to C, whose rows are `step` numbers apart; with step = 0 all rows
 * are the same. */
INLINE void tiles_begin(int r, int v, const real* C, int64_t step) {
    in_memory();
    const int64_t bytes = step * (int64_t)sizeof *C;
    if (C == NULL) {
        _tile_zero(0);
        if (v == 2)
            _tile_zero(1);
        if (r == 2)
            _tile_zero(2);
        if (r == 2 && v == 2)
            _tile_zero(3);
    } else {
        _tile_loadd(0, C, bytes);
        if (v == 2)
            _tile_loadd(1, C + LANES, bytes);
        if (r == 2)
            _tile_loadd(2, C + TILE_ROWS * step, bytes);
        if (r == 2 && v == 2)
            _tile_loadd(3, C + TILE_ROWS * step + LANES, bytes);
    }
}

/* The two tiles of an operand are contiguous. */
INLINE void tiles_left(int r, const real* words) {
    _tile_loadd(4, words, 64);
    if (r == 2)
        _tile_loadd(5, words + TILE_ROWS * LANES, 64);
}

INLINE void tiles_right(int v, const real* words) {
    _tile_loadd(6, words, 64);
    if (v == 2)
        _tile_loadd(7, words + TILE_ROWS * LANES, 64);
}

INLINE void tiles_dot(int r, int v) {
    _tile_dpbf16ps(0, 4, 6);
    if (v == 2)
        _tile_dpbf16ps(1, 4, 7);
    if (r == 2)
        _tile_dpbf16ps(2, 5, 6);
    if (r == 2 && v == 2)
        _tile_dpbf16ps(3, 5, 7);
}

INLINE void tiles_store(int r, int v, real* C, int64_t step) {
    const int64_t bytes = step * (int64_t)sizeof *C;
    _tile_stored(0, C, bytes);
    if (v == 2)
        _tile_stored(1, C + LANES, bytes);
    if (r == 2)
        _tile_stored(2, C + TILE_ROWS * step, bytes);
    if (r == 2 && v == 2)
        _tile_stored(3, C + TILE_ROWS * step + LANES, bytes);
}
