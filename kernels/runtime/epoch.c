/* The calls that Python makes: forward, gradient, update, and train with its minibatch loop.
 *
 * Each is one region of the pool. All threads of a team run the same loop in step and take the same decisions, from
 * values that all of them see; thread 0 alone writes what is shared. A call writes its results last: the caller's state
 * stays as it was unless everything has gone well. */
#include "../brisk.h"
#include "float_state.h"
#include "parts.h"
#include "philox.h"

#include <math.h>
#include <string.h>

struct region {
    const struct brisk_kernels* kernels;
    brisk_region* body;
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

void brisk_run(const struct brisk_kernels* kernels, int threads, brisk_region* region, void* arg) {
    struct region with_kernels = {kernels, region, arg};
    brisk_pool_run(threads, on_each_thread, &with_kernels);
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
    uint64_t words[4], drawn = 0, low;
    for (int64_t i = work->plan.shuffle ? work->n - 1 : 0; i > 0; i--, drawn++) {
        if (drawn % 4 == 0) /* NumPy counts before each block */
            brisk_philox(drawn / 4 + 1, 0, 0, BRISK_STREAM_ORDER, work->plan.seed, (uint64_t)epoch, words);
        const int64_t j = (int64_t)brisk_high_product(words[drawn % 4], (uint64_t)i + 1, &low);
        const int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* --- forward, gradient, update ----------------------------------------------------------------------------------- */

/* A call that moves nothing. */
struct call {
    struct brisk_work* work;
    const void* params;
    const struct brisk_data* data;
    struct brisk_batch batch;
    void* out; /* the outputs, or the gradient */
    double loss;
};

enum { DENSE_ROWS = 4 }; /* whose products cost less than packing the weights for them */

/* Pack the parameters, and write the copies that products read. */
static void pack(const struct brisk_work* work, const struct brisk_team* team, const void* params, bool backward) {
    work->kernels->pack(work, team, params, work->P);
    brisk_wait(team);
    if (backward || work->rounds) {
        work->kernels->transpose(work, team);
        brisk_wait(team);
    }
}

static void forward_region(void* arg, const struct brisk_team* team) {
    const struct call* call = arg;
    const struct brisk_work* work = call->work;
    const struct brisk_kernels* kernels = work->kernels;
    const int64_t *rows = call->batch.rows, m = call->batch.m, n_out = work->layers[work->plan.n_layers - 1].n_out;
    if (m <= DENSE_ROWS && work->splits == 1 && kernels->predict_few != NULL) {
        if (team->rank == 0)
            kernels->predict_few(work, call->params, call->data, rows, m, call->out);
        return;
    }
    pack(work, team, call->params, false);
    const struct part chunks = part_of(team, divide_up(m, work->rows));
    for (int64_t i = chunks.first * work->rows; i < smaller(m, chunks.end * work->rows); i += work->rows)
        kernels->predict(work, team->rank, call->data, rows + i, smaller(work->rows, m - i),
                         (char*)call->out + (size_t)(i * n_out) * kernels->size);
}

static void gradient_region(void* arg, const struct brisk_team* team) {
    struct call* call = arg;
    const struct brisk_work* work = call->work;
    pack(work, team, call->params, call->batch.goal == BRISK_GRADIENT);
    const double loss = work->kernels->step(work, team, call->data, &call->batch);
    if (team->rank > 0)
        return;
    call->loss = loss;
    if (call->out != NULL)
        work->kernels->add(work, work->G, call->out);
}

void brisk_forward(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                   int64_t n_rows, void* out) {
    struct call call = {work, params, data, {.rows = rows, .m = n_rows}, out, 0};
    brisk_run(work->kernels, work->shared ? 1 : work->threads, forward_region, &call); /* each in its own space */
}

double brisk_gradient(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                      int64_t n_rows, double scale, bool with_penalty, void* grad) {
    const enum brisk_goal goal = grad == NULL ? BRISK_LOSS : BRISK_GRADIENT;
    struct call call = {work, params, data, {.rows = rows, .m = n_rows, .scale = scale, .goal = goal}, grad, 0};
    set_penalty(work, with_penalty);
    brisk_run(work->kernels, grad == NULL && work->shared ? 1 : work->threads, gradient_region, &call);
    return call.loss;
}

void brisk_update(const struct brisk_kernels* kernels, const struct brisk_plan* plan, const struct brisk_layer* layers,
                  const struct brisk_state* state, const void* grad, int64_t step, double rate) {
    const uint64_t float_state = brisk_float_state_enter();
    kernels->update(plan, layers, state->params, grad, state->slots, state->scalars, step, rate);
    brisk_float_state_write(float_state);
}

/* --- train ------------------------------------------------------------------------------------------------------- */

struct train {
    struct brisk_work* work;
    const struct brisk_state* state;
    const struct brisk_data* data;
    const struct brisk_steps* steps;
    struct brisk_position* where;
    enum brisk_end end;
    double weights[2];      /* of this batch and the one before, in turn */
    atomic_bool overflowed; /* something that was learned */
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

/* The learning rate of a step. Where each step has its own hyperparameters, thread 0 writes them to the plan, which
 * nobody reads between two steps. */
static double rate_of(struct train* call, const struct brisk_team* team, int64_t s, int64_t epoch) {
    if (call->steps->per_step == NULL)
        return call->steps->rates[epoch];
    const double* own = call->steps->per_step + s * (1 + BRISK_HYPER);
    if (team->rank == 0)
        memcpy(call->work->plan.hyper, own + 1, sizeof call->work->plan.hyper);
    brisk_wait(team);
    return own[0];
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
    if (!finite)
        call->overflowed = true;
    brisk_wait(team);
    if (call->overflowed)
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
    const struct brisk_state* state = call->state;
    const struct brisk_steps* steps = call->steps;
    const bool given = steps->order != NULL;
    const int64_t n = given ? steps->n_order : work->n;
    const int64_t n_batches = divide_up(n, plan->batch_size);
    pack(work, team, state->params, true);
    for (int64_t s = 0; s < plan->n_slots; s++)
        kernels->pack(work, team, slot(work, state->slots, s, plan->n_parameters),
                      slot(work, work->S, s, work->n_packed));

    struct brisk_position at = *state->position;
    struct brisk_sums sums = *state->sums;
    struct brisk_batch batch = {.goal = BRISK_UPDATE}; /* of each thread its own: all move their scalars alike */
    for (int64_t i = 0; i < plan->n_scalars; i++)
        batch.scalars[i] = state->scalars[i];
    const int64_t first = at.epoch;
    enum brisk_end end = BRISK_DONE;
    int64_t drawn = -1;
    brisk_wait(team); /* nobody moves the position before all have read it */
    for (int64_t s = 0; s < steps->max_steps; s++) {
        if (at.epoch - first == steps->n_epochs || (given && at.epoch > first))
            break;
        if (!given && drawn != at.epoch) {
            brisk_wait(team); /* a batch without weight has none: somebody may still be reading the last order */
            if (team->rank == 0)
                draw_order(work, at.epoch);
            drawn = at.epoch;
            brisk_wait(team);
        }
        const int64_t start = at.batch * plan->batch_size, m = smaller(plan->batch_size, n - start);
        const int64_t* rows = (given ? steps->order : work->order) + start;
        const double divisor = divisor_of(call, team, s, rows, m);
        if (divisor > 0) {
            batch.rows = rows;
            batch.m = m;
            batch.scale = 1 / divisor;
            batch.rate = rate_of(call, team, s, at.epoch - first);
            batch.step = at.step + 1;
            batch.epoch = at.epoch;
            batch.place = start;
            batch.n_next = s + 1 < steps->max_steps ? smaller(plan->batch_size, n - start - m) : 0;
            const double loss = kernels->step(work, team, call->data, &batch);
            if (!isfinite(loss)) {
                end = BRISK_LOSS_NOT_FINITE;
                break;
            }
            at.step++;
            sums.loss += plan->report_rows ? loss / divisor * (double)m : loss;
            sums.divisor += plan->report_rows ? (double)m : divisor;
        }
        if (++at.batch == n_batches) {
            if (team->rank == 0)
                steps->losses[at.epoch - first] = sums.loss / sums.divisor;
            at = (struct brisk_position){at.epoch + 1, 0, at.step};
            sums = (struct brisk_sums){0};
        }
    }
    if (end == BRISK_DONE && !unpack_if_finite(call, team))
        end = BRISK_WEIGHTS_NOT_FINITE;
    if (team->rank > 0)
        return;
    call->end = end;
    if (end != BRISK_DONE) {
        *call->where = at;
        return;
    }
    *state->position = at;
    *state->sums = sums;
    for (int64_t i = 0; i < plan->n_scalars; i++)
        state->scalars[i] = batch.scalars[i];
}

enum brisk_end brisk_train(struct brisk_work* work, const struct brisk_state* state, const struct brisk_data* data,
                           const struct brisk_steps* steps, struct brisk_position* where) {
    struct train call = {.work = work, .state = state, .data = data, .steps = steps, .where = where};
    const struct brisk_plan plan = work->plan;
    set_penalty(work, true);
    brisk_run(work->kernels, work->threads, train_region, &call);
    work->plan = plan; /* steps may have had hyperparameters of their own */
    return call.end;
}
