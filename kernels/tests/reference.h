/* What train_test.c trains, and what must come of it: plain loops over the equations, in float64, one example at a time.
 *
 * Each number there comes with a bound: how far from it a kernel's may be, whatever the order of its sums and whether
 * it fuses. That is running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3): a sum
 * of K products errs by at most K + 1 roundings of the sum of their sizes. */
#ifndef BRISK_REFERENCE_H
#define BRISK_REFERENCE_H

#include "../brisk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, WIDEST = 1100, VARIANTS = 8 * 7 * 3 /* outputs, rules, biases: all combinations */ };

/* Networks, with n rows in batches; each `stride`-th variant is tried. layout.c decides how they are divided: */
static const struct shape {
    int64_t n_layers, width[LAYERS + 1], n, batch;
    int stride;
} SHAPES[] = {
    {1, {1, 1}, 1, 1, 1},
    {1, {1, 1}, 7, 1, 1},
    {2, {5, 9, 3}, 33, 1, 5},
    {2, {5, 9, 3}, 33, 16, 1},
    {2, {5, 9, 3}, 300, 129, 5}, /* two slices; a short one in the last batch */
    {2, {17, 7, 33}, 17, 7, 1},
    {4, {3, 4, 5, 6, 2}, 40, 17, 1},
    {4, {9, 17, 16, 15, 4}, 40, 40, 5},
    {2, {33, 65, 1}, 50, 17, 5},
    {2, {64, 100, 10}, 300, 300, 17},
    {2, {40, 300, 7}, 20, 16, 17},  /* more panels than go with one block of rows */
    {1, {1100, 5}, 17, 17, 17},     /* more inputs than one block of a sum */
    {2, {5, 9, 3}, 9000, 9000, 83}, /* slices of several chunks */
    {1, {1100, 64}, 600, 600, 100}, /* too large for slices; more rows than one block of a sum */
    {1, {520, 64}, 4200, 4200, 100} /* in float64 too large for slices, and two chunks */
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

/* u is twice the unit roundoff: for what is of second order, and because in float64 the loops here err as much. No
 * number that matters is `tiny`: kernels flush what is. */
static const struct format {
    size_t size;
    const char* name;
    double u, tiny;
} FORMATS[] = {{sizeof(float), "float32", FLT_EPSILON, 1e6 * FLT_MIN},
               {sizeof(double), "float64", DBL_EPSILON, 1e6 * DBL_MIN}};

static double u; /* of the type that is tested */

/* --- tasks ------------------------------------------------------------------------------------------------------- */

/* A network, a training and data; all numbers are exact in float32. */
struct task {
    const struct shape* shape;
    int variant;
    struct brisk_plan plan;
    struct brisk_layer layers[LAYERS];
    double l2[2 * LAYERS], rate;
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

/* Uniform in -1 … 1, of 20 bits: xorshift64*. */
static double uniform(void) {
    static uint64_t state = 1;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)(int64_t)((state * 0x2545F4914F6CDD1D) >> 43) * 0x1p-20 - 1;
}

static struct task make_task(const struct shape* shape, int v) {
    static const enum brisk_rule rules[] = {BRISK_SGD,  BRISK_MOMENTUM, BRISK_MOMENTUM, BRISK_ADAM,
                                            BRISK_ADAM, BRISK_RMSPROP,  BRISK_SGD};
    static const int64_t slots[] = {0, 1, 1, 2, 2, 1, 0};
    const int output = v % 8, rule = v % 7, bias = v % 3, hidden = (v / 8 + v) % 4;
    const bool cross = output >= 5, labels = output == 7, penalised = v / 32 % 2, decays = rule == 4 || rule == 6 || v / 7 % 2;
    struct task t = {.shape = shape, .variant = v, .n = shape->n, .rate = 0.0625};
    t.plan = (struct brisk_plan){.n_layers = shape->n_layers,
                                 .batch_size = shape->batch,
                                 .n_slots = slots[rule],
                                 .bias = (enum brisk_bias)bias,
                                 .loss = cross ? BRISK_CROSS_ENTROPY : BRISK_MSE,
                                 .rule = rules[rule],
                                 .nesterov = rule == 2,
                                 .decoupled = rule == 4,
                                 .seed = 0x123456789ABCDEFu,
                                 .loss_scale = v / 5 % 2 ? 0.5 : 1,
                                 .momentum = 0.9,
                                 .beta1 = 0.9,
                                 .beta2 = 0.99,
                                 .epsilon = 1e-3};
    const enum brisk_activation outputs[] = {BRISK_SIGMOID, BRISK_TANH,    BRISK_RELU,   BRISK_IDENTITY,
                                             BRISK_SOFTMAX, BRISK_SIGMOID, BRISK_SOFTMAX, BRISK_SOFTMAX};
    int64_t at = 0;
    for (int64_t l = 0; l < shape->n_layers; l++) {
        const int64_t n_in = shape->width[l], n_out = shape->width[l + 1];
        const int64_t n_b = bias == BRISK_BIAS_NEURON ? n_out : bias == BRISK_BIAS_LAYER ? 1 : 0;
        t.layers[l] = (struct brisk_layer){
            .n_in = n_in,
            .n_out = n_out,
            .activation = l + 1 < shape->n_layers ? (enum brisk_activation)hidden : outputs[output],
            .below = l > 0 ? (enum brisk_activation)hidden : BRISK_IDENTITY,
            .dense_W = at,
            .dense_b = at + n_in * n_out,
            .n_b = n_b,
            .rate_W = 1,
            .rate_b = 0.5,
            .decay_W = decays ? 0.0625 : 0,
            .decay_b = decays ? 0.125 : 0,
        };
        at += n_in * n_out + n_b;
        t.l2[2 * l] = penalised ? 0.25 : 0;
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
            t.Y[i * t.n_out + j] = output != 6 ? fabs(uniform()) : t.n_out == 1 ? 1 : j == 0 ? y : j == 1 ? 1 - y : 0;
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

/* --- the equations, with bounds ---------------------------------------------------------------------------------- */

/* Numbers x, and how far from each a kernel's may be. */
struct vector {
    double x[WIDEST], e[WIDEST];
};

struct result {
    double loss, e_loss;
    double *grad, *e_grad, *out, *e_out; /* (n_parameters,), (m, n_out) */
};

static struct result make_result(const struct task* t) {
    const int64_t n = t->plan.n_parameters, m = t->n * t->n_out;
    return (struct result){.grad = zeros(n, sizeof(double)),
                           .e_grad = zeros(n, sizeof(double)),
                           .out = zeros(m, sizeof(double)),
                           .e_out = zeros(m, sizeof(double))};
}

static void free_result(struct result* r) {
    free(r->grad), free(r->e_grad), free(r->out), free(r->e_out);
}

/* Z = A @ W + b */
static void forward(const struct brisk_layer* layer, const double* params, const struct vector* A, struct vector* Z) {
    const double *W = params + layer->dense_W, *b = params + layer->dense_b, c = (double)(layer->n_in + 2) * u;
    for (int64_t j = 0; j < layer->n_out; j++) {
        Z->x[j] = layer->n_b == 0 ? 0 : b[layer->n_b == 1 ? 0 : j];
        Z->e[j] = c * fabs(Z->x[j]);
    }
    for (int64_t k = 0; k < layer->n_in; k++, W += layer->n_out)
        for (int64_t j = 0; j < layer->n_out; j++) {
            Z->x[j] += A->x[k] * W[j];
            Z->e[j] += (A->e[k] + c * fabs(A->x[k])) * fabs(W[j]);
        }
}

/* A = f(Z) in place, where f' <= 1/4 or 1; 2 ulp are at most 2 u. */
static void activate(enum brisk_activation f, struct vector* A, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        const double z = A->x[j], e = A->e[j];
        if (f == BRISK_SIGMOID) {
            A->x[j] = 1 / (1 + exp(-z));
            A->e[j] = e / 4 + 2 * u * A->x[j];
        } else if (f == BRISK_TANH) {
            A->x[j] = tanh(z);
            A->e[j] = e + 2 * u * fabs(A->x[j]);
        } else if (f == BRISK_RELU) {
            A->x[j] = z > 0 ? z : 0;
            A->e[j] = z > -e ? e : 0;
        }
    }
}

/* A = softmax(Z) in place; returns max(Z) + log Σ e^(Z - max), and its bound. */
static double softmax(struct vector* A, int64_t n, double* e) {
    double highest = A->x[0], lowest = A->x[0], largest_e = 0, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        highest = fmax(highest, A->x[j]);
        lowest = fmin(lowest, A->x[j]);
        largest_e = fmax(largest_e, A->e[j]);
    }
    for (int64_t j = 0; j < n; j++)
        sum += A->x[j] = exp(A->x[j] - highest);
    const double relative = 2 * largest_e + u * (highest - lowest + (double)n + 4); /* of each term and of the sum */
    for (int64_t j = 0; j < n; j++) {
        A->x[j] /= sum;
        A->e[j] = 2 * relative * A->x[j];
    }
    *e = relative + 4 * u * (fabs(highest) + fabs(log(sum)));
    return highest + log(sum);
}

/* D = g * f'(Z), from A = f(Z); g is in D. */
static void through(enum brisk_activation f, const struct vector* A, struct vector* D, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        const double a = A->x[j], e = A->e[j], g = D->x[j], e_g = D->e[j];
        double slope = 1, e_slope = 0;
        if (f == BRISK_SIGMOID)
            slope = a * (1 - a), e_slope = e + 2 * u * slope;
        else if (f == BRISK_TANH)
            slope = 1 - a * a, e_slope = 2 * fabs(a) * e + 2 * u;
        else if (f == BRISK_RELU)
            slope = a > 0, e_slope = e > 0 && a <= e; /* either side of 0 */
        D->x[j] = g * slope;
        D->e[j] = e_g * (slope + e_slope) + fabs(g) * e_slope + 2 * u * fabs(D->x[j]);
    }
}

