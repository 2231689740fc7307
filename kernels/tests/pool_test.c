/* The threads, from C, so that the sanitizers can watch: says nothing and returns 0, or one line per failure and 1.
 * `pool_test nofork` leaves out the forks: a child that starts threads makes qemu-user 7.2 fail an assertion of its
 * own. */
#define _GNU_SOURCE /* sched_setaffinity, pthread_getname_np */
#include "../runtime/float_state.h"
#include "../runtime/pool.h"

#include <float.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
/* It would kill the child of a process with threads that starts threads of its own: what we test. */
const char* __tsan_default_options(void);
const char* __tsan_default_options(void) {
    return "die_after_fork=0";
}
#endif

static atomic_int failures;

static void check(bool right, const char* what) {
    if (!right && atomic_fetch_add(&failures, 1) < 10)
        printf("pool_test: %s\n", what);
}

static void rest(long microseconds) {
    struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

/* Each member writes its own element, all read all of them; not atomic, so that a barrier that orders nothing is seen.
 */
struct sums {
    int rounds, size;
    bool late; /* some arrive so late that the others sleep */
    long elements[BRISK_POOL_MAX];
};

static void sum_region(void* arg, const struct brisk_team* team) {
    struct sums* sums = arg;
    if (team->rank == 0)
        sums->size = team->size;
    for (int i = 0; i < sums->rounds; i++) {
        if (sums->late && i % team->size == team->rank)
            rest(300);
        sums->elements[team->rank] = i + team->rank;
        brisk_wait(team);
        long sum = 0;
        for (int rank = 0; rank < team->size; rank++)
            sum += sums->elements[rank] - rank;
        check(sum == (long)i * team->size, "a barrier let somebody through too early");
        brisk_wait(team);
    }
}

/* The size of the team that ran. */
static int run_sums(int threads, int rounds, bool late) {
    struct sums sums = {.rounds = rounds, .late = late};
    brisk_pool_run(threads, sum_region, &sums);
    return sums.size;
}

static void test_teams(void) {
    static const int sizes[] = {1, 2, 3, 7, 2, 7, 1, 3};
    for (int repeat = 0; repeat < 50; repeat++)
        for (int i = 0; i < 8; i++)
            check(run_sums(sizes[i], repeat, false) == sizes[i], "a team of the wrong size");
    for (int i = 0; i < 4; i++) {
        rest(1000); /* the workers sleep */
        check(run_sums(sizes[i], 5, true) == sizes[i], "a team of the wrong size after a sleep");
    }
    check(run_sums(2, 20000, false) == 2, "a team of the wrong size");
    check(run_sums(0, 1, false) == 1 && run_sums(-1, 1, false) == 1, "a team of no thread");
}

static void test_crowd(void) {
#if defined(__linux__)
    cpu_set_t old, one;
    sched_getaffinity(0, sizeof old, &old);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &old))
            CPU_SET(i, &one);
    sched_setaffinity(0, sizeof one, &one);
    check(run_sums(2, 500, false) == 2 && run_sums(3, 500, false) == 3, "a crowded team of the wrong size");
    sched_setaffinity(0, sizeof old, &old);
#endif
}

static void set_limits(void) {
    int old = brisk_get_num_threads();
    check(old == BRISK_POOL_MAX, "the first limit");
    brisk_set_num_threads(2);
    check(brisk_get_num_threads() == 2 && run_sums(7, 1, false) == 2, "a limit of 2");
    brisk_set_num_threads(0);
    check(brisk_get_num_threads() == 1 && run_sums(7, 1, false) == 1, "a limit of 0, clipped to 1");
    brisk_set_num_threads(1 << 20);
    check(brisk_get_num_threads() == BRISK_POOL_MAX, "a limit too large, clipped");
    brisk_set_num_threads(old);
}

static void* sum_alone(void* unused) {
    check(run_sums(3, 10, false) == 1, "two teams at once");
    return unused;
}

