"""Attacks by processes: bombs, those that stay behind, signals and traces, and what others of the container show."""

from __future__ import annotations

import pytest
from arena import PROGRAMS, Arena

from evalx.verdicts import Verdict

ENDS = {Verdict.OK, Verdict.RTE, Verdict.TLE, Verdict.MLE, Verdict.OLE}
OK, RTE, TLE, MLE = Verdict.OK, Verdict.RTE, Verdict.TLE, Verdict.MLE


@pytest.mark.parametrize("how", ["fork", "vfork", "thread", "exec"])
async def test_fork_bomb(arena: Arena, how: str) -> None:
    await arena.attack("c/fork_bomb.c", stdins=[how, how], expect=ENDS, cpu_time_ms=300, wall_time_ms=1000)


async def test_a_daemon_that_waits_for_the_next_batch(arena: Arena) -> None:
    batch = await arena.attack("c/stay_behind.c", stdins=["double-fork", "ignore-all", "new-group"], expect=OK)
    assert batch.text.count("left") == 3


async def test_signals_reach_nobody_else(arena: Arena) -> None:
    """Tests that a signal of another test of the batch has ended run again, each under a user id of its own."""
    batch = await arena.attack("c/signals.c", stdins=["none", "all", "each", "group", "all", "none"], expect=OK)
    assert batch.text.count("end") == 6
    assert "worked" not in batch.text


async def test_stopping_tests_of_the_same_batch(arena: Arena) -> None:
    """Forks of one start share a user id: one that was stopped ends at its own wall time, or runs again."""
    stdins = ["2", "3", "4", "5", "6", "7"]
    await arena.attack("c/trace_siblings.c", stdins=stdins, expect=[{OK, TLE}] * 6, wall_time_ms=1000)


async def test_looking_into_and_tracing_others(arena: Arena) -> None:
    batch = await arena.attack("c/spying.c", stdins=["1", "2"], expect=OK, cpu_time_ms=2000)
    assert batch.text.count("end") == 2
    assert "worked" not in batch.text, batch.text


async def test_forged_frames_of_the_runner(arena: Arena) -> None:
    batch = await arena.attack("c/forged_frames.c", stdins=["1", "2", "3"], expect=RTE, processes=1)
    assert {test.exit_code for test in batch.tests} == {3}


@pytest.mark.parametrize("how", range(1, 11))
async def test_a_false_fork_server(arena: Arena, how: int) -> None:
    """Silent, dying, flooding, lying, forking by itself, hanging: every test gets its own verdict."""
    source = f"c:#define HOW {how}\n" + (PROGRAMS / "c" / "false_server.c").read_text()
    batch = await arena.attack(source, stdins=["2", "3", "4"], expect=OK)
    assert [test.stdout for test in batch.tests] == ["4\n", "9\n", "16\n"]


async def test_outputs_of_other_tests_are_out_of_reach(arena: Arena) -> None:
    batch = await arena.attack("c/keeps_captures.c", stdins=["2", "3", "4", "5"], expect=OK)
    assert [test.stdout for test in batch.tests] == ["4\n", "9\n", "16\n", "25\n"]


@pytest.mark.parametrize("how", [1, 2, 3, 4])
async def test_computing_before_main_is_on_every_tests_bill(arena: Arena, how: int) -> None:
    source = f"c:#define HOW {how}\n" + (PROGRAMS / "c" / "hidden_work.c").read_text()
    # Wall time is a bound for hangs: a busy machine may take 25 times as long.
    batch = await arena.attack(source, stdins=["", "", ""], expect=OK, cpu_time_ms=3000, wall_time_ms=60_000)
    assert all(test.cpu_time_ms >= 380 for test in batch.tests), [test.cpu_time_ms for test in batch.tests]
    await arena.attack(source, stdins=["", ""], expect=TLE, cpu_time_ms=250, wall_time_ms=60_000)


@pytest.mark.parametrize(
    ("how", "expect"),
    [
        ("heap", {MLE, RTE}),
        ("stack", {MLE, RTE}),
        ("static", MLE),
        ("private", {MLE, RTE}),
        ("shared", {MLE, RTE}),
        ("populate", {MLE, RTE}),
        ("memfd-map", {MLE, RTE}),
        ("memfd", RTE),
        ("shm", RTE),
        ("tmp", RTE),
        ("cwd", RTE),
        ("processes", MLE),
    ],
)
async def test_memory_of_every_kind(arena: Arena, how: str, expect: Verdict | set[Verdict]) -> None:
    """Files are cut at the size that an output may have: SIGXFSZ, before they are a matter of memory."""
    await arena.attack("c/memory.c", stdins=[how, how], expect=expect, cpu_time_ms=2000, processes=16)


async def test_time_that_is_spent_elsewhere(arena: Arena) -> None:
    hows = ["sleep", "stop", "child", "grandchild", "unwaited", "threads", "timers", "traps"]
    await arena.attack("c/late.c", stdins=hows, expect=TLE, cpu_time_ms=300, wall_time_ms=2500, processes=16)


async def test_clocks_and_priorities(arena: Arena) -> None:
    batch = await arena.attack("c/clocks.c", expect=OK)
    assert batch.text == "end\n"


async def test_processes_from_python(arena: Arena) -> None:
    hows = ["signals", "files", "traces", "descriptors", "privileges", "mark", "look", "stay", "look"]
    batch = await arena.attack("python/processes.py", stdins=hows, expect=OK, cpu_time_ms=3000)
    assert batch.text == "end\n" * len(hows)


@pytest.mark.parametrize(("how", "expect"), [("fork-bomb", ENDS), ("threads", ENDS), ("memory", MLE)])
async def test_bombs_in_python(arena: Arena, how: str, expect: Verdict | set[Verdict]) -> None:
    await arena.attack("python/processes.py", stdins=[how, how], expect=expect, cpu_time_ms=500, wall_time_ms=2000)


@pytest.mark.parametrize("language", ["java@21", "java@25"])
async def test_processes_from_java(arena: Arena, language: str) -> None:
    source = f"{language}:" + (PROGRAMS / "java" / "Processes.java").read_text()
    limits = {"cpu_time_ms": 3000, "wall_time_ms": 6000}
    batch = await arena.attack(source, stdins=["files"], expect=OK, **limits)
    assert batch.text.startswith("end\n")
    await arena.attack(source, stdins=["threads", "processes", "memory"], expect=[ENDS, ENDS, MLE], **limits)
