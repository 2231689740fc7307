/* Tests training from C, so that the sanitizers and qemu can watch. It prints nothing and returns 0, or prints a line
 * for each failure and returns 1.
 *
 *     train_test [quick] [ISA | only ISA…]
 *
 * `quick` leaves out most tests. ISA must be the one chosen here; after `only` come the ISAs to test. */
#define _DEFAULT_SOURCE
#include "reference.h"

#include "../runtime/profile.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static bool quick;
static atomic_int failures;

static void fail(const struct task* task, const char* what) {
    if (atomic_fetch_add(&failures, 1) >= 20)
        return;
    flockfile(stdout);
    printf("train_test: %s %s", brisk_isa_names[kernels->isa], format->name);
    for (int64_t l = 0; l <= task->plan.n_layers; l++)
        printf("%c%lld", l == 0 ? ' ' : '-', (long long)task->shape->width[l]);
    printf(", %lld rows by %lld, variant %d: %s\n", (long long)task->n, (long long)task->plan.batch_size, task->variant,
           what);
    funlockfile(stdout);
}

static void check(bool right, const struct task* task, const char* what) {
    if (!right)
        fail(task, what);
}

static void near(const struct task* task, const char* what, int64_t i, double got, double x, double e) {
    char text[120];
    if (fabs(got - x) <= e + format->tiny)
        return;
    snprintf(text, sizeof text, "%s[%lld] is %.9g, but must be %.9g within %.2g", what, (long long)i, got, x, e);
    fail(task, text);
}

/* --- against the equations --------------------------------------------------------------------------------------- */

static void check_numbers(const struct task* t, const char* what, const void* got, double factor, const double* x,
                          const double* e, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        near(t, what, i, number(got, i) * factor, x[i], e[i]);
}

/* Check parameters and state after a step from params0 and state0 along the gradient. */
static void check_step(const struct task* t, const double* params0, const double* state0, const struct arrays* a,
                       const double* grad, const double* e_grad, int64_t step) {
    /* Adadelta's second slot is a mean of squares of d, a quotient of roots times g: seven roundings of d make fourteen
     * of d², and the mean three more; a rounding is at most u / 2. */
    const double roundings = t->plan.rule == BRISK_ADADELTA ? 9 : 4;
    double product = 1;
    for (int64_t i = 1; i <= step && t->plan.rule == BRISK_NADAM; i++)
        product *= nadam_mu(t->plan.hyper, (double)i);
    if (t->plan.n_scalars > 0)
        near(t, "scalar", 0, a->scalars[0], product, 4 * (double)step * DBL_EPSILON);
    for (int64_t l = 0; l < t->plan.n_layers; l++) {
        const struct brisk_layer* layer = &t->layers[l];
        for (int64_t i = layer->dense_W; i < layer->dense_b + layer->n_b; i++) {
            const bool bias = i >= layer->dense_b;
            const double rate = t->rate * (bias ? layer->rate_b : layer->rate_W);
            const double decay = bias ? layer->decay_b : layer->decay_W;
            struct moved from = {params0[i], {0}, 0};
            for (int64_t k = 0; k < t->plan.n_slots; k++)
                from.s[k] = state0[k * t->plan.n_parameters + i];
            const double e = e_grad[i] + u * (fabs(grad[i]) + fabs(decay * from.w));
            const struct moved to = move(&t->plan, rate, decay, step, grad[i], &from, product);
            const struct moved low = move(&t->plan, rate, decay, step, grad[i] - e, &from, product);
            const struct moved high = move(&t->plan, rate, decay, step, grad[i] + e, &from, product);
            near(t, "weights", i, number(a->params, i), to.w,
                 2 * fmax(fabs(low.w - to.w), fabs(high.w - to.w)) + u * fabs(from.w) + 8 * u * to.size);
            for (int64_t k = 0; k < t->plan.n_slots; k++)
                near(t, "state", i, number(a->state, k * t->plan.n_parameters + i), to.s[k],
                     2 * fmax(fabs(low.s[k] - to.s[k]), fabs(high.s[k] - to.s[k])) +
                         roundings * u * (fabs(from.s[k]) + fabs(to.s[k])));
        }
    }
}

