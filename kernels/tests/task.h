/* The tasks of train_test.c: networks and data, as arrays of the format and for the kernels under test. */
#ifndef BRISK_TASK_H
#define BRISK_TASK_H

#include "../brisk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, WIDEST = 1100, VARIANTS = 390 /* of outputs, rules, biases and all else */ };

/* Networks, with n rows in batches. Each `stride`-th variant is tried; strides have no divisor in common with VARIANTS,
 * except the last. */
static const struct shape {
    int64_t n_layers, width[LAYERS + 1], n, batch;
    int stride;
} SHAPES[] = {
    {1, {1, 1}, 1, 1, 1},
    {1, {1, 1}, 7, 1, 1},
    {2, {5, 9, 3}, 33, 1, 7},
    {2, {5, 9, 3}, 33, 16, 1},
    {2, {5, 9, 3}, 259, 129, 7}, /* two shards, of which the last batch of 1 leaves one empty */
    {2, {17, 7, 33}, 17, 7, 1},
    {4, {3, 4, 5, 6, 2}, 40, 17, 1},
    {4, {9, 17, 16, 15, 4}, 40, 40, 7},
    {2, {33, 65, 1}, 50, 17, 7},
    {2, {64, 100, 10}, 300, 300, 17},
    {2, {40, 300, 7}, 20, 16, 17},      /* more panels than NC */
    {1, {1100, 5}, 17, 17, 17},         /* more inputs than KC */
    {3, {70, 90, 45, 5}, 127, 127, 37}, /* threads divide its rows, with a remainder */
    {2, {5, 9, 3}, 9000, 9000, 83},     /* shards of several chunks */
    {1, {1100, 64}, 600, 600, 103},     /* too large for shards; more rows than KC of dW */
    {2, {520, 130, 2}, 4200, 4200, 196} /* too large for shards; two chunks */
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES, MANY = 600 /* rows from which a test takes long */ };

/* u is twice the unit roundoff, to cover terms of second order, and because in float64 the loops here err as much as
 * the kernels. Numbers below `tiny` are not compared, because kernels flush subnormal ones. */
static const struct format {
    size_t size;
    const char* name;
    double u, tiny;
} FORMATS[] = {{sizeof(float), "float32", FLT_EPSILON, 1e6 * FLT_MIN},
               {sizeof(double), "float64", DBL_EPSILON, 1e6 * DBL_MIN}};

/* The format and kernels under test. */
static const struct format* format;
static const struct brisk_kernels* kernels;
static int64_t* record; /* of a profiled training */

static unsigned wanted = ~0u; /* the set of ISAs to test */

/* The kernels of an ISA in this format, or NULL. */
static const struct brisk_kernels* kernels_that_run(enum brisk_isa isa) {
    const bool runs = brisk_isas_can_run() & wanted & 1u << isa && (isa != BRISK_AMX || brisk_permits_tiles());
    return runs ? brisk_kernels_of(isa, format->size) : NULL;
}

/* --- tasks ------------------------------------------------------------------------------------------------------- */

/* A network, its training and data, of which all numbers are exact in float32. */
struct task {
    const struct shape* shape;
    int variant;
    struct brisk_plan plan;
    struct brisk_layer layers[LAYERS];
    double rate;
    int64_t n_in, n_out, n, X_step;
    double *params, *X, *Y, *weight; /* X's rows are X_step apart, with NaN between */
    int64_t *labels, *order;
};

static void* zeros(int64_t n, size_t size) {
    void* p = calloc(n > 0 ? (size_t)n : 1, size);
    if (p == NULL)
        abort();
    return p;
}

static uint64_t state; /* of uniform(); each task resets it, whatever was tested before */

/* A number uniform in -1 … 1, of 20 bits, by xorshift64*. */
static double uniform(void) {
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)(int64_t)((state * 0x2545F4914F6CDD1D) >> 43) * 0x1p-20 - 1;
}

