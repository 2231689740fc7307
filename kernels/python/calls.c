/* The calls that compute: forward, gradient, train, update.
 *
 * Arrays are checked in arguments.c, indices of rows here. Labels are not: a kernel looks at each when it needs it. */
#include "module.h"

/* A call: the workspace that it has to itself, the plan and type of its arrays, and their buffers. */
struct call {
    struct brisk_work* work; /* NULL if it needs none */
    const struct brisk_plan* plan;
    enum brisk_type type;
    int64_t n; /* rows of X */
    struct brisk_buffers held;
};

static enum brisk_type type_of(const struct brisk_kernels* kernels) {
    return kernels->size == sizeof(float) ? BRISK_FLOAT32 : BRISK_FLOAT64;
}

/* Until `finish`, the workspace is this call's. */
static bool begin(struct call* call, PyObject* capsule) {
    struct brisk_work* work = PyCapsule_GetPointer(capsule, BRISK_WORKSPACE);
    if (work == NULL)
        return false;
    if (atomic_exchange(&work->busy, true)) {
        PyErr_SetString(PyExc_RuntimeError, "this workspace is in use by another call");
        return false;
    }
    *call = (struct call){.work = work, .plan = &work->plan, .type = type_of(work->kernels)};
    return true;
}

/* Returns whether the call was made; if it was refused, there is an exception. */
static bool finish(struct call* call) {
    brisk_release(&call->held);
    if (call->work != NULL)
        call->work->busy = false;
    return !call->held.failed;
}

static void refuse(struct call* call, const char* why) {
    if (!call->held.failed)
        PyErr_SetString(PyExc_ValueError, why);
    call->held.failed = true;
}

static void* take_params(struct call* call, PyObject* params, const char* name, enum brisk_use use) {
    return brisk_vector(&call->held, params, name, call->type, call->plan->n_parameters, use).data;
}

/* The state but for position and sums. */
static struct brisk_state take_state(struct call* call, PyObject* params, PyObject* slots, PyObject* scalars) {
    const struct brisk_plan* plan = call->plan;
    struct brisk_buffers* held = &call->held;
    return (struct brisk_state){
        .params = take_params(call, params, "params", BRISK_WRITE),
        .slots = brisk_matrix(held, slots, "slots", call->type, plan->n_slots, plan->n_parameters, BRISK_WRITE).data,
        .scalars = brisk_vector(held, scalars, "scalars", BRISK_FLOAT64, plan->n_scalars, BRISK_WRITE).data,
    };
}

/* X alone where Y is NULL. */
static struct brisk_data take_data(struct call* call, PyObject* X, PyObject* Y, PyObject* weight) {
    const struct brisk_layer *first = call->work->layers, *last = first + call->plan->n_layers - 1;
    struct brisk_buffers* held = &call->held;
    const struct brisk_array rows = brisk_matrix(held, X, "X", call->type, -1, first->n_in, BRISK_READ_ROWS);
    struct brisk_data data = {.X = rows.data, .X_step = rows.step};
    call->n = rows.n;
    if (Y != NULL) {
        const bool classes = call->plan->loss == BRISK_CROSS_ENTROPY && last->activation == BRISK_SOFTMAX;
        const struct brisk_array targets = brisk_targets(held, Y, call->type, call->n, last->n_out, classes);
        data.Y = targets.labels ? NULL : targets.data;
        data.labels = targets.labels ? targets.data : NULL;
        if (weight != Py_None)
            data.weight = brisk_vector(held, weight, "weight", call->type, call->n, BRISK_READ).data;
    }
    return data;
}

/* Indices into the rows of X: no more than the workspace is for. */
static struct brisk_array take_rows(struct call* call, PyObject* rows) {
    const struct brisk_array indices = brisk_vector(&call->held, rows, "rows", BRISK_INT64, -1, BRISK_READ);
    if (indices.n > call->work->n)
        refuse(call, "rows are more than the workspace is for");
    brisk_check_indices(&call->held, "rows", indices.data, 0, indices.n, call->n);
    return indices;
}

