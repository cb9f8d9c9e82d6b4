/*
 * The warm interpreter: one start of Python for all tests of a container.
 *
 * Theory of operation. The runner starts `python3 /box/main.py` with this library preloaded, when there is no /box/main.py yet. The
 * library takes the place of main(): it initialises the interpreter from the very arguments and environment, imports the modules that
 * programs use most, and then waits for requests on a socket instead of running a program. For each request it makes a copy of the
 * process, which takes on the uid, limits and descriptors of a test and only then looks at the program. It is the interpreter of
 * the image itself, not a build of ours, so a test runs at its speed and with its behaviour.
 *
 * Trust. This process is root's and never looks at a byte that comes from a submission: the source is compiled in a copy that has given
 * up its privileges (program_compile), and the result is decoded in the process of each test. Between two requests no Python code
 * runs here at all. Each test has a uid of its own, so none may signal, trace or read this process.
 *
 * What it costs is mostly pages that a copy writes to. Therefore all objects that exist before are taken out of the sight of the garbage
 * collector (gc.freeze), the steps of a fork that run Python code are done once (PyOS_BeforeFork, without its counterpart in the
 * parent), and a test does not take the interpreter apart at its end (finish.c).
 *
 * If anything is not as expected the process ends, and the runner starts tests in the ordinary way.
 *
 *   fork.c  a copy that is the runner's child    become.c  privileges and limits
 *   wake.c  Python's part of a fork              program.c  compiling and running
 *   finish.c  the end of a program
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE
#include <Python.h>
#include <internal/pycore_pystate.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "warm.h"

char *warm_program;

static int *thread_id;
static uint64_t extra_bytes;

/* What programs import, and what an uncaught exception needs. Each costs every test: page tables that are copied, and memory. */
static const char *const module_names[] = {
    "collections", "itertools", "functools", "math", "heapq", "bisect", "string", "re", "random", "operator", "typing",
    "copy", "time", "datetime", "decimal", "fractions", "array", "json", "dataclasses", "threading", "traceback", "linecache",
    "warnings", "contextlib", "queue", "statistics", "struct", "cmath", "textwrap",
};

_Noreturn static void give_up(void) { _exit(1); }

/* The environment is the very array that os.environ is made of. The text goes too: /proc/<pid>/environ shows it. */
static bool take_mark(void) {
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    if (count == 0 || strcmp(environ[count - 1], WARM_PRELOAD) != 0)
        return false;
    memset(environ[count - 1], 0, strlen(environ[count - 1]));
    environ[count - 1] = NULL;
    return true;
}