static void check_gradient(const struct task* t, const struct result* r, double scale, const double* no_state) {
    const int64_t n_parameters = t->plan.n_parameters, n_out = t->n * t->n_out;
    struct arrays a = make_arrays(t);
    struct brisk_work *work = make_work(t, true), *predicting = make_work(t, false);
    for (int i = 0; i < 2; i++) /* added up */
        near(t, "loss", i, brisk_gradient(work, a.params, &a.data, t->order, t->n, scale, true, a.grad), r->loss,
             r->e_loss);
    check_numbers(t, "gradient", a.grad, 0.5, r->grad, r->e_grad, n_parameters);
    near(t, "loss alone", 0, brisk_gradient(work, a.params, &a.data, t->order, t->n, scale, true, NULL), r->loss,
         r->e_loss);
    near(t, "loss alone", 1, brisk_gradient(predicting, a.params, &a.data, t->order, t->n, scale, true, NULL), r->loss,
         r->e_loss);
    near(t, "loss of nothing", 0, brisk_gradient(work, a.params, &a.data, t->order, 0, scale, true, a.grad), r->penalty,
         r->e_penalty);
    brisk_forward(work, a.params, &a.data, t->order, t->n, a.out);
    check_numbers(t, "output", a.out, 1, r->out, r->e_out, n_out);
    brisk_forward(predicting, a.params, &a.data, t->order, t->n, a.out);
    check_numbers(t, "output", a.out, 1, r->out, r->e_out, n_out);

    double *grad = zeros(n_parameters, sizeof(double)), *e = zeros(n_parameters, sizeof(double));
    for (int64_t i = 0; i < n_parameters; i++)
        grad[i] = number(a.grad, i);
    kernels->update(&t->plan, t->layers, a.params, a.grad, a.state, a.scalars, 1, t->rate);
    check_step(t, t->params, no_state, &a, grad, e, 1);
    free(grad), free(e);
    brisk_work_free(work), brisk_work_free(predicting);
    free_arrays(&a);
}

/* Check single steps, each from the parameters that the kernels had reached; r is scratch memory. */
static void check_train(const struct task* t, struct result* r) {
    const int64_t n_parameters = t->plan.n_parameters, batch = t->plan.batch_size;
    struct arrays a = make_arrays(t);
    struct brisk_work* work = make_work(t, true);
    double *params = zeros(n_parameters, sizeof(double)), *state = zeros(BRISK_SLOTS * n_parameters, sizeof(double));
    int64_t* in_order = zeros(t->n, sizeof(int64_t));
    for (int64_t i = 0; i < t->n; i++)
        in_order[i] = i;
    const int64_t* order = t->variant % 2 ? t->order : NULL;
    struct brisk_position at = {0}, where;
    struct brisk_sums sums = {0};
    double loss;
    const struct brisk_state live = {a.params, a.state, &at, &sums, a.scalars};
    const struct brisk_steps one = {&t->rate, &loss, 1, 1, order, t->n, NULL};
    for (int s = 0; s < (t->n < MANY ? 4 : 1); s++) {
        const struct brisk_position before = at;
        const struct brisk_sums sums0 = sums;
        const int64_t place = at.batch * batch, m = smaller(t->n - place, batch);
        const int64_t* rows = (order == NULL ? in_order : order) + place;
        double weight = 0;
        for (int64_t i = 0; i < m; i++)
            weight += t->weight == NULL ? 1 : t->weight[rows[i]];
        const double divisor = t->plan.divisor == BRISK_DIVISOR_NOTHING ? 1
                               : t->plan.divisor == BRISK_DIVISOR_ROWS  ? (double)m
                                                                        : weight;
        for (int64_t i = 0; i < n_parameters; i++)
            params[i] = number(a.params, i);
        for (int64_t i = 0; i < a.n_state; i++)
            state[i] = number(a.state, i);
        const double counted = t->plan.report_rows && divisor > 0 ? (double)m : divisor;
        const bool next = place + batch >= t->n;
        check(brisk_train(work, &live, &a.data, &one, &where) == BRISK_DONE, t, "a step failed");
        check(at.step == before.step + (divisor > 0) && at.epoch == before.epoch + next &&
                  (next ? at.batch == 0 && sums.divisor == 0
                        : at.batch == before.batch + 1 && sums.divisor == sums0.divisor + counted),
              t, "the position after a step");
        if (divisor == 0) {
            for (int64_t i = 0; i < n_parameters; i++)
                near(t, "weights that must not move", i, number(a.params, i), params[i], 0);
            continue;
        }
        compute(t, params, rows, m, 1 / divisor, before.epoch, place, r);
        const double share = counted / divisor;
        near(t, "sum of losses", s, next ? loss * (sums0.divisor + counted) : sums.loss, sums0.loss + share * r->loss,
             share * (r->e_loss + 4 * u * r->loss) + 4 * u * sums0.loss);
        clip(t, r);
        check_step(t, params, state, &a, r->grad, r->e_grad, at.step);
    }
    free(params), free(state), free(in_order);
    brisk_work_free(work);
    free_arrays(&a);
}

