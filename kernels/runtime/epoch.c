/* The calls that Python makes: forward, gradient, update, and train with its minibatch loop.
 *
 * Each is one region of the pool. All threads of a team run the same loop in step and take the same decisions, from
 * values that all of them see; thread 0 alone writes what is shared. A call writes its results last: the caller's state
 * stays as it was unless everything has gone well. */
#include "../brisk.h"
#include "philox.h"
#include "pool.h"

#include <math.h>
#include <string.h>

/* A region of kernels. */
struct region {
    const struct brisk_kernels* kernels;
    void (*body)(void* arg, const struct brisk_team* team);
    void* arg;
};

static void on_each_thread(void* arg, const struct brisk_team* team) {
    const struct region* region = arg;
    if (region->kernels->begin != NULL)
        region->kernels->begin();
    region->body(region->arg, team);
    if (region->kernels->end != NULL)
        region->kernels->end();
}

static void run(const struct brisk_kernels* kernels, int threads, void (*body)(void*, const struct brisk_team*),
                void* arg) {
    struct region region = {kernels, body, arg};
    brisk_pool_run(threads, on_each_thread, &region);
}

/* The calls that share a batch add its penalty, the l2 term of the loss, once. */
static void set_penalty(struct brisk_work* work, bool with_penalty) {
    for (int64_t l = 0; l < work->plan.n_layers; l++)
        work->layers[l].l2 = with_penalty ? work->layers[l].plan_l2 : 0;
}

/* --- the sample order of an epoch: briskmlp/random.py ------------------------------------------------------------ */

