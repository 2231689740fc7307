/* The expected results of a task, by plain loops over the equations, in float64, one example at a time.
 *
 * Each expected number comes with a bound on a kernel's error that holds for any order of sums, with or without fused
 * multiply-adds. It is found by running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
 * 3.3): a sum of K products errs by at most K + 1 roundings of the sum of their sizes. */
#ifndef BRISK_REFERENCE_H
#define BRISK_REFERENCE_H

#include "../runtime/philox.h"
#include "task.h"

static double u; /* the unit roundoff of the format, doubled (task.h) */

/* --- the equations, with bounds ---------------------------------------------------------------------------------- */

/* Expected values x, and the bound e on the error of each. */
struct vector {
    double x[WIDEST], e[WIDEST];
};

struct result {
    double loss, e_loss, penalty, e_penalty; /* the loss includes the weights' penalty */
    double *grad, *e_grad, *out, *e_out;     /* (n_parameters,), (m, n_out) */
};

/* One layer's outputs for one example: A after dropout, `whole` before it, Z, and the mask. */
struct units {
    struct vector A, whole, Z;
    double mask[WIDEST];
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

static double logistic(double z) {
    return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z));
}

static double softplus_of(double z) {
    return fmax(z, 0) + log1p(exp(-fabs(z)));
}

/* f(z), and f'(z) to *slope, with the parameters p. */
static double function_of(enum brisk_activation f, const double* p, double z, double* slope) {
    const double scale = 1.0507009873554804934, alpha = 1.6732632423543772848, pi = acos(-1);
    const double s = logistic(z), t = tanh(softplus_of(z)), v = 2 * sqrt(2 / pi) * (z + 0.044715 * z * z * z);
    const double low = f == BRISK_RELU6 ? 0 : p[0], high = f == BRISK_RELU6 ? 6 : p[1];
    switch (f) {
    case BRISK_SIGMOID:
        return *slope = s * (1 - s), s;
    case BRISK_TANH:
        return *slope = 1 - tanh(z) * tanh(z), tanh(z);
    case BRISK_RELU:
        return *slope = z > 0, fmax(z, 0);
    case BRISK_LEAKY_RELU:
        return *slope = z > 0 ? 1 : p[0], z > 0 ? z : p[0] * z;
    case BRISK_EXP:
        return *slope = exp(z);
    case BRISK_ELU:
        return *slope = z > 0 ? 1 : p[0] * exp(z), z > 0 ? z : p[0] * expm1(z);
    case BRISK_SELU:
        return *slope = scale * (z > 0 ? 1 : alpha * exp(z)), scale * (z > 0 ? z : alpha * expm1(z));
    case BRISK_CELU:
        return *slope = z > 0 ? 1 : exp(z / p[0]), z > 0 ? z : p[0] * expm1(z / p[0]);
    case BRISK_SOFTPLUS:
        return *slope = p[0] * z > p[1] ? 1 : logistic(p[0] * z), p[0] * z > p[1] ? z : softplus_of(p[0] * z) / p[0];
    case BRISK_SOFTSIGN:
        return *slope = 1 / ((1 + fabs(z)) * (1 + fabs(z))), z / (1 + fabs(z));
    case BRISK_HARDTANH:
    case BRISK_RELU6:
        return *slope = low < z && z < high, fmin(fmax(z, low), high);
    case BRISK_LOG_SIGMOID:
        return *slope = logistic(-z), -softplus_of(-z);
    case BRISK_GELU:
        *slope = erfc(-z * sqrt(0.5)) / 2 + z * exp(-z * z / 2) / sqrt(2 * pi);
        return z * erfc(-z * sqrt(0.5)) / 2;
    case BRISK_GELU_TANH:
        *slope = logistic(v) + z * logistic(v) * logistic(-v) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * z * z);
        return z * logistic(v);
    case BRISK_SILU:
        return *slope = s + z * s * (1 - s), z * s;
    case BRISK_MISH:
        return *slope = t + z * s * (1 - t * t), z * t;
    case BRISK_HARDSWISH:
        return *slope = z < -3 ? 0 : z > 3 ? 1 : z / 3 + 0.5, z * fmin(fmax(z + 3, 0), 6) / 6;
    default:
        return *slope = 1, z;
    }
}

/* A = f(Z) in place. Where Z errs by e, A does by e times the largest slope nearby, which is at most 1.1 for the
 * functions that are not exp or selu, and changes by e at most; the kernels' own error is at most 4 ulp (2 u each) of A
 * and of the terms that it is a sum of, which are at most 1 + |A| / 2. */
