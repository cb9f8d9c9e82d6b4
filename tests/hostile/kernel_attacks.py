"""Runs attacks on the kernel through the real engine and pool, and reads what they say they could do.

An attack reports each attempt by a line, `+ NAME ...` when it worked and `- NAME ERROR` when it was refused, and says
`end` at last, so that one that was stopped early is not taken for one that failed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.languages import Registry
from evalx.messages import Limits, Result, Submission, TestCase, normalise
from evalx.sandbox.container import LABEL_OWNER
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

PROGRAMS = Path(__file__).parent / "programs"
OWNER = f"hostile-kernel-{os.getpid()}"
#: Bounds for hangs: a child for each of a thousand attempts, on a machine that has other things to do.
LIMITS = Limits(cpu_time_ms=30_000, wall_time_ms=90_000, output_bytes=1 << 20, processes=32)

_numbers = itertools.count()


class Judge:
    """The engine with its containers, as a worker has it."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry.load()
        self._rules = self._registry.rules(settings)
        self.sandbox = SandboxRuntime(settings, self._registry.images)
        self._engine = Engine(self._registry, self.sandbox, Store(None, timeout_ms=200, ttl_s=60))

    async def run(self, program: str, *stdins: str, language: str = "c", version: str | None = None) -> Result:
        """The result of one of the programs for each stdin; several in C go through the fork server."""
        code = (PROGRAMS / program).read_text()
        if language == "c":
            code = (PROGRAMS / "attempt.h").read_text() + code
        submission = Submission(
            id=f"{OWNER}-{next(_numbers)}",
            language=language,
            version=version,
            code=code,
            tests=tuple(TestCase(id=str(index), stdin=stdin) for index, stdin in enumerate(stdins or ("",))),
            limits=LIMITS,
            cache="bypass",
        )
        judgement = await self._engine.judge(normalise(submission, self._rules))
        return judgement.result(submission, lane="test", worker=OWNER, judged_ms=0)

    async def containers(self) -> set[str]:
        """The ids of the containers that are there."""
        return {one.id for one in await self.sandbox.find_containers({LABEL_OWNER: OWNER})}


@asynccontextmanager
async def judge(settings: Settings) -> AsyncIterator[Judge]:
    """A judge whose containers are gone at the end."""
    made = Judge(settings)
    await made.sandbox.start(owner=OWNER)
    try:
        yield made
    finally:
        await made.sandbox.close()


def attempts(result: Result) -> list[dict[str, str]]:
    """For each test, the attempts and how each ended: an error's name, or `WORKED ...`."""
    assert result.compile is None or result.compile.exit_code == 0, result.compile
    return [_parse(test.stdout or "", f"{test.verdict} {test.stderr}") for test in result.tests]


def _parse(stdout: str, otherwise: str) -> dict[str, str]:
    lines = stdout.splitlines()
    assert lines, otherwise
    assert lines[-1] == "end", (otherwise, lines[-5:])
    found = {}
    for line in lines[:-1]:
        sign, name, *rest = line.split(" ", 2)
        assert sign in ("+", "-"), line
        found[name] = " ".join(rest) if sign == "-" else "WORKED " + " ".join(rest)
    return found


def worked(found: dict[str, str]) -> dict[str, str]:
    """The attempts that worked."""
    return {name: end for name, end in found.items() if end.startswith("WORKED")}