/* Pages of files do not count: a copy begins without them. */
static uint64_t own_bytes(void) {
    unsigned long resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%*u %lu %lu", &resident, &shared) != 2)
        give_up();
    fclose(file);
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void check(PyStatus status) {
    if (PyStatus_Exception(status))
        give_up();
}

static PyObject *need(PyObject *object) {
    if (object == NULL)
        give_up();
    return object;
}

static void initialise(int argc, char **argv) {
    PyConfig config;
    /* Structures of the interpreter's own (pycore_*.h) are used: they hold for one version. */
    if (Py_Version != PY_VERSION_HEX)
        give_up();
    PyConfig_InitPythonConfig(&config);
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    check(PyConfig_Read(&config));
    /* Only `python3 FILE ARGUMENTS` is served: no -c, -m, -i. */
    if (config.run_filename == NULL || config.run_command != NULL || config.run_module != NULL || config.inspect)
        give_up();
    check(Py_InitializeFromConfig(&config));
    PyObject *path = need(PyUnicode_FromWideChar(config.run_filename, -1));
    PyObject *name = need(PyUnicode_EncodeFSDefault(path));
    warm_program = strdup(PyBytes_AS_STRING(name));
    Py_DECREF(name);
    Py_DECREF(path);
    PyConfig_Clear(&config);
}

/* A module that is missing in this image is not worth failing: programs get the same error as ever. */
static void import_modules(void) {
    for (size_t i = 0; i < sizeof module_names / sizeof *module_names; i++) {
        PyObject *module = PyImport_ImportModule(module_names[i]);
        if (module == NULL)
            PyErr_Clear();
        Py_XDECREF(module);
    }
}

static void set_item(PyObject *dictionary, const char *name, PyObject *value) {
    if (PyDict_SetItemString(dictionary, name, need(value)) < 0)
        give_up();
}

/* One that is not frozen: at the end of a program the collector must be able to take it apart. */
static PyObject *renew_main(void) {
    PyObject *loaded = PyImport_GetModuleDict(), *old = need(PyImport_AddModuleRef("__main__"));
    if (PyDict_DelItemString(loaded, "__main__") < 0)
        give_up();
    PyObject *dictionary = PyModule_GetDict(need(PyImport_AddModule("__main__")));
    if (PyDict_Update(dictionary, PyModule_GetDict(old)) < 0)
        give_up();
    Py_DECREF(old);
    return dictionary;
}

/* Error messages about modules that hide others look at it. */
static void note_path(PyObject *directory) {
    Py_ssize_t size = PyUnicode_AsWideChar(directory, NULL, 0);
    wchar_t *text = size < 0 ? NULL : PyMem_RawMalloc((size_t)size * sizeof *text);
    if (text == NULL || PyUnicode_AsWideChar(directory, text, size) < 0)
        give_up();
    ((PyConfig *)(uintptr_t)_Py_GetConfig())->sys_path_0 = text;
}

/* As pymain_run_python and PyRun_SimpleFile leave it before the first line of a program. */
static void prepare_main(void) {
    PyObject *dictionary = renew_main();
    PyObject *external = need(PyImport_ImportModule("_frozen_importlib_external"));
    PyObject *path = need(PyUnicode_DecodeFSDefault(warm_program));
    /* None for a file that is no archive, and remembered so in sys.path_importer_cache. */
    Py_DECREF(need(PyImport_GetImporter(path)));
    set_item(dictionary, "__loader__", PyObject_CallMethod(external, "SourceFileLoader", "sO", "__main__", path));
    set_item(dictionary, "__file__", path);
    set_item(dictionary, "__cached__", Py_None);
    PyObject *directory = need(PyUnicode_FromStringAndSize(warm_program, strrchr(warm_program, '/') - warm_program));
    if (PyList_Insert(need(PySys_GetObject("path")), 0, directory) < 0)
        give_up();
    note_path(directory);
    Py_DECREF(external);
    Py_DECREF(directory);
    Py_DECREF(path);
}

static void freeze(void) {
    PyObject *gc = need(PyImport_ImportModule("gc"));
    Py_DECREF(need(PyObject_CallMethod(gc, "collect", NULL)));
    Py_DECREF(need(PyObject_CallMethod(gc, "freeze", NULL)));
    Py_DECREF(gc);
}

static void prepare(int argc, char **argv) {
    initialise(argc, argv);
    uint64_t fresh = own_bytes();
    if (strchr(warm_program, '/') == NULL)
        give_up();
    import_modules();
    if (!finish_prepare() || !wake_prepare())
        give_up();
    freeze();
    prepare_main();
    PyOS_BeforeFork();
    uint64_t now = own_bytes();
    extra_bytes = now > fresh ? now - fresh : 0;
}

union control {
    struct cmsghdr head;
    char space[CMSG_SPACE(WARM_FDS * sizeof(int))];
};

static int receive(struct warm_request *request, int *fds) {
    union control control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(WARM_FD, &message, MSG_CMSG_CLOEXEC) != sizeof *request || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return -1;
    if (message.msg_controllen < CMSG_LEN(sizeof(int)) || control.head.cmsg_type != SCM_RIGHTS)
        return -1;
    size_t count = (control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(&control.head), count * sizeof(int));
    return (int)count;
}

_Noreturn static void be_child(const struct warm_request *request, const int *fds, int count) {
    if (request->kind == WARM_COMPILE) {
        if (count == 1 && become_compiler(request, fds[0]))
            program_compile(WARM_FD);
    } else if (count >= 3 && become_test(request, fds, count)) {
        program_run(count > 3 ? 3 : -1);
    }
    _exit(1);
}

static bool answer(uint32_t sequence, int pid) {
    struct warm_answer text = {sequence, pid, extra_bytes};
    return send(WARM_FD, &text, sizeof text, MSG_NOSIGNAL) == sizeof text;
}

_Noreturn static void serve(void) {
    struct warm_request request;
    int fds[WARM_FDS], count;
    if (!answer(0, getpid()))
        give_up();
    while ((count = receive(&request, fds)) > 0) {
        int pid = fork_for_parent(thread_id);
        if (pid == 0)
            be_child(&request, fds, count);
        for (int i = 0; i < count; i++)
            close(fds[i]);
        if (pid < 0 || !answer(request.sequence, pid))
            break;
    }
    give_up();
}

static int serve_main(int argc, char **argv, char **env) {
    (void)env;
    thread_id = fork_find_thread_id();
    if (thread_id == NULL)
        give_up();
    prepare(argc, argv);
    serve();
}

/* Takes the place of glibc's own function of this name, which calls main(). */
typedef int (*main_function)(int, char **, char **);
__attribute__((visibility("default"))) int __libc_start_main(main_function, int, char **, void (*)(void), void (*)(void),
                                                            void (*)(void), void *);

int __libc_start_main(main_function function, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
    int (*start)(main_function, int, char **, void (*)(void), void (*)(void), void (*)(void), void *) = NULL;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    return start(take_mark() ? serve_main : function, argc, argv, init, fini, loader_fini, stack_end);
}
