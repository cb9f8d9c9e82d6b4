"""Attacks whose source is in the test itself, judged in the ``arena`` and compared with what they should have said."""

from __future__ import annotations

import base64
import itertools
from typing import Any, NamedTuple

import pytest
from arena import Arena, _used

from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.execution import compile_program
from evalx.languages import Registry
from evalx.messages import CompileReport, Limits, LinesChecker, Submission, TestCase, TestResult
from evalx.sandbox.checkers import compare
from evalx.sandbox.container import Collected, Container
from evalx.sandbox.protocol import Job, RunResult
from evalx.verdicts import Verdict

MIB = 1 << 20
#: What a submission gets that asks for nothing; wall time leaves a busy machine room.
USUAL = {"cpu_time_ms": 2000, "wall_time_ms": 20_000, "memory_bytes": 256 * MIB, "output_bytes": 65536, "processes": 16}


class Strike(NamedTuple):
    """What became of an attack: AC or WA where it was compared."""

    verdicts: list[Verdict]
    tests: tuple[TestResult, ...]
    compile: CompileReport | None


class ProvingGround:
    """Use the fixture ``ground``."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.registry: Registry = arena.registry
        self.engine = Engine(arena.registry, arena.runtime, Store(None, timeout_ms=200, ttl_s=3600))
        self._ids = itertools.count()

    async def strike(
        self,
        language: str,
        code: str,
        *,
        runs: int = 1,
        stdin: str = "",
        expected: str | None = None,
        version: str = "",
        **limits: int,
    ) -> Strike:
        """Judge an attack with all that the arena checks around it; the verdicts are for the test to assert."""
        version = version or self.registry.resolve(language, "").version
        source = f"{language}@{version}:{code}"
        batch = await self.arena.attack(source, expect=set(Verdict), stdins=[stdin] * runs, **{**USUAL, **limits})
        verdicts = [Verdict.CE] if not batch.artifact.files else [_compared(test, expected) for test in batch.tests]
        return Strike(verdicts, batch.tests, batch.artifact.report)

    async def run(self, image: str, job: Job) -> tuple[RunResult, Collected]:
        """One run of our own, for what no submission can reach; its container is looked at as after any attack."""
        runs: list[RunResult] = []
        containers: list[Container] = []
        token = _used.set(containers)
        try:
            collected = await self.arena.execute(image, job, runs)
        finally:
            _used.reset(token)
        (used,) = containers
        await self.arena._check_container(used, used.reusable and not used._closed)
        return runs[0], collected

    async def compile(self, code: str) -> bytes:
        """The program that a C source becomes, through the real compile."""
        artifact = await compile_program(self.arena.runtime, self.registry.resolve("c", ""), code, 0)
        assert artifact.files, artifact.report
        return artifact.files[0].data

    def submission(self, language: str, code: str, tests: tuple[TestCase, ...], **options: Any) -> Submission:
        """A normalised submission for ``engine``, which no cache answers."""
        return Submission(
            id=f"attack-{next(self._ids)}",
            language=language,
            version=self.registry.resolve(language, "").version,
            code=code,
            tests=tests,
            cache="bypass",
            limits=Limits(**{**USUAL, **options}),
        )


def _compared(test: TestResult, expected: str | None) -> Verdict:
    if test.verdict is not Verdict.OK or expected is None:
        return test.verdict
    output = base64.b64decode(test.stdout) if test.encoding == "base64" else test.stdout.encode()
    return Verdict.AC if compare(LinesChecker(), expected, output) else Verdict.WA


def compile_output(strike: Strike) -> str:
    """What the compiler said about a source that did not compile."""
    assert strike.verdicts == [Verdict.CE], strike
    assert strike.compile is not None
    return strike.compile.output


@pytest.fixture
def ground(arena: Arena) -> ProvingGround:
    """A proving ground in the arena of the session."""
    return ProvingGround(arena)
