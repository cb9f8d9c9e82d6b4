"""Sandboxes behind a socket and behind Docker's stream judge alike, and each way has the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from integration_stack import docker, eventually, sandboxes

from evalx.execution import compile_program, run_tests
from evalx.languages import Registry
from evalx.messages import Limits, LinesChecker, Submission, TestCase
from evalx.sandbox import runtime as runtime_module
from evalx.sandbox import sockets as sockets_module
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.sockets import Doorway, open_sockets, sweep
from evalx.settings import Settings
from evalx.verdicts import Verdict

REGISTRY = Registry.load()
LANGUAGE = REGISTRY.resolve("c")
CODE = '#include <stdio.h>\nint main(void) { int n; scanf("%d", &n); printf("%d\\n", n * n); return n == 5; }\n'


async def judge(runtime: SandboxRuntime) -> list[Verdict]:
    """Of a right answer, a wrong one, and a crash."""
    artifact = await compile_program(runtime, LANGUAGE, CODE, 0)
    wanted = {3: 9, 4: 1, 5: 25}
    tests = [TestCase(id=str(n), stdin=f"{n}\n", expected_output=f"{square}\n") for n, square in wanted.items()]
    limits = Limits(cpu_time_ms=4000, wall_time_ms=60_000)
    submission = Submission(
        id="x", language=LANGUAGE.name, code=CODE, tests=tests, limits=limits, checker=LinesChecker()
    )
    return [one.verdict for one in await run_tests(runtime, LANGUAGE, artifact.files, submission, 0)]


async def judged(directory: Path, **changes: Any) -> tuple[list[Verdict], set[str]]:
    """The verdicts, and what frames travelled over."""
    settings = Settings.load(container_cap=2, socket_dir=directory, **changes)
    runtime = SandboxRuntime(settings, [LANGUAGE.image], REGISTRY.interpreters)
    await runtime.start(owner=f"test-sockets-{os.getpid()}", warm=[LANGUAGE.image])
    try:
        verdicts = await judge(runtime)
        assert runtime._pool is not None
        return verdicts, {one.container.channel_kind for shelf in runtime._pool._shelves.values() for one in shelf.idle}
    finally:
        await runtime.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reasons: list[str] = []
    monkeypatch.setattr(runtime_module, "open_sockets", partial(open_sockets, say=reasons.append))
    return reasons


VERDICTS = [Verdict.AC, Verdict.WA, Verdict.RTE]


def empty(directory: Path) -> bool:
    return list(directory.iterdir()) == []


async def test_over_a_socket(tmp_path: Path, told: list[str]):
    assert await judged(tmp_path / "s") == (VERDICTS, {"socket"})
    assert empty(tmp_path / "s")
    assert told == []


async def test_a_worker_that_is_not_root(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch):
    """The runner comes into its folders all the same."""
    made = Doorway.__init__

    def given_away(self: Doorway, folder: Path, host_folder: Path) -> None:
        made(self, folder, host_folder)
        os.chown(folder, 6066, 6066)
        os.chown(folder / "worker", 6066, 6066)

    monkeypatch.setattr(Doorway, "__init__", given_away)
    assert await judged(tmp_path / "s") == (VERDICTS, {"socket"})
    assert told == []


async def test_a_folder_that_the_daemon_does_not_see(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch):
    async def elsewhere(*_: object) -> Path:
        return Path("/nowhere")

    monkeypatch.setattr(sockets_module, "_host_directory", elsewhere)
    assert await judged(tmp_path / "s") == (VERDICTS, {"attach"})
    (reason,) = told
    assert "does not see the folder" in reason


async def test_a_runner_that_does_not_get_through(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch):
    made = Doorway.__init__

    def shut(self: Doorway, folder: Path, host_folder: Path) -> None:
        made(self, folder, host_folder)
        (folder / "worker").unlink()

    monkeypatch.setattr(Doorway, "__init__", shut)
    assert await judged(tmp_path / "s") == (VERDICTS, {"attach"})
    assert told == ["a sandbox does not reach the worker's socket: No such file or directory"]
    assert empty(tmp_path / "s")


async def test_switched_off(tmp_path: Path, told: list[str]):
    assert await judged(tmp_path / "s", direct_sockets=False) == (VERDICTS, {"attach"})
    assert told == []


WORKER = """
import asyncio, sys
from pathlib import Path
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

async def main():
    settings = Settings.load(container_cap=2, socket_dir=Path(sys.argv[1]))
    runtime = SandboxRuntime(settings, [sys.argv[3]])
    await runtime.start(owner=sys.argv[2], warm=[sys.argv[3]])
    runtime._sockets.doorway()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path):
    """No container, since its socket ends; no folder, once somebody looks."""
    owner, directory = f"test-killed-{os.getpid()}", tmp_path / "s"
    command = [sys.executable, "-c", WORKER, str(directory), owner, LANGUAGE.image]
    killed = started(command)
    assert len(sandboxes(owner=owner)) == 1
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    await eventually(lambda: not sandboxes(owner=owner), "its container has ended")
    assert not empty(directory)
    assert sweep(Settings.load(socket_dir=directory)) == 1
    assert empty(directory)


def started(command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


async def test_a_container_that_is_killed_is_noticed(tmp_path: Path):
    settings = Settings.load(container_cap=2, socket_dir=tmp_path / "s")
    runtime = SandboxRuntime(settings, [LANGUAGE.image])
    owner = f"test-dying-{os.getpid()}"
    await runtime.start(owner=owner, warm=[LANGUAGE.image])
    try:
        assert runtime._pool is not None
        (shelf,) = runtime._pool._shelves.values()
        container = shelf.idle[0].container
        docker("kill", container.id)
        gone: Callable[[], bool] = lambda: not container.is_connected  # noqa: E731
        await eventually(gone, "the socket has ended")
        assert await judge(runtime) == VERDICTS
    finally:
        await runtime.close()