static struct task make_task(const struct shape* shape, int v) {
    static const enum brisk_rule rules[] = {
#define RULE(NAME, ...) BRISK_##NAME,
#include "../operations.def"
        /* once more, with the other value of their last hyperparameter */
        BRISK_MOMENTUM, BRISK_VELOCITY, BRISK_ADAM};
    enum { RULES = sizeof rules / sizeof *rules };
    static const double parameters[BRISK_ACTIVATIONS][BRISK_PARAMETERS] = {
        [BRISK_LEAKY_RELU] = {0.0625},   [BRISK_ELU] = {0.75}, [BRISK_CELU] = {0.5}, [BRISK_SOFTPLUS] = {1.5, 20},
        [BRISK_HARDTANH] = {-0.5, 0.75},
    };
    /* in the order of briskmlp/operations/rules.py */
    static const double hyper[BRISK_RULES][BRISK_HYPER] = {
        [BRISK_MOMENTUM] = {0.9, 0.25},
        [BRISK_VELOCITY] = {0.9},
        [BRISK_ADAM] = {0.9, 0.99, 1e-3},
        [BRISK_AMSGRAD] = {0.9, 0.5, 1e-3},
        [BRISK_NADAM] = {0.9, 0.99, 1e-3, 0.25},
        [BRISK_RADAM] = {0.9, 0.8, 1e-3},
        [BRISK_ADAMAX] = {0.9, 0.5, 1e-3},
        [BRISK_ADAGRAD] = {0.25, 1e-3},
        [BRISK_ADADELTA] = {0.9, 1e-3},
        [BRISK_RMSPROP] = {0.99, 1e-3},
        [BRISK_RMSPROP_MOMENTUM] = {0.99, 1e-3, 0.9},
        [BRISK_RMSPROP_CENTERED] = {0.9, 1e-3},
        [BRISK_RMSPROP_CENTERED_MOMENTUM] = {0.9, 1e-3, 0.9},
    };
    static const struct {
        enum brisk_loss loss;
        enum brisk_activation activation;
    } pairs[] = {
        {BRISK_CROSS_ENTROPY, BRISK_SOFTMAX}, /* with labels */
#define PAIR(LOSS, ACTIVATION) {BRISK_##LOSS, BRISK_##ACTIVATION},
#include "../operations.def"
    };
    static const enum brisk_loss losses[] = {BRISK_MSE, BRISK_ABSOLUTE_ERROR, BRISK_HUBER};
    enum { PAIRS = sizeof pairs / sizeof *pairs };
    enum brisk_activation hiddens[BRISK_ACTIVATIONS];
    int n_hiddens = 0;
    for (enum brisk_activation f = 0; f < BRISK_ACTIVATIONS; f++)
        if (brisk_activations[f].where == BRISK_ANYWHERE)
            hiddens[n_hiddens++] = f;
    static const int64_t thresholds[3][2] = {{0, 0}, {32768, 16384}, {1, 45000}}; /* of layers in turn */
    static const double norms[] = {INFINITY, 0.125, INFINITY, 1};
    const int output = v % (PAIRS + 3 * n_hiddens), rule = v % RULES, bias = v % 3, of_errors = output - PAIRS;
    const enum brisk_loss loss = of_errors < 0 ? pairs[output].loss : losses[of_errors % 3];
    const enum brisk_activation f = of_errors < 0 ? pairs[output].activation : hiddens[of_errors / 3];
    const enum brisk_activation hidden = hiddens[(v / 8 + v) % n_hiddens];
    const bool labels = output == 0, penalised = v / 32 % 2, decoupled = v / RULES % 3 == 1;
    const bool decays = decoupled || v / 7 % 2;
    struct task t = {.shape = shape, .variant = v, .n = shape->n, .rate = 0.0625};
    state = ((uint64_t)(shape - SHAPES) * VARIANTS + (uint64_t)v + 1) * 0x9E3779B97F4A7C15;
    t.plan = (struct brisk_plan){.n_layers = shape->n_layers,
                                 .batch_size = shape->batch,
                                 .n_slots = brisk_rules[rules[rule]].slots,
                                 .n_scalars = brisk_rules[rules[rule]].scalars,
                                 .bias = (enum brisk_bias)bias,
                                 .loss = loss,
                                 .rule = rules[rule],
                                 .decoupled = decoupled,
                                 .report_rows = v / 9 % 2,
                                 .seed = 0x123456789ABCDEFu,
                                 .huber = 0.5,
                                 .loss_scale = v / 5 % 2 ? 0.5 : 1,
                                 .report_scale = v / 6 % 2 ? 0.25 : 1,
                                 .divisor = (enum brisk_divisor)(v / 5 % 3),
                                 .clip_norm = norms[v / 3 % 4]};
    if (t.plan.divisor == BRISK_DIVISOR_NOTHING) /* a sum over a batch is about as many times as long as a mean */
        t.rate = ldexp(t.rate, -1 - ilogb((double)shape->batch));
    memcpy(t.plan.hyper, hyper[rules[rule]], sizeof t.plan.hyper);
    if (rule >= BRISK_RULES) /* without dampening, with nesterov; nesterov; epsilon_hat */
        t.plan.hyper[rules[rule] == BRISK_MOMENTUM ? 2 : rules[rule] == BRISK_VELOCITY ? 1 : 3] = 1;
    int64_t at = 0;
    for (int64_t l = 0; l < shape->n_layers; l++) {
        const int64_t n_in = shape->width[l], n_out = shape->width[l + 1];
        const int64_t n_b = bias == BRISK_BIAS_NEURON ? n_out : bias == BRISK_BIAS_LAYER ? 1 : 0;
        t.layers[l] = (struct brisk_layer){
            .n_in = n_in,
            .n_out = n_out,
            .activation = l + 1 < shape->n_layers ? hidden : f,
            .dense_W = at,
            .dense_b = at + n_in * n_out,
            .n_b = n_b,
            .threshold = l + 1 < shape->n_layers ? thresholds[(v / 2 + 1) % 3][l % 2] : 0,
            .rate_W = 1,
            .rate_b = 0.5,
            .decay_W = decays ? 0.0625 : 0,
            .decay_b = decays ? 0.125 : 0,
            .plan_l2 = penalised ? 0.25 : 0,
        };
        memcpy(t.layers[l].parameters, parameters[t.layers[l].activation], sizeof t.layers[l].parameters);
        at += n_in * n_out + n_b;
    }
    t.plan.n_parameters = at;
    t.n_in = shape->width[0], t.n_out = shape->width[shape->n_layers], t.X_step = t.n_in + 3;