/* --- bits -------------------------------------------------------------------------------------------------------- */

enum { EPOCHS = 3, PIECE = 2 };

/* All results of three epochs, and the loss, gradient and outputs after them, in `size` bytes. Calls of PIECE steps
 * give each step its rate and hyperparameters, those of the epoch and the plan. */
static char* train(const struct task* t, int64_t max_steps, size_t* size) {
    struct arrays a = make_arrays(t);
    struct brisk_work *work = make_work(t, true), *predicting = make_work(t, false);
    struct brisk_position at = {0}, where;
    struct brisk_sums sums = {0};
    double rates[EPOCHS] = {t->rate, t->rate / 2, t->rate}, numbers[EPOCHS + 1] = {0};
    const struct brisk_state live = {a.params, a.state, &at, &sums, a.scalars};
    while (at.epoch < EPOCHS) {
        const int64_t done = at.epoch;
        const int64_t n_batches = divide_up(t->n, t->plan.batch_size);
        double own[PIECE][1 + BRISK_HYPER];
        for (int s = 0; s < PIECE; s++) {
            own[s][0] = rates[smaller(at.epoch + (at.batch + s) / n_batches, EPOCHS - 1)];
            memcpy(own[s] + 1, t->plan.hyper, sizeof t->plan.hyper);
        }
        const struct brisk_steps steps = {
            rates + done, numbers + done, EPOCHS - done, max_steps, NULL, 0, max_steps == PIECE ? own[0] : NULL};
        if (brisk_train(work, &live, &a.data, &steps, &where) != BRISK_DONE) {
            fail(t, "training failed");
            break;
        }
        if (at.step % 3 == 1) {
            brisk_work_free(work);
            work = make_work(t, true);
        }
    }
    numbers[EPOCHS] = brisk_gradient(work, a.params, &a.data, t->order, t->n, 1, true, a.grad);
    brisk_forward(predicting, a.params, &a.data, t->order, t->n, a.out);

    const size_t one = format->size, n_parameters = (size_t)t->plan.n_parameters;
    const struct {
        const void* from;
        size_t size;
    } parts[] = {{a.params, n_parameters * one},
                 {a.grad, n_parameters * one},
                 {a.state, (size_t)a.n_state * one},
                 {a.out, (size_t)(t->n * t->n_out) * one},
                 {&at, sizeof at},
                 {&sums, sizeof sums},
                 {numbers, sizeof numbers}};
    char* bytes = zeros((int64_t)((2 * n_parameters + (size_t)a.n_state + (size_t)(t->n * t->n_out)) * one + sizeof at +
                                  sizeof sums + sizeof numbers),
                        1);
    *size = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; *size += parts[i++].size)
        memcpy(bytes + *size, parts[i].from, parts[i].size);
    brisk_work_free(work), brisk_work_free(predicting);
    free_arrays(&a);
    return bytes;
}

static void same_bits(const struct task* t, const char* bytes, int64_t max_steps, const char* what) {
    size_t size;
    char* again = train(t, max_steps, &size);
    check(memcmp(bytes, again, size) == 0, t, what);
    free(again);
}

struct job {
    const struct task* task;
    const char* bytes;
};

static void* train_beside(void* job) {
    for (int i = 0; i < 3; i++)
        same_bits(((struct job*)job)->task, ((struct job*)job)->bytes, 1000, "other bits beside another training");
    return NULL;
}

