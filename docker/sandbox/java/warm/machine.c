/*
 * Java's side: what the launcher (java.c in the JDK) does with a command, in two halves.
 *
 * Before there is a program: the options, the virtual machine, and a class of ours (Warm.java) that uses what programs use most. It is
 * loaded by a class loader of its own, so that no program finds it, and leaves no thread, no open file and no output. In a copy: the
 * working directory, which was another one when Java looked, then the program as the launcher loads and calls it.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <jni.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "warm.h"

enum { MOST_OPTIONS = 64, LAUNCHER_CLASS = 1 /* LM_CLASS: the program is named by its class */ };

#define WARM_CLASS "/opt/evalx/Warm.class"

static char **command, executable[4096];
static const char *main_class, *class_path;
static JavaVMOption options[MOST_OPTIONS];
static int option_count;

static JavaVM *machine;
static JNIEnv *java;
static jclass launcher, statics, string;
static jobject properties, files, paths;
static jmethodID load_main, main_type, put;
static jfieldID user_dir, files_user_dir, paths_directory, is_static, no_arguments;

static bool add_option(const char *prefix, const char *value) {
    char *text = NULL;
    if (option_count == MOST_OPTIONS || asprintf(&text, "%s%s", prefix, value) < 0)
        return false;
    options[option_count++].optionString = text;
    return true;
}

/* Only `java OPTIONS -cp PATH CLASS` is served. */
bool machine_parse(int argc, char **argv) {
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        bool is_path = strcmp(argv[i], "-cp") == 0;
        if (is_path && ++i == argc)
            return false;
        if (!is_path && argv[i][1] != 'X' && argv[i][1] != 'D')
            return false;
        class_path = is_path ? argv[i] : class_path;
        if (!add_option(is_path ? "-Djava.class.path=" : "", argv[i]))
            return false;
    }
    ssize_t size = readlink("/proc/self/exe", executable, sizeof executable - 1);
    if (i != argc - 1 || size <= 0 || class_path == NULL)
        return false;
    command = argv;
    main_class = argv[i];
    return add_option("-Dsun.java.command=", main_class) && add_option("-Dsun.java.launcher=", "SUN_STANDARD");
}

static bool make_machine(void) {
    jint (*create)(JavaVM **, void **, void *) = NULL;
    char *path = NULL, *end = strrchr(executable, '/');
    if (asprintf(&path, "%.*s/../lib/server/libjvm.so", (int)(end - executable), executable) < 0)
        return false;
    char *real = realpath(path, NULL);
    void *library = real == NULL ? NULL : dlopen(real, RTLD_NOW | RTLD_GLOBAL);
    free(path);
    free(real);
    if (library == NULL)
        return false;
    *(void **)&create = dlsym(library, "JNI_CreateJavaVM");
    JavaVMInitArgs arguments = {.version = JNI_VERSION_1_2, .nOptions = option_count, .options = options};
    return create != NULL && create(&machine, (void **)&java, &arguments) == JNI_OK;
}

static bool failed(void) {
    bool thrown = (*java)->ExceptionCheck(java);
    (*java)->ExceptionClear(java);
    return thrown;
}

static jclass find(const char *name) {
    jclass found = (*java)->FindClass(java, name);
    return found == NULL ? NULL : (*java)->NewGlobalRef(java, found);
}

static jobject keep(jobject object) { return object == NULL ? NULL : (*java)->NewGlobalRef(java, object); }

static jobject call_static(jclass type, const char *name, const char *signature) {
    jmethodID method = (*java)->GetStaticMethodID(java, type, name, signature);
    return method == NULL ? NULL : keep((*java)->CallStaticObjectMethod(java, type, method));
}

/* Places that hold the working directory of when Java began. */
static bool find_directory(void) {
    jclass system = find("java/lang/System"), table = find("java/util/Properties"), file = find("java/io/File");
    jclass fast = find("java/io/UnixFileSystem"), path = find("sun/nio/fs/UnixFileSystem");
    jclass provider = find("sun/nio/fs/DefaultFileSystemProvider");
    statics = find("jdk/internal/util/StaticProperty");
    if (system == NULL || table == NULL || file == NULL || fast == NULL || path == NULL || provider == NULL || statics == NULL)
        return false;
    properties = call_static(system, "getProperties", "()Ljava/util/Properties;");
    put = (*java)->GetMethodID(java, table, "setProperty", "(Ljava/lang/String;Ljava/lang/String;)Ljava/lang/Object;");
    user_dir = (*java)->GetStaticFieldID(java, statics, "USER_DIR", "Ljava/lang/String;");
    jfieldID field = (*java)->GetStaticFieldID(java, file, "FS", "Ljava/io/FileSystem;");
    files = field == NULL ? NULL : keep((*java)->GetStaticObjectField(java, file, field));
    files_user_dir = (*java)->GetFieldID(java, fast, "userDir", "Ljava/lang/String;");
    paths = call_static(provider, "theFileSystem", "()Ljava/nio/file/FileSystem;");
    paths_directory = (*java)->GetFieldID(java, path, "defaultDirectory", "[B");
    return !failed() && properties != NULL && files != NULL && paths != NULL;
}

