/* The losses. `loss_rows` finishes the last layer of a chunk of rows: it writes delta[L] = ∂E/∂Z[L], times the batch's
 * scale, and the losses E. */
#pragma once

#include "activation_template.h"
#include "pack_bf16_template.h"
#include "pack_f32_template.h"

#include <float.h>

/* --- the loss of one row: each function writes delta and returns E ----------------------------------------------- */

/* E = Σ (A - Y)², delta = factor · A (g - Σ g A), where A = softmax(Z) and g = 2 (A - Y). */
static double softmax_squared_error(real* A, const real* Y, real* D, int64_t stride, int64_t n, double factor) {
    double sum_exp;
    softmax_row(A, stride, n, &sum_exp);
    vec squares = vec_splat(0), dot = vec_splat(0);
    const vec twice = vec_splat((real)(2 * factor));
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        const vec a = vec_load(A + at), error = vec_first(a - vec_load_first(Y + j, n - j), n - j, 0);
        const vec g = error * twice;
        squares = vec_fma(error, error, squares);
        dot = vec_fma(g, vec_first(a, n - j, 0), dot);
        vec_store(D + at, g);
    }
    const vec mean = vec_splat(vec_sum(dot));
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        vec_store(D + at, vec_load(A + at) * (vec_load(D + at) - mean));
    }
    return (double)vec_sum(squares);
}

/* A probability clipped to least … 1 - least, before cross-entropy takes its log. */
static double clip_to(double A, double least) {
    return A < least ? least : A > 1 - least ? 1 - least : A;
}

/* Binary cross-entropy from clipped probabilities, E = -Σ Y log A + (1-Y) log(1-A), and delta = factor · (A - Y) from
 * the A that lie in D. */
static double bce_clipped(const real* Y, real* D, int64_t stride, int64_t n, double factor, double least) {
    double losses = 0;
    for (int64_t j = 0; j < n; j++) {
        real* d = D + column(j, stride);
        const double a = (double)*d, y = (double)Y[j];
        if (y != 0)
            losses -= y * log(clip_to(a, least));
        if (y != 1)
            losses -= (1 - y) * log(clip_to(1 - a, least));
        *d = (*d - Y[j]) * (real)factor;
    }
    return losses;
}

/* E = Σ softplus(Z) - Y Z, delta = factor · (A - Y), where A = sigmoid(Z). */
static double sigmoid_cross_entropy(const real* Z, const real* Y, real* D, int64_t stride, int64_t n, double factor,
                                    double least) {
    const vec zero = vec_splat(0), factors = vec_splat((real)factor);
    vec losses = zero;
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        const vec z = vec_load(Z + at), y = vec_load_first(Y + j, n - j);
        const vec e = vec_exp(-vec_abs(z)), softplus = vec_where_less(z, zero, zero, z) + vec_log1p(e);
        losses = losses + vec_first(softplus - y * z, n - j, 0);
        const vec a = vec_where_less(z, zero, e, vec_splat(1)) / (1 + e);
        vec_store(D + at, least > 0 ? a : (a - y) * factors);
    }
    return least > 0 ? bce_clipped(Y, D, stride, n, factor, least) : (double)vec_sum(losses);
}

/* E = logsumexp(Z) - Z[label], delta = factor · (A - Y), where A = softmax(Z) and Y is 1 at the label. Returns E
 * without log(*sum_exp), which loss_rows adds for many rows at once; where probabilities are clipped that is
 * 1/A[label]. */
static double softmax_cross_entropy_label(real* Z, int64_t label, real* D, int64_t stride, int64_t n, double factor,
                                          double least, double* sum_exp) {
    if ((uint64_t)label >= (uint64_t)n) /* labels were checked, but another thread may have changed them since */
        return NAN;
    const int64_t at_label = column(label, stride);
    const double z_label = (double)Z[at_label];
    const double highest = softmax_row(Z, stride, n, sum_exp);
    const vec factors = vec_splat((real)factor);
    for (int64_t j = 0; j < n; j += LANES)
        vec_store(D + column(j, stride), vec_load(Z + column(j, stride)) * factors);
    D[at_label] -= (real)factor;
    if (least == 0)
        return highest - z_label;
    *sum_exp = 1 / clip_to((double)Z[at_label], least);
    return 0;
}