/* The last layer: from Z, in A, to A and D = scale ∂E/∂Z of example i, of weight w; adds up w E. */
static void loss_row(const struct task* t, struct vector* A, struct vector* D, int64_t i, double w, double scale,
                     struct result* r) {
    const enum brisk_activation f = t->layers[t->plan.n_layers - 1].activation;
    const bool cross = t->plan.loss == BRISK_CROSS_ENTROPY;
    const int64_t n = t->n_out;
    struct vector Z = *A;
    double e_sum = 0, along = 0, e_along = 0, highest = 0;
    const double log_sum = f == BRISK_SOFTMAX ? softmax(A, n, &e_sum) : 0;
    activate(f, A, n);
    for (int64_t j = 0; j < n; j++)
        highest = fmax(highest, fabs(Z.x[j]));
    for (int64_t j = 0; j < n; j++) {
        const double y = t->labels != NULL ? t->labels[i] == j : t->Y[i * n + j];
        const double z = Z.x[j], e = Z.e[j], off = A->x[j] - y, c = (double)(16 * n + 12) * u;
        if (!cross) {
            r->loss += w * off * off;
            r->e_loss += w * ((2 * fabs(off) + A->e[j]) * A->e[j] + c * off * off);
        } else if (f == BRISK_SOFTMAX) {
            r->loss += w * y * (log_sum - z);
            r->e_loss += w * y * (e_sum + e + c * highest);
        } else {
            const double softplus = fmax(z, 0) + log1p(exp(-fabs(z)));
            r->loss += w * (softplus - y * z);
            r->e_loss += w * ((1 + y) * e + c * (softplus + y * fabs(z)));
            A->e[j] = e / 4 + 4 * u * A->x[j]; /* not from vec_sigmoid */
        }
        D->x[j] = (cross ? 1 : 2) * w * scale * off;
        D->e[j] = (cross ? 1 : 2) * w * scale * (A->e[j] + 4 * u * (fabs(A->x[j]) + y));
        along += D->x[j] * A->x[j];
        e_along += D->e[j] * A->x[j] + fabs(D->x[j]) * (A->e[j] + (double)(n + 2) * u * A->x[j]);
    }
    for (int64_t j = 0; j < n && !cross && f == BRISK_SOFTMAX; j++) {
        const double g = D->x[j] - along, e = D->e[j] + e_along + u * fabs(g);
        D->x[j] = A->x[j] * g;
        D->e[j] = A->e[j] * (fabs(g) + e) + A->x[j] * e + u * fabs(D->x[j]);
    }
    if (!cross)
        through(f, A, D, n);
}

