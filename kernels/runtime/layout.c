/* The layout of a workspace: how many rows a chunk has, how a batch is divided, and where everything lies.
 *
 * A step is one of two kinds, which depends on its shape alone, so that results never depend on the number of threads:
 *
 * - data-parallel, for a small network and many rows: each shard of the rows goes forward and backward by itself, in
 * the space of one thread, and has a partial gradient; these are then reduced in the order of the shards.
 * - layer-parallel, for everything else: all threads go through the layers together, in one space; each computes some
 *   panels or some rows of a layer, and every element is computed by one thread, in one order. */
#define _DEFAULT_SOURCE /* madvise() */
#include "../brisk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum {
    LINE = 64,                /* bytes of a cache line */
    MAPPED = 64 << 10,        /* bytes from which memory is mapped, so that pages that are never touched cost nothing */
    HUGE_PAGE = 2 << 20,      /* bytes */
    OWN_ROWS = 512 << 10,     /* bytes of a batch's rows up to which each thread gathers all of them for itself */
    LARGEST_CHUNK = 4096,     /* rows of a chunk that all threads share */
    SMALL_CHUNK = 128,        /* rows of a chunk of one thread, whose activations stay in its L2 cache */
    SHARD_ROWS = 64,          /* fewer rows in a shard would not be worth the reduction of its gradient */
    MAX_SHARDS = 64,          /* bounds the memory of partial gradients, and the threads that a small network can use */
    SHARDED_BYTES = 256 << 10 /* parameters up to which batches are sharded: they and a gradient fit into L2 */
};
/* A thread is worth its start where it computes so many FLOPs in a step: those of 7 µs, and of 1.5 µs for each barrier,
 * and of 0.1 ns for each byte of weights that one thread moves and others read, in layers whose outputs are not divided
 * by panels. */
static const double FLOPS_PER_THREAD = 1.5e6, FLOPS_PER_WAIT = 3e5, FLOPS_PER_BYTE = 20;

atomic_llong brisk_failing_allocation;
atomic_int brisk_forced_threads;

static bool allocation_fails(void) {
    return brisk_failing_allocation > 0 && brisk_failing_allocation-- == 1;
}

/* Zeroed memory, or NULL when memory is short. */
static void* allocate(size_t size) {
    if (allocation_fails())
        return NULL;
#if defined(__linux__)
    if (size >= MAPPED) {
        void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return NULL;
        if (size >= HUGE_PAGE)
            madvise(memory, size, MADV_HUGEPAGE); /* a refusal costs only speed */
        return memory;
    }
#endif
    void* memory = aligned_alloc(LINE, size);
    return memory == NULL ? NULL : memset(memory, 0, size);
}

static void release(void* memory, size_t size) {
#if defined(__linux__)
    if (memory != NULL && size >= MAPPED)
        munmap(memory, size);
    else
#endif
        free(memory);
    (void)size;
}

/* Hands out cache lines of a block of memory, twice: first to count the bytes, then to point into the block. */
struct cursor {
    char* memory; /* NULL while counting */
    size_t size;
    bool overflow;
};

static void* take(struct cursor* cursor, int64_t count, size_t size) {
    const size_t start = cursor->size;
    size_t bytes;
    cursor->overflow |= count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes) ||
                        __builtin_add_overflow(bytes, (size_t)(LINE - 1), &bytes) ||
                        __builtin_add_overflow(start, bytes & ~(size_t)(LINE - 1), &cursor->size);
    return cursor->memory == NULL ? NULL : cursor->memory + start;
}

/* Assign the offsets of the packed parameters; return false where they overflow. */
static bool assign_offsets(struct brisk_work* work) {
    const int64_t panel = work->kernels->panel, square = panel * panel;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        struct brisk_layer* layer = &work->layers[l];
        layer->panels_in = divide_up(layer->n_in, panel);
        layer->panels = divide_up(layer->n_out, panel);
        layer->b_size = divide_up(layer->n_b, panel) * panel;
        int64_t blocks, elements;
        if (__builtin_mul_overflow(layer->panels_in, layer->panels, &blocks) ||
            __builtin_mul_overflow(blocks, square, &elements))
            return false;
        layer->W_panel = layer->panels_in * square;
        layer->WT_panel = layer->panels * square;
        layer->W = work->n_packed;
        layer->WT = work->n_transposed;
        layer->first_block = work->n_blocks;
        if (__builtin_add_overflow(layer->W, elements, &layer->b) ||
            __builtin_add_overflow(layer->b, layer->b_size, &work->n_packed))
            return false;
        work->n_transposed += l > 0 ? elements : 0; /* cannot overflow: at most n_packed */
        work->n_blocks += blocks;
    }
    return true;
}

