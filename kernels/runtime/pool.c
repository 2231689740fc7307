/* The threads. All waiting is done on eventcounts. An eventcount is a number; a thread that waits polls until the
 * number changes and, if that takes too long, sleeps on a condition variable; a thread that advances it adds one, and
 * makes a system call only if another sleeps. Each worker waits on an eventcount of its own for the next region: a team
 * of n is the caller and the first n - 1 workers, and the others are not disturbed. The barrier is a count of arrivals
 * and one eventcount, which the last thread to arrive advances. A region ends with a barrier too: a worker that has
 * passed it no longer reads anything but its own eventcount.
 *
 * One region runs at a time: its caller has set the atomic flag `busy`, which is tried and never waited for. Only that
 * caller writes the pool's fields, and it publishes them to the workers when it advances their eventcounts.
 *
 * Workers are started when they are first needed, detached, and never end: at exit they sleep and cost nothing. They do
 * not survive a fork; the child's pool is emptied and starts its own. */
#define _GNU_SOURCE /* pthread_setname_np, sched_getaffinity */
#include "pool.h"

#include "float_state.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

enum {
    LINE = 128, /* two cache lines of 64 bytes, because x86 prefetches them in pairs, or one of Apple's */
    STACK_BYTES = 1 << 20,
};

/* The wait policy is the number of polls from one call of sched_yield to the next. Spinning needs a yield now and then
 * because the thread we wait for may be queued on our processor, where Linux woke it, or because another process has
 * the other processors. Two processes of two threads each on two cores, with a barrier every 2 µs of work, took 6.9 µs
 * a step, and 46 µs without these yields. With more threads than processors spinning is worse: seven threads on two
 * cores took 3.9 µs a barrier with a yield after each poll, and 18 µs with one after 64. */
enum wait_policy { SLEEP = 0, YIELD = 1, SPIN = 64 };

/* The spin limit is the number of yields before a thread sleeps. On an otherwise idle processor they take about 200 µs,
 * several times what waking a thread costs (25 µs on two virtual EPYC cores) and what Python takes from one epoch to
 * the next: an estimator's fit of scikit-learn's digits took 54 ms so, and 62 ms with 50 µs. The limit is a count and
 * not a time because a thread that shares a processor with the one it waits for would return from its first yield too
 * late and sleep: then Linux never sees two runnable threads there, and never moves one to an idle processor. */
enum { SPIN_LIMIT = 128 };

struct eventcount {
    alignas(LINE) atomic_ulong number;
    atomic_int sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t advanced;
};

struct brisk_barrier {
    alignas(LINE) atomic_int arrived;
    int size;
    enum wait_policy policy;
    struct eventcount released;
};

static struct {
    atomic_bool busy;
    atomic_int limit;
    bool watches_forks;
    int workers; /* started so far; worker i is rank i + 1 */
    brisk_region* region;
    void* arg;
    struct brisk_barrier barrier;
    struct eventcount starts[BRISK_POOL_MAX - 1];
} pool = {
    .limit = BRISK_POOL_MAX,
    .barrier.released = {.mutex = PTHREAD_MUTEX_INITIALIZER, .advanced = PTHREAD_COND_INITIALIZER},
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb"); /* "yield" takes no time on most: no pause at all */
#endif
}

static void eventcount_init(struct eventcount* count) {
    atomic_init(&count->number, 0);
    atomic_init(&count->sleepers, 0);
    pthread_mutex_init(&count->mutex, NULL);
    pthread_cond_init(&count->advanced, NULL);
}

static void eventcount_advance(struct eventcount* count) {
    /* A sleeper is counted first and reads the number then; here it is the other way round, and all four are
     * sequentially consistent: either the sleeper sees the new number, or we see the sleeper. */
    atomic_fetch_add(&count->number, 1);
    if (atomic_load(&count->sleepers) == 0)
        return;
    /* Between its last poll at the number and its sleep the sleeper holds the mutex: once we have had it, it sleeps and
     * will hear us. Signalled without the mutex, because those woken need it. */
    pthread_mutex_lock(&count->mutex);
    pthread_mutex_unlock(&count->mutex);
    pthread_cond_broadcast(&count->advanced);
}

