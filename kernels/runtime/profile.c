/* Writing the record of a profiled training. Each thread writes its own, which shares no cache line with another's;
 * nothing is allocated.
 *
 * The time stamp counter is read without a fence: the last instructions of a phase may still be running, or the first
 * of the next have begun. That is an error of some ten nanoseconds in phases that take microseconds. */
#define _DEFAULT_SOURCE /* clock_gettime() */
#include "profile.h"

#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int64_t brisk_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t brisk_ticks(void) {
#if defined(__x86_64__)
    /* Whether the counter is invariant: it runs at one rate whatever the core's frequency, also while the core sleeps
     * (Intel's manual, volume 3, section 19.17.1). It is asked once: in a virtual machine CPUID takes microseconds. */
    static atomic_int invariant; /* 1: no, 2: yes */
    if (invariant == 0) {
        uint32_t unused, edx;
        invariant = __get_cpuid(0x80000007, &unused, &unused, &unused, &edx) && edx & 1u << 8 ? 2 : 1;
    }
    if (invariant == 2)
        return (int64_t)__builtin_ia32_rdtsc();
#endif
    return brisk_nanoseconds();
}

/* The index among a record's counts of (calls, ticks) of a phase of a layer. */
static int64_t at(int64_t l, int64_t phase) {
    return 2 * (l * BRISK_PHASES + phase);
}

int64_t brisk_record_size(int64_t n_layers) {
    enum { WORD = sizeof(int64_t), EVENTS = BRISK_EVENTS * sizeof(struct brisk_event) / WORD };
    return (int64_t)sizeof(struct brisk_record) / WORD + at(n_layers + 1, 0) + EVENTS;
}

static struct brisk_record* record_of(const struct brisk_work* work, int64_t rank) {
    return (struct brisk_record*)(work->record + rank * brisk_record_size(work->plan.n_layers));
}

static void write_event(const struct brisk_work* work, struct brisk_record* record, int64_t start, int64_t end,
                        int64_t place) {
    struct brisk_event* events = (struct brisk_event*)&record->counts[at(work->plan.n_layers + 1, 0)];
    events[(uint64_t)record->n_events++ % BRISK_EVENTS] = (struct brisk_event){start, end, record->step, place};
}

void brisk_begin(const struct brisk_work* work, int64_t rank, const struct brisk_batch* batch) {
    struct brisk_record* record = record_of(work, rank);
    record->step = 0;
    if (batch->goal != BRISK_UPDATE)
        return;
    record->steps++;
    record->rows += batch->m;
    /* Steps are sampled by multiples of the golden ratio, which are periodic with no number of batches in an epoch. */
    if (record->every <= 0 || (uint64_t)batch->step * 0x9E3779B97F4A7C15 > UINT64_MAX / (uint64_t)record->every)
        return;
    record->step = batch->step;
    record->mark = record->start = brisk_ticks();
}

void brisk_lap(const struct brisk_work* work, int64_t rank, int64_t l, enum brisk_phase phase) {
    struct brisk_record* record = record_of(work, rank);
    if (record->step == 0)
        return;
    const int64_t now = brisk_ticks();
    record->counts[at(l, phase)]++;
    record->counts[at(l, phase) + 1] += now - record->mark;
    write_event(work, record, record->mark, now, l * BRISK_PHASES + phase);
    record->mark = now;
}

void brisk_end(const struct brisk_work* work, int64_t rank) {
    struct brisk_record* record = record_of(work, rank);
    if (record->step == 0)
        return;
    const int64_t now = brisk_ticks();
    /* What follows the last lap adds up the batch's loss. */
    record->counts[at(work->plan.n_layers - 1, BRISK_PHASE_LOSS) + 1] += now - record->mark;
    record->sampled++;
    record->ticks += now - record->start;
    write_event(work, record, record->start, now, -1);
    record->step = 0;
}
