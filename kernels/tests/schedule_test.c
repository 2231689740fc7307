/* Tests that in a step every access to memory that another thread writes lies behind a barrier. It prints nothing and
 * returns 0, or prints a line for each failure and returns 1.
 *
 * It runs the step of step_template.h itself, for one thread after the other, with functions in place of those that
 * compute: each notes which parts of which arrays the function would read and write, between which barriers. What
 * threads share of the work is thus what the kernels are given. */
#define BRISK_ISA portable
#define BRISK_DOUBLE 0
#pragma GCC diagnostic ignored "-Wunused-function"

/* The functions of the templates that are replaced. */
#define gather computed_gather
#define forward_layer computed_forward_layer
#define loss_rows computed_loss_rows
#define sum_losses computed_sum_losses
#define store_partial_loss computed_store_partial_loss
#define sum_partial_losses computed_sum_partial_losses
#define backward_layer computed_backward_layer
#define weights_layer computed_weights_layer
#define penalise_block computed_penalise_block
#define penalty computed_penalty
#define reduce_and_apply computed_reduce_and_apply
#define complete_block computed_complete_block
#define clip_factor computed_clip_factor
#define clip_block computed_clip_block
#define wait_after computed_wait_after
#include "../templates/apply_template.h"
#include "../templates/forward_template.h"
#include "../templates/loss_template.h"
#undef gather
#undef forward_layer
#undef loss_rows
#undef sum_losses
#undef store_partial_loss
#undef sum_partial_losses
#undef backward_layer
#undef weights_layer
#undef penalise_block
#undef penalty
#undef reduce_and_apply
#undef complete_block
#undef clip_factor
#undef clip_block
#undef wait_after

#include <stdio.h>
#include <stdlib.h>

/* --- notes ------------------------------------------------------------------------------------------------------- */

/* An access to panels × rows (or blocks, or anything that is counted) of an array, by one thread, after so many of a
 * step's barriers. */
struct access {
    const void* array;
    struct part panels, rows;
    bool writes;
    int rank, interval;
};

enum { MOST = 1 << 18, NEVER = -1 };
static struct access accesses[MOST];
static int n_accesses, rank, interval, left_out; /* the barrier that is left out, or NEVER */
static int barriers[BRISK_POOL_MAX];             /* that each thread has met */
enum { MOST_BARRIERS = 1 << 10 };
static bool after_dX[MOST_BARRIERS]; /* whether a barrier follows a dX */

static void note(const void* array, struct part panels, struct part rows, bool writes) {
    if (panels.first >= panels.end || rows.first >= rows.end)
        return;
    if (n_accesses == MOST)
        abort();
    accesses[n_accesses++] = (struct access){array, panels, rows, writes, rank, interval};
}

static void reads(const void* array, struct part panels, struct part rows) {
    note(array, panels, rows, false);
}

static void writes(const void* array, struct part panels, struct part rows) {
    note(array, panels, rows, true);
}

static struct part first(int64_t n) {
    return (struct part){0, n};
}

static struct part only(int64_t i) {
    return (struct part){i, i + 1};
}

static bool meet(struct part a, struct part b) {
    return a.first < b.end && b.first < a.end;
}

/* Two accesses of different threads between the same barriers, of which one writes what the other reads or writes. */
static bool conflict(const struct access* a, const struct access* b) {
    return a->array == b->array && a->interval == b->interval && a->rank != b->rank && (a->writes || b->writes) &&
           meet(a->panels, b->panels) && meet(a->rows, b->rows);
}

static int compare(const void* p, const void* q) {
    const struct access *a = p, *b = q;
    if (a->interval != b->interval)
        return a->interval < b->interval ? -1 : 1;
    return (a->array > b->array) - (a->array < b->array);
}