/* dW += A.T @ D and db += D, of one example of m, and D of the layer below. */
static void backward(const struct task* t, const double* params, int64_t l, const struct vector* A, struct vector* D,
                     double m, struct result* r) {
    const struct brisk_layer* layer = &t->layers[l];
    const int64_t n = layer->n_out;
    const double *W = params + layer->dense_W, c = (2 * m + 70) * u, row = (double)(n + 2) * u;
    double *dW = r->grad + layer->dense_W, *e_dW = r->e_grad + layer->dense_W;
    struct vector below;
    for (int64_t j = 0; j < n && layer->n_b > 0; j++) {
        const int64_t at = layer->dense_b + (layer->n_b == 1 ? 0 : j);
        r->grad[at] += D->x[j];
        r->e_grad[at] += D->e[j] + (c + row) * fabs(D->x[j]);
    }
    for (int64_t k = 0; k < layer->n_in; k++, W += n, dW += n, e_dW += n) {
        const double a = A->x[k], size = fabs(a), e = A->e[k] + c * size;
        for (int64_t j = 0; j < n; j++) {
            dW[j] += a * D->x[j];
            e_dW[j] += e * fabs(D->x[j]) + size * D->e[j];
        }
        below.x[k] = below.e[k] = 0;
        for (int64_t j = 0; j < n && l > 0; j++) {
            below.x[k] += D->x[j] * W[j];
            below.e[k] += (D->e[j] + row * fabs(D->x[j])) * fabs(W[j]);
        }
    }
    if (l > 0) {
        *D = below;
        through(layer->below, A, D, layer->n_in);
    }
}

