/* The Python module briskmlp._native: it turns Python objects into C arguments and back, and computes nothing.
 * Limited API of CPython 3.11, so that one build serves every later version; its types are in _native.pyi. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "brisk.h"

/* isas() -> tuple[str, ...]: what can run here, slowest first. */
static PyObject* isas(PyObject* self, PyObject* no_arguments) {
    (void)self, (void)no_arguments;
    unsigned can_run = brisk_isas_can_run();
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

/* best_isa() -> str: what should run here. */
static PyObject* best_isa(PyObject* self, PyObject* no_arguments) {
    (void)self, (void)no_arguments;
    return PyUnicode_FromString(brisk_isa_names[brisk_isa_should_run(brisk_isas_can_run())]);
}

static int add_constants(PyObject* module) {
    if (PyModule_AddStringConstant(module, "version", BRISKMLP_VERSION) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "compiler", BRISKMLP_COMPILER);
}

static PyMethodDef methods[] = {
    {"isas", isas, METH_NOARGS, "isas($module, /)\n--\n\nInstruction sets that can run here, slowest first."},
    {"best_isa", best_isa, METH_NOARGS, "best_isa($module, /)\n--\n\nThe fastest of them for float32 and float64."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_constants},
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