    t.params = zeros(at, sizeof(double));
    t.X = zeros(t.n * t.X_step, sizeof(double));
    t.Y = labels ? NULL : zeros(t.n * t.n_out, sizeof(double));
    t.labels = labels ? zeros(t.n, sizeof(int64_t)) : NULL;
    t.weight = v / 16 % 2 ? zeros(t.n, sizeof(double)) : NULL;
    t.order = zeros(t.n, sizeof(int64_t));
    for (int64_t l = 0; l < shape->n_layers; l++)
        for (int64_t i = t.layers[l].dense_W; i < t.layers[l].dense_b + t.layers[l].n_b; i++)
            t.params[i] = uniform() * exp2(-floor(log2((double)t.layers[l].n_in) / 2));
    for (int64_t i = 0; i < t.n; i++) {
        for (int64_t k = 0; k < t.X_step; k++)
            t.X[i * t.X_step + k] = k < t.n_in ? uniform() : (double)NAN;
        const double y = floor(32 + 32 * uniform()) / 64;
        for (int64_t j = 0; j < t.n_out && !labels; j++)
            t.Y[i * t.n_out + j] = loss == BRISK_POISSON                     ? floor(3 * fabs(uniform())) /* counts */
                                   : f != BRISK_SOFTMAX || loss == BRISK_MSE ? fabs(uniform())
                                   : t.n_out == 1                            ? 1
                                   : j == 0                                  ? y
                                   : j == 1                                  ? 1 - y
                                                                             : 0;
        if (labels)
            t.labels[i] = (int64_t)floor((double)t.n_out * (0.5 + uniform() / 2));
        if (t.weight != NULL) /* a quarter are 0, but not all */
            t.weight[i] = i == 0 ? 1 : fmax(0, uniform() + 0.5);
        t.order[i] = (i * 7919 + 3) % t.n; /* a prime: a permutation */
    }
    return t;
}

static void free_task(struct task* t) {
    void* parts[] = {t->params, t->X, t->Y, t->weight, t->labels, t->order};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
}

/* --- arrays in the format, and workspaces ------------------------------------------------------------------------ */

static double number(const void* p, int64_t i) {
    return format->size == sizeof(float) ? (double)((const float*)p)[i] : ((const double*)p)[i];
}

/* n numbers in the format, or NULL for NULL. There is no byte more, so that AddressSanitizer sees any access beyond. */
static void* cast(const double* from, int64_t n) {
    void* to = from == NULL ? NULL : zeros(n, format->size);
    for (int64_t i = 0; i < n && to != NULL; i++)
        if (format->size == sizeof(float))
            ((float*)to)[i] = (float)from[i];
        else
            ((double*)to)[i] = from[i];
    return to;
}

struct arrays {
    void *params, *state, *X, *Y, *weight, *grad, *out;
    double scalars[BRISK_SCALARS];
    int64_t n_state;
    struct brisk_data data;
};

static struct arrays make_arrays(const struct task* t) {
    struct arrays a = {.n_state = t->plan.n_slots * t->plan.n_parameters, .scalars = {1}};
    a.params = cast(t->params, t->plan.n_parameters);
    a.state = zeros(a.n_state, format->size);
    a.X = cast(t->X, (t->n - 1) * t->X_step + t->n_in);
    a.Y = cast(t->Y, t->n * t->n_out);
    a.weight = cast(t->weight, t->n);
    a.grad = zeros(t->plan.n_parameters, format->size);
    a.out = zeros(t->n * t->n_out, format->size);
    a.data = (struct brisk_data){a.X, a.Y, a.weight, t->labels, t->X_step};
    return a;
}

static void free_arrays(struct arrays* a) {
    void* parts[] = {a->params, a->state, a->X, a->Y, a->weight, a->grad, a->out};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
}

static void poison(void* from, void* to) {
    memset(from, -1, (size_t)((char*)to - (char*)from));
}

/* A workspace full of NaN: elements that a call has not written itself, and padding, must not matter. */
static struct brisk_work* make_work(const struct task* t, bool training) {
    struct brisk_work* work = brisk_work_new(kernels, &t->plan, t->layers, t->n, training, 1, false);
    if (work == NULL)
        abort();
    work->record = record;
    poison(work->P, work->penalties); /* up to the last copy of the weights */
    memset(work->penalties, -1, (size_t)work->n_blocks * sizeof(double));
    if (training && t->plan.clip_norm < INFINITY)
        memset(work->squares, -1, (size_t)work->n_blocks * sizeof(double));
    for (int i = 0; i < work->threads; i++)
        if (i == 0 || !work->shared) /* others have views of the first */
            poison(work->spaces[i].C, work->spaces[i].losses);
    return work;
}

#endif
