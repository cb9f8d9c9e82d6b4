"""Attacks on what a container keeps between batches: its programs, the attacker's own and those of others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from arena import LIMITS, Arena

from evalx.execution import compile_program
from evalx.verdicts import Verdict


@pytest.fixture
async def one_container() -> AsyncIterator[Arena]:
    """Attack and victim take turns in it."""
    async with Arena.open(container_cap=1) as arena:
        yield arena


@pytest.mark.parametrize("stdins", [["1", "2"], ["1"]])
async def test_kept_programs_cannot_be_reached_or_changed(one_container: Arena, stdins: list[str]) -> None:
    for _ in range(2):
        batch = await one_container.attack("c/kept_files.c", stdins=stdins, expect=Verdict.OK, container="reset")
        assert batch.text == "unchanged\n" * len(stdins)


async def test_each_batch_runs_its_own_program(one_container: Arena) -> None:
    """More programs than are kept, of the same size, in turns, the second time from what is kept where it is."""
    c = one_container.registry.resolve("c")
    sources = [f'#include <stdio.h>\nint main(void) {{ puts("{n}"); return 0; }}' for n in range(10, 20)]
    artifacts = [await compile_program(one_container.runtime, c, source, 0) for source in sources]
    assert len({len(artifact.files[0].data) for artifact in artifacts}) == 1
    for n in [*range(10), *range(10), 0, 9, 9, 5, 0]:
        batch = await one_container.judge(sources[n], c, ["", ""], LIMITS, artifacts[n])
        assert batch.text == f"{n + 10}\n" * 2, n
        (used,) = batch.containers
        assert used.reusable
