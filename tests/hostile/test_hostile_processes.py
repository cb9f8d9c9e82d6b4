"""Attacks by processes: bombs, those that stay behind, signals and traces, and what others of the container show."""

from __future__ import annotations

import pytest
from arena import Arena

from evalx.verdicts import Verdict

ENDS = {Verdict.OK, Verdict.RTE, Verdict.TLE, Verdict.MLE, Verdict.OLE}


@pytest.mark.parametrize("how", ["fork", "vfork", "thread", "exec"])
async def test_fork_bomb(arena: Arena, how: str) -> None:
    await arena.attack("c/fork_bomb.c", stdins=[how, how], expect=ENDS, cpu_time_ms=300, wall_time_ms=1000)


async def test_a_daemon_that_waits_for_the_next_batch(arena: Arena) -> None:
    batch = await arena.attack("c/stay_behind.c", stdins=["double-fork", "ignore-all", "new-group"], expect=Verdict.OK)
    assert batch.text.count("left") == 3