/* The loss of m rows, scale times its gradient, and the last activations. */
static void compute(const struct task* t, const double* params, const int64_t* rows, int64_t m, double scale,
                    struct result* r) {
    static struct vector A[LAYERS + 1], D;
    const int64_t n_layers = t->plan.n_layers;
    memset(r->grad, 0, (size_t)t->plan.n_parameters * sizeof(double));
    memset(r->e_grad, 0, (size_t)t->plan.n_parameters * sizeof(double));
    r->loss = r->e_loss = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t k = 0; k < t->n_in; k++)
            A[0].x[k] = t->X[rows[i] * t->X_step + k];
        for (int64_t l = 0; l < n_layers; l++) {
            forward(&t->layers[l], params, &A[l], &A[l + 1]);
            if (l + 1 < n_layers)
                activate(t->layers[l].activation, &A[l + 1], t->layers[l].n_out);
        }
        const double w = t->plan.loss_scale * (t->weight == NULL ? 1 : t->weight[rows[i]]);
        loss_row(t, &A[n_layers], &D, rows[i], w, scale, r);
        memcpy(r->out + i * t->n_out, A[n_layers].x, (size_t)t->n_out * sizeof(double));
        memcpy(r->e_out + i * t->n_out, A[n_layers].e, (size_t)t->n_out * sizeof(double));
        for (int64_t l = n_layers - 1; l >= 0; l--)
            backward(t, params, l, &A[l], &D, (double)m, r);
    }
    for (int64_t l = 0; l < n_layers; l++)
        for (int64_t i = t->layers[l].dense_W; i < t->layers[l].dense_b; i++) {
            const double penalty = t->l2[2 * l] / 2 * params[i] * params[i], g = scale * t->l2[2 * l] * params[i];
            r->loss += penalty;
            r->e_loss += 40 * u * penalty;
            r->grad[i] += g;
            r->e_grad[i] += 4 * u * fabs(g);
        }
}

/* --- the update rules -------------------------------------------------------------------------------------------- */

/* A weight and its slots of state after a step along g; `size` is what the step's terms sum up to without signs. */
struct moved {
    double w, s, t, size;
};

static struct moved move(const struct brisk_plan* plan, double rate, double decay, int64_t step, double g,
                         const struct moved* from) {
    struct moved to = *from;
    double lr = rate, direction = 0, divisor = 1;
    to.size = fabs(g) + fabs(decay * from->w) + (plan->rule == BRISK_RMSPROP ? 0 : fabs(from->s));
    if (plan->decoupled)
        to.w -= rate * decay * from->w;
    else
        g += decay * from->w;
    switch (plan->rule) {
    case BRISK_SGD:
        direction = g;
        break;
    case BRISK_MOMENTUM:
        to.s = plan->momentum * from->s + g;
        direction = plan->nesterov ? g + plan->momentum * to.s : to.s;
        break;
    case BRISK_ADAM:
        lr /= 1 - pow(plan->beta1, (double)step);
        to.s = plan->beta1 * from->s + (1 - plan->beta1) * g;
        to.t = plan->beta2 * from->t + (1 - plan->beta2) * g * g;
        direction = to.s;
        divisor = sqrt(to.t / (1 - pow(plan->beta2, (double)step))) + plan->epsilon;
        break;
    case BRISK_RMSPROP:
        to.s = plan->beta2 * from->s + (1 - plan->beta2) * g * g;
        direction = g;
        divisor = sqrt(to.s) + plan->epsilon;
        break;
    }
    to.w -= lr * direction / divisor;
    to.size *= 2 * lr / divisor;
    return to;
}

#endif
