/* The Python module briskmlp._native: it turns Python objects into C arguments and back, and computes nothing.
 * Limited API of CPython 3.11, so that one build serves every later version; its types are in _native.pyi. */
#include "module.h"

#include "../runtime/profile.h"

#include <string.h>

#ifndef BRISK_EMULATED
#define BRISK_EMULATED 0
#endif

/* --- instruction sets -------------------------------------------------------------------------------------------- */

static unsigned can_run; /* brisk_isas_can_run(), asked once: it takes microseconds in a virtual machine */

static PyObject* isas(PyObject* Py_UNUSED(self), PyObject* Py_UNUSED(unused)) {
    PyObject* names = PyTuple_New(__builtin_popcount(can_run));
    for (int isa = 0, i = 0; names != NULL && isa < BRISK_ISA_COUNT; isa++)
        if (can_run & 1u << isa) {
            PyObject* name = PyUnicode_FromString(brisk_isa_names[isa]);
            if (name == NULL || PyTuple_SetItem(names, i++, name) < 0)
                Py_CLEAR(names);
        }
    return names;
}

static PyObject* permits_tiles(PyObject* Py_UNUSED(self), PyObject* Py_UNUSED(unused)) {
    return PyBool_FromLong(can_run & 1u << BRISK_AMX && brisk_permits_tiles());
}

static PyObject* best_isa(PyObject* Py_UNUSED(self), PyObject* args) {
    int precision;
    if (!PyArg_ParseTuple(args, "i:best_isa", &precision))
        return NULL;
    if (precision < BRISK_HIGHEST || precision > BRISK_BFLOAT16)
        return PyErr_Format(PyExc_ValueError, "precision is %d, which is not in 0 to 2", precision);
    return PyUnicode_FromString(brisk_isa_names[brisk_isa_should_run(can_run, (enum brisk_precision)precision)]);
}

const struct brisk_kernels* brisk_kernels_named(const char* name, Py_ssize_t size) {
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

/* --- profiling --------------------------------------------------------------------------------------------------- */

static PyObject* ticks(PyObject* Py_UNUSED(self), PyObject* Py_UNUSED(unused)) {
    return PyLong_FromLongLong(brisk_ticks());
}

static PyObject* limits(PyObject* Py_UNUSED(self), PyObject* args) {
    Py_ssize_t size;
    const char* isa;
    int threads;
    if (!PyArg_ParseTuple(args, "nsi:limits", &size, &isa, &threads))
        return NULL;
    if (threads < 1 || threads > BRISK_POOL_MAX)
        return PyErr_Format(PyExc_ValueError, "threads is %d, but must be 1 to %d", threads, (int)BRISK_POOL_MAX);
    const struct brisk_kernels* kernels = brisk_kernels_named(isa, size);
    if (kernels == NULL)
        return NULL;
    struct brisk_limits best;
    Py_BEGIN_ALLOW_THREADS;
    best = brisk_measure_limits(kernels, threads);
    Py_END_ALLOW_THREADS;
    if (best.threads == 0)
        return PyErr_NoMemory();
    return Py_BuildValue("(iddd)", best.threads, best.flops, best.read, best.triad);
}

/* --- for tests --------------------------------------------------------------------------------------------------- */

static PyObject* _fail_allocation(PyObject* Py_UNUSED(self), PyObject* args) {
    long long count;
    if (!PyArg_ParseTuple(args, "L:_fail_allocation", &count))
        return NULL;
    brisk_failing_allocation = count;
    Py_RETURN_NONE;
}

static PyObject* _force_threads(PyObject* Py_UNUSED(self), PyObject* args) {
    int threads;
    if (!PyArg_ParseTuple(args, "i:_force_threads", &threads))
        return NULL;
    brisk_set_num_threads(BRISK_POOL_MAX);
    brisk_forced_threads = threads;
    Py_RETURN_NONE;
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
    const bool failed = PyModule_AddStringConstant(module, "version", BRISKMLP_VERSION) < 0 ||
                        PyModule_AddStringConstant(module, "compiler", BRISKMLP_COMPILER) < 0 ||
                        PyModule_AddObjectRef(module, "emulated", BRISK_EMULATED ? Py_True : Py_False) < 0 ||
                        PyModule_AddFunctions(module, brisk_workspace_methods) < 0 ||
                        PyModule_AddFunctions(module, brisk_call_methods) < 0;
    return failed ? -1 : 0;
}

static PyMethodDef methods[] = {
    BRISK_METHOD(isas, METH_NOARGS, "", "Instruction sets that can run here, slowest first."),
    BRISK_METHOD(permits_tiles, METH_NOARGS, "", "Whether this process may use AMX's tiles, for which it asks."),
    BRISK_METHOD(best_isa, METH_VARARGS, "precision, ", "The fastest of them that has kernels for a precision."),
    BRISK_METHOD(ticks, METH_NOARGS, "", "The clock that records are written by."),
    BRISK_METHOD(limits, METH_VARARGS, "dtype_size, isa, threads, ",
                 "Measure a team's threads, FLOP/s, and bytes/s of reading and of a triad. Takes about half a second."),
    BRISK_METHOD(_fail_allocation, METH_VARARGS, "count, ",
                 "For tests: let the count-th allocation from now on fail; 0 none."),
    BRISK_METHOD(
        _force_threads, METH_VARARGS, "threads, ",
        "For tests: make teams of so many threads whatever the shape deserves; 0 as it deserves. Lifts the limit."),
    {0},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0}};

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