/* E = Σ Y (logsumexp(Z) - Z), delta = factor · (A - Y), where A = softmax(Z). */
static double softmax_cross_entropy(real* Z, const real* Y, real* D, int64_t stride, int64_t n, double factor,
                                    double least) {
    double y_sum = 0, y_dot_z = 0, sum_exp;
    for (int64_t j = 0; j < n; j++) {
        y_sum += (double)Y[j];
        y_dot_z += (double)Y[j] * (double)Z[column(j, stride)];
    }
    const double highest = softmax_row(Z, stride, n, &sum_exp);
    const vec factors = vec_splat((real)factor);
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        vec_store(D + at, (vec_load(Z + at) - vec_load_first(Y + j, n - j)) * factors);
    }
    if (least == 0)
        return log(sum_exp) * y_sum - (y_dot_z - highest * y_sum);
    double loss = 0;
    for (int64_t j = 0; j < n; j++)
        loss -= (double)Y[j] * log(clip_to((double)Z[column(j, stride)], least));
    return loss;
}

/* A positive output, and log A, in float64. Where A = softplus(Z) underflows, log A still follows from Z: log(1 + e^x)
 * is e^x below -40. */
static double positive(const struct brisk_layer* layer, double z, double* log_A) {
    if (layer->activation == BRISK_EXP) {
        *log_A = z;
        return exp(z);
    }
    const double beta = layer->parameters[0], x = beta * z;
    const double A = x > layer->parameters[1] ? z : (fmax(x, 0) + log1p(exp(-fabs(x)))) / beta;
    *log_A = x < -40 ? x - log(beta) : log(A);
    return A;
}

/* ∂E/∂Z = f' - Y f'/A of softplus, where f'/A goes to beta as A goes to 0, below which A has lost its digits. */
INLINE vec softplus_deviance(const struct brisk_layer* layer, vec Z, vec Y) {
    const vec beta = vec_splat((real)layer->parameters[0]), threshold = vec_splat((real)layer->parameters[1]);
    const vec tiny = vec_splat((sizeof(real) == 4 ? (real)FLT_MIN : (real)DBL_MIN) * (1 << 30));
    const vec A = vec_softplus(Z, beta, threshold), slope = vec_softplus_backward(vec_splat(1), A, beta, threshold);
    return vec_fnma(Y, vec_where_less(A, tiny, beta, slope / A), slope);
}

/* E = Σ A - Y - Y log A + Y log Y, half the deviance, and delta = factor · ∂E/∂Z, which is A - Y where A = e^Z. Where A
 * is near Y nearly all of E cancels, so it is computed in float64, which keeps the digits that are left. */
static double poisson(const struct brisk_layer* layer, const real* Z, const real* Y, real* D, int64_t stride,
                      double factor) {
    const vec factors = vec_splat((real)factor);
    const int64_t n = layer->n_out;
    double losses = 0;
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t at = column(j, stride);
        const vec z = vec_load(Z + at), y = vec_load_first(Y + j, n - j);
        const vec dZ = layer->activation == BRISK_EXP ? vec_exp_any(z) - y : softplus_deviance(layer, z, y);
        vec_store(D + at, dZ * factors);
    }
    for (int64_t j = 0; j < n; j++) {
        const double y = (double)Y[j];
        double log_A;
        const double A = positive(layer, (double)Z[column(j, stride)], &log_A);
        if (isinf((real)A)) /* delta is infinite then, though float64 could still hold A */
            losses = INFINITY;
        losses += A - y - y * log_A + (y == 0 ? 0 : y * log(y));
    }
    return losses;
}

/* --- losses that are a sum over outputs -------------------------------------------------------------------------- */

static bool of_errors(enum brisk_loss loss, enum brisk_activation f) {
    return brisk_error_factors[loss] != 0 && f != BRISK_SOFTMAX;
}

/* The activation that the forward pass applies to the last layer: such losses read A, the others Z. */
static enum brisk_activation loss_activation(const struct brisk_work* work) {
    const enum brisk_activation f = work->layers[work->plan.n_layers - 1].activation;
    return of_errors(work->plan.loss, f) ? f : BRISK_IDENTITY;
}