static void activate(enum brisk_activation f, const double* p, struct vector* A, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        const double z = A->x[j], e = A->e[j];
        double slope;
        A->x[j] = function_of(f, p, z, &slope);
        if (f == BRISK_EXP)
            A->e[j] = A->x[j] * (expm1(e) + 2 * u);
        else if (f == BRISK_RELU)
            A->e[j] = z > -e ? e : 0;
        else if (f != BRISK_IDENTITY && f != BRISK_SOFTMAX)
            A->e[j] = e * fmin(fabs(slope) + 2 * e + (fabs(z) <= e ? 1 : 0), f == BRISK_SELU ? 1.8 : 1.13) +
                      4 * u * fabs(A->x[j]);
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

/* D = g * f'(Z), where g lies in D. A has a relative error of `more` beside its own bound, which f' follows as far as
 * it is computed from A; Z, and its error e from which A's came, lie in Z. */
static void activation_backward(enum brisk_activation f, const double* p, const struct vector* Z,
                                const struct vector* A, double more, struct vector* D, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        double slope, before, after;
        const double z = Z->x[j], a = A->x[j], g = D->x[j], e_g = D->e[j], e = Z->e[j] + 8 * u * fabs(z);
        function_of(f, p, z, &slope), function_of(f, p, z - e, &before), function_of(f, p, z + e, &after);
        double e_slope = fmax(fabs(before - slope), fabs(after - slope)) + 2 * e * e + 16 * u;
        if (f == BRISK_RELU || f == BRISK_LEAKY_RELU || f == BRISK_IDENTITY || f == BRISK_SOFTMAX)
            e_slope -= 16 * u + 2 * e * e;
        else if (brisk_reads_A(f))
            e_slope += more * fabs(a) * (f == BRISK_CELU ? 1 / p[0] : f == BRISK_SOFTPLUS ? p[0] : 2);
        D->x[j] = g * slope;
        D->e[j] = e_g * (fabs(slope) + e_slope) + fabs(g) * e_slope + 2 * u * fabs(D->x[j]);
    }
}

/* The loss E of one output and its derivative g with respect to A, or to Z where the loss is a function of Z, with the
 * bounds of both. */
struct output {
    double E, e_E, g, e_g;
};

/* The losses of errors. z and a have errors up to e_z and e_a; `c` bounds the rounding of a sum of losses. */
static struct output error_of(const struct brisk_plan* plan, double a, double e_a, double y, double c) {
    const double off = a - y, size = fabs(off), rounding = e_a + 4 * u * (fabs(a) + y);
    const double d = plan->huber, clipped = fmin(size, d);
    switch (plan->loss) {
    case BRISK_ABSOLUTE_ERROR:
        return (struct output){size, e_a + c * size, size > 0 ? copysign(1, off) : 0, size <= e_a ? 2 : u};
    case BRISK_HUBER:
        return (struct output){clipped * (size - clipped / 2), fmin(size + e_a, d) * e_a + c * clipped * size,
                               copysign(clipped, off), rounding};
    default:
        return (struct output){off * off, (2 * size + e_a) * e_a + c * off * off, 2 * off, 2 * rounding};
    }
}

static struct output poisson_of(const struct brisk_layer* layer, double z, double e_z, double a, double e_a, double y) {
    const bool exponential = layer->activation == BRISK_EXP;
    const double log_a = exponential ? z : log(a), most = a + y + y * fabs(log_a) + y * y; /* y log y <= y² */
    double slope;
    function_of(layer->activation, layer->parameters, z, &slope);
    const double share = exponential ? 1 : slope / a; /* ∂E/∂z is share (a - y) */
    return (struct output){a - y - y * log_a + (y > 0 ? y * log(y) : 0),
                           share * fabs(a - y) * e_z + (a + y) * exp(e_z) * e_z * e_z + 16 * DBL_EPSILON * most,
                           share * (a - y),
                           exponential ? e_a + 4 * u * (a + y) : (1 + y * layer->parameters[0]) * (e_z + 24 * u)};
}

static struct output binary_of(double z, double e_z, double a, double y, double c) {
    const double softplus = fmax(z, 0) + log1p(exp(-fabs(z)));
    return (struct output){softplus - y * z, (1 + y) * e_z + c * (softplus + y * fabs(z)), a - y,
                           e_z / 4 + 4 * u * (2 * a + y)}; /* the kernels do not compute a by vec_sigmoid here */
}