static void nested_region(void* arg, const struct brisk_team* team) {
    (void)arg;
    check(run_sums(3, 10, false) == 1, "a team inside a team");
    if (team->rank == team->size - 1) {
        pthread_t other;
        pthread_create(&other, NULL, sum_alone, NULL);
        pthread_join(other, NULL);
    }
    brisk_wait(team);
}

static void* sum_often(void* stop) {
    for (int i = 0; !atomic_load((atomic_bool*)stop) || i < 200; i++) {
        int size = run_sums(3, 10, i % 16 == 0);
        check(size == 1 || size == 3, "a team neither whole nor alone");
    }
    return NULL;
}

static void test_busy_pool(void) {
    atomic_bool stop = true;
    pthread_t others[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&others[i], NULL, sum_often, &stop);
    for (int i = 0; i < 2; i++)
        pthread_join(others[i], NULL);
}

static void check_child(void) {
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        atomic_store(&failures, 0);
        check(run_sums(3, 20, false) == 3 && run_sums(7, 20, true) == 7, "a team of the wrong size in a child");
        fflush(stdout);
        _exit(atomic_load(&failures) != 0);
    }
    int status = -1;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child failed");
}

static void fork_region(void* arg, const struct brisk_team* team) {
    (void)arg;
    if (team->rank == team->size - 1)
        check_child();
    brisk_wait(team);
}

static void test_fork(void) {
    atomic_bool stop = false;
    pthread_t other;

    check_child();
    brisk_pool_run(1, fork_region, NULL); /* by the caller … */
    brisk_pool_run(3, fork_region, NULL); /* … and by a worker, whose signals are blocked: no alarm would end it */
    pthread_create(&other, NULL, sum_often, &stop);
    for (int i = 0; i < 20; i++) {
        check_child();
        rest(i * 50);
    }
    atomic_store(&stop, true);
    pthread_join(other, NULL);
    check(run_sums(3, 20, false) == 3, "the pool after a fork");
}

#if defined(__x86_64__)
static const uint64_t FLAGS = 0x3F, UNUSUAL = 0x1F80 | 2 << 13 | 1 << 5; /* round up; the inexact flag is up */
#else
static const uint64_t FLAGS = 0, UNUSUAL = 1 << 22; /* round up */
#endif

static bool denormals_are_zero(void) {
    volatile float smallest = FLT_MIN, half = smallest * 0.5f;
    return half == 0.0f;
}

static void float_region(void* arg, const struct brisk_team* team) {
    (void)arg;
    (void)team;
    check((brisk_float_state_read() & ~FLAGS) == BRISK_FLOAT_STATE, "the float state inside a region");
    check(BRISK_FLOAT_STATE == 0 || denormals_are_zero(), "denormals inside a region");
}

static void test_float_state(void) {
    uint64_t old = brisk_float_state_read();
    for (int threads = 1; threads <= 3; threads++) {
        brisk_float_state_write(UNUSUAL);
        uint64_t before = brisk_float_state_read();
        brisk_pool_run(threads, float_region, NULL);
        check(brisk_float_state_read() == before, "the float state after a region");
        check(!denormals_are_zero(), "denormals after a region");
    }
    brisk_float_state_write(old);
}

static void signal_region(void* arg, const struct brisk_team* team) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    bool worker = team->rank > 0;
    check(sigismember(&mask, SIGINT) == worker && sigismember(&mask, SIGTERM) == worker, "who takes signals");
    check(!sigismember(&mask, SIGSEGV), "faults are blocked");
    check(worker != (bool)pthread_equal(pthread_self(), *(pthread_t*)arg), "rank 0 is not the caller");
#if defined(__linux__)
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof name);
    check(worker == (strcmp(name, "briskmlp") == 0), "the name of a thread");
#endif
}

int main(int argc, char** argv) {
    alarm(300); /* a deadlock is a failure too */
    pthread_t self = pthread_self();
    test_teams();
    test_crowd();
    set_limits();
    brisk_pool_run(3, nested_region, NULL);
    test_busy_pool();
    brisk_pool_run(3, signal_region, &self);
    test_float_state();
    if (argc < 2 || strcmp(argv[1], "nofork") != 0)
        test_fork();
    return atomic_load(&failures) != 0;
}
