"""Attacks without evalx's own filter of system calls, under Docker's: user ids and the runner must be enough."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from arena import PROGRAMS, Arena

from evalx.verdicts import Verdict

OK, RTE = Verdict.OK, Verdict.RTE


@pytest.fixture(scope="module")
async def open_arena() -> AsyncIterator[Arena]:
    async with Arena.open(seccomp="docker") as arena:
        yield arena


async def test_looking_into_and_tracing_others(open_arena: Arena) -> None:
    batch = await open_arena.attack("c/spying.c", stdins=["1", "2"], expect=OK, cpu_time_ms=4000)
    assert batch.text == "end\n" * 2


async def test_python_looks_into_and_traces_others(open_arena: Arena) -> None:
    """The interpreter of all batches is among them."""
    hows = ["signals", "files", "traces", "privileges", "look"]
    batch = await open_arena.attack("python/processes.py", stdins=hows, expect=OK, cpu_time_ms=3000)
    assert batch.text == "end\n" * len(hows)


async def test_signals(open_arena: Arena) -> None:
    batch = await open_arena.attack("c/signals.c", stdins=["none", "all", "each", "group"], expect=OK)
    assert batch.text == "end\n" * 4


async def test_forged_frames(open_arena: Arena) -> None:
    await open_arena.attack("c/forged_frames.c", stdins=["1", "2"], expect=RTE, processes=1)


async def test_objects_that_outlive_their_maker(open_arena: Arena) -> None:
    batch = await open_arena.attack("c/leave_objects.c", stdins=["", ""], expect=OK, container="reset")
    assert batch.text == "300\n" * 2


async def test_clocks_and_priorities(open_arena: Arena) -> None:
    batch = await open_arena.attack("c/clocks.c", expect=OK)
    assert batch.text == "end\n"


@pytest.mark.parametrize("how", ["tracer", "traced"])
async def test_tracing_within_a_test(open_arena: Arena, how: str) -> None:
    """A tracer of the same user id cannot hold back the end of a test, nor its kill."""
    ends = {OK, RTE, Verdict.TLE}
    await open_arena.attack("c/trace_family.c", stdins=[how, how], expect=ends, wall_time_ms=1000, cpu_time_ms=500)


async def test_tests_that_trace_and_stop_each_other(open_arena: Arena) -> None:
    source = "c:" + (PROGRAMS / "c" / "trace_siblings.c").read_text()
    batch = await open_arena.attack(source, stdins=["2", "3", "4", "5"], expect=OK)
    assert [test.stdout for test in batch.tests] == ["4\n", "9\n", "16\n", "25\n"]
