/* What the files of the Python module share: methods, Python objects as C arguments, kernels, workspaces. */
#ifndef BRISK_MODULE_H
#define BRISK_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../brisk.h"

/* A method's entry in a table: its docstring begins with its signature. */
#define BRISK_METHOD(name, flags, arguments, doc) {#name, name, flags, #name "($module, " arguments "/)\n--\n\n" doc}

/* Methods that module.c adds to the module: workspaces.c, calls.c. */
extern PyMethodDef brisk_workspace_methods[], brisk_call_methods[];

/* The kernels of an ISA for numbers of so many bytes; NULL and an exception if there are none that can run here. */
const struct brisk_kernels* brisk_kernels_named(const char* isa, Py_ssize_t size);

/* The name of the capsules around a struct brisk_work. */
#define BRISK_WORKSPACE "briskmlp workspace"

/* --- arguments.c ------------------------------------------------------------------------------------------------- */

/* Types of numbers, as the struct module calls them. */
enum brisk_type { BRISK_FLOAT32 = 'f', BRISK_FLOAT64 = 'd', BRISK_INT64 = 'q' };

/* What a call may do with an array, and how its rows may lie. */
enum brisk_use { BRISK_READ, BRISK_READ_ROWS, BRISK_WRITE };

/* The buffers that a call holds. When one is refused there is an exception, and all that are asked for after it are
 * NULL, so that a call need look only once, at the end. */
struct brisk_buffers {
    Py_buffer views[13]; /* more than any call has arrays */
    int count;
    bool failed;
};

struct brisk_array {
    void* data;
    int64_t n, step; /* its length; numbers from one row to the next */
    bool labels;     /* of brisk_targets */
};

/* A vector of n numbers, or a matrix (n, width); n = -1 for any. Both are aligned and in C order, but the rows of
 * BRISK_READ_ROWS may lie apart. Their type, shape and layout are checked; `name` is for messages. */
struct brisk_array brisk_vector(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, enum brisk_use use);
struct brisk_array brisk_matrix(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, int64_t width, enum brisk_use use);

/* Y of n rows: targets (n, width); labels (n,) if they are allowed, which are then what Y has one axis for. */
struct brisk_array brisk_targets(struct brisk_buffers* held, PyObject* Y, enum brisk_type type, int64_t n,
                                 int64_t width, bool labels_allowed);

/* Refuse the call unless first … last of an array of indices are in 0 … n-1. */
void brisk_check_indices(struct brisk_buffers* held, const char* name, const int64_t* indices, int64_t first,
                         int64_t last, int64_t n);

void brisk_release(struct brisk_buffers* held);

/* Lower a briskmlp.plan.Plan. Returns its layers as brisk_work_new wants them, to be given to PyMem_Free, or NULL and
 * an exception. */
struct brisk_layer* brisk_read_plan(PyObject* object, struct brisk_plan* plan);

#endif
