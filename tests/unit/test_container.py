"""What a cancelled start leaves behind: nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evalx.sandbox import container
from evalx.sandbox.container import Container, ContainerSpec

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
