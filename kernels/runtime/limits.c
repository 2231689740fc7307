/* Measures a machine's limits with a team of threads: the best of many passes, each between two barriers. */
#include "../brisk.h"
#include "profile.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 100000,         /* of FMA chains in a pass: half a millisecond */
    PARTS = 8,               /* an array is read in so many passes: a millisecond each too */
    PASSES = 256,            /* of each kind; they are short, so that on a busy machine some are undisturbed */
    LEAST_BYTES = 64 << 20,  /* of each of the three arrays: beyond any cache that a few cores have to themselves */
    THREAD_BYTES = 16 << 20, /* of each thread's share */
};

struct measurement {
    const struct brisk_kernels* kernels;
    int64_t n;    /* numbers of one part of a thread's share of an array */
    char* memory; /* for each thread and part, those of A, B and C */
    struct brisk_limits limits;
    double kept[BRISK_POOL_MAX]; /* sums that nobody uses, but without which the compiler would drop the loops */
};

enum kind { MULTIPLY_ADD, READ, TRIAD, KINDS };

static void measure_region(void* arg, const struct brisk_team* team) {
    struct measurement* measurement = arg;
    const struct brisk_kernels* kernels = measurement->kernels;
    const int64_t n = measurement->n;
    const size_t bytes = (size_t)n * kernels->size;
    char* share = measurement->memory + 3 * bytes * PARTS * (size_t)team->rank;
    double best[KINDS] = {0}, *kept = &measurement->kept[team->rank];
    memset(share, 0, 3 * bytes * PARTS); /* by the thread itself, so that NUMA places it near */
    for (enum kind kind = MULTIPLY_ADD; kind < KINDS; kind++)
        for (int i = 0; i < PASSES; i++) {
            char* A = share + 3 * bytes * (size_t)(i % PARTS);
            brisk_wait(team);
            const int64_t start = brisk_nanoseconds();
            if (kind == MULTIPLY_ADD)
                *kept += kernels->chains(ROUNDS);
            else if (kind == READ)
                *kept += kernels->stream_read(A, 3 * n);
            else
                kernels->stream_triad(A, A + bytes, A + 2 * bytes, n);
            brisk_wait(team);
            const double rate = 1e9 / (double)(brisk_nanoseconds() - start);
            best[kind] = rate > best[kind] ? rate : best[kind];
        }
    if (team->rank > 0)
        return;
    measurement->limits = (struct brisk_limits){
        .threads = team->size,
        .flops = best[MULTIPLY_ADD] * kernels->chain_flops * ROUNDS * team->size,
        .read = best[READ] * 3 * (double)bytes * team->size,
        .triad = best[TRIAD] * 3 * (double)bytes * team->size,
    };
}

struct brisk_limits brisk_measure_limits(const struct brisk_kernels* kernels, int threads) {
    /* a multiple of the loops' unrolling and of cache lines */
    const int64_t share = (LEAST_BYTES / threads > THREAD_BYTES ? LEAST_BYTES / threads : THREAD_BYTES) & ~0xFFFF;
    struct measurement measurement = {.kernels = kernels, .n = share / PARTS / (int64_t)kernels->size};
    const size_t bytes = 3 * PARTS * (size_t)measurement.n * kernels->size * (size_t)threads;
    measurement.memory = aligned_alloc(64, bytes);
    if (measurement.memory != NULL)
        brisk_run(kernels, threads, measure_region, &measurement);
    free(measurement.memory);
    return measurement.limits;
}
