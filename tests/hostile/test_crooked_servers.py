"""Programs that take over their own fork server and serve almost well: what they say and keep must not matter."""

from __future__ import annotations

import re

import pytest
from arena import PROGRAMS, Arena

from evalx.verdicts import Verdict


def _hows(program: str) -> list[str]:
    """The names in the first enum of a program that HOW may be one of."""
    text = (PROGRAMS / "c" / program).read_text()
    block = re.search(r"enum \{(.*?)\};", text, re.DOTALL)
    assert block is not None
    return re.findall(r"\b[A-Z][A-Z_]+\b", re.sub(r"/\*.*?\*/", "", block[1]))


#: They change what tests of their own submission print while these run, as any program may.
HARM_THEMSELVES = {"WRITES_LATER", "CUTS_OUTPUTS", "SWAPS_OUTPUTS", "SHARES_STACK"}
#: Their tests may also crash each other or lead each other astray, in a race among themselves.
END_THEMSELVES = {"SHARES_STACK"}


async def _attack(arena: Arena, program: str, how: str) -> None:
    source = f"c:#define HOW {how}\n" + (PROGRAMS / "c" / program).read_text()
    numbers = range(2, 8)
    expect = {Verdict.OK, Verdict.RTE, Verdict.TLE} if how in END_THEMSELVES else Verdict.OK
    # Where no test is to hang, wall time is only a bound: some run with the lowest priority on a busy machine.
    wall_time_ms = 2000 if how in END_THEMSELVES else 20_000
    stdins = [str(n) for n in numbers]
    batch = await arena.attack(source, stdins=stdins, expect=expect, wall_time_ms=wall_time_ms, container="reset")
    if how not in HARM_THEMSELVES:
        assert [test.stdout for test in batch.tests] == [f"{n * n}\n" for n in numbers]


@pytest.mark.parametrize("how", _hows("crooked_server.c"))
async def test_a_crooked_fork_server(arena: Arena, how: str) -> None:
    await _attack(arena, "crooked_server.c", how)


@pytest.mark.parametrize("how", _hows("resolver_server.c"))
async def test_a_fork_server_taken_over_by_a_resolver(arena: Arena, how: str) -> None:
    await _attack(arena, "resolver_server.c", how)
