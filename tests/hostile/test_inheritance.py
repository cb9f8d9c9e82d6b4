"""What a program finds when it starts: 3 descriptors, the environment of the language table, and nothing of ours."""

from __future__ import annotations

import pytest
from proving_ground import ProvingGround, ground

from evalx.verdicts import Verdict

__all__ = ["ground"]

#: The memory files that are the standard streams, as the kernel names them.
STREAMS = {0: "/memfd:stdin (deleted)", 1: "/memfd:stdout (deleted)", 2: "/memfd:stderr (deleted)"}

DESCRIPTORS = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    for (int fd = 0; fd < 70000; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d ", fd);
    if (lseek(0, 0, SEEK_CUR) != 0 || lseek(1, 0, SEEK_CUR) != 0 || lseek(2, 0, SEEK_CUR) != 0)
        puts("somebody has used them");
    if (write(0, "x", 1) == 1 || ftruncate(0, 0) == 0 || ftruncate(0, 100) == 0)
        puts("stdin can be written");
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 0) != MAP_FAILED)
        puts("stdin can be mapped");
    return 0;
}
"""

ENVIRONMENT = r"""
#include <stdio.h>
#include <string.h>
extern char **environ;
int main(int argc, char **argv) {
    for (char **entry = environ; *entry != NULL; entry++)
        puts(*entry);
    for (int i = 0; i < argc; i++)
        printf("argv %s\n", argv[i]);
    char text[65536] = "";
    FILE *file = fopen("/proc/self/environ", "r");
    size_t size = fread(text, 1, sizeof text - 1, file);
    for (size_t at = 0; at < size; at += strlen(text + at) + 1)
        if (text[at] != '\0')
            printf("proc %s\n", text + at);
    return 0;
}
"""

STATE = r"""
#define _GNU_SOURCE
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (sigismember(&blocked, number) == 1)
            printf("%d is blocked\n", number);
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf("%d is handled\n", number);
    }
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    if (real != effective || real != saved || real < 100000 || getgid() != real || getegid() != real)
        printf("ids %u %u %u %u\n", real, effective, saved, getgid());
    if (getgroups(0, NULL) != 0)
        puts("it is in other groups");
    if (getppid() != 1)
        printf("its parent is %d\n", getppid());
    if (getpriority(PRIO_PROCESS, 0) != 0 || personality(0xffffffff) != 0)
        puts("priority or personality are not the usual ones");
    if (umask(0) != 022)
        puts("umask");
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0)
        puts("it may dump core");
    puts("that is all");
    return 0;
}
"""

PYTHON = """
import os, sys
found = {}
for fd in range(5000):
    try:
        found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
print(found)
print(sorted(f"{key}={value}" for key, value in os.environ.items()))
print(sys.argv)
"""

JAVA = """
import java.nio.file.*;
public class Main {
    public static void main(String[] a) {
        for (var entry : new java.io.File("/proc/self/fd").list())
            try { System.out.println("fd " + entry + " " + Files.readSymbolicLink(Path.of("/proc/self/fd/" + entry))); }
            catch (java.io.IOException e) { /* the directory itself, closed by now */ }
        System.getenv().forEach((key, value) -> System.out.println("env " + key + "=" + value));
    }
}
"""


@pytest.mark.parametrize("runs", [1, 3])
async def test_three_descriptors(ground: ProvingGround, runs: int):
    """Stdin cannot be written, and there is no fourth: no socket of a fork server, no pipe of the runner."""
    judged = await ground.strike("c", DESCRIPTORS, runs=runs, stdin="text", expected="0 1 2")
    assert judged.verdicts == [Verdict.AC] * runs, judged


@pytest.mark.parametrize("runs", [1, 3])
async def test_the_environment_is_the_tables(ground: ProvingGround, runs: int):
    table = list(ground.registry.resolve("c", "").run_env)
    judged = await ground.strike("c", ENVIRONMENT, runs=runs)
    for test in judged.tests:
        lines = test.stdout.splitlines()
        assert lines[: len(table)] == table
        assert lines[len(table)] == "argv /box/main"
        # What is at the end of a forked test's stack: a constant that says how it was started, and no secret.
        rest = [line.removeprefix("proc ") for line in lines[len(table) + 1 :]]
        assert [entry for entry in rest if not entry.startswith("EVALX_FORK_SERVER=")] == table


@pytest.mark.parametrize("runs", [1, 3])
async def test_no_state_of_ours_is_inherited(ground: ProvingGround, runs: int):
    judged = await ground.strike("c", STATE, runs=runs, expected="that is all")
    assert judged.verdicts == [Verdict.AC] * runs, judged


@pytest.mark.parametrize("runs", [1, 3])
async def test_python_starts_with_as_little(ground: ProvingGround, runs: int):
    table = sorted(ground.registry.resolve("python", "").run_env)
    judged = await ground.strike("python", PYTHON, runs=runs, expected=f"{STREAMS}\n{table}\n['/box/main.py']")
    assert judged.verdicts == [Verdict.AC] * runs, judged


async def test_java_starts_with_its_own_image_besides(ground: ProvingGround):
    judged = await ground.strike("java", JAVA)
    lines = judged.tests[0].stdout.splitlines()
    environment = sorted(line.removeprefix("env ") for line in lines if line.startswith("env "))
    assert environment == sorted(ground.registry.resolve("java", "").run_env)
    open_files = dict(line.split(" ", 2)[1:] for line in lines if line.startswith("fd "))
    others = {name for fd, name in open_files.items() if int(fd) not in STREAMS}
    assert {int(fd): name for fd, name in open_files.items() if int(fd) in STREAMS} == STREAMS
    assert all(name.startswith(("/usr/lib/jvm/", "/box/classes")) or "/proc/" in name for name in others), others