/* Whether any two accesses are in conflict, or threads have met different barriers. */
static bool has_conflict(int threads) {
    for (int i = 1; i < threads; i++)
        if (barriers[i] != barriers[0])
            return true;
    qsort(accesses, (size_t)n_accesses, sizeof *accesses, compare);
    for (int i = 0; i < n_accesses; i++)
        for (int j = i + 1; j < n_accesses && compare(&accesses[i], &accesses[j]) == 0; j++)
            if (conflict(&accesses[i], &accesses[j]))
                return true;
    return false;
}

/* --- what the functions read and write --------------------------------------------------------------------------- */

static int64_t group; /* rows that are packed together, if they are */

static struct part packed_rows(const struct brisk_work* work, struct part rows) {
    if (!work->rounds)
        return rows;
    return (struct part){rows.first / group * group, (rows.end + group - 1) / group * group};
}

static void gather(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                   const int64_t* rows, int64_t i0, int64_t i1) {
    (void)data, (void)rows;
    writes(space->A[0], first(work->layers[0].panels_in), packed_rows(work, (struct part){i0, i1}));
}

/* The parameters and copies of a layer's blocks, in the two arrays that products read. */
static const char* weights_of(const struct brisk_work* work, int64_t l) {
    return (const char*)work->R + work->layers[l].W;
}

static const char* transposed_of(const struct brisk_work* work, int64_t l) {
    return (const char*)work->WT + work->layers[l].WT;
}

static const char* biases_of(const struct brisk_work* work, int64_t l) {
    return (const char*)work->P + work->layers[l].W + 1; /* apart from the weights, of which there are some */
}

static const char* gradient_of(const void* G, const struct brisk_work* work, int64_t l) {
    return (const char*)G + work->layers[l].W;
}

static const char* db_of(const void* G, const struct brisk_work* work, int64_t l) {
    return (const char*)G + work->layers[l].W + 1;
}

static void forward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                          enum brisk_activation f, const struct masks* masks, struct part panels, struct part rows) {
    const struct brisk_layer* layer = &work->layers[l];
    (void)f, (void)masks;
    reads(space->A[l], first(layer->panels_in), packed_rows(work, rows));
    reads(weights_of(work, l), panels, first(layer->panels_in));
    reads(biases_of(work, l), panels, only(0));
    writes(space->A[l + 1], panels, packed_rows(work, rows));
    if (work->kernels->block > 0 && work->splits == 1) /* else it has no memory */
        writes(space->C, only(0), only(0));
}

static void loss_rows(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                      const int64_t* rows, int64_t i0, int64_t i1, double scale) {
    const int64_t last = work->plan.n_layers - 1, panels = work->layers[last].panels;
    const struct part own = packed_rows(work, (struct part){i0, i1});
    (void)data, (void)rows, (void)scale;
    writes(space->A[last + 1], first(panels), (struct part){i0, i1}); /* softmax is computed in place */
    writes(D_of(space, last), first(panels), own);
    if (work->rounds) /* the elements, before they are packed */
        writes(D_of(space, last + 1), first(panels), own);
    writes(space->losses, only(0), (struct part){i0 / BRISK_LOSS_ROWS, (i1 + BRISK_LOSS_ROWS - 1) / BRISK_LOSS_ROWS});
}

static double sum_losses(const struct brisk_space* space, int64_t m) {
    reads(space->losses, only(0), first((m + BRISK_LOSS_ROWS - 1) / BRISK_LOSS_ROWS));
    return 0;
}

static void store_partial_loss(const struct brisk_work* work, int64_t p, double loss) {
    (void)loss;
    writes(work->partial_losses, only(0), only(p));
}

static double sum_partial_losses(const struct brisk_work* work, int64_t n) {
    reads(work->partial_losses, only(0), first(n));
    return 0;
}

static bool computed_dX; /* since the last barrier */

static void backward_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l,
                           const struct masks* masks, struct part panels, struct part rows) {
    const struct brisk_layer* layer = &work->layers[l];
    (void)masks;
    computed_dX = true;
    reads(D_of(space, l), first(layer->panels), packed_rows(work, rows));
    reads(space->A[l], panels, packed_rows(work, rows));
    reads(transposed_of(work, l), first(layer->panels), panels);
    writes(D_of(space, l - 1), panels, packed_rows(work, rows));
    if (work->kernels->block > 0 && work->splits == 1) /* else it has no memory */
        writes(space->C, only(0), only(0));
}

