/* The record of a profiled training: how often and how long each thread was in each phase of each layer.
 *
 * A step is cut into laps, each of which begins where the last one ended, so that they add up to the step. The caller
 * owns the record and reads it: briskmlp/backends/recording.py describes the same layout. */
#ifndef BRISK_PROFILE_H
#define BRISK_PROFILE_H

#include "../brisk.h"

enum brisk_phase {
    BRISK_PHASE_GATHER,
    BRISK_PHASE_FORWARD,
    BRISK_PHASE_LOSS,
    BRISK_PHASE_DX,
    BRISK_PHASE_DW,
    BRISK_PHASE_DW_UPDATE, /* a block of weights is updated as soon as its dW is complete, after the last chunk */
    BRISK_PHASE_NORM,      /* of a gradient that is clipped */
    BRISK_PHASE_UPDATE,    /* the shards' gradients are reduced, clipped, applied */
    BRISK_PHASE_WAIT,      /* at a barrier, after work on this layer */
    BRISK_PHASE_PREPARE,   /* only other backends have this phase */
    BRISK_PHASES
};

enum { BRISK_EVENTS = 1 << 16 }; /* the record keeps the last so many */

/* `place` is layer * BRISK_PHASES + phase, or -1 for a whole step. Times in brisk_ticks(). */
struct brisk_event {
    int64_t start, end, step, place;
};

/* One thread's record. The counts are (calls, ticks) for each phase of each layer, with one layer more that stands for
 * the whole network; behind them lies the ring of events. */
struct brisk_record {
    int64_t every, steps, rows; /* one step in `every` is recorded; the number of steps made, and of their rows */
    int64_t sampled, ticks;     /* the number of recorded steps, and their time */
    int64_t n_events;           /* written so far: the next goes to this index modulo BRISK_EVENTS */
    int64_t mark, start, step;  /* where the current lap and the current step began; step 0 is not recorded */
    int64_t counts[];
};

int64_t brisk_record_size(int64_t n_layers); /* one thread's, in 64-bit words */

/* The clock of records: the processor's time stamp counter where its rate is constant, else nanoseconds. */
int64_t brisk_ticks(void);
int64_t brisk_nanoseconds(void);

/* Cold, so that the kernels around them are inlined as they would be without. */
__attribute__((cold)) void brisk_begin(const struct brisk_work* work, int64_t rank, const struct brisk_batch* batch);
__attribute__((cold)) void brisk_lap(const struct brisk_work* work, int64_t rank, int64_t l, enum brisk_phase phase);
__attribute__((cold)) void brisk_end(const struct brisk_work* work, int64_t rank);

/* --- in the kernels ---------------------------------------------------------------------------------------------- */

/* Without a record a hook, and what computes its arguments, costs a predicted branch. */
static inline bool profiled(const struct brisk_work* work) {
    return __builtin_expect(work->record != NULL, 0);
}

/* The time since the last lap was spent in this phase. */
static inline void lap(const struct brisk_work* work, const struct brisk_team* team, int64_t l,
                       enum brisk_phase phase) {
    if (profiled(work))
        brisk_lap(work, team->rank, l, phase);
}

static inline void wait_after(const struct brisk_work* work, const struct brisk_team* team, int64_t l) {
    if (team->size == 1)
        return;
    brisk_barrier_wait(team->barrier);
    lap(work, team, l, BRISK_PHASE_WAIT);
}

#endif
