"""Producers that go on after a failure, on the worker's event loop or beside it.

aiokafka numbers a batch when it is first sent. One that the broker then refuses leaves a gap in the numbers, and the
broker refuses everything behind it as well (``OutOfOrderSequenceNumber``), for as long as the producer lives. So a
producer that has failed once is replaced, and the messages are sent again by a new one, with a new identity; what the
broker had taken in spite of the failure is a repeat, as after a crash.

aiokafka also compresses on the event loop: 20 MB of noise take 0.7 s (measured), in which a worker would do nothing
else. zlib needs no interpreter lock, so in another thread this is beside everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

T = TypeVar("T")
Headers = list[tuple[str, bytes]]


class Outlet:
    """A producer that is replaced after a failure: it is idempotent, so it could not go on. ``start`` before use."""

    def __init__(self, make: Callable[[], AIOKafkaProducer]) -> None:
        self._make = make
        self._producer = make()
        self._replacing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await asyncio.gather(self._producer.stop(), *self._retired, return_exceptions=True)

    async def send(self, *, topic: str, partition: int | None = None, **message: Any) -> Any:
        """Send one message and wait until the broker has confirmed it; returns where it is, raises KafkaError."""
        producer = self._producer
        try:
            if message["key"] is None and message["value"] is None:
                return await _send_nothing(producer, topic, partition, message["headers"])
            return await producer.send_and_wait(topic=topic, partition=partition, **message)
        except KafkaError:
            await self._replace(producer)
            raise

    async def send_all(self, messages: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Send messages together and wait for the broker; for each whether it was confirmed."""
        producer = self._producer
        sent: list[asyncio.Future[Any]] = []
        with contextlib.suppress(KafkaError):
            for message in messages:
                sent.append(await producer.send(**message))  # noqa: PERF401  what was sent before a failure counts
        if sent:
            await asyncio.wait(sent)
        confirmed = [one.exception() is None for one in sent]
        if not all(confirmed) or len(sent) < len(messages):
            await self._replace(producer)
        return confirmed + [False] * (len(messages) - len(sent))

    async def _replace(self, failed: AIOKafkaProducer) -> None:
        async with self._replacing:
            if self._producer is not failed:
                return
            fresh = self._make()
            try:
                await fresh.start()
            except BaseException:
                await fresh.stop()
                raise
            self._producer = fresh
        # What the old one still has in hand is confirmed or fails by itself; nobody waits for its end.
        task = asyncio.create_task(failed.stop())
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)


async def _send_nothing(producer: AIOKafkaProducer, topic: str, partition: int | None, headers: Headers) -> Any:
    """A message with neither key nor value: Kafka takes it, but aiokafka only as part of a batch. Where it went."""
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=None, headers=headers)
    batch.close()
    return await (await producer.send_batch(batch, topic, partition=partition))


class ThreadedOutlet:
    """An outlet in a thread of its own, for what is large. ``start`` before use, and never again after ``stop``."""

    def __init__(self, make: Callable[[], AIOKafkaProducer]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outlet: Outlet | None = None

    async def start(self) -> None:
        """Connect."""
        loop = self._loop = asyncio.new_event_loop()

        def run() -> None:
            try:
                loop.run_forever()
            finally:
                loop.close()

        # Daemonic: whatever it hangs in must not keep a process from ending.
        threading.Thread(target=run, name="evalx-dead-letters", daemon=True).start()
        await self._there(self._open())

    async def stop(self) -> None:
        """Send what is buffered, disconnect, and end the thread."""
        if self._loop is None:
            return
        try:
            if self._outlet is not None:
                await self._there(self._outlet.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    async def send(self, *, topic: str, partition: int | None = None, **message: Any) -> Any:
        """See ``Outlet.send``."""
        assert self._outlet is not None, "start before use"
        return await self._there(self._outlet.send(topic=topic, partition=partition, **message))

    async def _open(self) -> None:
        # Made there: a producer belongs to the loop that it is made on.
        self._outlet = Outlet(self._make)
        await self._outlet.start()

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "start before use"
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
