/* The threads.
 *
 * All waiting is done at gates. A gate holds a number; who waits looks until the number changes and, if that takes too
 * long, sleeps on a condition variable; who opens the gate adds one, and makes a system call only if somebody sleeps.
 *   - Each worker has a gate of its own, where it waits for the next region. A team of n is the caller and the first
 *     n - 1 workers; the others are not disturbed.
 *   - The barrier is a count of arrivals and one gate, which the last to arrive opens. The end of a region is a barrier
 *     too, so a worker that has passed it has done with everything but its own gate.
 *
 * One region runs at a time: its caller holds the lease, an atomic flag that is tried and never waited for. The fields
 * of the pool belong to the lease's holder, who publishes them to the workers by opening their gates.
 *
 * Workers are started when first needed, detached, and never end: at exit they sleep, and hinder nobody. They do not
 * survive a fork; the child's pool is made empty and starts its own. */
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

/* Two cache lines of 64 bytes, which x86 prefetches in pairs, or one of Apple's. */
enum { LINE = 128 };

enum { STACK_BYTES = 1 << 20 };

/* How it looks: the number of looks between two calls of sched_yield. Spinning needs a yield now and then because who
 * we wait for may be queued behind us, on the same processor, be it that another process has the others or that Linux
 * woke it there. Two processes with two threads each on two cores, a barrier every 2 µs of work: 6.9 µs a step; without
 * these yields, 46 µs. In a crowd it is worse to spin at all: seven threads on two cores took 3.9 µs a barrier with a
 * yield after each look, 18 µs with one after 64. */
enum manner { SLEEP = 0, YIELD = 1, SPIN = 64 };

/* How many yields a thread makes before it sleeps. Where nobody else wants the processor they take about 200 µs, a
 * multiple of what it costs to wake it (25 µs on two virtual EPYC cores) and of what Python does from the end of an
 * epoch to the next: scikit-learn's digits took 54 ms of an estimator's fit so, 62 with 50 µs. Counted, and not told by
 * a clock, because who shares a processor with whom it waits for would come back from its first yield too late and
 * sleep: then Linux never sees two threads there that want to run, and never moves one to an idle processor. */
enum { PATIENCE = 128 };

struct gate {
    alignas(LINE) atomic_ulong number;
    atomic_int sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t opened;
};

struct brisk_barrier {
    alignas(LINE) atomic_int arrived;
    int size;
    enum manner manner;
    struct gate gate;
};

static struct {
    atomic_bool leased;
    atomic_int limit;
    bool watches_forks;
    int workers; /* started so far; worker i is rank i + 1 */
    void (*region)(void* arg, const struct brisk_team* team);
    void* arg;
    struct brisk_barrier barrier;
    struct gate starts[BRISK_POOL_MAX - 1];
} pool = {
    .limit = BRISK_POOL_MAX,
    .barrier.gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER},
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb"); /* "yield" takes no time on most: no pause at all */
#endif
}

static void gate_init(struct gate* gate) {
    atomic_init(&gate->number, 0);
    atomic_init(&gate->sleepers, 0);
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->opened, NULL);
}

static void gate_open(struct gate* gate) {
    /* In gate_wait a sleeper is counted first and reads the number then; here it is the other way round, and all four
     * are sequentially consistent: either the sleeper sees the new number, or we see the sleeper. */
    atomic_fetch_add(&gate->number, 1);
    if (atomic_load(&gate->sleepers) == 0)
        return;
    /* Between its last look at the number and its sleep the sleeper holds the mutex: once we have had it, it sleeps and
     * will hear us. Signalled without the mutex, because those woken need it. */
    pthread_mutex_lock(&gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
    pthread_cond_broadcast(&gate->opened);
}

/* Whether the gate's number ceases to be `closed` while we have the patience to look. */
static bool opens_soon(struct gate* gate, unsigned long closed, enum manner manner) {
    for (int look = 1;; look++) {
        if (atomic_load_explicit(&gate->number, memory_order_acquire) != closed)
            return true;
        if (look > PATIENCE * (int)manner)
            return false;
        if (look % (int)manner != 0)
            relax();
        else
            sched_yield();
    }
}

/* Wait until the gate's number is not `closed`. */
static void gate_wait(struct gate* gate, unsigned long closed, enum manner manner) {
    if (opens_soon(gate, closed, manner))
        return;
    pthread_mutex_lock(&gate->mutex);
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->number) == closed)
        pthread_cond_wait(&gate->opened, &gate->mutex);
    atomic_fetch_sub(&gate->sleepers, 1);
    pthread_mutex_unlock(&gate->mutex);
}