static PyObject* forward(PyObject* Py_UNUSED(self), PyObject* args) {
    PyObject *capsule, *params, *X, *rows, *out;
    struct call call;
    if (!PyArg_ParseTuple(args, "OOOOO:forward", &capsule, &params, &X, &rows, &out) || !begin(&call, capsule))
        return NULL;
    const void* P = take_params(&call, params, "params", BRISK_READ);
    const struct brisk_data data = take_data(&call, X, NULL, NULL);
    const struct brisk_array indices = take_rows(&call, rows);
    const int64_t n_out = call.work->layers[call.plan->n_layers - 1].n_out;
    void* A = brisk_matrix(&call.held, out, "out", call.type, indices.n, n_out, BRISK_WRITE).data;
    if (!call.held.failed) {
        Py_BEGIN_ALLOW_THREADS;
        brisk_forward(call.work, P, &data, indices.data, indices.n, A);
        Py_END_ALLOW_THREADS;
    }
    return finish(&call) ? Py_NewRef(Py_None) : NULL;
}

static PyObject* gradient(PyObject* Py_UNUSED(self), PyObject* args) {
    PyObject *capsule, *params, *X, *Y, *weight, *rows, *grad;
    double scale, loss = 0;
    int with_penalty;
    struct call call;
    if (!PyArg_ParseTuple(args, "OO(OOO)OdpO:gradient", &capsule, &params, &X, &Y, &weight, &rows, &scale,
                          &with_penalty, &grad) ||
        !begin(&call, capsule))
        return NULL;
    const void* P = take_params(&call, params, "params", BRISK_READ);
    const struct brisk_data data = take_data(&call, X, Y, weight);
    const struct brisk_array indices = take_rows(&call, rows);
    void* G = grad == Py_None ? NULL : take_params(&call, grad, "grad", BRISK_WRITE);
    if (grad != Py_None && !call.work->training)
        refuse(&call, "the workspace computes no gradient: it was made with training=False");
    if (!call.held.failed) {
        Py_BEGIN_ALLOW_THREADS;
        loss = brisk_gradient(call.work, P, &data, indices.data, indices.n, scale, with_penalty, G);
        Py_END_ALLOW_THREADS;
    }
    return finish(&call) ? PyFloat_FromDouble(loss) : NULL;
}

/* Refuse a position that is no place in an epoch of as many rows as the order has, or whose steps overflow; and an
 * order that leads out of the rows of X in the batches of this call. */
static void check_position(struct call* call, const struct brisk_position* at, const struct brisk_steps* steps) {
    if (call->held.failed)
        return;
    const int64_t size = call->plan->batch_size, n = steps->n_order, max_steps = steps->max_steps;
    const int64_t n_batches = size > 0 ? divide_up(n, size) : 0, all = call->work->n;
    if (n > all || (steps->order == NULL && n < all))
        refuse(call, "X or order has another length than the workspace is for");
    if (at->epoch < 0 || at->batch < 0 || at->batch >= n_batches || at->step < 0 || max_steps < 0 ||
        at->epoch > INT64_MAX - max_steps || at->step > INT64_MAX - max_steps)
        refuse(call, "counts and max_steps are no place in an epoch");
    if (steps->order != NULL && !call->held.failed) {
        const int64_t end = max_steps < n_batches - at->batch ? (at->batch + max_steps) * size : n;
        brisk_check_indices(&call->held, "order", steps->order, at->batch * size, smaller(end, n), call->n);
    }
}