/* Fisher-Yates over 0 … n-1 with j = high 64 bits of word · (i + 1) for i = n-1 … 1. */
static void draw_order(struct brisk_work* work, int64_t epoch) {
    int64_t* order = work->order;
    if (work->order_epoch == epoch || (work->order_epoch >= 0 && !work->plan.shuffle))
        return;
    work->order_epoch = epoch;
    for (int64_t i = 0; i < work->n; i++)
        order[i] = i;
    if (!work->plan.shuffle)
        return;
    uint64_t words[4], block = 0, low;
    int used = 4;
    for (int64_t i = work->n - 1; i > 0; i--, used++) {
        if (used == 4) {
            /* NumPy counts before each block */
            brisk_philox(++block, 0, 0, BRISK_STREAM_ORDER, work->plan.seed, (uint64_t)epoch, words);
            used = 0;
        }
        const int64_t j = (int64_t)brisk_high_product(words[used], (uint64_t)i + 1, &low);
        const int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* --- forward ----------------------------------------------------------------------------------------------------- */

struct forward {
    struct brisk_work* work;
    const void* params;
    const struct brisk_data* data;
    const int64_t* rows;
    int64_t n_rows;
    char* out;
};

enum { DENSE_ROWS = 4 }; /* whose products cost less than packing the weights for them */

static void forward_region(void* arg, const struct brisk_team* team) {
    const struct forward* call = arg;
    const struct brisk_work* work = call->work;
    if (call->n_rows <= DENSE_ROWS && work->splits == 1 && work->kernels->predict_few != NULL) {
        if (team->rank == 0)
            work->kernels->predict_few(work, call->params, call->data, call->rows, call->n_rows, call->out);
        return;
    }
    const int64_t n_out = work->layers[work->plan.n_layers - 1].n_out;
    work->kernels->pack(work, team, call->params, work->P);
    brisk_wait(team);
    if (work->rounds) {
        work->kernels->transpose(work, team);
        brisk_wait(team);
    }
    const int64_t chunks = (call->n_rows + work->rows - 1) / work->rows;
    for (int64_t c = chunks * team->rank / team->size; c < chunks * (team->rank + 1) / team->size; c++) {
        const int64_t first = c * work->rows;
        work->kernels->predict(work, team->rank, call->data, call->rows + first,
                               smaller(work->rows, call->n_rows - first),
                               call->out + (size_t)(first * n_out) * work->kernels->size);
    }
}

/* How many threads can work on chunks of rows of their own. */
static int threads_with_own_space(const struct brisk_work* work) {
    return work->shared ? 1 : work->threads;
}

void brisk_forward(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                   int64_t n_rows, void* out) {
    struct forward call = {work, params, data, rows, n_rows, out};
    run(work->kernels, threads_with_own_space(work), forward_region, &call);
}

/* --- gradient ---------------------------------------------------------------------------------------------------- */

struct gradient {
    struct brisk_work* work;
    const void* params;
    const struct brisk_data* data;
    struct brisk_batch batch;
    void* grad;
    double loss;
};

static void gradient_region(void* arg, const struct brisk_team* team) {
    struct gradient* call = arg;
    const struct brisk_work* work = call->work;
    work->kernels->pack(work, team, call->params, work->P);
    brisk_wait(team);
    if (call->batch.goal != BRISK_LOSS || work->rounds)
        work->kernels->transpose(work, team);
    brisk_wait(team);
    const double loss = work->kernels->step(work, team, call->data, &call->batch);
    if (team->rank > 0)
        return;
    call->loss = loss;
    if (call->grad != NULL)
        work->kernels->add(work, work->G, call->grad);
}

double brisk_gradient(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                      int64_t n_rows, double scale, bool with_penalty, void* grad) {
    struct gradient call = {
        .work = work,
        .params = params,
        .data = data,
        .batch = {.rows = rows, .m = n_rows, .scale = scale, .goal = grad == NULL ? BRISK_LOSS : BRISK_GRADIENT},
        .grad = grad,
    };
    set_penalty(work, with_penalty);
    run(work->kernels, grad == NULL ? threads_with_own_space(work) : work->threads, gradient_region, &call);
    return call.loss;
}

/* --- update ------------------------------------------------------------------------------------------------------ */

struct update {
    const struct brisk_kernels* kernels;
    const struct brisk_plan* plan;
    const struct brisk_layer* layers;
    const struct brisk_state* state;
    const void* grad;
    int64_t step;
    double rate;
};

static void update_region(void* arg, const struct brisk_team* team) {
    const struct update* call = arg;
    (void)team; /* one thread: the caller, with the kernels' floating-point state */
    call->kernels->update(call->plan, call->layers, call->state->params, call->grad, call->state->slots,
                          call->state->scalars, call->step, call->rate);
}

void brisk_update(const struct brisk_kernels* kernels, const struct brisk_plan* plan, const struct brisk_layer* layers,
                  const struct brisk_state* state, const void* grad, int64_t step, double rate) {
    struct update call = {kernels, plan, layers, state, grad, step, rate};
    run(kernels, 1, update_region, &call);
}

/* --- train ------------------------------------------------------------------------------------------------------- */

struct train {
    struct brisk_work* work;
    const struct brisk_state* state;
    const struct brisk_data* data;
    const struct brisk_steps* steps;
    int64_t* where;
    enum brisk_end end;
    double weights[2]; /* of this batch and the one before, in turn */
    bool finite[BRISK_POOL_MAX];
};

/* What the gradient of a batch is divided by. Thread 0 adds up the weights for all, because all must take the same
 * decisions even while somebody changes the weights. */
static double divisor_of(struct train* call, const struct brisk_team* team, int64_t s, const int64_t* rows, int64_t m) {
    if (call->work->plan.divisor == BRISK_DIVISOR_NOTHING)
        return 1;
    if (call->work->plan.divisor == BRISK_DIVISOR_ROWS || call->data->weight == NULL)
        return (double)m;
    double* weight = &call->weights[s % 2];
    if (team->rank == 0)
        *weight = call->work->kernels->weigh(call->data->weight, rows, m);
    brisk_wait(team);
    return *weight;
}

static char* slot(const struct brisk_work* work, void* slots, int64_t s, int64_t numbers) {
    return (char*)slots + (size_t)(s * numbers) * work->kernels->size;
}

/* Write what was learned to the caller's arrays, if all of it is finite. */
static bool unpack_if_finite(struct train* call, const struct brisk_team* team) {
    const struct brisk_work* work = call->work;
    const struct brisk_kernels* kernels = work->kernels;
    bool finite = kernels->finite(work, team, work->P);
    for (int64_t s = 0; s < work->plan.n_slots; s++)
        finite &= kernels->finite(work, team, slot(work, work->S, s, work->n_packed));
    call->finite[team->rank] = finite;
    brisk_wait(team);
    for (int rank = 0; rank < team->size; rank++)
        finite &= call->finite[rank];
    if (!finite)
        return false;
    kernels->unpack(work, team, work->P, call->state->params);
    for (int64_t s = 0; s < work->plan.n_slots; s++)
        kernels->unpack(work, team, slot(work, work->S, s, work->n_packed),
                        slot(work, call->state->slots, s, work->plan.n_parameters));
    return true;
}

static void train_region(void* arg, const struct brisk_team* team) {
    struct train* call = arg;
    struct brisk_work* work = call->work;
    const struct brisk_plan* plan = &work->plan;
    const struct brisk_kernels* kernels = work->kernels;
    kernels->pack(work, team, call->state->params, work->P);
    for (int64_t s = 0; s < plan->n_slots; s++)
        kernels->pack(work, team, slot(work, call->state->slots, s, plan->n_parameters),
                      slot(work, work->S, s, work->n_packed));
    brisk_wait(team);
    kernels->transpose(work, team);

    const struct brisk_state* state = call->state;
    const struct brisk_steps* steps = call->steps;
    const bool given = steps->order != NULL;
    const int64_t n = given ? steps->n_order : work->n;
    const int64_t n_batches = n / plan->batch_size + (n % plan->batch_size != 0);
    const int64_t first = state->counts[0];
    int64_t epoch = first, batch_index = state->counts[1], step = state->counts[2];
    double loss_sum = state->sums[0], divisor_sum = state->sums[1];
    double scalars[BRISK_SCALARS] = {0}; /* each thread moves its own alike */
    for (int64_t i = 0; i < plan->n_scalars; i++)
        scalars[i] = state->scalars[i];
    enum brisk_end end = BRISK_DONE;
    int64_t drawn = -1;
    brisk_wait(team); /* nobody moves the position before all have read it, or WT before all have written it */
    for (int64_t s = 0; s < steps->max_steps; s++) {
        if (epoch - first == steps->n_epochs || (given && epoch > first))
            break;
        if (!given && drawn != epoch) {
            brisk_wait(team); /* a batch without weight has none: somebody may still be reading the last order */
            if (team->rank == 0)
                draw_order(work, epoch);
            drawn = epoch;
            brisk_wait(team);
        }
        const int64_t start = batch_index * plan->batch_size, m = smaller(plan->batch_size, n - start);
        const int64_t* rows = (given ? steps->order : work->order) + start;
        const double divisor = divisor_of(call, team, s, rows, m);
        if (divisor > 0) {
            struct brisk_batch batch = {
                .rows = rows,
                .m = m,
                .scale = 1 / divisor,
                .rate = steps->rates[epoch - first],
                .step = step + 1,
                .epoch = epoch,
                .place = start,
                .goal = BRISK_UPDATE,
                .n_next = s + 1 < steps->max_steps ? smaller(plan->batch_size, n - start - m) : 0,
            };
            memcpy(batch.scalars, scalars, sizeof scalars);
            const double loss = kernels->step(work, team, call->data, &batch);
            memcpy(scalars, batch.scalars, sizeof scalars);
            if (!isfinite(loss)) {
                end = BRISK_LOSS_NOT_FINITE;
                break;
            }
            step++;
            const double counted = plan->report_rows ? (double)m : divisor;
            loss_sum += plan->report_rows ? loss / divisor * counted : loss;
            divisor_sum += counted;
        }
        if (++batch_index == n_batches) {
            if (team->rank == 0)
                steps->losses[epoch - first] = loss_sum / divisor_sum;
            epoch++;
            batch_index = 0;
            loss_sum = divisor_sum = 0;
        }
    }
    if (end == BRISK_DONE && !unpack_if_finite(call, team))
        end = BRISK_WEIGHTS_NOT_FINITE;
    if (team->rank > 0)
        return;
    call->end = end;
    if (end != BRISK_DONE) {
        call->where[0] = epoch;
        call->where[1] = batch_index;
        return;
    }
    state->counts[0] = epoch;
    state->counts[1] = batch_index;
    state->counts[2] = step;
    state->sums[0] = loss_sum;
    state->sums[1] = divisor_sum;
    for (int64_t i = 0; i < plan->n_scalars; i++)
        state->scalars[i] = scalars[i];
}

enum brisk_end brisk_train(struct brisk_work* work, const struct brisk_state* state, const struct brisk_data* data,
                           const struct brisk_steps* steps, int64_t where[2]) {
    struct train call = {.work = work, .state = state, .data = data, .steps = steps, .where = where};
    set_penalty(work, true);
    run(work->kernels, work->threads, train_region, &call);
    return call.end;
}
