"""Attacks on the interpreter that all batches of a container are forked from, and by tests of Python on each other."""

from __future__ import annotations

import secrets

import pytest
from arena import PROGRAMS, Arena, Batch

from evalx.verdicts import Verdict

OK, RTE, TLE, MLE = Verdict.OK, Verdict.RTE, Verdict.TLE, Verdict.MLE
#: The whole memory of an interpreter is searched.
ROOM = {"cpu_time_ms": 10_000, "wall_time_ms": 40_000, "memory_bytes": 256 << 20}


def _earlier(secret: str) -> str:
    return "python:" + (PROGRAMS / "python" / "earlier.py").read_text().replace("%SECRET%", secret)


async def test_nothing_of_an_earlier_batch_is_in_the_interpreter(arena: Arena) -> None:
    """Neither what it has spoilt nor its source, inputs and objects: the next one searches all of its memory."""
    secret = f"s3cr3t-{secrets.token_hex(16)}"
    first = await arena.attack(_earlier(secret), stdins=[f"leave {secret}"] * 3, expect=OK, container="reset", **ROOM)
    # Nobody is "alone": the interpreter is there, and a signal to all says nothing of those that it must not reach.
    assert [test.stdout for test in first.tests] == ["left\n"] * 3
    second = await arena.attack(_earlier("nothing"), stdins=["look"] * 3, expect=OK, container="reset", **ROOM)
    assert second.containers[-1] is first.containers[-1]
    assert [test.stdout for test in second.tests] == ["end\n"] * 3


async def test_the_search_finds_what_is_there(arena: Arena) -> None:
    """Else the test above would prove nothing."""
    secret = f"s3cr3t-{secrets.token_hex(16)}"
    batch = await arena.attack(_earlier(secret), stdins=["look", "look"], expect=OK, **ROOM)
    assert all(secret in test.stdout for test in batch.tests)


async def _in_turn(arena: Arena, source: str, stdins: list[str], expect: object, **limits: int) -> Batch:
    return await arena.attack(f"python:{source}", stdins=stdins, expect=expect, **limits)  # type: ignore[arg-type]


STOPPER = """
import os, signal, time
if input() == "hit":
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            pass
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGUSR1) if pid != os.getpid() else ():
            try:
                os.kill(pid, number)
                print("worked", pid)
            except OSError:
                pass
time.sleep(0.1)
print("end")
"""


async def test_signals_reach_no_other_test(arena: Arena) -> None:
    """Each has a user id of its own, also those that are forked; the interpreter and the runner are root's."""
    stdins = ["none", "hit", "none", "hit", "hit", "none"]
    batch = await _in_turn(arena, STOPPER, stdins, OK, cpu_time_ms=2000)
    assert [test.stdout for test in batch.tests] == ["end\n"] * 6


async def test_a_source_that_is_long_to_compile_is_on_every_tests_bill(arena: Arena) -> None:
    source = "".join(
        f"def f{i}(a, b=({i},), *c): return [x + {i} for x in (a, b, c) if x != {i}]\n" for i in range(3000)
    )
    batch = await _in_turn(arena, source, [""] * 3, OK, cpu_time_ms=20_000, wall_time_ms=60_000)
    once = min(test.cpu_time_ms for test in batch.tests)
    limit = int(once // 3)
    assert limit > 20, "too short to tell"
    await _in_turn(arena, source, [""] * 3, TLE, cpu_time_ms=limit, wall_time_ms=30_000)


@pytest.mark.parametrize("source", ["x = " + "(" * 150 + "1" + ")" * 150, "x = " + "-" * 90_000 + "1", "if 1:\n"])
async def test_sources_that_break_a_parser(arena: Arena, source: str) -> None:
    """One of them is too complex in the words of a MemoryError."""
    await _in_turn(arena, source, ["", "", ""], {OK, RTE, MLE}, cpu_time_ms=5000, wall_time_ms=30_000)


DESTROYER = """
import ctypes, os, sys
how = input()
if how == "crash":
    ctypes.memset(0, 1, 1)
if how == "scribble":
    for line in open("/proc/self/maps").read().splitlines():
        span, rights, *_ = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw") and "[heap]" in line:
            ctypes.memset(start, 0x41, end - start)
if how == "exec":
    os.execv("/usr/bin/python3", ["python3", "-c", "print('end')"])
if how == "close":
    os.closerange(0, 1024)
    os._exit(0)
print("end")
"""


async def test_a_copy_that_destroys_itself_leaves_the_interpreter_alone(arena: Arena) -> None:
    stdins = ["crash", "scribble", "exec", "close", "none", "none"]
    batch = await _in_turn(arena, DESTROYER, stdins, [RTE, RTE, OK, OK, OK, OK], cpu_time_ms=3000)
    assert [test.stdout for test in batch.tests[4:]] == ["end\n"] * 2


async def test_bombs_leave_the_interpreter_alone(arena: Arena) -> None:
    """It must still be there for the next batch: its container is not given up."""
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    ends = {OK, RTE, TLE, MLE}
    first = await arena.attack(
        f"python:{bomb}", stdins=["", "", ""], expect=ends, container="reset", cpu_time_ms=300, wall_time_ms=1000
    )
    second = await arena.attack("python:print('end')", stdins=["", ""], expect=OK, container="reset")
    assert second.containers[-1] is first.containers[-1]
