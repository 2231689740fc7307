/* Writing the record of a profiled training. Each thread writes its own, which shares no cache line with another's;
 * nothing is allocated.
 *
 * The time stamp counter is read without a fence: the last instructions of a phase may still be running, or the first
 * of the next have begun. That is an error of some ten nanoseconds in phases that take microseconds. */
#define _DEFAULT_SOURCE /* clock_gettime() */
#include "profile.h"

#include <stdatomic.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int64_t brisk_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if defined(__x86_64__)

/* Whether the counter is invariant: it runs at one rate whatever the core's frequency, also while the core sleeps
 * (Intel's manual, volume 3, section 19.17.1). The answer is remembered: in a virtual machine CPUID takes microseconds.
 */
static bool counter_is_invariant(void) {
    static atomic_int known; /* 1: no, 2: yes */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        uint32_t eax, ebx, ecx, edx;
        answer = __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && edx & 1u << 8 ? 2 : 1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}

#endif

int64_t brisk_ticks(void) {
#if defined(__x86_64__)
    if (counter_is_invariant())
        return (int64_t)__builtin_ia32_rdtsc();
#endif
    return brisk_nanoseconds();
}

enum { WORD = sizeof(int64_t), HEAD = sizeof(struct brisk_record) / WORD, EVENT = sizeof(struct brisk_event) / WORD };

static int64_t counts_size(int64_t n_layers) {
    return 2 * BRISK_PHASES * (n_layers + 1);
}

int64_t brisk_record_size(int64_t n_layers) {
    return HEAD + counts_size(n_layers) + EVENT * BRISK_EVENTS;
}

static struct brisk_record* record_of(const struct brisk_work* work, int64_t rank) {
    return (struct brisk_record*)(work->record + rank * brisk_record_size(work->plan.n_layers));
}

/* The (calls, ticks) of a phase of a layer. */
static int64_t* counts_of(struct brisk_record* record, int64_t l, enum brisk_phase phase) {
    return (int64_t*)record + HEAD + 2 * (l * BRISK_PHASES + phase);
}

static void write_event(const struct brisk_work* work, struct brisk_record* record, int64_t start, int64_t end,
                        int64_t place) {
    struct brisk_event* events = (struct brisk_event*)((int64_t*)record + HEAD + counts_size(work->plan.n_layers));
    events[(uint64_t)record->n_events++ % BRISK_EVENTS] = (struct brisk_event){start, end, record->step, place};
}

void brisk_begin(const struct brisk_work* work, int64_t rank, const struct brisk_batch* batch) {
    struct brisk_record* record = record_of(work, rank);
    record->step = 0;
    if (batch->goal != BRISK_UPDATE)
        return;
    record->steps++;
    record->rows += batch->m;
    if (!brisk_is_recorded(batch->step, record->every))
        return;
    record->step = batch->step;
    record->mark = record->start = brisk_ticks();
}

void brisk_lap(const struct brisk_work* work, int64_t rank, int64_t l, enum brisk_phase phase) {
    struct brisk_record* record = record_of(work, rank);
    if (record->step == 0)
        return;
    const int64_t now = brisk_ticks();
    int64_t* count = counts_of(record, l, phase);
    count[0]++;
    count[1] += now - record->mark;
    write_event(work, record, record->mark, now, l * BRISK_PHASES + phase);
    record->mark = now;
}

void brisk_end(const struct brisk_work* work, int64_t rank) {
    struct brisk_record* record = record_of(work, rank);
    if (record->step == 0)
        return;
    const int64_t now = brisk_ticks();
    /* What follows the last lap adds up the batch's loss. */
    counts_of(record, work->plan.n_layers - 1, BRISK_PHASE_LOSS)[1] += now - record->mark;
    record->sampled++;
    record->ticks += now - record->start;
    write_event(work, record, record->start, now, -1);
    record->step = 0;
}
