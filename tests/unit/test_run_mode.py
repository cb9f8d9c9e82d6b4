"""Which programs are asked to be served by a fork server, and that it is counted what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from evalx.engine import Engine
from evalx.languages import Registry
from evalx.messages import Submission, decode_submission
from evalx.metrics import REGISTRY as METRICS
from evalx.sandbox import runtime as runtime_module
from evalx.sandbox.container import Collected
from evalx.sandbox.protocol import Bounds, Job, Mode, ResultFlag
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings
from evalx.testing import FakeSandbox, MemoryCache, Ran

REGISTRY = Registry.load()


def make(language: str, tests: int) -> Submission:
    document = {"id": "s", "language": language, "code": "x", "tests": [{"stdin": str(i)} for i in range(tests)]}
    return decode_submission(msgspec.json.encode(document), REGISTRY.rules(Settings()))


@pytest.mark.parametrize(
    ("language", "tests", "mode"),
    [
        ("c", 2, Mode.FORK_SERVER),
        ("cpp", 2, Mode.FORK_SERVER),
        ("cpp", 1, Mode.EXEC),
        ("python", 2, Mode.EXEC),
        ("java", 2, Mode.EXEC),
    ],
)
async def test_native_programs_with_several_tests_are_served(language: str, tests: int, mode: Mode):
    sandbox = FakeSandbox()
    await Engine(REGISTRY, sandbox, MemoryCache()).judge(make(language, tests))
    assert sandbox.jobs[-1].mode is mode
    assert all(job.mode is Mode.EXEC for job in sandbox.jobs[:-1])


@pytest.mark.parametrize(("flags", "label"), [(ResultFlag.SERVED, "fork_server"), (ResultFlag(0), "exec")])
async def test_runs_are_counted_by_how_they_started(flags: ResultFlag, label: str):
    def count() -> float:
        return METRICS.get_sample_value("evalx_runs_total", {"mode": label}) or 0.0

    before = count()
    sandbox = FakeSandbox(lambda _stdin: Ran(flags=flags))
    await Engine(REGISTRY, sandbox, MemoryCache()).judge(make("c", 3))
    assert count() - before == 3


class _Pool:
    @asynccontextmanager
    async def acquire(self, _image: str) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(("on", "mode"), [(True, Mode.FORK_SERVER), (False, Mode.EXEC)])
async def test_the_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch, on: bool, mode: Mode):
    seen: list[Job] = []

    async def run(_container: Any, job: Job, _on_result: Any) -> Collected:
        seen.append(job)
        return Collected((), None)

    monkeypatch.setattr(runtime_module, "_run", run)
    settings = Settings.load(fork_server=on)
    runtime = SandboxRuntime(settings, ["x"])
    runtime._pool = _Pool()  # type: ignore[assignment]
    runtime._specs = {"x": runtime_module.container_spec(settings, "x", {})}
    bounds = Bounds(cpu_time_ms=1, wall_time_ms=1, memory_bytes=1, output_bytes=1, file_bytes=2, processes=1)
    job = Job(argv=("/box/main",), env=(), bounds=bounds, mode=Mode.FORK_SERVER)
    await runtime.execute("x", job, rank=0, on_result=lambda _run: None)
    assert [job.mode for job in seen] == [mode]