static void penalise_block(const struct brisk_work* work, const struct brisk_layer* layer, int64_t j, int64_t k) {
    const int64_t l = layer - work->layers;
    reads(weights_of(work, l), only(j), only(k));
    writes(work->penalties + layer->first_block, only(j), only(k));
}

static double penalty(const struct brisk_work* work) {
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        reads(work->penalties + layer->first_block, first(layer->panels), first(layer->panels_in));
    }
    return 0;
}

/* The update of a layer's blocks, or its gradient in G. */
static void apply(const struct brisk_work* work, int64_t l, struct part panels, struct part panels_in,
                  const struct brisk_batch* batch) {
    reads(weights_of(work, l), panels, panels_in);
    writes(work->penalties + work->layers[l].first_block, panels, panels_in);
    if (batch->goal == BRISK_GRADIENT) {
        writes(gradient_of(work->G, work, l), panels, panels_in);
        return;
    }
    writes(weights_of(work, l), panels, panels_in);
    if (l > 0)
        writes(transposed_of(work, l), panels, panels_in);
}

static void apply_db(const struct brisk_work* work, int64_t l, struct part panels, const struct brisk_batch* batch) {
    writes(batch->goal == BRISK_GRADIENT ? db_of(work->G, work, l) : biases_of(work, l), panels, only(0));
}

static void weights_layer(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t m,
                          struct part panels, struct part panels_in, const struct grad_dest* dest) {
    const struct part rows = first(m > 0 ? m : 1);
    const bool biases = panels_in.first == 0 && panels_in.end > 0;
    if (panels.first >= panels.end || panels_in.first >= panels_in.end)
        return;
    reads(space->A[l], panels_in, rows);
    reads(D_of(space, l), panels, rows);
    if (dest->accumulate) {
        writes(gradient_of(dest->G, work, l), panels, panels_in);
        if (biases)
            writes(db_of(dest->G, work, l), panels, only(0));
    }
    if (dest->last) {
        apply(work, l, panels, panels_in, dest->batch);
        if (biases)
            apply_db(work, l, panels, dest->batch);
    }
}

/* The blocks of shards' gradients that one thread reduces. */
static void read_shards(const struct brisk_work* work, int64_t l, int64_t j, int64_t k) {
    for (int64_t s = 0; s < work->n_shards; s++) {
        const real* G = (const real*)work->G + s * work->n_packed;
        reads(gradient_of(G, work, l), only(j), only(k));
        if (k == 0)
            reads(db_of(G, work, l), only(j), only(0));
    }
}

static void reduce_and_apply(const struct brisk_work* work, const struct brisk_space* space, int64_t l, int64_t block,
                             const struct brisk_batch* batch) {
    const int64_t k = block / work->layers[l].panels, j = block % work->layers[l].panels;
    read_shards(work, l, j, k);
    writes(space->block, only(0), only(0));
    apply(work, l, only(j), only(k), batch);
    if (k == 0)
        apply_db(work, l, only(j), batch);
}

static void complete_block(const struct brisk_work* work, int64_t l, int64_t block, const struct brisk_batch* batch) {
    const int64_t k = block / work->layers[l].panels, j = block % work->layers[l].panels;
    (void)batch;
    read_shards(work, l, j, k);
    reads(weights_of(work, l), only(j), only(k));
    writes(gradient_of(work->G, work, l), only(j), only(k));
    writes(work->squares, only(0), only(work->layers[l].first_block + block));
}

static real clip_factor(const struct brisk_work* work) {
    reads(work->squares, only(0), first(work->n_blocks));
    return 1;
}