/* --- how a batch is divided -------------------------------------------------------------------------------------- */

/* Weights of all layers, or only of those whose forward pass is divided by rows. */
static double weights_of(const struct brisk_work* work, bool by_rows) {
    double weights = 0;
    for (int64_t l = 0; l < work->plan.n_layers; l++) {
        const struct brisk_layer* layer = &work->layers[l];
        if (!by_rows || layer->schedule.forward == BRISK_BY_ROWS)
            weights += (double)layer->n_in * (double)layer->n_out;
    }
    return weights;
}

/* Use as many of the threads as are each worth their start, and decide the schedule for them. */
static void choose_threads(struct brisk_work* work, int64_t batch, int threads) {
    const int64_t m = smaller(batch, work->rows), waits = work->shared ? 2 * work->plan.n_layers : 2;
    const int64_t most = work->shared ? INT32_MAX : work->training ? work->n_shards : divide_up(batch, work->rows);
    const double flops = 6 * weights_of(work, false) * (double)batch;
    const int forced = brisk_forced_threads;
    for (work->threads = forced > 0 ? forced : (int)smaller(threads, most > 1 ? most : 1);; work->threads--) {
        brisk_set_schedule(work, m, work->threads);
        const double moved = work->shared ? weights_of(work, true) * (double)work->kernels->size : 0;
        const double each = FLOPS_PER_THREAD + (double)waits * FLOPS_PER_WAIT + moved * FLOPS_PER_BYTE;
        if (work->threads == 1 || forced > 0 || flops >= each * work->threads)
            return;
    }
}

static void divide(struct brisk_work* work, int threads) {
    const struct brisk_kernels* kernels = work->kernels;
    const int64_t size = work->plan.batch_size, batch = work->training && size > 0 ? smaller(size, work->n) : work->n;
    /* A small network's batches are divided into shards, as many as there are rows for. */
    work->n_shards = 1;
    if (work->training && weights_of(work, false) * (double)kernels->size <= (double)SHARDED_BYTES)
        while (work->n_shards < MAX_SHARDS && batch >= 2 * work->n_shards * SHARD_ROWS)
            work->n_shards *= 2;
    work->shared = work->training && work->n_shards == 1;
    /* A batch, or a shard, is computed in chunks of equal size. */
    const int64_t rows = batch > 0 ? divide_up(batch, work->n_shards) : 1;
    const int64_t chunks = divide_up(rows, work->shared ? LARGEST_CHUNK : SMALL_CHUNK);
    work->rows = divide_up(divide_up(rows, chunks), kernels->rows) * kernels->rows;
    /* Panels are not a multiple of 4096 bytes apart, where their rows would compete for one cache set. */
    work->panel_stride = work->rows * kernels->panel;
    if ((size_t)work->panel_stride * kernels->size % 4096 == 0)
        work->panel_stride += kernels->panel;
    work->delta_panels = 1;
    for (int64_t l = 0; l < work->plan.n_layers; l++)
        if (work->layers[l].panels > work->delta_panels)
            work->delta_panels = work->layers[l].panels;
    work->own_rows = (double)work->panel_stride * (double)work->layers[0].panels_in * (double)kernels->size <= OWN_ROWS;
    choose_threads(work, batch, threads);
}

/* --- where everything lies --------------------------------------------------------------------------------------- */

