"""Producers that are replaced after a failure, and one in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx.agents.outlet import Outlet, ThreadedOutlet

MESSAGE: dict[str, Any] = {"topic": "t", "key": b"k", "value": b"v", "headers": []}


class FakeProducer:
    """Takes messages, unless it is told not to; knows in which thread each of its methods was called."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.threads = [threading.current_thread()]
        self.sent: list[bytes] = []
        self.stopped = asyncio.Event()

    async def start(self) -> None:
        self.threads.append(threading.current_thread())

    async def send_and_wait(self, *, value: bytes, **_message: Any) -> int:
        self.threads.append(threading.current_thread())
        if self.refuses:
            raise MessageSizeTooLargeError
        self.sent.append(value)
        return len(self.sent)

    async def stop(self) -> None:
        self.threads.append(threading.current_thread())
        self.stopped.set()


class Factory:
    """Makes producers, the first of which refuse."""

    def __init__(self, refusals: int = 0) -> None:
        self.made: list[FakeProducer] = []
        self._refusals = refusals

    def __call__(self) -> Any:
        self.made.append(FakeProducer(refuses=len(self.made) < self._refusals))
        return self.made[-1]


async def test_a_producer_that_has_failed_is_replaced():
    factory = Factory(refusals=1)
    outlet = Outlet(factory)
    await outlet.start()
    with pytest.raises(KafkaError):
        await outlet.send(**MESSAGE)
    assert await outlet.send(**MESSAGE) == 1
    await factory.made[0].stopped.wait()
    await outlet.stop()
    assert [producer.sent for producer in factory.made] == [[], [b"v"]]


async def test_in_a_thread_everything_is_done_there():
    """What a producer does before it first waits, such as compressing, would else be done on the worker's loop."""
    factory = Factory(refusals=1)
    outlet = ThreadedOutlet(factory)
    await outlet.start()
    with pytest.raises(MessageSizeTooLargeError):
        await outlet.send(**MESSAGE)
    assert await outlet.send(**MESSAGE) == 1
    await outlet.stop()
    threads = {thread for producer in factory.made for thread in producer.threads}
    assert len(threads) == 1
    (thread,) = threads
    assert thread is not threading.current_thread()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_one_that_was_not_started_can_be_stopped():
    await ThreadedOutlet(Factory()).stop()


async def test_a_start_that_fails_is_told_and_leaves_no_thread():
    class Unreachable(FakeProducer):
        async def start(self) -> None:
            raise OSError("no broker")

    def make() -> Any:
        return Unreachable()

    before = threading.active_count()
    outlet = ThreadedOutlet(make)
    with pytest.raises(OSError, match="no broker"):
        await outlet.start()
    await outlet.stop()
    async with asyncio.timeout(10):
        while threading.active_count() > before:  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)
