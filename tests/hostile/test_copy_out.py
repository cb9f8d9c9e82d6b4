"""Copy-out: what a job leaves instead of a plain file. No author controls a compiler, so the jobs here are our own."""

from __future__ import annotations

import asyncio

import pytest
from proving_ground import ProvingGround, ground

from evalx.sandbox.container import Collected
from evalx.sandbox.protocol import Bounds, File, Job
from evalx.verdicts import Outcome

__all__ = ["ground"]

MIB = 1 << 20
IMAGE = "sandbox-c-cpp"

PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void make(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    write(fd, text, strlen(text));
    close(fd);
}

static void swap(void (*one)(void), void (*other)(void)) {
    if (fork() != 0) {
        usleep(20000);
        return;
    }
    setsid();
    for (;;) {
        one();
        other();
    }
}

static void good(void) { make("new", "good"); rename("new", "main"); }
static void linked(void) { symlink("/etc/passwd", "new"); rename("new", "main"); }
static void good_tree(void) { mkdir("t", 0700); make("t/f", "good"); rename("tree", "old"); rename("t", "tree"); }
static void linked_tree(void) { symlink("/etc", "t"); rename("tree", "old"); rename("t", "tree"); unlink("t"); }

int main(int argc, char **argv) {
    const char *how = argv[1];
    (void)argc;
    if (strcmp(how, "symlink") == 0) symlink("/etc/passwd", "main");
    if (strcmp(how, "dangling") == 0) symlink("/none", "main");
    if (strcmp(how, "hard") == 0) { make("other", "good"); link("other", "main"); }
    if (strcmp(how, "fifo") == 0) mkfifo("main", 0700);
    if (strcmp(how, "device") == 0) printf("%d", mknod("main", S_IFCHR | 0666, 0x105));
    if (strcmp(how, "directory") == 0) mkdir("main", 0700);
    if (strcmp(how, "unreadable") == 0) { make("main", "good"); chmod("main", 0); }
    if (strcmp(how, "setuid") == 0) { make("main", "good"); chmod("main", 06755); }
    if (strcmp(how, "sparse") == 0) { make("main", "x"); truncate("main", 1L << 30); }
    if (strcmp(how, "large") == 0) { make("main", "x"); truncate("main", 80L << 20); }
    if (strcmp(how, "exact") == 0) { make("main", "x"); truncate("main", 32L << 20); }
    if (strcmp(how, "socket") == 0) {
        struct sockaddr_un name = {AF_UNIX, "main"};
        bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof name);
    }
    if (strcmp(how, "swap") == 0) swap(good, linked);
    if (strcmp(how, "swap-tree") == 0) swap(good_tree, linked_tree);
    if (strcmp(how, "parent") == 0) symlink("/etc", "tree");
    if (strcmp(how, "parent-up") == 0) symlink("..", "tree");
    if (strcmp(how, "inside") == 0) { mkdir("tree", 0700); make("tree/a", "good"); symlink("/etc/passwd", "tree/f"); }
    if (strcmp(how, "inside-fifo") == 0) { mkdir("tree", 0700); mkfifo("tree/f", 0700); }
    if (strcmp(how, "names") == 0) { mkdir("tree", 0700); make("tree/\001\n\033[2J", "x"); make("tree/..x", "x"); }
    if (strcmp(how, "invalid") == 0) { mkdir("tree", 0700); make("tree/\377\376", "good"); }
    if (strcmp(how, "deep") == 0)
        for (int i = 0; i < 20 && mkdir(i ? "d" : "tree", 0700) == 0; i++) chdir(i ? "d" : "tree");
    if (strcmp(how, "locked") == 0) { mkdir("tree", 0700); make("tree/f", "good"); chmod("tree", 0); chmod(".", 0); }
    if (strcmp(how, "growing") == 0 && fork() == 0) { make("main", "good"); for (;;) make("main", "good"); }
    if (strcmp(how, "growing") == 0) usleep(20000);
    return 0;
}
"""

#: What is left, what is collected, and why not.
REFUSED = {
    "symlink": ("main", "symbolic link"),
    "dangling": ("main", "symbolic link"),
    "hard": ("main", "more than one link"),
    "fifo": ("main", "not a regular file"),
    "device": ("main", "No such file"),
    "socket": ("main", "No such device"),
    "directory": ("main", "not a regular file"),
    "sparse": ("main", "too large"),
    "large": ("main", "too large"),
    "nothing": ("main", "No such file"),
    "parent": ("tree/passwd", "Not a directory"),
    "parent-up": ("tree/main", "Not a directory"),
    "inside": ("tree/", "symbolic link"),
    "inside-fifo": ("tree/", "not a regular file"),
    "deep": ("tree/", "too deep"),
}
TAKEN = {
    "exact": ("main", {"main": 32 * MIB}),
    "unreadable": ("main", {"main": 4}),
    "setuid": ("main", {"main": 4}),
    "names": ("tree/", {"tree/\001\n\033[2J": 1, "tree/..x": 1}),
    "locked": ("tree/", {"tree/f": 4}),
}


@pytest.fixture
async def program(ground: ProvingGround) -> bytes:
    """The attacker, compiled."""
    return await ground.compile(PROGRAM)


def job(program: bytes, how: str, collect: str, limit: int = 64 * MIB) -> Job:
    """One run of the attacker."""
    return Job(
        argv=("/box/main", how),
        env=(),
        bounds=Bounds(
            cpu_time_ms=2000,
            wall_time_ms=7000,
            memory_bytes=256 * MIB,
            output_bytes=1000,
            file_bytes=2**64 - 1,
            processes=16,
        ),
        files=(File("main", program, 0o755),),
        collect=(collect,),
        collect_max_bytes=limit,
    )


async def collect(ground: ProvingGround, one: Job) -> Collected:
    """What comes out; the container must be clean afterwards, or gone."""
    run, collected = await ground.run(IMAGE, one)
    assert (run.outcome, run.exit_code) == (Outcome.EXITED, 0), run
    return collected


@pytest.mark.parametrize("how", REFUSED)
async def test_what_is_no_plain_file_stays_inside(ground: ProvingGround, program: bytes, how: str):
    path, why = REFUSED[how]
    collected = await collect(ground, job(program, how, path))
    assert collected.files == ()
    assert why in (collected.failure or "")


@pytest.mark.parametrize("how", TAKEN)
async def test_a_plain_file_comes_out_whatever_its_name_and_mode(ground: ProvingGround, program: bytes, how: str):
    path, files = TAKEN[how]
    collected = await collect(ground, job(program, how, path))
    assert {file.name: len(file.data) for file in collected.files} == files
    assert all(file.mode <= 0o777 for file in collected.files), "set-user-id bits do not travel"


async def test_the_limit_is_exact(ground: ProvingGround, program: bytes):
    assert (await collect(ground, job(program, "exact", "main", 32 * MIB))).failure is None
    assert "too large" in ((await collect(ground, job(program, "exact", "main", 32 * MIB - 1))).failure or "")


@pytest.mark.parametrize(("how", "path"), [("swap", "main"), ("swap-tree", "tree/"), ("swap-tree", "tree/f")])
async def test_what_is_swapped_all_the_time_is_good_or_refused(
    ground: ProvingGround, program: bytes, how: str, path: str
):
    """The swapper outlives the run; alive at the first look it would win between the check and the open."""
    for _ in range(15):
        collected = await collect(ground, job(program, how, path))
        assert [file.data for file in collected.files] in ([], [b"good"], [b""]), collected
        assert collected.files or collected.failure


async def test_a_file_that_is_still_written_is_taken_as_it_is(ground: ProvingGround, program: bytes):
    for _ in range(5):
        collected = await collect(ground, job(program, "growing", "main"))
        assert [file.data for file in collected.files] in ([], [b"good"], [b""])


async def test_a_name_that_is_no_text_is_refused(ground: ProvingGround, program: bytes):
    """Else it would be a breach of the protocol, which is our fault and is tried again."""
    collected = await collect(ground, job(program, "invalid", "tree/"))
    assert collected.files == ()
    assert collected.failure is not None


async def test_two_at_once_get_their_own(ground: ProvingGround, program: bytes):
    jobs = [job(program, how, "main") for how in ("exact", "unreadable", "setuid")]
    found = await asyncio.gather(*(ground.run(IMAGE, one) for one in jobs))
    assert [len(collected.files[0].data) for _, collected in found] == [32 * MIB, 4, 4]
