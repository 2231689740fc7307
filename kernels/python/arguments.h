/* Python objects as C arguments: the buffers of arrays, and the Plan. */
#ifndef BRISK_ARGUMENTS_H
#define BRISK_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../brisk.h"

/* Types of numbers, as the struct module calls them. */
enum brisk_type { BRISK_FLOAT32 = 'f', BRISK_FLOAT64 = 'd', BRISK_INT64 = 'q' };

/* What a call may do with an array, and how its rows may lie. */
enum brisk_use { BRISK_READ, BRISK_READ_ROWS, BRISK_WRITE };

/* The buffers that a call holds. A Python exception is set as soon as one is refused; all that are asked for after it
 * are NULL, so that a call need look only once, at the end. */
struct brisk_buffers {
    Py_buffer views[12]; /* more than any call has arrays */
    int count;
    bool failed;
};

struct brisk_array {
    void* data;
    int64_t n, step; /* its length; numbers from one row to the next */
};

/* A vector of n numbers, or a matrix (n, width); n = -1 for any. Both are aligned and in C order, but the rows of
 * BRISK_READ_ROWS may lie apart. Their type, shape and layout are checked; `name` is for messages. */
struct brisk_array brisk_vector(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, enum brisk_use use);
struct brisk_array brisk_matrix(struct brisk_buffers* held, PyObject* object, const char* name, enum brisk_type type,
                                int64_t n, int64_t width, enum brisk_use use);

/* Y of n rows: targets (n, width); labels (n,) if they are allowed, which are then what Y has one axis for. */
struct brisk_array brisk_targets(struct brisk_buffers* held, PyObject* Y, enum brisk_type type, int64_t n,
                                 int64_t width, bool labels_allowed, bool* labels);

/* Refuse the call unless first … last of an array of indices are in 0 … n-1. */
void brisk_check_indices(struct brisk_buffers* held, const char* name, const int64_t* indices, int64_t first,
                         int64_t last, int64_t n);

void brisk_release(struct brisk_buffers* held);

/* Lower a briskmlp.plan.Plan. Returns its layers as brisk_work_new wants them, to be given to PyMem_Free, or NULL and
 * an exception. */
struct brisk_layer* brisk_read_plan(PyObject* object, struct brisk_plan* plan);

#endif
