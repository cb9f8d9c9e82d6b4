/*
 * What Python does after a fork, in both halves of it.
 *
 * The functions that modules have registered for a fork (os.register_at_fork) would bring back a state that this process never left:
 * it has one thread, and its locks are free. They write to some hundred pages, so they are not called here, and two things are
 * done by hand: random gets its seed, and the main thread learns its new id. Forks of the program itself call them as ever.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE
#include <Python.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_pystate.h>

#include <unistd.h>

#include "warm.h"

static PyObject *seed, *main_thread, *native_id;

bool wake_prepare(void) {
    PyObject *random = PyImport_ImportModule("random"), *threading = PyImport_ImportModule("threading");
    seed = random == NULL ? NULL : PyObject_GetAttrString(random, "seed");
    main_thread = threading == NULL ? NULL : PyObject_CallMethod(threading, "main_thread", NULL);
    native_id = PyUnicode_InternFromString("_native_id");
    Py_XDECREF(random);
    Py_XDECREF(threading);
    return seed != NULL && main_thread != NULL && native_id != NULL;
}

void wake(void) {
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    PyObject *functions = interpreter->after_forkers_child;
    interpreter->after_forkers_child = NULL;
    PyOS_AfterFork_Child();
    interpreter->after_forkers_child = functions;
    Py_XDECREF(PyObject_CallNoArgs(seed));
    PyObject *id = PyLong_FromLong(gettid());
    if (id == NULL || PyObject_SetAttr(main_thread, native_id, id) < 0)
        PyErr_Clear();
    Py_XDECREF(id);
}
