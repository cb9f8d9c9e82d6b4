"""Floods and other misuse of the standard streams, which are files in memory that the runner owns."""

from __future__ import annotations

import pytest
from proving_ground import ProvingGround, ground

from evalx.verdicts import Verdict

__all__ = ["ground"]

LIMIT = 65536

C = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char block[65536];

static void flood(int fd) {
    memset(block, 'x', sizeof block);
    while (write(fd, block, sizeof block) > 0)
        continue;
}

int main(void) {
    %s
    return 0;
}
"""
ALL_SEALS = "F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL"

FLOODS = {
    "stdout": "flood(1);",
    "stderr": "flood(2);",
    "both": "while (write(1, block, 1000) > 0 && write(2, block, 1000) > 0) continue;",
    "that ignores SIGXFSZ": "signal(SIGXFSZ, SIG_IGN); for (;;) flood(1);",
    "after dup": "int fd = dup(1); close(1); flood(fd);",
    "/dev/stdout": 'flood(open("/dev/stdout", O_WRONLY));',
    "/proc/self/fd/1": 'flood(open("/proc/self/fd/1", O_RDWR | O_TRUNC));',
    "many tiny writes": 'while (write(1, "x", 1) == 1) continue;',
    "from children": "signal(SIGXFSZ, SIG_IGN); for (int i = 0; i < 8; i++) if (fork() == 0) for (;;) flood(1);"
    " while (wait(NULL) > 0) continue;",
    "sendfile": 'int fd = memfd_create("m", 0), out = open("/proc/self/fd/1", O_WRONLY); signal(SIGXFSZ, SIG_IGN);'
    " ftruncate(fd, 65537); for (off_t at = 0; sendfile(out, fd, &at, 65536) > 0;) at = 0;",
    "sparse by lseek": 'fcntl(1, F_SETFL, 0); lseek(1, 65536, SEEK_SET); write(1, "x", 1);',
    "sparse by ftruncate": "ftruncate(1, 65537);",
}

#: What is no flood: the verdict, and what the program has printed.
MISUSE = {
    "exactly the limit": ("memset(block, 'A', sizeof block); write(1, block, sizeof block);", "A" * LIMIT, Verdict.AC),
    "lseek is of no effect": ('lseek(1, 1LL << 40, SEEK_SET); write(1, "x", 1);', "x", Verdict.AC),
    "lseek far beyond": ('fcntl(1, F_SETFL, 0); lseek(1, 1LL << 40, SEEK_SET); write(1, "x", 1);', "", Verdict.RTE),
    "ftruncate far beyond": ("ftruncate(1, 1LL << 40);", "", Verdict.RTE),
    "ftruncate to the limit": ("ftruncate(1, 65536);", "\0" * LIMIT, Verdict.AC),
    "fallocate far beyond": (
        'signal(SIGXFSZ, SIG_IGN); if (fallocate(1, 0, 0, 1LL << 40) < 0 && errno == EFBIG) puts("EFBIG");',
        "EFBIG\n",
        Verdict.AC,
    ),
    "fallocate without a size": (
        "signal(SIGXFSZ, SIG_IGN); if (fallocate(1, FALLOC_FL_KEEP_SIZE, 0, 1LL << 30) < 0 && errno == EFBIG)"
        ' puts("EFBIG");',
        "EFBIG\n",
        Verdict.AC,
    ),
    "sealed after the output": (f'write(1, "x", 1); fcntl(1, F_ADD_SEALS, {ALL_SEALS});', "x", Verdict.AC),
    "sealed before the output": (f'fcntl(1, F_ADD_SEALS, {ALL_SEALS}); write(1, "x", 1);', "", Verdict.AC),
    "written through a mapping": (
        'int fd = open("/proc/self/fd/1", O_RDWR); ftruncate(fd, 2);'
        ' memcpy(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), "ok", 2);',
        "ok",
        Verdict.AC,
    ),
    "closed": ('close(0); close(1); close(2); printf("x");', "", Verdict.AC),
    "not its owner": (
        'printf("%d %d %d", fchmod(1, 0), fchown(1, getuid(), 0), fcntl(1, F_SETLEASE, F_WRLCK));',
        "-1 -1 -1",
        Verdict.AC,
    ),
    "taken back": ('write(1, block, 60000); ftruncate(1, 0); write(1, "x", 1);', "x", Verdict.AC),
}

OTHER_LANGUAGES = {
    "python stdout": ("python", "import sys\nwhile True: sys.stdout.write('x' * 1000)"),
    "python stderr": ("python", "import sys\nwhile True: sys.stderr.write('x' * 1000)"),
    "python /dev/stdout": ("python", "file = open('/dev/stdout', 'w')\nwhile True: file.write('x' * 1000)"),
    "python that goes on": (
        "python",
        "import os\nwhile True:\n  try: os.write(1, b'x' * 1000)\n  except BaseException: pass",
    ),
    "java stdout": ("java", 'for (;;) System.out.println("xxxxxxxxxxxxxxx");'),
    "java stderr": ("java", 'for (;;) System.err.println("xxxxxxxxxxxxxxx");'),
    "java /dev/stdout": (
        "java",
        'var f = new java.io.FileOutputStream("/dev/stdout"); for (;;) f.write(new byte[999]);',
    ),
}


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_at_the_output_limit(ground: ProvingGround, name: str, runs: int):
    judged = await ground.strike("c", C % FLOODS[name], runs=runs)
    assert judged.verdicts == [Verdict.OLE] * runs
    assert all(len(test.stdout) <= LIMIT and len(test.stderr) <= LIMIT for test in judged.tests)
    assert all(test.stdout_truncated or test.stderr_truncated for test in judged.tests)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", MISUSE)
async def test_misuse_of_stdout_hurts_only_the_program_itself(ground: ProvingGround, name: str, runs: int):
    body, printed, verdict = MISUSE[name]
    judged = await ground.strike("c", C % body, runs=runs, expected=printed)
    assert judged.verdicts == [verdict] * runs
    assert [test.stdout for test in judged.tests] == [printed] * runs


@pytest.mark.parametrize("runs", [1, 2])
async def test_a_mapping_that_outlives_the_program_changes_nothing(ground: ProvingGround, runs: int):
    body = (
        'int fd = open("/proc/self/fd/1", O_RDWR); ftruncate(fd, 2);'
        " char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);"
        ' memcpy(at, "no", 2); if (fork() == 0) { setsid(); usleep(2000); for (;;) memcpy(at, "ok", 2); }'
    )
    judged = await ground.strike("c", C % body, runs=runs, expected="no")
    assert judged.verdicts == [Verdict.AC] * runs


@pytest.mark.parametrize("name", OTHER_LANGUAGES)
async def test_a_flood_in_other_languages(ground: ProvingGround, name: str):
    language, code = OTHER_LANGUAGES[name]
    if language == "java":
        code = f"public class Main {{ public static void main(String[] a) throws Exception {{ {code} }} }}"
    judged = await ground.strike(language, code)
    assert judged.verdicts == [Verdict.OLE]
    assert len(judged.tests[0].stdout) <= LIMIT