/* Rows i0 … i1 of the last layer, and the parameters of their loss. */
struct outputs {
    const real *A, *S; /* S is NULL where no slopes are saved */
    real* D;
    int64_t stride, n;
    const struct brisk_data* data;
    const int64_t* rows;
    int64_t i0, i1;
    const double* parameters; /* of the activation */
    real factor, huber;
};

INLINE vec sign_of(vec a) {
    const vec zero = vec_splat(0), one = vec_splat(1);
    return vec_where_less(zero, a, one, vec_where_less(a, zero, -one, a));
}

INLINE vec clip(vec a, vec bound) {
    return vec_max(-bound, vec_min(bound, a));
}

/* |a| - |clip(a)| / 2 */
INLINE vec beyond_half(vec a, vec bound) {
    return vec_fnma(vec_splat((real)0.5), vec_abs(clip(a, bound)), vec_abs(a));
}

/* One vector of errors: adds w E to *losses, and returns w ∂E/∂A, but for the factor. */
INLINE vec error_loss(enum brisk_loss loss, vec w, vec error, vec bound, vec* sum) {
    const vec losses = *sum;
    vec dE = error;
    switch (loss) {
#define LOSS(NAME, factor, derivative, total) OPERATION(NAME, dE = derivative; *sum = total)
#include "../operations.def"
    default:
        break;
    }
    return dE;
}

/* With e = A - Y and the weight w of an example,
 *
 *     mse              E = Σ w e²                     delta = factor · w · 2 e f'(Z)
 *     absolute error   E = Σ w |e|                    delta = factor · w · sign(e) f'(Z)
 *     huber            E = Σ w |c| (|e| - |c|/2)      delta = factor · w · c f'(Z)          c = clip(e, -d, d)
 */
INLINE double errors(enum brisk_loss loss, enum brisk_activation f, const struct outputs* o) {
    const vec factor = vec_splat((real)brisk_error_factors[loss] * o->factor), bound = vec_splat(o->huber);
    const vec p = vec_splat((real)o->parameters[0]), q = vec_splat((real)o->parameters[1]);
    const int64_t n = o->n;
    vec losses = vec_splat(0), w = vec_splat(1);
    for (int64_t i = o->i0; i < o->i1; i++) {
        const real* Y = (const real*)o->data->Y + o->rows[i] * n;
        if (o->data->weight != NULL)
            w = vec_splat(((const real*)o->data->weight)[o->rows[i]]);
        for (int64_t j = 0; j < n; j += LANES) {
            const int64_t at = column(j, o->stride) + i * NR;
            const vec a = vec_load(o->A + at), error = vec_first(a - vec_load_first(Y + j, n - j), n - j, 0);
            const vec g = error_loss(loss, w, error, bound, &losses) * factor;
            vec_store(o->D + at, activation_backward(f, g, f == BRISK_BY_SLOPE ? vec_load(o->S + at) : a, p, q));
        }
    }
    return (double)vec_sum(losses);
}

INLINE double errors_of_activation(enum brisk_loss loss, enum brisk_activation f, const struct outputs* o) {
    switch (f) {
#define ACTIVATION(NAME, ...) OPERATION(NAME, if (brisk_reads_A(BRISK_##NAME)) return errors(loss, BRISK_##NAME, o))
#include "../operations.def"
    default:
        return errors(loss, BRISK_BY_SLOPE, o);
    }
    return errors(loss, BRISK_IDENTITY, o);
}

static double errors_of(enum brisk_loss loss, enum brisk_activation f, const struct outputs* o) {
    switch (loss) {
#define LOSS(NAME, factor, ...) OPERATION(NAME, if ((factor) != 0) return errors_of_activation(BRISK_##NAME, f, o))
#include "../operations.def"
    default:
        break;
    }
    return NAN;
}

/* --- the loss of rows -------------------------------------------------------------------------------------------- */

