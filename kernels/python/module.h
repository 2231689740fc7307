/* What the files of the Python module share. */
#ifndef BRISK_MODULE_H
#define BRISK_MODULE_H

#include "arguments.h"

#include <stdatomic.h>

/* A method's entry in a table: its docstring begins with its signature. */
#define BRISK_METHOD(name, flags, arguments, doc) {#name, name, flags, #name "($module, " arguments "/)\n--\n\n" doc}

/* Methods that module.c adds to the module: workspaces.c, calls.c. */
extern PyMethodDef brisk_workspace_methods[], brisk_call_methods[];

/* The kernels of an ISA for numbers of so many bytes; NULL and an exception if there are none that can run here. */
const struct brisk_kernels* brisk_kernels_named(const char* isa, Py_ssize_t size);

/* What a capsule of this name holds. */
#define BRISK_WORKSPACE "briskmlp workspace"

struct brisk_workspace {
    struct brisk_work* work;
    struct brisk_buffers record; /* of a profiled training */
    atomic_bool busy;
};

#endif