static void clip_block(const struct brisk_work* work, int64_t l, int64_t block, real factor,
                       const struct brisk_batch* batch) {
    const int64_t k = block / work->layers[l].panels, j = block % work->layers[l].panels;
    (void)factor;
    writes(gradient_of(work->G, work, l), only(j), only(k));
    apply(work, l, only(j), only(k), batch);
    if (k == 0) {
        writes(db_of(work->G, work, l), only(j), only(0));
        apply_db(work, l, only(j), batch);
    }
}

static void wait_after(const struct brisk_work* work, const struct brisk_team* team, int64_t l) {
    (void)work, (void)l;
    if (team->size == 1)
        return;
    if (barriers[rank] == MOST_BARRIERS)
        abort();
    after_dX[barriers[rank]] = computed_dX;
    computed_dX = false;
    if (barriers[rank]++ != left_out)
        interval++;
}

#include "../templates/step_template.h"

/* --- tasks ------------------------------------------------------------------------------------------------------- */

enum { LAYERS = 5, STEPS = 3 };

static const struct {
    int64_t group;
    struct brisk_kernels kernels;
} KERNELS[] = {
    {1, {.size = 4, .vnni = 1, .panel = 8, .rows = 16, .row_grain = 4}},
    {1, {.size = 8, .vnni = 1, .panel = 16, .rows = 16, .row_grain = 4}},
    {1, {.size = 4, .vnni = 1, .panel = 32, .rows = 16, .row_grain = 4}},
    {2, {.size = 4, .vnni = 2, .panel = 32, .rows = 16, .row_grain = 4, .block = 147456}},
    {32, {.size = 4, .vnni = 2, .panel = 32, .rows = 32, .row_grain = 32, .block = 147456}},
};
enum { N_KERNELS = sizeof KERNELS / sizeof *KERNELS };

struct task {
    int kernels, threads;
    int64_t n_layers, width[LAYERS + 1], batch;
    enum brisk_rule rule;
    enum brisk_goal goal;
    enum brisk_precision precision;
    bool clip, training;
};

static struct brisk_work* make_work(const struct task* t) {
    struct brisk_layer layers[LAYERS] = {0};
    for (int64_t l = 0; l < t->n_layers; l++)
        layers[l] = (struct brisk_layer){.n_in = t->width[l], .n_out = t->width[l + 1], .n_b = t->width[l + 1]};
    const struct brisk_plan plan = {
        .n_layers = t->n_layers, .batch_size = t->batch, .rule = t->rule, .clip_norm = t->clip ? 1 : (double)INFINITY};
    group = KERNELS[t->kernels].group;
    brisk_forced_threads = t->threads;
    struct brisk_work* work =
        brisk_work_new(&KERNELS[t->kernels].kernels, &plan, layers, 3 * t->batch, t->training, t->threads, false);
    if (work == NULL)
        abort();
    return work;
}

/* Whether a team of so many has a conflict in some steps, one after the other, of which the second has few rows. */
static bool fails(const struct brisk_work* work, const struct task* t, int size) {
    static const struct brisk_data data;
    static const int64_t rows[1];
    n_accesses = 0;
    for (rank = 0; rank < size; rank++) {
        const struct brisk_team team = {rank, size, NULL};
        interval = barriers[rank] = 0;
        for (int s = 0; s < STEPS; s++) {
            const int64_t m = s == 1 ? (t->batch + 1) / 2 : t->batch;
            struct brisk_batch batch = {.rows = rows, .m = m, .goal = t->goal, .n_next = 1};
            step(work, &team, &data, &batch);
        }
    }
    return has_conflict(size);
}

static int failures;

static void check(bool right, const struct task* t, int size, const char* what, int64_t which) {
    if (right || ++failures > 20)
        return;
    printf("schedule_test: kernels %d,", t->kernels);
    for (int64_t l = 0; l <= t->n_layers; l++)
        printf("%c%lld", l == 0 ? ' ' : '-', (long long)t->width[l]);
    printf(", %lld rows, rule %d, goal %d, clip %d, training %d, %d of %d threads: %s %lld\n", (long long)t->batch,
           (int)t->rule, (int)t->goal, t->clip, t->training, size, t->threads, what, (long long)which);
}