/* The loss of row i of the data, of weight w, without log(*sum_exp); where the output is softmax, Z becomes A. */
static double loss_row(const struct brisk_work* work, const struct brisk_data* data, int64_t i, real* Z, real* D,
                       double w, double scale, double* sum_exp) {
    const struct brisk_layer* layer = &work->layers[work->plan.n_layers - 1];
    const int64_t n = layer->n_out, stride = work->panel_stride;
    const real* Y = data->labels == NULL ? (const real*)data->Y + i * n : NULL;
    const double factor = w * scale, least = work->plan.clip_probability;
    if (work->plan.loss == BRISK_MSE)
        return w * softmax_squared_error(Z, Y, D, stride, n, factor);
    if (work->plan.loss == BRISK_POISSON)
        return w * poisson(layer, Z, Y, D, stride, factor);
    if (layer->activation == BRISK_SIGMOID)
        return w * sigmoid_cross_entropy(Z, Y, D, stride, n, factor, least);
    if (Y != NULL)
        return w * softmax_cross_entropy(Z, Y, D, stride, n, factor, least);
    double loss = w * softmax_cross_entropy_label(Z, data->labels[i], D, stride, n, factor, least, sum_exp);
    if (w != 1) {
        loss += w * log(*sum_exp);
        *sum_exp = 1;
    }
    return loss;
}

/* Finish rows i0 … i1, of which i0 is a multiple of BRISK_LOSS_ROWS; space->losses gets one sum for so many rows. */
static void loss_rows(const struct brisk_work* work, const struct brisk_space* space, const struct brisk_data* data,
                      const int64_t* rows, int64_t i0, int64_t i1, double scale) {
    const struct brisk_plan* plan = &work->plan;
    const int64_t last = plan->n_layers - 1;
    const struct brisk_layer* layer = &work->layers[last];
    const enum brisk_activation f = layer->saves_slope ? BRISK_BY_SLOPE : layer->activation;
    /* Where delta[L] is not saved as float32, its elements lie in the next buffer, which is not in use yet. */
    real *Z = space->A[last + 1], *D = D_of(space, saves_f32(work) ? last : last + 1);
    struct outputs outputs = {
        .A = Z,
        .S = space->S[last + 1],
        .D = D,
        .stride = work->panel_stride,
        .n = layer->n_out,
        .data = data,
        .rows = rows,
        .parameters = layer->parameters,
        .factor = (real)(plan->loss_scale * scale),
        .huber = (real)plan->huber,
    };
    for (int64_t start = i0; start < i1; start += BRISK_LOSS_ROWS) {
        const int64_t end = smaller(i1, start + BRISK_LOSS_ROWS);
        double loss = 0, product = 1;
        if (of_errors(plan->loss, f)) {
            outputs.i0 = start, outputs.i1 = end;
            loss = plan->loss_scale * errors_of(plan->loss, f, &outputs);
        } else
            for (int64_t i = start; i < end; i++) {
                const double weight = data->weight == NULL ? 1 : (double)((const real*)data->weight)[rows[i]];
                double sum_exp = 1;
                loss +=
                    loss_row(work, data, rows[i], Z + i * NR, D + i * NR, plan->loss_scale * weight, scale, &sum_exp);
                /* There is one log for 16 rows, because it takes as long as the rest of a loss. Each factor is at most
                 * the number of outputs or 1 / least, below 2^63, so the product does not overflow. */
                product *= sum_exp;
            }
        space->losses[start / BRISK_LOSS_ROWS] = product == 1 ? loss : loss + log(product);
    }
    if (rounds(work) && work->training) {
        const struct block block = {0, layer->panels, i0, i1, D + i0 * NR, work->panel_stride};
        pack_rows(work, &block, D_of(space, last), D_size(work), layer->n_out, RIGHT);
    }
}

static double sum_losses(const struct brisk_space* space, int64_t m) {
    return sum_of(space->losses, (m + BRISK_LOSS_ROWS - 1) / BRISK_LOSS_ROWS);
}

/* The losses of the shards of a batch, or of the chunks of a call that trains nothing. */
static void store_partial_loss(const struct brisk_work* work, int64_t p, double loss) {
    work->partial_losses[p] = loss;
}

static double sum_partial_losses(const struct brisk_work* work, int64_t n) {
    return sum_of(work->partial_losses, n);
}
