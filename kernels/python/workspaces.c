/* The workspaces that calls need, as capsules. */
#include "../runtime/profile.h"
#include "module.h"

static void destroy(PyObject* capsule) {
    brisk_work_free(PyCapsule_GetPointer(capsule, BRISK_WORKSPACE));
    Py_XDECREF(PyCapsule_GetContext(capsule));
}

/* Let the training in a workspace be profiled into an array, which the capsule keeps in place. */
static bool set_record(PyObject* capsule, struct brisk_work* work, PyObject* record) {
    struct brisk_buffers held = {0};
    const int64_t words = work->threads * brisk_record_size(work->plan.n_layers);
    const struct brisk_array array = brisk_vector(&held, record, "record", BRISK_INT64, -1, BRISK_WRITE);
    if (!held.failed && array.n < words)
        PyErr_Format(PyExc_ValueError, "record has %lld numbers, but %d threads need %lld", (long long)array.n,
                     work->threads, (long long)words);
    PyObject* view = PyErr_Occurred() ? NULL : PyMemoryView_FromObject(record);
    brisk_release(&held);
    work->record = array.data;
    return view != NULL && PyCapsule_SetContext(capsule, view) == 0;
}

/* A capsule around a workspace, or only its size. */
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
        result = work == NULL ? PyErr_NoMemory()
                 : measure    ? PyLong_FromSize_t(work->size)
                              : PyCapsule_New(work, BRISK_WORKSPACE, destroy);
        if (measure || result == NULL)
            brisk_work_free(work);
        else if (record != Py_None && !set_record(result, work, record))
            Py_CLEAR(result);
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
    const struct brisk_work* work = PyCapsule_GetPointer(capsule, BRISK_WORKSPACE);
    if (work == NULL)
        return NULL;
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