static uint64_t state = 1; /* of xorshift64* */

/* A number from 1 to n. */
static int64_t one_of(int64_t n) {
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (int64_t)((state * 0x2545F4914F6CDD1D) >> 33) % n + 1;
}

static void check_random(void) {
    struct task t = {.kernels = (int)one_of(N_KERNELS) - 1,
                     .threads = (int)one_of(8),
                     .n_layers = one_of(LAYERS),
                     .batch = one_of(one_of(4) == 1   ? 10000
                                     : one_of(3) == 1 ? 20
                                                      : 600),
                     .rule = one_of(2) == 1 ? BRISK_SGD : BRISK_ADAM,
                     .clip = one_of(2) == 1,
                     .training = one_of(8) > 1};
    const int64_t widest = one_of(2) == 1 ? 150 : 50;
    for (int64_t l = 0; l <= t.n_layers; l++)
        t.width[l] = one_of(widest);
    t.precision = KERNELS[t.kernels].kernels.size == 4 ? (enum brisk_precision)(one_of(3) - 1) : BRISK_HIGHEST;
    t.goal = !t.training ? BRISK_LOSS : one_of(4) == 1 ? BRISK_GRADIENT : BRISK_UPDATE;
    struct brisk_work* work = make_work(&t);
    left_out = NEVER;
    for (int size = 1; size <= t.threads; size++)
        check(!fails(work, &t, size), &t, size, "a conflict", 0);
    brisk_work_free(work);
}

/* The test must find a conflict where any one barrier is left out, or where a division is not what the barriers are
 * made for. Those after dX may be needless where the step clips or has several chunks: weights move only later then,
 * and the divisions of dX and of what reads it may be the same. */
static void check_mutations(const struct task* t) {
    struct brisk_work* work = make_work(t);
    left_out = NEVER;
    check(!fails(work, t, t->threads), t, t->threads, "a conflict", 0);
    for (int b = 0, n = barriers[0]; b < n; b++) {
        left_out = b;
        const bool found = fails(work, t, t->threads), moves = !t->clip && t->batch <= work->rows;
        check(found || (after_dX[b] && !moves), t, t->threads, "nothing needs barrier", b);
    }
    left_out = NEVER;
    for (int64_t l = 0; l < t->n_layers && work->shared; l++) {
        struct brisk_schedule* schedule = &work->layers[l].schedule;
        const struct brisk_schedule right = *schedule;
        schedule->wait = false;
        if (!right.wait) /* then it reads rows, which the layer below has by rows as well, or which are its own */
            schedule->forward = BRISK_BY_PANELS;
        check((l == 0 && work->own_rows) || fails(work, t, t->threads), t, t->threads, "nothing needs the schedule of",
              l);
        *schedule = right;
    }
    brisk_work_free(work);
}

int main(void) {
    for (int i = 0; i < 300; i++)
        check_random();
    for (int k = 0; k < N_KERNELS; k++)
        for (int clip = 0; clip < 2; clip++) {
            static const int64_t widths[][LAYERS + 1] = {{256, 256, 256, 256},
                                                         {320, 288, 288, 288}, /* 9 panels: by rows */
                                                         {512, 160, 288, 10},
                                                         {16, 16, 16, 16}}; /* data-parallel */
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
                struct task t = {.kernels = k,
                                 .threads = 2 + k % 3,
                                 .n_layers = 3,
                                 .batch =
                                     w == 2 ? 5216 : 592, /* where both grains divide differently; two chunks, or one */
                                 .rule = clip ? BRISK_ADAM : BRISK_SGD,
                                 .goal = BRISK_UPDATE,
                                 .clip = clip,
                                 .training = true};
                memcpy(t.width, widths[w], sizeof t.width);
                check_mutations(&t);
            }
        }
    return failures != 0;
}
