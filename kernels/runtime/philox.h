/* Philox4x64-10: random numbers as a function of a counter and a key, with no state.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", table 2 and section 3. The counter's
 * highest word selects the stream, as in briskmlp/random.py: 0 is the sample order, 2 are dropout masks. */
#ifndef BRISK_PHILOX_H
#define BRISK_PHILOX_H

#include <stdint.h>

enum { BRISK_STREAM_ORDER = 0, BRISK_STREAM_DROPOUT = 2 };

/* The high 64 bits of a · b; the low ones go to *low. */
static inline uint64_t brisk_high_product(uint64_t a, uint64_t b, uint64_t* low) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
}

/* The four words for counter (c0, c1, c2, c3) and key (key0, key1). */
static inline void brisk_philox(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t key0, uint64_t key1,
                                uint64_t words[4]) {
    const uint64_t M0 = 0xD2E7470EE14C6C93u, M1 = 0xCA5A826395121157u;
    const uint64_t W0 = 0x9E3779B97F4A7C15u, W1 = 0xBB67AE8584CAA73Bu;
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        uint64_t low0, low1;
        const uint64_t high0 = brisk_high_product(M0, c0, &low0), high1 = brisk_high_product(M1, c2, &low1);
        c0 = high1 ^ c1 ^ key0;
        c1 = low1;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += W0;
        key1 += W1;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

#endif
