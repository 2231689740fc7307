/* The workspaces that calls need, as capsules. */
#include "../runtime/pool.h"
#include "../runtime/profile.h"
#include "module.h"

static void destroy(PyObject* capsule) {
    struct brisk_workspace* space = PyCapsule_GetPointer(capsule, BRISK_WORKSPACE);
    brisk_work_free(space->work);
    brisk_release(&space->record);
    PyMem_Free(space);
}

/* A capsule around a workspace, which writes to a record unless that is None; the workspace is freed if there is none.
 */
static PyObject* wrap(struct brisk_work* work, PyObject* record) {
    struct brisk_workspace* space = work == NULL ? NULL : PyMem_Calloc(1, sizeof *space);
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
    PyObject* capsule = space->record.failed ? NULL : PyCapsule_New(space, BRISK_WORKSPACE, destroy);
    if (capsule == NULL) {
        brisk_work_free(work);
        brisk_release(&space->record);
        PyMem_Free(space);
    }
    return capsule;
}

/* A workspace, or only its size. */
static PyObject* make(PyObject* args, bool measure) {
    PyObject *object, *record = Py_None, *result = NULL;
    const char* isa;
    Py_ssize_t size;
    long long n;
    int training, threads;
    if (!PyArg_ParseTuple(args, "OnsLpi|O:workspace", &object, &size, &isa, &n, &training, &threads, &record))
        return NULL;
    if (n < 0 || threads < 1)
        return PyErr_Format(PyExc_ValueError, "n is %lld and threads %d, but must be at least 0 and 1", n, threads);
    const struct brisk_kernels* kernels = brisk_kernels_named(isa, size);
    struct brisk_plan plan;
    struct brisk_layer* layers = kernels == NULL ? NULL : brisk_read_plan(object, &plan);
    if (layers == NULL)
        return NULL;
    if (plan.precision != BRISK_HIGHEST && size != sizeof(float))
        PyErr_SetString(PyExc_ValueError, "only float32 has a precision other than the highest");
    else if (plan.precision < kernels->precision)
        PyErr_Format(PyExc_ValueError, "ISA '%s' multiplies bfloat16 alone, not in the highest precision", isa);
    else {
        struct brisk_work* work;
        const int most = (int)smaller(threads, BRISK_POOL_MAX);
        Py_BEGIN_ALLOW_THREADS;
        work = brisk_work_new(kernels, &plan, layers, n, training, most, measure);
        Py_END_ALLOW_THREADS;
        if (work == NULL || !measure)
            result = wrap(work, record);
        else {
            result = PyLong_FromSize_t(work->size);
            brisk_work_free(work);
        }
    }
    PyMem_Free(layers);
    return result;
}

static PyObject* workspace(PyObject* Py_UNUSED(self), PyObject* args) {
    return make(args, false);
}

static PyObject* workspace_size(PyObject* Py_UNUSED(self), PyObject* args) {
    return make(args, true);
}

static PyObject* describe(PyObject* Py_UNUSED(self), PyObject* capsule) {
    static const char* const names[] = {
        [BRISK_BY_PANELS] = "panels", [BRISK_BY_ROWS] = "rows", [BRISK_BY_INPUTS] = "inputs"};
    const struct brisk_workspace* space = PyCapsule_GetPointer(capsule, BRISK_WORKSPACE);
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
    return Py_BuildValue("(sinLLN)", brisk_isa_names[work->kernels->isa], work->threads, (Py_ssize_t)work->size,
                         (long long)work->rows, (long long)work->n_shards, layers);
}

PyMethodDef brisk_workspace_methods[] = {
    BRISK_METHOD(
        workspace, METH_VARARGS, "plan, dtype_size, isa, n, training, threads, record=None, ",
        "All that calls over up to n rows need; one call at a time may use it. Training is profiled into a record."),
    BRISK_METHOD(workspace_size, METH_VARARGS, "plan, dtype_size, isa, n, training, threads, ",
                 "The bytes of such a workspace, which is not made; 0 where they are beyond counting."),
    BRISK_METHOD(describe, METH_O, "work, ",
                 "A workspace's ISA, threads, bytes, rows of a chunk, shards, and (forward, dX, dW, wait) of layers."),
    {0},
};
