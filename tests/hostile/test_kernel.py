"""Attacks on the kernel and on the container's walls: none works, in any language, and no neighbour notices.

Each attack is judged through the fork server and by a start of its own, beside a victim in another container; then the
victim is judged again where the attack was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from kernel_attacks import Judge, attempts, judge, worked

from evalx.settings import Settings

pytestmark = pytest.mark.integration

SETTINGS = Settings.load(cpu_slots=2, container_pool_size=0)
#: A single test is started by itself, several are forked where the language can do that.
STARTED, FORKED = ("",), ("", "", "")


@pytest.fixture(scope="module")
async def court() -> AsyncIterator[Judge]:
    async with judge(SETTINGS) as made:
        yield made


async def victim(court: Judge) -> None:
    result = await court.run("victim.c", "1 2", "3 4", "5 6")
    assert [found["sum"] for found in attempts(result)] == ["3", "7", "11"]


async def attack(
    court: Judge, program: str, stdins: tuple[str, ...], *named: str, **choice: str
) -> list[dict[str, str]]:
    """What became of each attempt; the victims are untouched, and no container had to be destroyed."""
    await asyncio.gather(victim(court), victim(court))
    before = await court.containers()
    result, _ = await asyncio.gather(court.run(program, *stdins, **choice), victim(court))
    found = attempts(result)
    assert len(found) == len(stdins)
    assert all(set(named) <= set(one) for one in found), "an attempt is missing"
    assert [worked(one) for one in found] == [{}] * len(stdins)
    await asyncio.gather(victim(court), victim(court))
    assert before <= await court.containers()
    return found


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_system_calls(court: Judge, stdins: tuple[str, ...]):
    found = await attack(
        court, "calls.c", stdins, "io_uring_setup", "bpf", "userfaultfd", "keyctl", "clone-user", "ptrace"
    )
    for one in found:
        assert len(one) > 100
        # A new libc goes on with clone only if this is the answer.
        assert one["clone3-plain"] == one["a-call-of-the-future"] == "ENOSYS"


async def test_no_second_set_of_numbers_leads_around_the_filter(court: Judge):
    (found,) = await attack(court, "calls.c", STARTED)
    other = {name: end for name, end in found.items() if name.startswith(("i386-", "x32-"))}
    # SIGSEGV: a kernel without the i386 way.
    assert set(other.values()) <= {"SIGSYS", "SIGSEGV", "ENOSYS"}


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_sockets(court: Judge, stdins: tuple[str, ...]):
    for found in await attack(court, "sockets.c", stdins, "redis", "kafka", "metadata", "/var/run/docker.sock"):
        families = {end for name, end in found.items() if name.startswith(("family-", "pair-"))}
        assert families == {"EAFNOSUPPORT"}


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "forked"])
async def test_files_of_the_kernel_rights_and_core_dumps(court: Judge, stdins: tuple[str, ...]):
    rights = ("CapEff", "CapPrm", "CapInh", "CapAmb", "no-new-privileges", "seccomp", "groups", "core-dump")
    await attack(court, "places.c", stdins, *rights)


@pytest.mark.parametrize("stdins", [STARTED, FORKED], ids=["started", "several"])
async def test_python(court: Judge, stdins: tuple[str, ...]):
    await attack(court, "calls.py", stdins, "unshare-CLONE_NEWUSER", "docker.sock", "kill-runner", language="python")


@pytest.mark.parametrize("version", ["21", "25"])
async def test_java(court: Judge, version: str):
    await attack(
        court, "Calls.java", STARTED, "metadata", "docker.sock", "setuid-file", language="java", version=version
    )


@pytest.mark.parametrize("stdins", [("leave",), ("leave",) * 3], ids=["started", "forked"])
async def test_nothing_is_left_for_the_next_batch(stdins: tuple[str, ...]):
    """Files, semaphores, shared memory, sockets, locks, a daemon; the container stays, so the next batch meets it."""
    async with judge(SETTINGS) as alone:
        left = attempts(await alone.run("leave.c", *stdins))
        assert all(one["made:/dev/shm/sem.evalx"] == "" for one in left), "nothing was left, so nothing is proved"
        assert [worked(one) for one in left] == [{}] * len(stdins)
        before = await alone.containers()
        (found,) = attempts(await alone.run("leave.c", "look"))
        assert before == await alone.containers()
    assert {"process", "abstract", "/etc/passwd", "/dev/shm/shm"} <= set(found)
    assert worked(found) == {}


async def test_nothing_is_seen_from_another_container(court: Judge):
    """Abstract sockets, locks on files of the image, which both have, semaphores and processes."""

    async def look() -> list[dict[str, str]]:
        found = []
        for _ in range(8):
            found += attempts(await court.run("leave.c", "look"))
        return found

    held, looks = await asyncio.gather(court.run("leave.c", "hold"), look())
    (holder,) = attempts(held)
    assert worked(holder) == {}
    during = [one for one in looks if float(holder["begin"]) < float(one["begin"]) < float(holder["finish"])]
    assert during, "they did not run at the same time, so nothing is proved"
    assert [worked(one) for one in during] == [{}] * len(during)


@pytest.mark.parametrize(
    ("program", "language", "version", "parts"),
    [
        (
            "honest.py",
            "python",
            None,
            {"fork", "spawn", "forkserver", "queue", "manager", "shared", "asyncio", "files"},
        ),
        ("Honest.java", "java", "21", {"virtual", "process", "transfer", "selector", "local", "random"}),
        ("Honest.java", "java", "25", {"virtual", "process", "transfer", "selector", "local", "random"}),
        ("honest.js", "javascript", None, {"worker", "shell", "fork", "files", "local", "timer"}),
        ("honest.cpp", "cpp", "17", {"thread", "async", "fork", "spawn", "semaphore", "shared", "files"}),
        ("honest.cpp", "cpp", "23", {"thread", "async", "fork", "spawn", "semaphore", "shared", "files"}),
    ],
)
async def test_honest_programs_have_what_they_need(
    court: Judge, program: str, language: str, version: str | None, parts: set[str]
):
    result = await court.run(program, language=language, version=version)
    (found,) = attempts(result)
    assert parts <= set(found)
    assert worked(found) == {}
    assert result.verdict == "OK"
