/*
 * The end of a program, without taking the interpreter apart.
 *
 * Py_FinalizeEx destroys every module and type, which writes to nearly every page of the process and costs more than most tests. A
 * program can see only the beginning of that: threads are waited for, atexit functions run, files are flushed, its own objects are
 * destroyed. These steps are done here, in the same order; the rest goes with the process. A program that may look closer (program.c)
 * gets the interpreter's own end.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE
#include <Python.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_pystate.h>
#include <internal/pycore_runtime.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "warm.h"

static const char *const specials[] = {"path", "argv", "ps1", "ps2", "last_exc", "last_type", "last_value", "last_traceback",
                                       "path_hooks", "path_importer_cache", "meta_path"};
enum { SPECIALS = sizeof specials / sizeof *specials };

static PyObject *exit_functions;

/* One more reference to what a program did not make itself, so that nobody has to destroy it. */
bool finish_prepare(void) {
    PyObject *atexit = PyImport_ImportModule("atexit");
    exit_functions = atexit == NULL ? NULL : PyObject_GetAttrString(atexit, "_run_exitfuncs");
    Py_XDECREF(atexit);
    for (size_t i = 0; i < SPECIALS; i++)
        Py_XINCREF(PySys_GetObject(specials[i]));
    return exit_functions != NULL;
}

static PyObject *loaded(const char *name) {
    PyObject *modules = PyImport_GetModuleDict();
    return modules == NULL ? NULL : PyDict_GetItemString(modules, name);
}

static void call(PyObject *module, const char *name) {
    PyObject *done = module == NULL ? NULL : PyObject_CallMethod(module, name, NULL);
    if (done == NULL && module != NULL)
        PyErr_WriteUnraisable(module);
    Py_XDECREF(done);
}

static void run_exit_functions(void) {
    PyObject *done = PyObject_CallNoArgs(exit_functions);
    if (done == NULL)
        PyErr_WriteUnraisable(exit_functions);
    Py_XDECREF(done);
}

static bool is_open(PyObject *file) {
    PyObject *closed = file == NULL || file == Py_None ? NULL : PyObject_GetAttrString(file, "closed");
    int truth = closed == NULL ? 0 : PyObject_IsTrue(closed);
    Py_XDECREF(closed);
    PyErr_Clear();
    return file != NULL && file != Py_None && truth <= 0;
}

static bool flush(const char *name) {
    PyObject *file = PySys_GetObject(name);
    if (!is_open(file))
        return true;
    PyObject *done = PyObject_CallMethod(file, "flush", NULL);
    Py_XDECREF(done);
    return done != NULL;
}

static bool flush_standard_files(void) {
    bool out = flush("stdout");
    if (!out)
        PyErr_FormatUnraisable("Exception ignored on flushing sys.stdout");
    bool err = flush("stderr");
    PyErr_Clear();
    return out && err;
}

/* What the program's objects have written in their end: goes out, or is lost without a word. */
static void flush_silently(void) {
    flush("stdout");
    PyErr_Clear();
    flush("stderr");
    PyErr_Clear();
}

/* Daemon threads that want to go on from here stop for good. */
static void begin_end(PyThreadState *thread) {
    _PyInterpreterState_SetFinalizing(thread->interp, thread);
    _PyRuntimeState_SetFinalizing(&_PyRuntime, thread);
}

/* References to the program's objects that outlive its module: in the order in which the interpreter lets them go. */
static void forget_specials(void) {
    PyObject *builtins = loaded("builtins");
    if (builtins != NULL)
        PyObject_SetAttrString(builtins, "_", Py_None);
    for (size_t i = 0; i < SPECIALS; i++)
        PySys_SetObject(specials[i], Py_None);
    PySys_SetObject("stdin", PySys_GetObject("__stdin__"));
    PySys_SetObject("stdout", PySys_GetObject("__stdout__"));
    PySys_SetObject("stderr", PySys_GetObject("__stderr__"));
    PyErr_Clear();
}

static void destroy_main(void) {
    PyObject *modules = PyImport_GetModuleDict();
    if (modules != NULL && PyDict_SetItemString(modules, "__main__", Py_None) < 0)
        PyErr_Clear();
    PyGC_Collect();
}

static int end_quickly(void) {
    PyThreadState *thread = PyThreadState_Get();
    thread->interp->finalizing = 1;
    call(loaded("threading"), "_shutdown");
    Py_MakePendingCalls();
    run_exit_functions();
    begin_end(thread);
    bool good = flush_standard_files();
    /* Twice, as the first time puts objects into the order in which the second time finalises them: files before their buffers. */
    PyGC_Collect();
    forget_specials();
    destroy_main();
    flush_silently();
    return good ? 0 : -1;
}

/* As a shell expects it of a program that Ctrl-C has ended. */
static int end_by_interrupt(void) {
    signal(SIGINT, SIG_DFL);
    kill(getpid(), SIGINT);
    return SIGINT + 128;
}

void finish(int status, bool whole) {
    int interrupted = _PyRuntime.signals.unhandled_keyboard_interrupt;
    if ((whole ? Py_FinalizeEx() : end_quickly()) < 0)
        status = 120;
    if (interrupted)
        status = end_by_interrupt();
    if (whole)
        exit(status);
    fflush(NULL);
    _exit(status);
}
