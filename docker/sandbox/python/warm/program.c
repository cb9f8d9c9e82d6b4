/*
 * Compiling and running a program, in a process that has given up its privileges.
 *
 * A program that compiles without a warning is compiled once for all its tests, in a process of its own. Everything else (errors,
 * warnings, a parser that is over its limits) is left to the tests: each then does what the interpreter does with a file, and what it
 * says about the source is on its stderr, as ever.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE
#include <Python.h>
#include <internal/pycore_pystate.h>
#include <internal/pycore_runtime.h>
#include <marshal.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "warm.h"

/* A source that has none of these words cannot tell how much of the interpreter is taken apart at the end (finish.c). */
static const char *const end_words[] = {"__del__", "weakref", "is_finalizing"};

static bool looks_at_end(const char *source, size_t size) {
    for (size_t i = 0; i < sizeof end_words / sizeof *end_words; i++)
        if (memmem(source, size, end_words[i], strlen(end_words[i])) != NULL)
            return true;
    return false;
}

/* The whole source with a NUL behind it, or NULL. */
static char *read_source(size_t *size) {
    struct stat st;
    int fd = open(warm_program, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (text = malloc((size_t)st.st_size + 1)) != NULL) {
        ssize_t n = read(fd, text, (size_t)st.st_size);
        *size = n < 0 ? 0 : (size_t)n;
        text[*size] = '\0';
    }
    if (fd >= 0)
        close(fd);
    return text;
}

static PyObject *compile_strictly(const char *source) {
    PyObject *warnings = PyImport_ImportModule("warnings"), *done = NULL;
    PyCompilerFlags flags = _PyCompilerFlags_INIT;
    if (warnings != NULL)
        done = PyObject_CallMethod(warnings, "simplefilter", "s", "error");
    PyObject *code = done == NULL ? NULL : Py_CompileStringExFlags(source, warm_program, Py_file_input, &flags, -1);
    return code == NULL ? NULL : PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION);
}

/* The head comes last: what is cut off in the middle counts as not compiled. */
static void write_code(int fd, const struct warm_code *head, PyObject *code) {
    const char *bytes = code == NULL ? "" : PyBytes_AS_STRING(code);
    if (pwrite(fd, bytes, head->size, sizeof *head) == (ssize_t)head->size)
        (void)!pwrite(fd, head, sizeof *head, 0);
}

void program_compile(int code_fd) {
    struct warm_code head = {.state = WARM_NOT_A_SOURCE};
    size_t size = 0;
    char *source = read_source(&size);
    PyObject *code = NULL;
    wake();
    /* The interpreter also runs archives; all of them have NUL bytes. */
    if (source != NULL && memchr(source, '\0', size) == NULL) {
        code = compile_strictly(source);
        head.state = code == NULL ? WARM_NOT_COMPILED : WARM_COMPILED;
        head.size = code == NULL ? 0 : (uint64_t)PyBytes_GET_SIZE(code);
        head.flags = looks_at_end(source, size) ? WARM_WHOLE_END : 0;
    }
    write_code(code_fd, &head, code);
    _exit(0);
}

/* NULL, with an exception or without: it cannot be used. */
static PyObject *load_code(int fd, bool *whole) {
    struct warm_code head = {0};
    PyObject *code = NULL;
    char *bytes = NULL;
    if (pread(fd, &head, sizeof head, 0) == sizeof head && head.state == WARM_COMPILED && (bytes = malloc(head.size)) != NULL &&
        pread(fd, bytes, head.size, sizeof head) == (ssize_t)head.size)
        code = PyMarshal_ReadObjectFromString(bytes, (Py_ssize_t)head.size);
    free(bytes);
    *whole = (head.flags & WARM_WHOLE_END) != 0;
    return code;
}

static PyObject *run_file(PyObject *globals, bool *whole) {
    size_t size = 0;
    PyCompilerFlags flags = _PyCompilerFlags_INIT;
    char *source = read_source(&size);
    *whole = source == NULL || looks_at_end(source, size);
    free(source);
    FILE *file = fopen(warm_program, "rb");
    if (file == NULL)
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, warm_program);
    return PyRun_FileExFlags(file, warm_program, Py_file_input, globals, globals, 1, &flags);
}

static PyObject *run_code(PyObject *code, PyObject *globals) {
    _PyRuntime.signals.unhandled_keyboard_interrupt = 0;
    PyObject *value = PyEval_EvalCode(code, globals, globals);
    if (value == NULL && PyErr_Occurred() == PyExc_KeyboardInterrupt)
        _PyRuntime.signals.unhandled_keyboard_interrupt = 1;
    Py_DECREF(code);
    return value;
}

static void flush_one(const char *name) {
    PyObject *file = PySys_GetObject(name);
    Py_XDECREF(file == NULL ? NULL : PyObject_CallMethod(file, "flush", NULL));
    PyErr_Clear();
}

static void flush_both(void) {
    PyObject *error = PyErr_GetRaisedException();
    flush_one("stderr");
    flush_one("stdout");
    PyErr_SetRaisedException(error);
}

/* What sys.exit() was called with, as the interpreter takes it. */
static int exit_status(void) {
    PyObject *error = PyErr_GetRaisedException(), *code = PyObject_GetAttrString(error, "code");
    PyErr_Clear();
    if (code != NULL)
        Py_SETREF(error, code);
    int status = 0;
    if (PyLong_Check(error)) {
        status = (int)PyLong_AsLong(error);
        PyErr_Clear();
    } else if (error != Py_None) {
        PyObject *file = PySys_GetObject("stderr");
        if (file != NULL && file != Py_None)
            PyFile_WriteObject(error, file, Py_PRINT_RAW);
        else
            PyObject_Print(error, stderr, Py_PRINT_RAW);
        fflush(stderr);
        PyErr_Clear();
        PySys_WriteStderr("\n");
        status = 1;
    }
    Py_DECREF(error);
    return status;
}

void program_run(int code_fd) {
    bool whole = false;
    wake();
    PyObject *code = code_fd < 0 ? NULL : load_code(code_fd, &whole);
    if (code_fd >= 0)
        close(code_fd);
    PyErr_Clear();
    PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *value = code == NULL ? run_file(globals, &whole) : run_code(code, globals);
    flush_both();
    if (value == NULL && PyErr_ExceptionMatches(PyExc_SystemExit))
        finish(exit_status(), whole);
    int status = value == NULL;
    if (value == NULL)
        PyErr_Print();
    Py_XDECREF(value);
    PyDict_PopString(globals, "__file__", NULL);
    PyDict_PopString(globals, "__cached__", NULL);
    finish(status, whole);
}