/* Finish the last layer for example i of m, of weight w: A holds Z and becomes A; D = scale ∂E/∂Z; r gets w E. */
static void loss_row(const struct task* t, struct vector* A, struct vector* D, int64_t i, double w, double scale,
                     double m, struct result* r) {
    const struct brisk_plan* plan = &t->plan;
    const enum brisk_activation f = t->layers[plan->n_layers - 1].activation;
    const int64_t n = t->n_out;
    const bool of_A = plan->loss != BRISK_CROSS_ENTROPY && plan->loss != BRISK_POISSON;
    const struct vector Z = *A;
    double e_sum = 0, along = 0, e_along = 0, highest = 0;
    const double log_sum = f == BRISK_SOFTMAX ? softmax(A, n, &e_sum) : 0, c = (m + 16 * (double)n + 12) * u;
    activate(f, t->layers[plan->n_layers - 1].parameters, A, n);
    for (int64_t j = 0; j < n; j++)
        highest = fmax(highest, fabs(Z.x[j]));
    for (int64_t j = 0; j < n; j++) {
        const double y = t->labels != NULL ? t->labels[i] == j : t->Y[i * n + j];
        const double z = Z.x[j], e = Z.e[j], a = A->x[j];
        const struct output o =
            of_A                          ? error_of(plan, a, A->e[j], y, c)
            : plan->loss == BRISK_POISSON ? poisson_of(&t->layers[plan->n_layers - 1], z, e, a, A->e[j], y)
            : f == BRISK_SIGMOID
                ? binary_of(z, e, a, y, c)
                : (struct output){y * (log_sum - z), y * (e_sum + e + c * highest), a - y, A->e[j] + 4 * u * (a + y)};
        r->loss += w * o.E;
        r->e_loss += w * (o.e_E + 4 * DBL_EPSILON * fabs(o.E));
        D->x[j] = w * scale * o.g;
        D->e[j] = w * scale * (o.e_g + 2 * u * fabs(o.g));
        along += D->x[j] * a;
        e_along += D->e[j] * a + fabs(D->x[j]) * (A->e[j] + (double)(n + 2) * u * a);
    }
    for (int64_t j = 0; j < n && of_A && f == BRISK_SOFTMAX; j++) {
        const double g = D->x[j] - along, e = D->e[j] + e_along + u * fabs(g);
        D->x[j] = A->x[j] * g;
        D->e[j] = A->e[j] * (fabs(g) + e) + A->x[j] * e + u * fabs(D->x[j]);
    }
    if (of_A)
        activation_backward(f, t->layers[plan->n_layers - 1].parameters, &Z, A, 0, D, n);
}

/* Multiply values and bounds by a mask. */
static void multiply(struct vector* v, const double* mask, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        v->x[k] *= mask[k];
        v->e[k] = mask[k] * v->e[k] + (mask[k] == 1 ? 0 : u * fabs(v->x[k]));
    }
}

/* Draw the mask after layer l for the place-th example of an epoch; epoch -1 stands for a mask of 1. */
static void draw_mask(const struct task* t, int64_t l, int64_t epoch, int64_t place, double* mask) {
    const int64_t threshold = epoch < 0 ? 0 : t->layers[l].threshold;
    for (int64_t k = 0; k < t->layers[l].n_out; k++) {
        uint64_t words[4];
        brisk_philox((uint64_t)(k / 16) + 1, (uint64_t)place, (uint64_t)l, 2, t->plan.seed, (uint64_t)epoch, words);
        const int64_t number = (int64_t)(words[k % 16 / 4] >> (16 * (k % 4)) & 0xFFFF);
        mask[k] = number < threshold ? 0 : 65536 / (65536 - (double)threshold);
    }
}

/* dW += A.T @ D and db += D for one example of m; D becomes the delta of the layer below, whose outputs are `in`. */
static void backward(const struct task* t, const double* params, int64_t l, const struct units* in, struct vector* D,
                     double m, struct result* r) {
    const struct brisk_layer* layer = &t->layers[l];
    const int64_t n = layer->n_out;
    const double *W = params + layer->dense_W, c = (2 * m + 70) * u, row = (double)(n + 2) * u;
    double *dW = r->grad + layer->dense_W, *e_dW = r->e_grad + layer->dense_W;
    static struct vector below;
    for (int64_t j = 0; j < n && layer->n_b > 0; j++) {
        const int64_t at = layer->dense_b + (layer->n_b == 1 ? 0 : j);
        r->grad[at] += D->x[j];
        r->e_grad[at] += D->e[j] + (c + row) * fabs(D->x[j]);
    }
    for (int64_t k = 0; k < layer->n_in; k++, W += n, dW += n, e_dW += n) {
        const double a = in->A.x[k], size = fabs(a), e = in->A.e[k] + c * size;
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
        multiply(D, in->mask, layer->n_in);
        activation_backward(layer[-1].activation, layer[-1].parameters, &in->Z, &in->whole,
                            t->layers[l - 1].threshold > 0 ? 2 * u : 0, D, layer->n_in);
    }
}