/* JDK 21 has a number for the kind of main(), 0 for the usual one; later ones have two fields. */
static bool find_launcher(void) {
    launcher = find("sun/launcher/LauncherHelper");
    string = find("java/lang/String");
    if (launcher == NULL || string == NULL)
        return false;
    load_main = (*java)->GetStaticMethodID(java, launcher, "checkAndLoadMain", "(ZILjava/lang/String;)Ljava/lang/Class;");
    if (load_main == NULL)
        return false;
    main_type = (*java)->GetStaticMethodID(java, launcher, "getMainType", "()I");
    if (!failed())
        return true;
    is_static = (*java)->GetStaticFieldID(java, launcher, "isStaticMain", "Z");
    no_arguments = (*java)->GetStaticFieldID(java, launcher, "noArgMain", "Z");
    return !failed();
}

static jobject new_loader(void) {
    jclass type = (*java)->FindClass(java, "java/security/SecureClassLoader");
    jmethodID constructor = type == NULL ? NULL : (*java)->GetMethodID(java, type, "<init>", "()V");
    return constructor == NULL ? NULL : (*java)->NewObject(java, type, constructor);
}

static bool run_warm(const jbyte *bytes, jsize size) {
    jobject loader = new_loader();
    jclass type = loader == NULL ? NULL : (*java)->DefineClass(java, "Warm", loader, bytes, size);
    jmethodID method = type == NULL ? NULL : (*java)->GetStaticMethodID(java, type, "run", "()V");
    if (method != NULL)
        (*java)->CallStaticVoidMethod(java, type, method);
    (*java)->DeleteLocalRef(java, loader);
    (*java)->DeleteLocalRef(java, type);
    return !failed() && method != NULL;
}

static bool warm_up(void) {
    static jbyte bytes[64 << 10];
    int fd = open(WARM_CLASS, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    return size > 0 && run_warm(bytes, (jsize)size);
}

/* What is no directory when Java looks at its class path is taken for an archive for ever. */
bool machine_make_place(void) { return mkdir(class_path, 0755) == 0; }

bool machine_remove_place(void) { return rmdir(class_path) == 0; }

bool machine_start(void) { return make_machine() && find_launcher() && find_directory() && warm_up(); }

static void set_directory(const char *directory) {
    jstring name = (*java)->NewStringUTF(java, "user.dir"), text = (*java)->NewStringUTF(java, directory);
    jsize size = (jsize)strlen(directory);
    jbyteArray bytes = (*java)->NewByteArray(java, size);
    (*java)->SetByteArrayRegion(java, bytes, 0, size, (const jbyte *)directory);
    (*java)->DeleteLocalRef(java, (*java)->CallObjectMethod(java, properties, put, name, text));
    (*java)->SetStaticObjectField(java, statics, user_dir, text);
    (*java)->SetObjectField(java, files, files_user_dir, text);
    (*java)->SetObjectField(java, paths, paths_directory, bytes);
    (*java)->DeleteLocalRef(java, name);
    (*java)->DeleteLocalRef(java, text);
    (*java)->DeleteLocalRef(java, bytes);
}

/* As the launcher ends: an uncaught exception is shown when the thread leaves, and threads that are no daemons are waited for. */
_Noreturn static void leave(void) {
    int status = (*java)->ExceptionOccurred(java) != NULL;
    if ((*machine)->DetachCurrentThread(machine) != JNI_OK)
        status = 1;
    (*machine)->DestroyJavaVM(machine);
    exit(status);
}

static bool is_usual_main(void) {
    if (main_type != NULL)
        return (*java)->CallStaticIntMethod(java, launcher, main_type) == 0;
    return (*java)->GetStaticBooleanField(java, launcher, is_static) && !(*java)->GetStaticBooleanField(java, launcher, no_arguments);
}

/* No code of the program has run yet. */
_Noreturn static void become_launcher(void) {
    close_range(STDERR_FILENO + 1, ~0u, 0);
    execv(executable, command);
    _exit(1);
}

_Noreturn void machine_run(const char *directory) {
    set_directory(directory);
    jstring name = (*java)->NewStringUTF(java, main_class);
    jclass type = (*java)->CallStaticObjectMethod(java, launcher, load_main, JNI_TRUE, LAUNCHER_CLASS, name);
    if (type == NULL || (*java)->ExceptionCheck(java))
        leave();
    if (!is_usual_main())
        become_launcher();
    jobjectArray arguments = (*java)->NewObjectArray(java, 0, string, NULL);
    jmethodID method = (*java)->GetStaticMethodID(java, type, "main", "([Ljava/lang/String;)V");
    if (method != NULL)
        (*java)->CallStaticVoidMethod(java, type, method, arguments);
    leave();
}
