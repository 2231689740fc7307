/* The Python module briskmlp._native: it turns Python objects into C arguments and back, and computes nothing.
 * Limited API of CPython 3.11, so that one build serves every later version; its types are in _native.pyi.
 *
 * Arrays are checked in arguments.c, indices of rows here. Labels are not: a kernel looks at each when it needs it. */
#include "../brisk.h"
#include "../runtime/limits.h"
#include "../runtime/pool.h"
#include "../runtime/profile.h"
#include "arguments.h"

#include <stdatomic.h>
#include <string.h>

/* --- instruction sets -------------------------------------------------------------------------------------------- */

#ifndef BRISK_EMULATED
#define BRISK_EMULATED 0
#endif

static unsigned can_run; /* brisk_isas_can_run(), asked once: it takes microseconds in a virtual machine */

/* isas() -> tuple[str, ...]: what can run here, slowest first. */
static PyObject* isas(PyObject* self, PyObject* no_arguments) {
    (void)self, (void)no_arguments;
    PyObject* names = PyList_New(0);
    if (names == NULL)
        return NULL;
    for (int isa = 0; isa < BRISK_ISA_COUNT; isa++) {
        if (!(can_run & 1u << isa))
            continue;
        PyObject* name = PyUnicode_FromString(brisk_isa_names[isa]);
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_XDECREF(name);
            Py_DECREF(names);
            return NULL;
        }
        Py_DECREF(name);
    }
    PyObject* result = PyList_AsTuple(names);
    Py_DECREF(names);
    return result;
}

/* permits_tiles() -> bool: ask the operating system for them. */
static PyObject* permits_tiles(PyObject* self, PyObject* no_arguments) {
    (void)self, (void)no_arguments;
    return PyBool_FromLong(can_run & 1u << BRISK_AMX && brisk_permits_tiles());
}

/* best_isa(precision) -> str: what should run here. */
static PyObject* best_isa(PyObject* self, PyObject* args) {
    (void)self;
    int precision;
    if (!PyArg_ParseTuple(args, "i:best_isa", &precision))
        return NULL;
    if (precision < BRISK_HIGHEST || precision > BRISK_BFLOAT16)
        return PyErr_Format(PyExc_ValueError, "precision is %d, which is not in 0 to 2", precision);
    return PyUnicode_FromString(brisk_isa_names[brisk_isa_should_run(can_run, (enum brisk_precision)precision)]);
}

/* The kernels of an ISA for numbers of so many bytes; NULL and an exception if there are none that can run here. */
static const struct brisk_kernels* kernels_of(const char* name, Py_ssize_t size) {
    for (int isa = 0; isa < BRISK_ISA_COUNT; isa++)
        if (strcmp(name, brisk_isa_names[isa]) == 0 && can_run & 1u << isa) {
            const struct brisk_kernels* kernels = brisk_kernels_of((enum brisk_isa)isa, (size_t)size);
            if (kernels == NULL || kernels->size != (size_t)size)
                continue;
            if (isa != BRISK_AMX || brisk_permits_tiles())
                return kernels;
            PyErr_SetString(PyExc_ValueError, "the operating system refuses AMX's tiles to this process");
            return NULL;
        }
    PyErr_Format(PyExc_ValueError, "there are no kernels of ISA '%s' for numbers of %zd bytes that can run here", name,
                 size);
    return NULL;
}

/* --- workspaces -------------------------------------------------------------------------------------------------- */

static const char WORKSPACE[] = "briskmlp workspace";

struct workspace {
    struct brisk_work* work;
    struct brisk_buffers record; /* of a profiled training */
    atomic_bool busy;
};

static void destroy(PyObject* capsule) {
    struct workspace* space = PyCapsule_GetPointer(capsule, WORKSPACE);
    brisk_work_free(space->work);
    brisk_release(&space->record);
    PyMem_Free(space);
}

/* A capsule around a workspace, which writes to a record unless that is None; the workspace is freed if there is none.
 */
static PyObject* wrap(struct brisk_work* work, PyObject* record) {
    struct workspace* space = work == NULL ? NULL : PyMem_Calloc(1, sizeof *space);
    if (space == NULL) {
        brisk_work_free(work);
        return PyErr_NoMemory();
    }
    space->work = work;
    if (record != Py_None) {
        const int64_t words = work->threads * brisk_record_size(work->plan.n_layers);
        const struct brisk_array array = brisk_vector(&space->record, record, "record", BRISK_INT64, -1, BRISK_WRITE);
        if (!space->record.failed && array.n < words) {
            PyErr_Format(PyExc_ValueError, "record has %lld numbers, but %d threads need %lld", (long long)array.n,
                         work->threads, (long long)words);
            space->record.failed = true;
        }
        work->record = array.data;
    }
    PyObject* capsule = space->record.failed ? NULL : PyCapsule_New(space, WORKSPACE, destroy);
    if (capsule == NULL) {
        brisk_work_free(work);
        brisk_release(&space->record);
        PyMem_Free(space);
    }
    return capsule;
}

