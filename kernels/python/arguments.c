/* Python objects as C arguments. Whatever is in an array or a Plan, nothing outside an array may be touched because of
 * it: what is not as kernels take it to be is refused here, by name. */
#include "module.h"

#include <math.h>
#include <string.h>

/* --- buffers ----------------------------------------------------------------------------------------------------- */

void brisk_release(struct brisk_buffers* held) {
    while (held->count > 0)
        PyBuffer_Release(&held->views[--held->count]);
}

static bool has_type(const Py_buffer* view, enum brisk_type type) {
    const Py_ssize_t size = type == BRISK_FLOAT32 ? 4 : 8;
    if (view->itemsize != size || view->format == NULL || strlen(view->format) != 1)
        return false;
    return *view->format == (char)type || (type == BRISK_INT64 && *view->format == 'l');
}

static bool has_layout(const Py_buffer* view, enum brisk_use use) {
    if ((uintptr_t)view->buf % (size_t)view->itemsize != 0)
        return false;
    if (use != BRISK_READ_ROWS)
        return PyBuffer_IsContiguous(view, 'C');
    return view->strides[0] % view->itemsize == 0 && (view->shape[1] <= 1 || view->strides[1] == view->itemsize);
}

/* The buffer, if it has this type, shape and layout; if not, NULL and an exception that says what it has. */
static const void* check(const Py_buffer* view, const char* name, enum brisk_type type, int n_axes,
                         const int64_t shape[2], enum brisk_use use) {
    if (!has_type(view, type))
        return PyErr_Format(PyExc_TypeError, "%s has numbers of format '%s', but must have aligned native ones of '%c'",
                            name, view->format == NULL ? "B" : view->format, (int)type);
    if (view->ndim != n_axes)
        return PyErr_Format(PyExc_ValueError, "%s has %d axes, but must have %d", name, view->ndim, n_axes);
    for (int axis = 0; axis < n_axes; axis++)
        if (shape[axis] >= 0 && view->shape[axis] != shape[axis])
            return PyErr_Format(PyExc_ValueError, "%s has length %zd along axis %d, but must have %lld", name,
                                view->shape[axis], axis, (long long)shape[axis]);
    if (!has_layout(view, use))
        return PyErr_Format(PyExc_ValueError, "%s must be aligned and in C order%s", name,
                            use == BRISK_READ_ROWS ? " within each row" : "");
    return view;
}

/* An array of one axis or two; or of either, for 0: one axis are labels then. */
static struct brisk_array hold(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                               int n_axes, const int64_t shape[2], enum brisk_use use) {
    Py_buffer* view = &held->views[held->count];
    if (held->failed || PyObject_GetBuffer(object, view, use == BRISK_WRITE ? PyBUF_RECORDS : PyBUF_RECORDS_RO) < 0) {
        held->failed = true;
        return (struct brisk_array){0};
    }
    held->count++;
    const bool labels = n_axes == 0 && view->ndim == 1;
    held->failed = check(view, name, labels ? BRISK_INT64 : type, labels || n_axes == 1 ? 1 : 2, shape, use) == NULL;
    if (held->failed)
        return (struct brisk_array){0};
    return (struct brisk_array){view->buf, view->shape[0], view->strides[0] / view->itemsize, labels};
}

struct brisk_array brisk_vector(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, enum brisk_use use) {
    return hold(held, object, name, type, 1, (int64_t[2]){n, -1}, use);
}

struct brisk_array brisk_matrix(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, int64_t width, enum brisk_use use) {
    return hold(held, object, name, type, 2, (int64_t[2]){n, width}, use);
}

struct brisk_array brisk_targets(struct brisk_buffers* held, PyObject* Y, enum brisk_type type, int64_t n,
                                 int64_t width, bool labels_allowed) {
    return hold(held, Y, "Y", type, labels_allowed ? 0 : 2, (int64_t[2]){n, width}, BRISK_READ);
}

void brisk_check_indices(struct brisk_buffers* held, const char* name, const int64_t* indices, int64_t first,
                         int64_t last, int64_t n) {
    for (int64_t i = first; i < last && !held->failed; i++)
        if (indices[i] < 0 || indices[i] >= n) {
            held->failed = true;
            PyErr_Format(PyExc_ValueError, "%s[%lld] is %lld, but there are %lld rows", name, (long long)i,
                         (long long)indices[i], (long long)n);
        }
}

