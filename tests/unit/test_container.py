"""What a cancelled start leaves behind: nothing. What a start does where sockets are of no use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiodocker
import msgspec
import pytest

from evalx.errors import DockerUnavailableError, SandboxFaultError
from evalx.sandbox import container
from evalx.sandbox.container import Container
from evalx.sandbox.sockets import open_sockets
from evalx.sandbox.spec import ContainerSpec
from evalx.settings import Settings

SPEC = ContainerSpec(image="i", labels={}, memory_bytes=1, pids=1, work_bytes=1, work_inodes=1)


class Daemon:
    """Creates containers slowly, and goes on when whoever asked has gone."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.there: list[Daemon] = []

    @property
    def containers(self) -> Daemon:
        return self

    async def create(self, _options: Any) -> Any:
        self.asked.set()
        await self.may_answer.wait()
        self.there.append(self)
        return self

    async def delete(self, *, force: bool) -> None:
        assert force
        self.there.clear()


async def cancelled_start(daemon: Any) -> None:
    starting = asyncio.create_task(Container.start(daemon, SPEC))
    await daemon.asked.wait()
    starting.cancel()
    await asyncio.sleep(0)
    daemon.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_container_that_is_made_while_its_start_is_cancelled_is_removed():
    daemon = Daemon()
    await cancelled_start(daemon)
    assert not daemon.there


async def test_a_daemon_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container, "KILL_TIMEOUT_S", 0.01)
    daemon = Daemon()
    starting = asyncio.create_task(Container.start(daemon, SPEC))
    await daemon.asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


class Refusing(Daemon):
    """Does not see what it is to mount."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.may_answer.set()
        self.mounts: list[int] = []
        self._error = error

    async def create(self, options: Any) -> Any:
        self.mounts.append(len(options["HostConfig"]["Mounts"]))
        if options["HostConfig"]["Mounts"]:
            raise aiodocker.DockerError(400, "bind source path does not exist")
        if self._error is not None:
            raise self._error
        raise SandboxFaultError(message="it came so far")


@pytest.fixture
async def spec(tmp_path: Path) -> AsyncIterator[ContainerSpec]:
    """With sockets."""
    sockets = await open_sockets(None, Settings.load(socket_dir=tmp_path / "s"))  # type: ignore[arg-type]
    assert sockets is not None
    yield msgspec.structs.replace(SPEC, sockets=sockets)
    sockets.close()
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_container_is_started_without_a_socket_that_the_daemon_does_not_see(
    spec: ContainerSpec, monkeypatch: pytest.MonkeyPatch
):
    daemon = Refusing()
    started = object()
    real = Container._start_with

    async def start(docker: Any, spec: ContainerSpec, uid_base: int, doorway: Any) -> Any:
        return await real(docker, spec, uid_base, doorway) if doorway is not None else started

    monkeypatch.setattr(Container, "_start_with", start)
    assert [await Container.start(daemon, spec) for _ in range(2)] == [started] * 2  # type: ignore[arg-type]
    assert daemon.mounts == [1], "the second one does not try"


async def test_a_daemon_in_trouble_is_not_taken_for_one_that_minds_sockets(spec: ContainerSpec):
    daemon: Any = Refusing(aiodocker.DockerError(500, "no space left"))
    for _ in range(2):
        with pytest.raises(DockerUnavailableError, match="no space left"):
            await Container.start(daemon, spec)
    assert daemon.mounts == [1, 0, 1, 0]
    assert spec.sockets is not None
    spec.sockets.proven = True
    with pytest.raises(DockerUnavailableError, match="bind source"):
        await Container.start(daemon, spec)
    assert daemon.mounts == [1, 0, 1, 0, 1]
