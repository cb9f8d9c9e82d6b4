"""Attacks on the kernel and on the container's walls: none works, in any language, by a start or by a fork.

They are attempts only, so that the container must be there afterwards: whatever had to be destroyed was harmed.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from arena import LIMITS, Arena, Batch
from kernel_attacks import WIDE, attempts, source, worked

from evalx.verdicts import Verdict

#: A single test is started by itself, several are forked where the language can do that.
STARTED, FORKED = ("",), ("", "", "")


async def attack(
    arena: Arena, program: str, stdins: tuple[str, ...], *named: str, language: str = "c"
) -> list[dict[str, str]]:
    """What became of each attempt, when none worked."""
    text = f"{language}:{source(program)}"
    batch = await arena.attack(text, expect=Verdict.OK, stdins=stdins, container="reset", **WIDE)
    found = attempts(batch)
    assert len(found) == len(stdins)
    assert all(set(named) <= set(one) for one in found), "an attempt is missing"
    assert [worked(one) for one in found] == [{}] * len(stdins)
    return found


async def judge(arena: Arena, program: str, *stdins: str, language: str = "c") -> Batch:
    """Judge a program with nobody else around."""
    limits = msgspec.structs.replace(LIMITS, **WIDE)
    return await arena.judge(source(program), arena.registry.resolve(*language.split("@")), stdins or STARTED, limits)


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_system_calls(arena: Arena, stdins: tuple[str, ...]):
    found = await attack(
        arena, "calls.c", stdins, "io_uring_setup", "bpf", "userfaultfd", "keyctl", "clone-user", "ptrace"
    )
    for one in found:
        assert len(one) > 100
        # A new libc goes on with clone only if this is the answer.
        assert one["clone3-plain"] == one["a-call-of-the-future"] == "ENOSYS"


async def test_no_second_set_of_numbers_leads_around_the_filter(arena: Arena):
    (found,) = await attack(arena, "calls.c", STARTED)
    other = {name: end for name, end in found.items() if name.startswith(("i386-", "x32-"))}
    # SIGSEGV: a kernel without the i386 way.
    assert set(other.values()) <= {"SIGSYS", "SIGSEGV", "ENOSYS"}


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_sockets(arena: Arena, stdins: tuple[str, ...]):
    for found in await attack(arena, "sockets.c", stdins, "redis", "kafka", "metadata", "/var/run/docker.sock"):
        families = {end for name, end in found.items() if name.startswith(("family-", "pair-"))}
        assert families == {"EAFNOSUPPORT"}


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_files_of_the_kernel_rights_and_core_dumps(arena: Arena, stdins: tuple[str, ...]):
    rights = ("CapEff", "CapPrm", "CapInh", "CapAmb", "no-new-privileges", "seccomp", "groups", "core-dump")
    await attack(arena, "places.c", stdins, *rights)


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "several"])
async def test_python(arena: Arena, stdins: tuple[str, ...]):
    await attack(arena, "calls.py", stdins, "unshare-CLONE_NEWUSER", "docker.sock", "kill-runner", language="python")


@pytest.mark.parametrize("version", ["21", "25"])
async def test_java(arena: Arena, version: str):
    await attack(arena, "Calls.java", STARTED, "metadata", "docker.sock", "setuid-file", language=f"java@{version}")


@pytest.mark.parametrize("stdins", [("leave",), ("leave",) * 3], ids=["started", "forked"])
async def test_nothing_is_left_for_the_next_batch(arena: Arena, stdins: tuple[str, ...]):
    """Files, semaphores, shared memory, sockets, locks and a daemon, and the next batch is in the same container."""
    first = await judge(arena, "leave.c", *stdins)
    left = attempts(first)
    assert all(one["made:/dev/shm/sem.evalx"] == "" for one in left), "nothing was left, so nothing is proved"
    assert [worked(one) for one in left] == [{}] * len(stdins)
    second = await judge(arena, "leave.c", "look")
    assert second.containers[-1] is first.containers[-1]
    (found,) = attempts(second)
    assert {"process", "abstract", "/etc/passwd", "/dev/shm/shm"} <= set(found)
    assert worked(found) == {}


async def test_nothing_is_seen_from_another_container(arena: Arena):
    """Abstract sockets, locks on files of the image, which both have, semaphores and processes."""

    async def look() -> list[dict[str, str]]:
        found = []
        for _ in range(8):
            found += attempts(await judge(arena, "leave.c", "look"))
        return found

    held, looks = await asyncio.gather(judge(arena, "leave.c", "hold"), look())
    (holder,) = attempts(held)
    assert worked(holder) == {}
    during = [one for one in looks if float(holder["begin"]) < float(one["begin"]) < float(holder["finish"])]
    assert during, "they did not run at the same time, so nothing is proved"
    assert [worked(one) for one in during] == [{}] * len(during)


_PYTHON = {"fork", "spawn", "forkserver", "queue", "manager", "shared", "asyncio", "files"}
_JAVA = {"virtual", "process", "transfer", "selector", "local", "random"}
_JAVASCRIPT = {"worker", "shell", "fork", "files", "local", "timer"}
_CPP = {"thread", "async", "fork", "spawn", "semaphore", "shared", "files"}


@pytest.mark.parametrize(
    ("program", "language", "parts"),
    [
        ("honest.py", "python", _PYTHON),
        ("Honest.java", "java@21", _JAVA),
        ("Honest.java", "java@25", _JAVA),
        ("honest.js", "javascript", _JAVASCRIPT),
        ("honest.cpp", "cpp@17", _CPP),
        ("honest.cpp", "cpp@23", _CPP),
    ],
)
@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "several"])
async def test_honest_programs_have_what_they_need(
    arena: Arena, program: str, language: str, parts: set[str], stdins: tuple[str, ...]
):
    batch = await judge(arena, program, *stdins, language=language)
    for found in attempts(batch):
        assert parts <= set(found)
        assert worked(found) == {}
    assert batch.verdicts == [Verdict.OK] * len(stdins)