/* Place a space, or another thread's view of the first one. */
static void place_space(struct brisk_work* work, struct cursor* cursor, int s) {
    const int64_t n = work->plan.n_layers + 1, panel = work->kernels->panel;
    const int64_t copies = work->splits > 1 ? 1 + work->splits : 1; /* several splits lie behind the float32 elements */
    const size_t size = work->kernels->size, column = (size_t)(work->panel_stride * copies) * size;
    const bool counting = cursor->memory == NULL, view = s > 0 && work->shared;
    struct brisk_space counted = {0}, *space = counting ? &counted : &work->spaces[s];
    void** A = take(cursor, 2 * n, sizeof(void*));
    if (view && !counting) {
        *space = work->spaces[0];
        memcpy(A, space->A, 2 * (size_t)n * sizeof(void*));
    }
    space->A = A;
    space->S = counting ? NULL : A + n;
    const int64_t block = work->splits > 1 ? 0 : work->kernels->block;
    space->C = take(cursor, smaller(block, smaller(block, work->delta_panels) * work->rows * panel), size);
    for (int64_t l = 0, placed = view ? work->own_rows : n; l < placed; l++) {
        const struct brisk_layer* layer = &work->layers[l > 0 ? l - 1 : 0];
        void* activations = take(cursor, l > 0 ? layer->panels : layer->panels_in, column);
        const bool saves_slope = l > 0 && layer->saves_slope;
        void* slopes = saves_slope ? take(cursor, layer->panels * work->panel_stride, size) : NULL;
        if (!counting) {
            A[l] = activations;
            space->S[l] = slopes;
        }
    }
    if (view)
        return;
    for (int d = 0; d < 3; d++)
        space->D[d] = take(cursor, work->delta_panels, column);
    space->block = take(cursor, panel * panel, size);
    space->losses = take(cursor, work->rows / BRISK_LOSS_ROWS, sizeof(double));
}

static void place(struct brisk_work* work, struct cursor* cursor) {
    const struct brisk_plan* plan = &work->plan;
    const size_t size = work->kernels->size, read = size * (size_t)work->splits / (size_t)work->kernels->vnni;
    const int64_t training = work->training ? 1 : 0;
    work->P = take(cursor, work->n_packed, size);
    work->S = take(cursor, work->n_packed * training, size * (size_t)plan->n_slots);
    work->G = take(cursor, work->n_packed * training, size * (size_t)work->n_shards);
    work->WT = take(cursor, work->n_transposed * training, read);
    work->R = work->rounds ? take(cursor, work->n_packed, read) : work->P;
    work->penalties = take(cursor, work->n_blocks, sizeof(double));
    work->squares = take(cursor, plan->clip_norm < INFINITY ? work->n_blocks * training : 0, sizeof(double));
    work->partial_losses = take(cursor, work->n_shards + divide_up(work->n, work->rows), sizeof(double));
    work->order = take(cursor, work->n * training, sizeof(int64_t));
    work->spaces = take(cursor, work->threads, sizeof(struct brisk_space));
    for (int s = 0; s < work->threads; s++)
        place_space(work, cursor, s);
}

void brisk_work_free(struct brisk_work* work) {
    if (work == NULL)
        return;
    release(work->memory, work->size);
    free(work);
}

struct brisk_work* brisk_work_new(const struct brisk_kernels* kernels, const struct brisk_plan* plan,
                                  const struct brisk_layer* layers, int64_t n, bool training, int threads,
                                  bool measure) {
    const size_t layers_size = (size_t)plan->n_layers * sizeof *layers;
    struct brisk_work* work = allocation_fails() ? NULL : malloc(sizeof *work + layers_size);
    if (work == NULL)
        return NULL;
    *work = (struct brisk_work){
        .plan = *plan,
        .layers = (struct brisk_layer*)(work + 1),
        .kernels = kernels,
        .n = n,
        .training = training,
        .rounds = kernels->vnni > 1 || plan->precision != BRISK_HIGHEST,
        .splits = plan->precision == BRISK_HIGH                           ? 2
                  : plan->precision == BRISK_HIGHEST && kernels->vnni > 1 ? 3
                                                                          : 1,
        .order_epoch = -1,
    };
    memcpy(work->layers, layers, layers_size);
    for (int64_t l = 0; l < plan->n_layers; l++) { /* f' does not follow from A, or not from an A that was rounded */
        const enum brisk_saves saves = brisk_activations[layers[l].activation].saves;
        const bool exact = layers[l].threshold == 0 && !(work->rounds && work->splits == 1);
        work->layers[l].saves_slope =
            training && (saves == BRISK_SAVES_SLOPE || (saves == BRISK_SAVES_EXACT_A && !exact));
    }
    struct cursor cursor = {.overflow = !assign_offsets(work)};
    if (!cursor.overflow) {
        divide(work, threads);
        place(work, &cursor);
    }
    work->size = cursor.overflow ? 0 : cursor.size;
    if (measure)
        return work;
    work->memory = cursor.overflow ? NULL : allocate(work->size);
    if (work->memory == NULL) {
        brisk_work_free(work);
        return NULL;
    }
    cursor = (struct cursor){.memory = work->memory};
    place(work, &cursor);
    return work;
}