static PyObject* train(PyObject* Py_UNUSED(self), PyObject* args) {
    PyObject *capsule, *params, *slots, *X, *Y, *weight, *order, *counts, *sums, *scalars, *rates, *losses, *per_step;
    long long max_steps;
    struct call call;
    if (!PyArg_ParseTuple(args, "O(OOOOO)(OOO)(OOLOO):train", &capsule, &params, &slots, &counts, &sums, &scalars, &X,
                          &Y, &weight, &rates, &losses, &max_steps, &order, &per_step) ||
        !begin(&call, capsule))
        return NULL;
    struct brisk_buffers* held = &call.held;
    struct brisk_state state = take_state(&call, params, slots, scalars);
    state.position = brisk_vector(held, counts, "counts", BRISK_INT64, 3, BRISK_WRITE).data;
    state.sums = brisk_vector(held, sums, "sums", BRISK_FLOAT64, 2, BRISK_WRITE).data;
    const struct brisk_data data = take_data(&call, X, Y, weight);
    const struct brisk_array indices = order == Py_None
                                           ? (struct brisk_array){.n = call.n}
                                           : brisk_vector(held, order, "order", BRISK_INT64, -1, BRISK_READ);
    const struct brisk_array rate = brisk_vector(held, rates, "rates", BRISK_FLOAT64, -1, BRISK_READ);
    const struct brisk_array own =
        per_step == Py_None ? (struct brisk_array){.n = max_steps}
                            : brisk_matrix(held, per_step, "per_step", BRISK_FLOAT64, -1, 1 + BRISK_HYPER, BRISK_READ);
    const struct brisk_steps steps = {
        .rates = rate.data,
        .losses = brisk_vector(held, losses, "losses", BRISK_FLOAT64, rate.n, BRISK_WRITE).data,
        .n_epochs = rate.n,
        .max_steps = max_steps,
        .order = indices.data,
        .n_order = indices.n,
        .per_step = own.data,
    };
    if (!call.work->training)
        refuse(&call, "the workspace cannot train: it was made with training=False");
    if (own.n < max_steps)
        refuse(&call, "per_step has fewer rows than max_steps");
    check_position(&call, state.position, &steps);
    enum brisk_end end = BRISK_DONE;
    struct brisk_position where;
    if (!held->failed) {
        Py_BEGIN_ALLOW_THREADS;
        end = brisk_train(call.work, &state, &data, &steps, &where);
        Py_END_ALLOW_THREADS;
    }
    if (!finish(&call))
        return NULL;
    if (end == BRISK_DONE)
        Py_RETURN_NONE;
    return Py_BuildValue("(LLO)", (long long)where.epoch, (long long)where.batch,
                         end == BRISK_WEIGHTS_NOT_FINITE ? Py_True : Py_False);
}

static PyObject* update(PyObject* Py_UNUSED(self), PyObject* args) {
    PyObject *object, *params, *grad, *slots, *scalars;
    const char* isa;
    Py_ssize_t size;
    long long step;
    double rate;
    if (!PyArg_ParseTuple(args, "Ons(OOO)OLd:update", &object, &size, &isa, &params, &slots, &scalars, &grad, &step,
                          &rate))
        return NULL;
    const struct brisk_kernels* kernels = brisk_kernels_named(isa, size);
    struct brisk_plan plan;
    struct brisk_layer* layers = kernels == NULL ? NULL : brisk_read_plan(object, &plan);
    if (layers == NULL)
        return NULL;
    struct call call = {.plan = &plan, .type = type_of(kernels)};
    const struct brisk_state state = take_state(&call, params, slots, scalars);
    const void* G = take_params(&call, grad, "grad", BRISK_READ);
    if (!call.held.failed) {
        Py_BEGIN_ALLOW_THREADS;
        brisk_update(kernels, &plan, layers, &state, G, step, rate);
        Py_END_ALLOW_THREADS;
    }
    PyMem_Free(layers);
    return finish(&call) ? Py_NewRef(Py_None) : NULL;
}

PyMethodDef brisk_call_methods[] = {
    BRISK_METHOD(forward, METH_VARARGS, "work, params, X, rows, out, ", "As in backends/contract.py."),
    BRISK_METHOD(gradient, METH_VARARGS, "work, params, examples, rows, scale, with_penalty, grad, ",
                 "As in backends/contract.py."),
    BRISK_METHOD(
        train, METH_VARARGS, "work, state, examples, steps, ",
        "As in backends/contract.py; the last of what a divergence returns is whether the weights overflowed."),
    BRISK_METHOD(update, METH_VARARGS, "plan, dtype_size, isa, state, grad, step, rate, ",
                 "As in backends/contract.py."),
    {0},
};