/* A workspace, or only its size. */
static PyObject* make(PyObject* args, bool measure) {
    PyObject *object, *record = Py_None;
    const char* isa;
    Py_ssize_t size;
    long long n;
    int training, threads;
    if (!PyArg_ParseTuple(args, "OnsLpi|O:workspace", &object, &size, &isa, &n, &training, &threads, &record))
        return NULL;
    if (n < 0 || threads < 1)
        return PyErr_Format(PyExc_ValueError, "n is %lld and threads %d, but must be at least 0 and 1", n, threads);
    const struct brisk_kernels* kernels = kernels_of(isa, size);
    struct brisk_plan plan;
    struct brisk_layer* layers = kernels == NULL ? NULL : brisk_read_plan(object, &plan);
    if (layers == NULL)
        return NULL;
    if (plan.precision != BRISK_HIGHEST && size != sizeof(float)) {
        PyMem_Free(layers);
        return PyErr_Format(PyExc_ValueError, "only float32 has a precision other than the highest");
    }
    if (plan.precision < kernels->precision) {
        PyMem_Free(layers);
        return PyErr_Format(PyExc_ValueError, "ISA '%s' multiplies bfloat16 alone, not in the highest precision", isa);
    }
    if (threads > BRISK_POOL_MAX)
        threads = BRISK_POOL_MAX;
    if (measure) {
        const size_t bytes = brisk_work_size(kernels, &plan, layers, n, training, threads);
        PyMem_Free(layers);
        return PyLong_FromSize_t(bytes);
    }
    struct brisk_work* work;
    Py_BEGIN_ALLOW_THREADS;
    work = brisk_work_new(kernels, &plan, layers, n, training, threads);
    Py_END_ALLOW_THREADS;
    PyMem_Free(layers);
    return wrap(work, record);
}

/* workspace(plan, dtype_size, isa, n, training, threads, record) -> capsule */
static PyObject* workspace(PyObject* self, PyObject* args) {
    (void)self;
    return make(args, false);
}

/* workspace_size(…the same but record…) -> int: its bytes, 0 where they are beyond counting */
static PyObject* workspace_size(PyObject* self, PyObject* args) {
    (void)self;
    return make(args, true);
}

/* describe(work) -> (isa, threads, bytes) */
static PyObject* describe(PyObject* self, PyObject* capsule) {
    (void)self;
    const struct workspace* space = PyCapsule_GetPointer(capsule, WORKSPACE);
    if (space == NULL)
        return NULL;
    const struct brisk_work* work = space->work;
    return Py_BuildValue("(sin)", brisk_isa_names[work->kernels->isa], work->threads, (Py_ssize_t)work->size);
}