/* Profiled: the same bits, and laps that add up to no more than their steps. */
static void check_profiled(const struct task* t, const char* bytes) {
    enum { THREADS = 2 };
    const int64_t size = brisk_record_size(t->plan.n_layers);
    record = zeros(THREADS * size, sizeof *record);
    for (int64_t rank = 0; rank < THREADS; rank++)
        ((struct brisk_record*)(record + rank * size))->every = 1 + t->variant % 3;
    brisk_forced_threads = THREADS;
    same_bits(t, bytes, 1000, "other bits when profiled");
    for (int64_t rank = 0; rank < THREADS; rank++) {
        const struct brisk_record* r = (struct brisk_record*)(record + rank * size);
        int64_t laps = 0, ticks = 0;
        for (int64_t place = 0; place < BRISK_PHASES * (t->plan.n_layers + 1); place++) {
            laps += r->counts[2 * place];
            ticks += r->counts[2 * place + 1];
        }
        int64_t recorded = 0;
        for (int64_t step = 1; step <= r->steps; step++) /* the golden ratio is 1.618… */
            recorded += fmod((double)step * 0.6180339887498949, 1) < 1 / (double)r->every;
        check(r->sampled == recorded, t, "other steps than those of the golden ratio are recorded");
        check(r->n_events == laps + r->sampled, t, "laps and events differ");
        check(0 <= ticks && ticks <= r->ticks, t, "laps do not add up to steps");
    }
    free(record);
    record = NULL;
}

static void check_bits(struct task* t) {
    static const int teams[] = {2, 3, 7};
    size_t size;
    t->plan.shuffle = true;
    brisk_forced_threads = 1;
    char* bytes = train(t, 1000, &size);
    same_bits(t, bytes, 1, "other bits step by step");
    for (size_t i = 0; i < sizeof teams / sizeof *teams; i++) {
        brisk_forced_threads = teams[i];
        same_bits(t, bytes, 1000, "other bits with other threads");
    }
    same_bits(t, bytes, PIECE, "other bits in pieces, with other threads");
    check_profiled(t, bytes);
    brisk_forced_threads = 2;
    if (t->n < MANY) {
        struct job job = {t, bytes};
        pthread_t beside;
        pthread_create(&beside, NULL, train_beside, &job);
        train_beside(&job);
        pthread_join(beside, NULL);
    }
    t->plan.shuffle = false;
    free(bytes);
}

/* --- what goes wrong --------------------------------------------------------------------------------------------- */

/* Check that a training of two epochs ends like this before that batch, and leaves everything as it was. */
static void check_end(const struct task* t, const double rates[2], int64_t max_steps, enum brisk_end end, int64_t epoch,
                      int64_t batch) {
    struct arrays a = make_arrays(t), same = make_arrays(t);
    struct brisk_work* work = make_work(t, true);
    struct brisk_position at = {0}, where = {-1, -1, 0};
    struct brisk_sums sums = {0};
    double losses[2] = {-1, -1};
    const struct brisk_state live = {a.params, a.state, &at, &sums, a.scalars};
    const struct brisk_steps steps = {rates, losses, 2, max_steps, NULL, 0, NULL};
    const enum brisk_end got = brisk_train(work, &live, &a.data, &steps, &where);
    check(got == end, t, "training ended otherwise");
    check(where.epoch == epoch && where.batch == batch, t, "training ended elsewhere");
    check(memcmp(a.params, same.params, (size_t)t->plan.n_parameters * format->size) == 0, t,
          "parameters were touched");
    check(memcmp(a.state, same.state, (size_t)a.n_state * format->size) == 0, t, "the state was touched");
    check(at.epoch == 0 && at.batch == 0 && at.step == 0 && sums.loss == 0 && sums.divisor == 0, t,
          "position was touched");
    brisk_work_free(work);
    free_arrays(&a), free_arrays(&same);
}

static void check_divergence(void) {
    for (int v = 0; v < 16; v++)
        for (int threads = 1; threads <= 2; threads++) {
            struct task t = make_task(&SHAPES[3], v); /* batches of 16, 16 and 1 */
            t.plan.precision = kernels->precision;
            const double rates[] = {t.rate, t.rate}, late[] = {t.rate, INFINITY}, infinite[] = {INFINITY, 1};
            brisk_forced_threads = threads;
            check_end(&t, infinite, 1, BRISK_WEIGHTS_NOT_FINITE, 0, 1);
            check_end(&t, late, 4, BRISK_WEIGHTS_NOT_FINITE, 1, 1);
            t.layers[1].rate_b = INFINITY;
            if (t.layers[1].n_b > 0)
                check_end(&t, rates, 1, BRISK_WEIGHTS_NOT_FINITE, 0, 1);
            t.layers[1].rate_b = 1;
            if (t.Y != NULL)
                t.Y[20 * t.n_out] = (double)NAN;
            else
                t.X[20 * t.X_step] = (double)NAN;
            check_end(&t, rates, 100, BRISK_LOSS_NOT_FINITE, 0, 1);
            free_task(&t);
        }
}