/* --- the Plan ---------------------------------------------------------------------------------------------------- */

static int64_t read_int(PyObject* plan, const char* name, int64_t low, int64_t high) {
    PyObject* value = PyErr_Occurred() ? NULL : PyObject_GetAttrString(plan, name);
    const int64_t number = value == NULL ? low : PyLong_AsLongLong(value);
    Py_XDECREF(value);
    if (!PyErr_Occurred() && (number < low || number > high))
        PyErr_Format(PyExc_ValueError, "plan.%s is %lld, which is not in %lld to %lld", name, (long long)number,
                     (long long)low, (long long)high);
    return number;
}

static double read_double(PyObject* plan, const char* name) {
    PyObject* value = PyErr_Occurred() ? NULL : PyObject_GetAttrString(plan, name);
    const double number = value == NULL ? 0 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    return number;
}

/* A vector of the plan, or, with a width, a matrix; the buffer keeps it alive. */
static struct brisk_array read_array(struct brisk_buffers* held, PyObject* plan, const char* name, enum brisk_type type,
                                     int64_t n, int64_t width) {
    PyObject* value = held->failed ? NULL : PyObject_GetAttrString(plan, name);
    held->failed = value == NULL;
    const struct brisk_array array = width > 0 ? brisk_matrix(held, value, name, type, n, width, BRISK_READ)
                                               : brisk_vector(held, value, name, type, n, BRISK_READ);
    Py_XDECREF(value);
    return array;
}

static void read_numbers(PyObject* object, struct brisk_plan* plan) {
    *plan = (struct brisk_plan){
        .n_parameters = read_int(object, "n_parameters", 1, INT64_MAX),
        .batch_size = read_int(object, "batch_size", 0, INT64_MAX),
        .n_slots = read_int(object, "n_slots", 0, BRISK_SLOTS),
        .n_scalars = read_int(object, "n_scalars", 0, BRISK_SCALARS),
        .bias = (enum brisk_bias)read_int(object, "bias", BRISK_BIAS_NEURON, BRISK_BIAS_NONE),
        .loss = (enum brisk_loss)read_int(object, "loss", 0, BRISK_LOSSES - 1),
        .divisor = (enum brisk_divisor)read_int(object, "divisor", BRISK_DIVISOR_WEIGHT, BRISK_DIVISOR_NOTHING),
        .rule = (enum brisk_rule)read_int(object, "rule", 0, BRISK_RULES - 1),
        .precision = (enum brisk_precision)read_int(object, "precision", BRISK_HIGHEST, BRISK_BFLOAT16),
        .decoupled = read_int(object, "decoupled", 0, 1) != 0,
        .shuffle = read_int(object, "shuffle", 0, 1) != 0,
        .report_rows = read_int(object, "report_rows", 0, 1) != 0,
        .seed = (uint64_t)read_int(object, "seed", INT64_MIN, INT64_MAX),
        .huber = read_double(object, "huber"),
        .loss_scale = read_double(object, "loss_scale"),
        .report_scale = read_double(object, "report_scale"),
        .clip_norm = read_double(object, "clip_norm"),
        .clip_epsilon = read_double(object, "clip_epsilon"),
        .clip_probability = read_double(object, "clip_probability"),
    };
}

/* Whether [start, start + n) are among the parameters. */
static bool is_part(const struct brisk_plan* plan, int64_t start, int64_t n) {
    return start >= 0 && n >= 0 && n <= plan->n_parameters && start <= plan->n_parameters - n;
}

