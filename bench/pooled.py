"""evalx itself: batches through the real container pool, as the engine runs them, with no cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from bench import accounting, workload
from bench.measure import Sample
from evalx.execution import Artifact, compile_program, run_tests
from evalx.languages import Language, Registry
from evalx.messages import Submission, TestCase, TestResult
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings
from evalx.verdicts import Verdict


class Pooled:
    """A contender, and the maker of what the others run: use it as a context, then `compile`."""

    name = "evalx"
    unit = "batches in progress"

    def __init__(self, settings: Settings, language: Language, owner: str, in_progress: Sequence[int]) -> None:
        self.settings = in_progress
        self._language = language
        self._owner = owner
        self._sandbox = SandboxRuntime(settings, [language.image], Registry.load().interpreters)
        self._submission: Submission | None = None
        self._artifact: Artifact | None = None

    async def __aenter__(self) -> Self:
        await self._sandbox.start(owner=self._owner, warm=[self._language.image])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self._sandbox.close()

    async def compile(self, code: str, tests: tuple[TestCase, ...]) -> Artifact:
        """Compile and remember what `run` shall run; the second compile is the one that counts, as in a warm worker.

        Raises:
            RuntimeError: the program does not compile.
        """
        await compile_program(self._sandbox, self._language, code, 0)
        artifact = await compile_program(self._sandbox, self._language, code, 0)
        if artifact.report is not None and artifact.report.exit_code != 0:
            raise RuntimeError(f"{self._language.title}: {artifact.report.output}")
        self._submission = workload.submission(self._language, code, tests)
        self._artifact = artifact
        return artifact

    async def batch(self) -> tuple[TestResult, ...]:
        """The results of one batch."""
        assert self._submission is not None, "compile() comes first"
        assert self._artifact is not None, "compile() comes first"
        return await run_tests(self._sandbox, self._language, self._artifact.files, self._submission, 0)

    async def run(self, batches: int, setting: int) -> Sample:
        """Run batches, so many at a time."""
        assert self._submission is not None, "compile() comes first"
        todo = iter(range(batches))
        before, started, worker = await self._containers_ms(), time.perf_counter(), time.process_time()
        daemon = accounting.daemon_ms()
        wrong = sum(await asyncio.gather(*(self._work(todo) for _ in range(setting))))
        seconds, worker = time.perf_counter() - started, time.process_time() - worker
        parts = {
            "worker": worker * 1000,
            "containers": _grown(before, await self._containers_ms()),
            "docker": _difference(daemon, accounting.daemon_ms()),
        }
        tests = batches * len(self._submission.tests)
        cpu_ms = {part: ms / tests for part, ms in parts.items() if ms is not None}
        return Sample(tests=tests, seconds=seconds, wrong=wrong, cpu_ms=cpu_ms)

    async def _work(self, todo: Iterator[int]) -> int:
        assert self._submission is not None
        wrong = 0
        for _ in todo:
            for test, result in zip(self._submission.tests, await self.batch(), strict=True):
                wrong += result.verdict is not Verdict.AC or result.stdout != test.expected_output
        return wrong

    async def _containers_ms(self) -> dict[str, float | None]:
        found = await self._sandbox.find_containers({LABEL_OWNER: self._owner})
        return {container.id: accounting.cgroups_ms([container.id]) for container in found}


def _grown(before: dict[str, float | None], after: dict[str, float | None]) -> float | None:
    """What containers used in between; None when one that is gone took its figure along."""
    if not before.keys() <= after.keys() or None in after.values():
        return None
    return sum((used or 0.0) - (before.get(name) or 0.0) for name, used in after.items())


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
