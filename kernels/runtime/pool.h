/* The threads: one pool per process, which runs one region at a time. */
#ifndef BRISK_POOL_H
#define BRISK_POOL_H

/* The size of the largest team. */
enum { BRISK_POOL_MAX = 256 };

struct brisk_barrier;

/* A thread's place in the team that executes a region. With size 1, barriers cost nothing. */
struct brisk_team {
    int rank, size;
    struct brisk_barrier* barrier;
};

typedef void brisk_region(void* arg, const struct brisk_team* team);

/* Call region(arg, &team) on up to `threads` threads at once, the caller being rank 0, and return when all have
 * returned. If another thread of the process uses the pool, if this is called from inside a region, or if threads
 * cannot be started, the team is smaller, down to the caller alone; it never waits for the pool. Results must not
 * depend on team.size.
 *
 * Inside, the floating-point control register is as float_state.h says; the caller's is restored on return. A region
 * must return on every thread, and each thread must meet the same barriers. A process forked inside a region may start
 * regions of its own, but must not go on with this one: the team's other threads are not there. */
void brisk_pool_run(int threads, brisk_region* region, void* arg);

/* The upper bound of every team, 1 … BRISK_POOL_MAX; initially the latter. A value outside is clipped. It takes effect
 * with the next region. The extension exports both for threadpoolctl, which finds them by their names. */
__attribute__((visibility("default"))) int brisk_get_num_threads(void);
__attribute__((visibility("default"))) void brisk_set_num_threads(int limit);

void brisk_barrier_wait(struct brisk_barrier* barrier);

/* Wait for the whole team; after it all threads see what any thread wrote before. */
static inline void brisk_wait(const struct brisk_team* team) {
    if (team->size > 1)
        brisk_barrier_wait(team->barrier);
}

#endif