/* Whether there is a gradient for this loss of this output. */
static bool is_pair(enum brisk_loss loss, enum brisk_activation output) {
#define PAIR(LOSS, ACTIVATION)                                                                                         \
    if (loss == BRISK_##LOSS && output == BRISK_##ACTIVATION)                                                          \
        return true;
#include "../operations.def"
    return brisk_error_factors[loss] != 0 && brisk_activations[output].where == BRISK_ANYWHERE;
}

/* Whether the plan describes a network whose tensors all lie within the parameters. */
static bool is_sound(const struct brisk_plan* plan, const struct brisk_layer* layers) {
    for (int64_t l = 0; l < plan->n_layers; l++) {
        const struct brisk_layer* layer = &layers[l];
        const enum brisk_activation f = layer->activation;
        int64_t n_weights;
        if (layer->n_in < 1 || layer->n_out < 1 || __builtin_mul_overflow(layer->n_in, layer->n_out, &n_weights) ||
            !is_part(plan, layer->dense_W, n_weights) || !is_part(plan, layer->dense_b, layer->n_b) ||
            f == BRISK_ACTIVATIONS || layer->threshold > 65535 ||
            (l + 1 < plan->n_layers ? brisk_activations[f].where != BRISK_ANYWHERE : layer->threshold > 0))
            return false;
    }
    return is_pair(plan->loss, layers[plan->n_layers - 1].activation) &&
           plan->n_slots == brisk_rules[plan->rule].slots && plan->n_scalars == brisk_rules[plan->rule].scalars;
}

static struct brisk_layer* read_layers(struct brisk_buffers* held, PyObject* object, struct brisk_plan* plan) {
    const struct brisk_array widths = read_array(held, object, "layers", BRISK_INT64, -1, 0);
    const int64_t n = plan->n_layers = widths.n - 1;
    const int64_t* width = widths.data;
    const int64_t* activation = read_array(held, object, "activations", BRISK_INT64, n, 0).data;
    const double* parameters =
        read_array(held, object, "activation_parameters", BRISK_FLOAT64, n, BRISK_PARAMETERS).data;
    const double* hyper = read_array(held, object, "hyper", BRISK_FLOAT64, BRISK_HYPER, 0).data;
    const int64_t* offset = read_array(held, object, "offsets", BRISK_INT64, 2 * n, 0).data;
    const int64_t* trained = read_array(held, object, "trained", BRISK_INT64, 2 * n, 0).data;
    const double* rate = read_array(held, object, "rate_scale", BRISK_FLOAT64, 2 * n, 0).data;
    const double* decay = read_array(held, object, "decay", BRISK_FLOAT64, 2 * n, 0).data;
    const double* l2 = read_array(held, object, "l2", BRISK_FLOAT64, 2 * n, 0).data;
    const double* dropout = read_array(held, object, "dropout", BRISK_FLOAT64, n, 0).data;
    if (held->failed)
        return NULL;
    struct brisk_layer* layers = PyMem_Calloc(n < 1 ? 1 : (size_t)n, sizeof *layers);
    if (layers == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(plan->hyper, hyper, sizeof plan->hyper);
    bool all_trained = true;
    for (int64_t t = 0; t < 2 * n; t++)
        all_trained &= trained[t] != 0;
    for (int64_t l = 0; l < n; l++)
        layers[l] = (struct brisk_layer){
            .n_in = width[l],
            .n_out = width[l + 1],
            .activation = /* or none, which is_sound refuses */
            (enum brisk_activation)(activation[l] < 0 ? BRISK_ACTIVATIONS : smaller(activation[l], BRISK_ACTIVATIONS)),
            .parameters = {parameters[BRISK_PARAMETERS * l], parameters[BRISK_PARAMETERS * l + 1]},
            .dense_W = offset[2 * l],
            .dense_b = offset[2 * l + 1],
            .n_b = plan->bias == BRISK_BIAS_NEURON ? width[l + 1] : plan->bias == BRISK_BIAS_LAYER,
            .threshold = /* of 65536 random numbers; at a rate that is none, more */
            dropout[l] >= 0 && dropout[l] < 1 ? smaller(lrint(dropout[l] * 65536), 65535) : INT64_MAX,
            .rate_W = rate[2 * l],
            .rate_b = rate[2 * l + 1],
            .decay_W = decay[2 * l],
            .decay_b = decay[2 * l + 1],
            .plan_l2 = l2[2 * l], /* of W; biases have none */
        };
    if (n >= 1 && all_trained && is_sound(plan, layers))
        return layers;
    PyErr_SetString(PyExc_ValueError, "plan describes no network that can be trained");
    PyMem_Free(layers);
    return NULL;
}

struct brisk_layer* brisk_read_plan(PyObject* object, struct brisk_plan* plan) {
    struct brisk_buffers held = {0};
    read_numbers(object, plan);
    struct brisk_layer* layers = PyErr_Occurred() ? NULL : read_layers(&held, object, plan);
    brisk_release(&held);
    return layers;
}