/* schedule(work) -> (threads, rows, shards, ((forward, dX, dW, wait), …)) */
static PyObject* schedule(PyObject* self, PyObject* capsule) {
    (void)self;
    static const char* const names[] = {
        [BRISK_BY_PANELS] = "panels", [BRISK_BY_ROWS] = "rows", [BRISK_BY_INPUTS] = "inputs"};
    const struct workspace* space = PyCapsule_GetPointer(capsule, WORKSPACE);
    if (space == NULL)
        return NULL;
    const struct brisk_work* work = space->work;
    PyObject* layers = PyTuple_New((Py_ssize_t)work->plan.n_layers);
    for (int64_t l = 0; layers != NULL && l < work->plan.n_layers; l++) {
        const struct brisk_schedule* s = &work->layers[l].schedule;
        PyObject* layer = Py_BuildValue("(zzzO)", names[s->forward], l > 0 ? names[s->dX] : NULL, names[s->dW],
                                        s->wait ? Py_True : Py_False);
        if (layer == NULL || PyTuple_SetItem(layers, (Py_ssize_t)l, layer) < 0)
            Py_CLEAR(layers);
    }
    if (layers == NULL)
        return NULL;
    return Py_BuildValue("(iLLN)", work->threads, (long long)work->rows, (long long)work->n_shards, layers);
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

/* What a call over data has: a workspace, to itself alone, and the buffers of its arrays. */
struct call {
    struct workspace* space;
    struct brisk_work* work;
    enum brisk_type type;
    int64_t n_out;
    struct brisk_buffers held;
};

/* Until `finish`, the workspace is this call's. */
static bool begin(struct call* call, PyObject* capsule) {
    struct workspace* space = PyCapsule_GetPointer(capsule, WORKSPACE);
    if (space == NULL)
        return false;
    if (atomic_exchange(&space->busy, true)) {
        PyErr_SetString(PyExc_RuntimeError, "this workspace is in use by another call");
        return false;
    }
    const struct brisk_work* work = space->work;
    *call = (struct call){
        .space = space,
        .work = space->work,
        .type = work->kernels->size == sizeof(float) ? BRISK_FLOAT32 : BRISK_FLOAT64,
        .n_out = work->layers[work->plan.n_layers - 1].n_out,
    };
    return true;
}

/* Returns the result, or NULL if the call was refused. */
static PyObject* finish(struct call* call, PyObject* result) {
    brisk_release(&call->held);
    atomic_store(&call->space->busy, false);
    return call->held.failed ? NULL : result;
}

static PyObject* none(void) {
    return Py_NewRef(Py_None);
}

static void refuse(struct call* call, const char* why) {
    if (!call->held.failed)
        PyErr_SetString(PyExc_ValueError, why);
    call->held.failed = true;
}

static struct brisk_array take_params(struct call* call, PyObject* params, const char* name, enum brisk_use use) {
    return brisk_vector(&call->held, params, name, call->type, call->work->plan.n_parameters, use);
}

/* The rule's scalars. */
static double* take_scalars(struct brisk_buffers* held, PyObject* scalars, const struct brisk_plan* plan) {
    return brisk_vector(held, scalars, "scalars", BRISK_FLOAT64, plan->n_scalars, BRISK_WRITE).data;
}

/* X alone where Y is NULL. The number of rows is written to n. */
static struct brisk_data take_data(struct call* call, PyObject* X, PyObject* Y, PyObject* weight, int64_t* n) {
    const struct brisk_plan* plan = &call->work->plan;
    const struct brisk_layer *first = call->work->layers, *last = first + plan->n_layers - 1;
    struct brisk_buffers* held = &call->held;
    const struct brisk_array rows = brisk_matrix(held, X, "X", call->type, -1, first->n_in, BRISK_READ_ROWS);
    struct brisk_data data = {.X = rows.data, .X_step = rows.step};
    *n = rows.n;
    if (Y != NULL) {
        const bool classes = plan->loss == BRISK_CROSS_ENTROPY && last->activation == BRISK_SOFTMAX;
        bool labels;
        const struct brisk_array targets = brisk_targets(held, Y, call->type, *n, call->n_out, classes, &labels);
        data.Y = labels ? NULL : targets.data;
        data.labels = labels ? targets.data : NULL;
        if (weight != Py_None)
            data.weight = brisk_vector(held, weight, "weight", call->type, *n, BRISK_READ).data;
    }
    return data;
}

/* Indices into n rows of X: no more than the workspace is for. */
static struct brisk_array take_rows(struct call* call, PyObject* rows, int64_t n) {
    const struct brisk_array indices = brisk_vector(&call->held, rows, "rows", BRISK_INT64, -1, BRISK_READ);
    if (indices.n > call->work->n)
        refuse(call, "rows are more than the workspace is for");
    brisk_check_indices(&call->held, "rows", indices.data, 0, indices.n, n);
    return indices;
}

/* forward(work, params, X, rows, out) */
static PyObject* forward(PyObject* self, PyObject* args) {
    (void)self;
    PyObject *capsule, *params, *X, *rows, *out;
    struct call call;
    if (!PyArg_ParseTuple(args, "OOOOO:forward", &capsule, &params, &X, &rows, &out) || !begin(&call, capsule))
        return NULL;
    int64_t n;
    const void* P = take_params(&call, params, "params", BRISK_READ).data;
    const struct brisk_data data = take_data(&call, X, NULL, NULL, &n);
    const struct brisk_array indices = take_rows(&call, rows, n);
    void* A = brisk_matrix(&call.held, out, "out", call.type, indices.n, call.n_out, BRISK_WRITE).data;
    if (call.held.failed)
        return finish(&call, NULL);
    Py_BEGIN_ALLOW_THREADS;
    brisk_forward(call.work, P, &data, indices.data, indices.n, A);
    Py_END_ALLOW_THREADS;
    return finish(&call, none());
}

/* gradient(work, params, (X, Y, weight), rows, scale, with_penalty, grad) -> float */
static PyObject* gradient(PyObject* self, PyObject* args) {
    (void)self;
    PyObject *capsule, *params, *X, *Y, *weight, *rows, *grad;
    double scale, loss;
    int with_penalty;
    struct call call;
    if (!PyArg_ParseTuple(args, "OO(OOO)OdpO:gradient", &capsule, &params, &X, &Y, &weight, &rows, &scale,
                          &with_penalty, &grad) ||
        !begin(&call, capsule))
        return NULL;
    int64_t n;
    const void* P = take_params(&call, params, "params", BRISK_READ).data;
    const struct brisk_data data = take_data(&call, X, Y, weight, &n);
    const struct brisk_array indices = take_rows(&call, rows, n);
    void* G = grad == Py_None ? NULL : take_params(&call, grad, "grad", BRISK_WRITE).data;
    if (grad != Py_None && !call.work->training)
        refuse(&call, "the workspace computes no gradient: it was made with training=False");
    if (call.held.failed)
        return finish(&call, NULL);
    Py_BEGIN_ALLOW_THREADS;
    loss = brisk_gradient(call.work, P, &data, indices.data, indices.n, scale, with_penalty, G);
    Py_END_ALLOW_THREADS;
    return finish(&call, PyFloat_FromDouble(loss));
}

/* Refuse counts that are no place in an epoch of n rows, or whose steps overflow; and an order that leads out of n_X
 * rows of X in the batches of this call. */
static void check_position(struct call* call, const int64_t* counts, int64_t max_steps, struct brisk_array order,
                           int64_t n, int64_t n_X) {
    if (call->held.failed)
        return;
    const int64_t size = call->work->plan.batch_size, batch = counts[1];
    const int64_t n_batches = size > 0 ? n / size + (n % size != 0) : 0;
    if (n > call->work->n || (order.data == NULL && n < call->work->n))
        refuse(call, "X or order has another length than the workspace is for");
    if (counts[0] < 0 || batch < 0 || batch >= n_batches || counts[2] < 0 || max_steps < 0 ||
        counts[0] > INT64_MAX - max_steps || counts[2] > INT64_MAX - max_steps)
        refuse(call, "counts and max_steps are no place in an epoch");
    if (order.data != NULL && !call->held.failed) {
        const int64_t end = max_steps < n_batches - batch ? (batch + max_steps) * size : n;
        brisk_check_indices(&call->held, "order", order.data, batch * size, end < n ? end : n, n_X);
    }
}

/* train(work, (params, slots, counts, sums, scalars), (X, Y, weight), (rates, losses, max_steps, order))
 *     -> None | (epoch, batch, whether it was the weights that are not finite) */
static PyObject* train(PyObject* self, PyObject* args) {
    (void)self;
    PyObject *capsule, *params, *slots, *X, *Y, *weight, *order, *counts, *sums, *scalars, *rates, *losses;
    long long max_steps;
    struct call call;
    if (!PyArg_ParseTuple(args, "O(OOOOO)(OOO)(OOLO):train", &capsule, &params, &slots, &counts, &sums, &scalars, &X,
                          &Y, &weight, &rates, &losses, &max_steps, &order) ||
        !begin(&call, capsule))
        return NULL;
    const struct brisk_plan* plan = &call.work->plan;
    struct brisk_buffers* held = &call.held;
    int64_t n, where[2];
    const struct brisk_state state = {
        .params = take_params(&call, params, "params", BRISK_WRITE).data,
        .slots = brisk_matrix(held, slots, "slots", call.type, plan->n_slots, plan->n_parameters, BRISK_WRITE).data,
        .counts = brisk_vector(held, counts, "counts", BRISK_INT64, 3, BRISK_WRITE).data,
        .sums = brisk_vector(held, sums, "sums", BRISK_FLOAT64, 2, BRISK_WRITE).data,
        .scalars = take_scalars(held, scalars, plan),
    };
    const struct brisk_data data = take_data(&call, X, Y, weight, &n);
    struct brisk_array indices = {.n = n};
    if (order != Py_None)
        indices = brisk_vector(held, order, "order", BRISK_INT64, -1, BRISK_READ);
    const struct brisk_array rate = brisk_vector(held, rates, "rates", BRISK_FLOAT64, -1, BRISK_READ);
    const struct brisk_steps steps = {
        .rates = rate.data,
        .losses = brisk_vector(held, losses, "losses", BRISK_FLOAT64, rate.n, BRISK_WRITE).data,
        .n_epochs = rate.n,
        .max_steps = max_steps,
        .order = indices.data,
        .n_order = indices.n,
    };
    if (!call.work->training)
        refuse(&call, "the workspace cannot train: it was made with training=False");
    check_position(&call, state.counts, max_steps, indices, indices.n, n);
    if (call.held.failed)
        return finish(&call, NULL);
    enum brisk_end reached;
    Py_BEGIN_ALLOW_THREADS;
    reached = brisk_train(call.work, &state, &data, &steps, where);
    Py_END_ALLOW_THREADS;
    if (reached == BRISK_DONE)
        return finish(&call, none());
    PyObject* weights = reached == BRISK_WEIGHTS_NOT_FINITE ? Py_True : Py_False;
    return finish(&call, Py_BuildValue("(LLO)", (long long)where[0], (long long)where[1], weights));
}

/* update(plan, dtype_size, isa, (params, slots, scalars), grad, step, rate) */
static PyObject* update(PyObject* self, PyObject* args) {
    (void)self;
    PyObject *object, *params, *grad, *slots, *scalars;
    const char* isa;
    Py_ssize_t size;
    long long step;
    double rate;
    if (!PyArg_ParseTuple(args, "Ons(OOO)OLd:update", &object, &size, &isa, &params, &slots, &scalars, &grad, &step,
                          &rate))
        return NULL;
    const struct brisk_kernels* kernels = kernels_of(isa, size);
    struct brisk_plan plan;
    struct brisk_layer* layers = kernels == NULL ? NULL : brisk_read_plan(object, &plan);
    if (layers == NULL)
        return NULL;
    struct brisk_buffers held = {0};
    const enum brisk_type type = size == sizeof(float) ? BRISK_FLOAT32 : BRISK_FLOAT64;
    const int64_t n = plan.n_parameters;
    const struct brisk_state state = {
        .params = brisk_vector(&held, params, "params", type, n, BRISK_WRITE).data,
        .slots = brisk_matrix(&held, slots, "slots", type, plan.n_slots, n, BRISK_WRITE).data,
        .scalars = take_scalars(&held, scalars, &plan),
    };
    const void* G = brisk_vector(&held, grad, "grad", type, n, BRISK_READ).data;
    if (!held.failed) {
        Py_BEGIN_ALLOW_THREADS;
        brisk_update(kernels, &plan, layers, &state, G, step, rate);
        Py_END_ALLOW_THREADS;
    }
    brisk_release(&held);
    PyMem_Free(layers);
    return held.failed ? NULL : none();
}

/* --- profiling --------------------------------------------------------------------------------------------------- */

/* ticks() -> int: the clock that records are written by */
static PyObject* ticks(PyObject* self, PyObject* no_arguments) {
    (void)self, (void)no_arguments;
    return PyLong_FromLongLong(brisk_ticks());
}

/* limits(dtype_size, isa, threads) -> (threads, FLOP/s, bytes read/s, bytes of a triad/s) */
static PyObject* limits(PyObject* self, PyObject* args) {
    (void)self;
    Py_ssize_t size;
    const char* isa;
    int threads;
    if (!PyArg_ParseTuple(args, "nsi:limits", &size, &isa, &threads))
        return NULL;
    if (threads < 1 || threads > BRISK_POOL_MAX)
        return PyErr_Format(PyExc_ValueError, "threads is %d, but must be 1 to %d", threads, (int)BRISK_POOL_MAX);
    const struct brisk_kernels* kernels = kernels_of(isa, size);
    if (kernels == NULL)
        return NULL;
    struct brisk_limits best;
    bool measured;
    Py_BEGIN_ALLOW_THREADS;
    measured = brisk_measure_limits(kernels, threads, &best);
    Py_END_ALLOW_THREADS;
    return measured ? Py_BuildValue("(iddd)", best.threads, best.flops, best.read, best.triad) : PyErr_NoMemory();
}

/* --- for threadpoolctl, which finds these by their names ---------------------------------------------------------- */

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int brisk_get_num_threads(void);
EXPORTED void brisk_set_num_threads(int threads);
EXPORTED const char* brisk_version(void);

int brisk_get_num_threads(void) {
    return brisk_pool_limit();
}

void brisk_set_num_threads(int threads) {
    brisk_pool_set_limit(threads);
}

const char* brisk_version(void) {
    return BRISKMLP_VERSION;
}

/* --- for tests --------------------------------------------------------------------------------------------------- */

static PyObject* fail_allocation(PyObject* self, PyObject* count) {
    (void)self;
    const long long number = PyLong_AsLongLong(count);
    if (PyErr_Occurred())
        return NULL;
    brisk_fail_allocation(number);
    return none();
}

static PyObject* force_threads(PyObject* self, PyObject* threads) {
    (void)self;
    const long number = PyLong_AsLong(threads);
    if (PyErr_Occurred())
        return NULL;
    if (number < 0 || number > BRISK_POOL_MAX)
        return PyErr_Format(PyExc_ValueError, "threads is %ld, but must be 0 to %d", number, (int)BRISK_POOL_MAX);
    brisk_pool_set_limit(BRISK_POOL_MAX);
    brisk_force_threads((int)number);
    return none();
}

/* --- the module -------------------------------------------------------------------------------------------------- */

static int execute(PyObject* module) {
    /* Interpreters that share a process would share the pool's limit and the hooks for tests. */
    static atomic_llong owner = -1;
    long long none_yet = -1;
    const int64_t interpreter = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (!atomic_compare_exchange_strong(&owner, &none_yet, interpreter) && none_yet != interpreter) {
        PyErr_SetString(PyExc_ImportError, "briskmlp._native is loaded in another interpreter of this process");
        return -1;
    }
    can_run = brisk_isas_can_run();
    if (PyModule_AddStringConstant(module, "version", BRISKMLP_VERSION) < 0 ||
        PyModule_AddObjectRef(module, "emulated", BRISK_EMULATED ? Py_True : Py_False) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "compiler", BRISKMLP_COMPILER);
}

static PyMethodDef methods[] = {
    {"isas", isas, METH_NOARGS, "isas($module, /)\n--\n\nInstruction sets that can run here, slowest first."},
    {"permits_tiles", permits_tiles, METH_NOARGS,
     "permits_tiles($module, /)\n--\n\nWhether this process may use AMX's tiles, for which it asks."},
    {"best_isa", best_isa, METH_VARARGS,
     "best_isa($module, precision, /)\n--\n\nThe fastest of them that has kernels for a precision."},
    {"workspace", workspace, METH_VARARGS,
     "workspace($module, plan, dtype_size, isa, n, training, threads, record=None, /)\n--\n\n"
     "All that calls over up to n rows need; one call at a time may use it. Training is profiled into a record."},
    {"workspace_size", workspace_size, METH_VARARGS,
     "workspace_size($module, plan, dtype_size, isa, n, training, threads, /)\n--\n\n"
     "The bytes of such a workspace, which is not made; 0 where they are beyond counting."},
    {"describe", describe, METH_O, "describe($module, work, /)\n--\n\nA workspace's ISA, threads and bytes."},
    {"schedule", schedule, METH_O,
     "schedule($module, work, /)\n--\n\nThreads, rows of a chunk, shards, and (forward, dX, dW, wait) of each layer."},
    {"forward", forward, METH_VARARGS,
     "forward($module, work, params, X, rows, out, /)\n--\n\nAs in backends/contract.py."},
    {"gradient", gradient, METH_VARARGS,
     "gradient($module, work, params, examples, rows, scale, with_penalty, grad, /)\n--\n\nAs in "
     "backends/contract.py."},
    {"train", train, METH_VARARGS,
     "train($module, work, state, examples, steps, /)\n--\n\n"
     "As in backends/contract.py; the last of what a divergence returns is whether the weights overflowed."},
    {"update", update, METH_VARARGS,
     "update($module, plan, dtype_size, isa, state, grad, step, rate, /)\n--\n\nAs in backends/contract.py."},
    {"ticks", ticks, METH_NOARGS, "ticks($module, /)\n--\n\nThe clock that records are written by."},
    {"limits", limits, METH_VARARGS,
     "limits($module, dtype_size, isa, threads, /)\n--\n\n"
     "Measure a team's threads, FLOP/s, and bytes/s of reading and of a triad. Takes about half a second."},
    {"_fail_allocation", fail_allocation, METH_O,
     "_fail_allocation($module, count, /)\n--\n\nFor tests: let the count-th allocation from now on fail; 0 none."},
    {"_force_threads", force_threads, METH_O,
     "_force_threads($module, threads, /)\n--\n\n"
     "For tests: make teams of so many threads whatever the shape deserves; 0 as it deserves. Lifts the limit."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "briskmlp._native",
    .m_doc = "The C kernels of briskmlp.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&module);
}