/* Wait until the number is not `seen`. */
static void eventcount_wait(struct eventcount* count, unsigned long seen, enum wait_policy policy) {
    for (int poll = 0; poll <= SPIN_LIMIT * (int)policy; poll++) {
        if (poll > 0 && poll % (int)policy == 0)
            sched_yield();
        else if (poll > 0)
            relax();
        if (atomic_load_explicit(&count->number, memory_order_acquire) != seen)
            return;
    }
    pthread_mutex_lock(&count->mutex);
    atomic_fetch_add(&count->sleepers, 1);
    while (atomic_load(&count->number) == seen)
        pthread_cond_wait(&count->advanced, &count->mutex);
    atomic_fetch_sub(&count->sleepers, 1);
    pthread_mutex_unlock(&count->mutex);
}

void brisk_barrier_wait(struct brisk_barrier* barrier) {
    /* We read all of it before we arrive: from then on, the next region may change it. */
    unsigned long seen = atomic_load_explicit(&barrier->released.number, memory_order_relaxed);
    enum wait_policy policy = barrier->policy;
    int last = barrier->size - 1;

    if (atomic_fetch_add(&barrier->arrived, 1) == last) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed); /* the eventcount publishes it */
        eventcount_advance(&barrier->released);
    } else {
        eventcount_wait(&barrier->released, seen, policy);
    }
}

static void* worker(void* start) {
    struct eventcount* count = start;
    enum wait_policy policy = SPIN;
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "briskmlp");
#endif
    brisk_float_state_enter();
    for (unsigned long regions = 0;; regions++) {
        eventcount_wait(count, regions, policy);
        struct brisk_team team = {(int)(count - pool.starts) + 1, pool.barrier.size, &pool.barrier};
        policy = pool.barrier.policy == SPIN ? SPIN : SLEEP; /* idle threads must not take a processor from others */
        pool.region(pool.arg, &team);
        brisk_wait(&team);
    }
    return NULL;
}

/* Start workers until there are `wanted`, or as many as the system grants. */
static void start_workers(int wanted) {
    pthread_attr_t attributes;
    sigset_t blocked, old;
    if (pool.workers >= wanted || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* Workers block signals, because Python's handlers run in its main thread; they inherit this mask. Faults are not
     * blocked: the faulting thread gets them, and faulthandler can only report them if they are delivered. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    for (; pool.workers < wanted; pool.workers++) {
        struct eventcount* start = &pool.starts[pool.workers];
        pthread_t thread;
        eventcount_init(start);
        if (pthread_create(&thread, &attributes, worker, start) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
}

/* In the child of a fork, the pool is empty and not busy, and no thread waits at its barrier. */
static void forget_workers(void) {
    pool.workers = 0;
    atomic_init(&pool.busy, false);
    atomic_init(&pool.barrier.arrived, 0);
    eventcount_init(&pool.barrier.released);
}

/* How many threads the system lets run at once. */
static int processors(void) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return CPU_COUNT(&allowed);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* While busy: start the region on up to threads - 1 workers; return the team's size. */
static int set_up_team(int threads, brisk_region* region, void* arg) {
    if (!pool.watches_forks && pthread_atfork(NULL, NULL, forget_workers) != 0)
        return 1;
    pool.watches_forks = true;
    start_workers(threads - 1);
    int size = threads <= pool.workers ? threads : pool.workers + 1;
    pool.region = region;
    pool.arg = arg;
    pool.barrier.size = size;
    pool.barrier.policy = size <= processors() ? SPIN : YIELD;
    for (int i = 0; i < size - 1; i++)
        eventcount_advance(&pool.starts[i]);
    return size;
}

void brisk_pool_run(int threads, brisk_region* region, void* arg) {
    struct brisk_team team = {0, 1, &pool.barrier};
    const int limit = brisk_get_num_threads();
    if (threads > limit)
        threads = limit;
    bool busy = threads > 1 && !atomic_exchange(&pool.busy, true);
    if (busy)
        team.size = set_up_team(threads, region, arg);

    uint64_t float_state = brisk_float_state_enter();
    region(arg, &team);
    brisk_float_state_write(float_state);

    if (busy) {
        brisk_wait(&team);
        atomic_store(&pool.busy, false);
    }
}

int brisk_get_num_threads(void) {
    return atomic_load_explicit(&pool.limit, memory_order_relaxed);
}

void brisk_set_num_threads(int limit) {
    limit = limit < 1 ? 1 : limit > BRISK_POOL_MAX ? BRISK_POOL_MAX : limit;
    atomic_store_explicit(&pool.limit, limit, memory_order_relaxed);
}