/* Compute the loss of m rows, scale times its gradient, and the last activations, with the dropout of an epoch's
 * examples from `place` on, or, for epoch -1, without. */
static void compute(const struct task* t, const double* params, const int64_t* rows, int64_t m, double scale,
                    int64_t epoch, int64_t place, struct result* r) {
    static struct units units[LAYERS + 1];
    static struct vector D;
    const int64_t n_layers = t->plan.n_layers;
    memset(r->grad, 0, (size_t)t->plan.n_parameters * sizeof(double));
    memset(r->e_grad, 0, (size_t)t->plan.n_parameters * sizeof(double));
    r->loss = r->e_loss = r->penalty = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t k = 0; k < t->n_in; k++)
            units[0].A.x[k] = t->X[rows[i] * t->X_step + k];
        for (int64_t l = 0; l < n_layers; l++) {
            const int64_t n = t->layers[l].n_out;
            struct units* out = &units[l + 1];
            forward(&t->layers[l], params, &units[l].A, &out->A);
            if (l + 1 == n_layers)
                break;
            out->Z = out->A;
            activate(t->layers[l].activation, t->layers[l].parameters, &out->A, n);
            out->whole = out->A;
            draw_mask(t, l, epoch, place + i, out->mask);
            multiply(&out->A, out->mask, n);
        }
        const double w = t->plan.loss_scale * (t->weight == NULL ? 1 : t->weight[rows[i]]);
        struct vector* A = &units[n_layers].A;
        loss_row(t, A, &D, rows[i], w, scale, (double)m, r);
        memcpy(r->out + i * t->n_out, A->x, (size_t)t->n_out * sizeof(double));
        memcpy(r->e_out + i * t->n_out, A->e, (size_t)t->n_out * sizeof(double));
        for (int64_t l = n_layers - 1; l >= 0; l--)
            backward(t, params, l, &units[l], &D, (double)m, r);
    }
    r->loss *= t->plan.report_scale;
    r->e_loss *= t->plan.report_scale;
    for (int64_t l = 0; l < n_layers; l++)
        for (int64_t i = t->layers[l].dense_W; i < t->layers[l].dense_b; i++) {
            const double penalty = t->layers[l].plan_l2 / 2 * params[i] * params[i],
                         g = scale * t->layers[l].plan_l2 * params[i];
            r->penalty += penalty;
            r->grad[i] += g;
            r->e_grad[i] += 4 * u * fabs(g);
        }
    r->e_penalty = (double)(t->plan.n_parameters + 40) * u * r->penalty;
    r->loss += r->penalty;
    r->e_loss += r->e_penalty;
}

/* Clip the norm of r's gradient. */
static void clip(const struct task* t, struct result* r) {
    double squares = 0, e_squares = 0;
    for (int64_t i = 0; i < t->plan.n_parameters; i++) {
        squares += r->grad[i] * r->grad[i];
        e_squares += (2 * fabs(r->grad[i]) + r->e_grad[i]) * r->e_grad[i];
    }
    const double norm = sqrt(squares), bound = t->plan.clip_norm, factor = norm > bound ? bound / norm : 1;
    const double e = norm * 2 > bound && norm > 0 ? e_squares / squares + 4 * u : 0; /* relative, of the factor */
    for (int64_t i = 0; i < t->plan.n_parameters; i++) {
        r->e_grad[i] = factor * (r->e_grad[i] + e * (fabs(r->grad[i]) + r->e_grad[i]));
        r->grad[i] *= factor;
    }
}

/* --- the update rules -------------------------------------------------------------------------------------------- */

/* A weight w and its slots of state after a step along g; `size` is the sum of the absolute terms of the step. */
struct moved {
    double w, s[BRISK_SLOTS], size;
};

/* A step of NAdam: of the product of all μ so far, this step's and the next step's. */
static double nadam_mu(const double* hyper, double step) {
    return hyper[0] * (1 - 0.5 * pow(0.96, step * hyper[3]));
}

