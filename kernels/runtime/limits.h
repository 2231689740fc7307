/* What a machine can do at best. */
#ifndef BRISK_LIMITS_H
#define BRISK_LIMITS_H

#include "../brisk.h"

/* Per second. `threads` are those that were free to measure with, at most those asked for. */
struct brisk_limits {
    int threads;
    double flops, read, triad; /* triad counts the two arrays read and the one written, as STREAM does */
};

/* Measure with these kernels; false when memory is short. Takes about half a second. */
bool brisk_measure_limits(const struct brisk_kernels* kernels, int threads, struct brisk_limits* limits);

#endif