void brisk_barrier_wait(struct brisk_barrier* barrier) {
    /* All is read before we arrive: after that, the next region may change it. */
    unsigned long closed = atomic_load_explicit(&barrier->gate.number, memory_order_relaxed);
    enum manner manner = barrier->manner;
    int last = barrier->size - 1;

    if (atomic_fetch_add(&barrier->arrived, 1) == last) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed); /* the gate publishes it */
        gate_open(&barrier->gate);
    } else {
        gate_wait(&barrier->gate, closed, manner);
    }
}

static void* worker(void* start) {
    struct gate* gate = start;
    enum manner manner = SPIN;
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "briskmlp");
#endif
    brisk_float_state_enter();
    for (unsigned long regions = 0;; regions++) {
        gate_wait(gate, regions, manner);
        struct brisk_team team = {(int)(gate - pool.starts) + 1, pool.barrier.size, &pool.barrier};
        manner = pool.barrier.manner == SPIN ? SPIN : SLEEP; /* in a crowd, who has nothing to do is in the way */
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
    /* Signals are for the threads that were here before us: Python's handlers expect its main thread. A worker inherits
     * the mask. Faults stay: the thread that made one gets it, and faulthandler can only report it if it is open. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    for (; pool.workers < wanted; pool.workers++) {
        struct gate* start = &pool.starts[pool.workers];
        pthread_t thread;
        gate_init(start);
        if (pthread_create(&thread, &attributes, worker, start) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
}

/* In the child of a fork: an empty pool that nobody holds, with a barrier at which nobody waits. */
static void forget_workers(void) {
    pool.workers = 0;
    atomic_init(&pool.leased, false);
    atomic_init(&pool.barrier.arrived, 0);
    gate_init(&pool.barrier.gate);
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

/* With the lease: set up to `threads` threads to work on the region, the caller included; returns how many. */
static int gather(int threads, void (*region)(void* arg, const struct brisk_team* team), void* arg) {
    if (!pool.watches_forks)
        pool.watches_forks = pthread_atfork(NULL, NULL, forget_workers) == 0;
    if (!pool.watches_forks)
        return 1;
    start_workers(threads - 1);
    int size = threads <= pool.workers ? threads : pool.workers + 1;
    pool.region = region;
    pool.arg = arg;
    pool.barrier.size = size;
    pool.barrier.manner = size <= processors() ? SPIN : YIELD;
    for (int i = 0; i < size - 1; i++)
        gate_open(&pool.starts[i]);
    return size;
}

void brisk_pool_run(int threads, void (*region)(void* arg, const struct brisk_team* team), void* arg) {
    struct brisk_team team = {0, 1, &pool.barrier};
    int limit = brisk_pool_limit();
    if (threads > limit)
        threads = limit;
    bool leased = threads > 1 && !atomic_exchange(&pool.leased, true);
    if (leased)
        team.size = gather(threads, region, arg);

    uint64_t float_state = brisk_float_state_enter();
    region(arg, &team);
    brisk_float_state_leave(float_state);

    if (leased) {
        brisk_wait(&team);
        atomic_store(&pool.leased, false);
    }
}

int brisk_pool_limit(void) {
    return atomic_load_explicit(&pool.limit, memory_order_relaxed);
}

void brisk_pool_set_limit(int limit) {
    limit = limit < 1 ? 1 : limit > BRISK_POOL_MAX ? BRISK_POOL_MAX : limit;
    atomic_store_explicit(&pool.limit, limit, memory_order_relaxed);
}