/* Each slot is a mean or a sum of terms whose sizes `size` adds up; product is NAdam's, with this step's μ in it. */
static struct moved move(const struct brisk_plan* plan, double rate, double decay, int64_t count, double g,
                         const struct moved* from, double product) {
    const double *h = plan->hyper, step = (double)count;
    struct moved to = *from;
    double lr = rate, direction = g, divisor = 1, *s = to.s;
    to.size = fabs(g) + fabs(decay * from->w);
    if (plan->decoupled)
        to.w -= rate * decay * from->w;
    else
        direction = g += decay * from->w;
    if (plan->rule >= BRISK_ADAM && plan->rule <= BRISK_ADAMAX) {
        const double unbiased = 1 - pow(h[1], step), limit = 2 / (1 - h[1]) - 1;
        const double length = limit - 2 * step * pow(h[1], step) / unbiased;
        to.size += fabs(s[0]);
        s[0] = h[0] * s[0] + (1 - h[0]) * g;
        if (plan->rule == BRISK_ADAMAX)
            s[1] = fmax(h[1] * s[1], fabs(g) + h[2]);
        else
            s[1] = h[1] * s[1] + (1 - h[1]) * g * g;
        if (plan->rule == BRISK_AMSGRAD)
            s[2] = fmax(s[2], s[1]);
        direction = s[0] / (1 - pow(h[0], step));
        divisor = sqrt(plan->rule == BRISK_AMSGRAD ? s[2] : s[1]) / sqrt(unbiased) + h[2];
        if (plan->rule == BRISK_ADAM && h[3] != 0)
            divisor = (sqrt(s[1]) + h[2]) / sqrt(unbiased);
        else if (plan->rule == BRISK_ADAMAX)
            divisor = s[1];
        else if (plan->rule == BRISK_NADAM) {
            const double next = nadam_mu(h, step + 1);
            direction = (1 - nadam_mu(h, step)) / (1 - product) * g + next / (1 - product * next) * s[0];
        } else if (plan->rule == BRISK_RADAM) {
            divisor = length > 5 ? (sqrt(s[1]) + h[2]) / sqrt(unbiased * (length - 4) * (length - 2) * limit /
                                                              ((limit - 4) * (limit - 2) * length))
                                 : 1;
        }
        to.size /= 1 - h[0];
    } else if (plan->rule == BRISK_MOMENTUM) {
        to.size += fabs(s[0]);
        s[0] = h[0] * s[0] + (count == 1 ? 1 : 1 - h[1]) * g;
        direction = h[2] != 0 ? g + h[0] * s[0] : s[0];
    } else if (plan->rule == BRISK_VELOCITY) {
        to.size = 2 * (lr * to.size + fabs(s[0]));
        s[0] = h[0] * s[0] - lr * g;
        to.w += h[1] != 0 ? h[0] * s[0] - lr * g : s[0];
        return to;
    } else if (plan->rule == BRISK_ADAGRAD) {
        s[0] += g * g;
        lr /= 1 + (step - 1) * h[0];
        divisor = sqrt(s[0]) + h[1];
    } else if (plan->rule == BRISK_ADADELTA) {
        s[0] = h[0] * s[0] + (1 - h[0]) * g * g;
        divisor = sqrt(s[0] + h[1]) / sqrt(s[1] + h[1]);
        s[1] = h[0] * s[1] + (1 - h[0]) * g / divisor * g / divisor;
    } else if (plan->rule >= BRISK_RMSPROP) {
        const bool with_momentum =
            plan->rule == BRISK_RMSPROP_MOMENTUM || plan->rule == BRISK_RMSPROP_CENTERED_MOMENTUM;
        double* mean = plan->rule == BRISK_RMSPROP_CENTERED            ? &s[1]
                       : plan->rule == BRISK_RMSPROP_CENTERED_MOMENTUM ? &s[2]
                                                                       : NULL;
        s[0] = h[0] * s[0] + (1 - h[0]) * g * g;
        double variance = s[0];
        if (mean != NULL) {
            *mean = h[0] * *mean + (1 - h[0]) * g;
            variance = fmax(0, variance - *mean * *mean);
        }
        divisor = sqrt(variance) + h[1];
        if (with_momentum) {
            s[1] = h[2] * s[1] + g / divisor;
            direction = s[1] * divisor;
            to.size += fabs(s[1]) * divisor;
        }
    }
    to.w -= lr * direction / divisor;
    to.size *= 2 * lr / divisor;
    return to;
}

#endif