static void check_allocation(void) {
    struct task t = make_task(&SHAPES[3], 3);
    t.plan.precision = kernels->precision;
    int64_t count = 1;
    struct brisk_work* work = NULL;
    for (; work == NULL && count < 100; count++) {
        brisk_failing_allocation = count;
        work = brisk_work_new(kernels, &t.plan, t.layers, t.n, true, 2, false);
    }
    brisk_failing_allocation = 0;
    check(work != NULL && count > 2, &t, "failing allocations");
    brisk_work_free(work);
    brisk_work_free(NULL);
    static const int64_t sizes[] = {INT64_MAX, INT64_MAX / 8, (int64_t)1 << 58, (int64_t)1 << 52};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int training = 0; training < 2; training++) {
            t.plan.batch_size = sizes[i] - 1;
            check(brisk_work_new(kernels, &t.plan, t.layers, sizes[i], training, 2, false) == NULL, &t,
                  "memory without end");
        }
    t.layers[0].n_in = t.layers[0].n_out = t.layers[1].n_in = (int64_t)1 << 31;
    check(brisk_work_new(kernels, &t.plan, t.layers, 1, true, 2, false) == NULL, &t, "weights without end");
    free_task(&t);
}

/* --- all --------------------------------------------------------------------------------------------------------- */

static void check_task(const struct shape* shape, int v, bool bits) {
    struct task t = make_task(shape, v);
    struct result r = make_result(&t);
    double* no_state = zeros(BRISK_SLOTS * t.plan.n_parameters, sizeof(double));
    const double scale = 0.125;
    compute(&t, t.params, t.order, t.n, scale, -1, 0, &r);
    struct result steps = make_result(&t);
    for (enum brisk_isa isa = BRISK_PORTABLE; isa < BRISK_ISA_COUNT; isa++) {
        kernels = kernels_that_run(isa);
        if (kernels == NULL || kernels->precision != BRISK_HIGHEST)
            continue;
        brisk_forced_threads = 1 + v % 3;
        check_gradient(&t, &r, scale, no_state);
        check_train(&t, &steps);
        if (bits)
            check_bits(&t);
    }
    if (bits && format->size == sizeof(float))
        for (enum brisk_isa isa = BRISK_PORTABLE; isa < BRISK_ISA_COUNT; isa++) {
            kernels = kernels_that_run(isa);
            t.plan.precision = v % 2 ? BRISK_HIGH : BRISK_BFLOAT16;
            if (kernels != NULL)
                check_bits(&t);
        }
    free(no_state);
    free_result(&r), free_result(&steps);
    free_task(&t);
}

int main(int argc, char** argv) {
    const char* isa = brisk_isa_names[brisk_isa_should_run(brisk_isas_can_run(), BRISK_HIGHEST)];
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "only") == 0)
            wanted = 0;
        else if (wanted != ~0u) {
            for (enum brisk_isa j = BRISK_PORTABLE; j < BRISK_ISA_COUNT; j++)
                wanted |= strcmp(argv[i], brisk_isa_names[j]) == 0 ? 1u << j : 0;
        } else if (strcmp(argv[i], isa) != 0) {
            printf("train_test: %s is chosen, not %s\n", isa, argv[i]);
            return 1;
        }
    alarm(600); /* a deadlock fails the test */
    if (atomic_load(&failures) != 0)
        puts("train_test: rows of operations.def that no kernel computes with");
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++) {
        format = &FORMATS[f];
        u = format->u;
        for (const struct shape* shape = SHAPES; shape < SHAPES + N_SHAPES; shape++)
            for (int v = 0, stride = shape->stride * (quick ? 11 : 1); v < VARIANTS; v += stride)
                if (!quick || shape->stride < 80)
                    check_task(shape, v, v / stride < (shape->n < MANY ? 7 : 2));
        for (enum brisk_isa i = BRISK_PORTABLE; i < BRISK_ISA_COUNT; i++) {
            kernels = kernels_that_run(i);
            if (kernels != NULL) {
                check_divergence();
                check_allocation();
            }
        }
    }
    return atomic_load(&failures) != 0;
}
