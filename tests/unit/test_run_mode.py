"""Which programs are asked to be served by a fork server, and that it is counted what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from evalx.engine import Engine
from evalx.languages import Registry
from evalx.messages import Limits, Submission, decode_submission
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
        ("python", 1, Mode.WARM_INTERPRETER),
        ("python", 2, Mode.WARM_INTERPRETER),
        ("java", 2, Mode.WARM_INTERPRETER),
        ("javascript", 2, Mode.EXEC),
    ],
)
async def test_programs_are_started_as_their_language_says(language: str, tests: int, mode: Mode):
    sandbox = FakeSandbox()
    await Engine(REGISTRY, sandbox, MemoryCache()).judge(make(language, tests))
    assert sandbox.jobs[-1].mode is mode
    assert all(job.mode is Mode.EXEC for job in sandbox.jobs[:-1])


@pytest.mark.parametrize(
    ("flags", "label"), [(ResultFlag.SERVED, "fork_server"), (ResultFlag.WARM, "warm"), (ResultFlag(0), "exec")]
)
async def test_runs_are_counted_by_how_they_started(flags: ResultFlag, label: str):
    def count() -> float:
        return METRICS.get_sample_value("evalx_runs_total", {"mode": label}) or 0.0

    before = count()
    sandbox = FakeSandbox(lambda _stdin: Ran(flags=flags))
    await Engine(REGISTRY, sandbox, MemoryCache()).judge(make("c", 3))
    assert count() - before == 3


class _Pool:
    def has_idle(self, _image: str) -> bool:
        return True

    async def usable(self, _image: str) -> None:
        pass

    @asynccontextmanager
    async def acquire(self, _image: str, _ids: tuple[int, ...]) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    ("setting", "mode"), [("fork_server", Mode.FORK_SERVER), ("warm_interpreters", Mode.WARM_INTERPRETER)]
)
@pytest.mark.parametrize("on", [True, False])
async def test_the_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch, setting: str, mode: Mode, on: bool):
    seen: list[Job] = []

    async def run(_container: Any, job: Job, _ids: tuple[int, ...], *_others: Any) -> Collected:
        seen.append(job)
        return Collected((), None)

    monkeypatch.setattr(runtime_module, "_run", run)
    settings = Settings.load(**{setting: on})
    runtime = SandboxRuntime(settings, ["x"])
    runtime._pool = _Pool()  # type: ignore[assignment]
    runtime._specs = {"x": runtime_module.container_spec(settings, "x", {})}
    bounds = Bounds(cpu_time_ms=1, wall_time_ms=1, memory_bytes=1, output_bytes=1, file_bytes=2, processes=1)
    job = Job(argv=("/box/main",), env=(), bounds=bounds, mode=mode)
    await runtime.execute("x", job, rank=0, on_result=lambda _run: None)
    assert [job.mode for job in seen] == [mode if on else Mode.EXEC]


@pytest.mark.parametrize("on", [True, False])
def test_only_containers_of_warm_languages_start_an_interpreter(on: bool):
    settings = Settings.load(warm_interpreters=on)
    assert set(REGISTRY.interpreters) == {"sandbox-python", "sandbox-java21", "sandbox-java25"}
    spec = runtime_module.container_spec(settings, "x", {}, REGISTRY.interpreters["sandbox-python"])
    assert (spec.interpreter == REGISTRY.resolve("python").run) is on


def test_a_warm_virtual_machine_has_the_heap_of_the_default_memory_limit():
    argv = REGISTRY.interpreters["sandbox-java21"].argv
    assert argv == REGISTRY.resolve("java", "21").run_argv(Limits().memory_bytes)
    assert "-Xmx256m" in argv
