/* The record of a profiled training: how often and how long each member of a team was in each phase of each layer.
 *
 * The kernels are compiled twice. With BRISK_PROFILED, each step is cut into laps: a lap ends where the next begins, so
 * that they add up to the step. Without, what stands here is empty, and the kernels are what they were. The record is
 * the caller's, and read there: briskmlp/backends/recording.py has the same layout. */
#ifndef BRISK_PROFILE_H
#define BRISK_PROFILE_H

#include "../brisk.h"
#include "pool.h"

#ifndef BRISK_PROFILED
#define BRISK_PROFILED 0
#endif

enum brisk_phase {
    BRISK_PHASE_GATHER,
    BRISK_PHASE_FORWARD,
    BRISK_PHASE_LOSS,
    BRISK_PHASE_DX,
    BRISK_PHASE_DW,
    BRISK_PHASE_DW_UPDATE, /* each block of weights is moved as soon as its dW is complete: after the last chunk */
    BRISK_PHASE_NORM,      /* of a gradient that is to be clipped */
    BRISK_PHASE_UPDATE,    /* slices added up, clipped, applied */
    BRISK_PHASE_WAIT,      /* at a barrier, after work on this layer */
    BRISK_PHASE_PREPARE,   /* other backends' */
    BRISK_PHASES
};

enum { BRISK_EVENTS = 1 << 16 }; /* the last ones are kept */

/* `place` is layer * BRISK_PHASES + phase, or -1 for a whole step. Times in brisk_ticks(). */
struct brisk_event {
    int64_t start, end, step, place;
};

/* One member's. After it lie (calls, ticks) for each phase of each layer, for one layer more that stands for the whole
 * network, and the ring of events. */
struct brisk_record {
    int64_t every, steps, rows; /* one step in so many is recorded; those made, and their rows */
    int64_t sampled, ticks;     /* those recorded, and their time */
    int64_t n_events;           /* so far: the next goes to this place modulo BRISK_EVENTS */
    int64_t mark, start, step;  /* of the lap and the step in progress; step 0 is not recorded */
};

/* Whether a step is recorded. Multiples of the golden ratio keep step with no number of batches in an epoch. */
static inline bool brisk_is_recorded(int64_t step, int64_t every) {
    return every > 0 && (uint64_t)step * 0x9E3779B97F4A7C15 <= UINT64_MAX / (uint64_t)every;
}

/* Words of one member's record. */
int64_t brisk_record_size(int64_t n_layers);

/* A clock: the processor's time stamp counter where its rate never changes, else nanoseconds. */
int64_t brisk_ticks(void);
int64_t brisk_nanoseconds(void);

__attribute__((cold)) void brisk_begin(const struct brisk_work* work, int64_t rank, const struct brisk_batch* batch);
__attribute__((cold)) void brisk_lap(const struct brisk_work* work, int64_t rank, int64_t l, enum brisk_phase phase);
__attribute__((cold)) void brisk_end(const struct brisk_work* work, int64_t rank);

/* --- in the kernels ---------------------------------------------------------------------------------------------- */

/* The time since the last lap was spent in this phase. */
static inline void lap(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                       enum brisk_phase phase) {
    if (__builtin_expect(work->record != NULL, 0))
        brisk_lap(work, space - work->spaces, l, phase);
}

static inline void lap_of(const struct brisk_work* work, const struct brisk_team* team, int64_t l,
                          enum brisk_phase phase) {
    if (__builtin_expect(work->record != NULL, 0))
        brisk_lap(work, team->rank, l, phase);
}

static inline void wait_after(const struct brisk_work* work, const struct brisk_team* team, int64_t l) {
    if (team->size == 1)
        return;
    brisk_barrier_wait(team->barrier);
    lap_of(work, team, l, BRISK_PHASE_WAIT);
}

#endif
