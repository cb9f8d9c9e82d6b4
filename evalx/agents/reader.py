"""Reads topics without a consumer group: what the commands look at is neither taken from the workers nor committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from evalx import broker
from evalx.errors import ConfigurationError, ServiceUnavailableError
from evalx.settings import Settings

T = TypeVar("T")

#: Seconds for one answer of the broker; a healthy one needs some milliseconds.
ANSWER_TIMEOUT_S = 10.0
#: Bytes fetched at most from one partition at a time; a larger record still arrives, alone. What is in memory at one
#: time is this, what is being looked at, and one fetch ahead.
MAX_FETCH_BYTES = 1 << 20
#: Records looked at between two turns of the event loop.
RECORDS_A_TURN = 100
#: Milliseconds that one fetch waits for records.
POLL_MS = 200
#: Seconds without a record, short of the end, after which the topic counts as unreadable.
SILENCE_S = 15.0


class TopicReader:
    """One topic, by partition; ``async with`` connects.

    Raises:
        ServiceUnavailableError: no broker answers, here and in every method.
        ConfigurationError: the topic does not exist.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self.topic = topic
        self.partitions: tuple[int, ...] = ()
        self._consumer = AIOKafkaConsumer(
            **broker.connection(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000),
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
        )

    async def __aenter__(self) -> Self:
        try:
            await self.ask(self._consumer.start())
            # Asked for by name, a topic that is missing would be made by a broker that makes topics by itself.
            known = await self.ask(self._consumer._client.fetch_all_metadata())
            self.partitions = tuple(sorted(known.partitions_for_topic(self.topic) or ()))
            if not self.partitions:
                raise ConfigurationError(f"there is no topic {self.topic}; create it with `evalx topics create`")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await an answer of the broker, but not for ever."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except (KafkaError, OSError, TimeoutError) as error:
            raise await broker.unavailable(self._settings, error) from error

    async def bounds(self) -> dict[int, tuple[int, int]]:
        """The first offset that is kept, and the one behind the last, of each partition."""
        places = [TopicPartition(self.topic, number) for number in self.partitions]
        first = await self.ask(self._consumer.beginning_offsets(places))
        end = await self.ask(self._consumer.end_offsets(places))
        return {place.partition: (int(first[place]), int(end[place])) for place in places}

    async def offset_since(self, partition: int, since_ms: int) -> int | None:
        """The first offset with this producer's time (ms since the epoch) or a later one; None when there is none."""
        place = TopicPartition(self.topic, partition)
        found = (await self.ask(self._consumer.offsets_for_times({place: since_ms})))[place]
        return None if found is None else int(found.offset)

    async def scan(self, partition: int, start: int, end: int) -> AsyncGenerator[Any, None]:
        """The records of one partition from ``start`` to before ``end``, which must not lie behind its end."""
        place = TopicPartition(self.topic, partition)
        self._consumer.assign([place])
        self._consumer.seek(place, start)
        heard = time.monotonic()
        try:
            # The position also passes what is no record: a transaction's marker, what compaction has removed.
            while await self.ask(self._consumer.position(place)) < end:
                fetched = await self.ask(self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_A_TURN))
                for record in fetched.get(place, ()):
                    heard = time.monotonic()
                    if record.offset >= end:
                        return
                    yield record
                self._check_heard(heard)
        finally:
            self._consumer.unsubscribe()

    async def heads(self, starts: dict[int, int]) -> AsyncIterator[tuple[int, Any]]:
        """The first record of each partition from an offset on, as ``(partition, record)``, in the order of arrival.

        A partition that has no record there does not come; the wait for it ends after ``ANSWER_TIMEOUT_S``.
        """
        ends = {number: end for number, (_, end) in (await self.bounds()).items()}
        missing = {TopicPartition(self.topic, number) for number, start in starts.items() if start < ends[number]}
        if not missing:
            return
        self._consumer.assign(sorted(missing))
        for place in missing:
            self._consumer.seek(place, starts[place.partition])
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            while missing and time.monotonic() < deadline:
                fetched = await self.ask(self._consumer.getmany(timeout_ms=POLL_MS, max_records=1))
                for place, records in fetched.items():
                    if place in missing:
                        missing.discard(place)
                        self._consumer.pause(place)
                        yield place.partition, records[0]
                missing -= {p for p in missing if await self.ask(self._consumer.position(p)) >= ends[p.partition]}
        finally:
            self._consumer.unsubscribe()

    def _check_heard(self, heard: float) -> None:
        if time.monotonic() - heard > SILENCE_S:
            hint = f"{self.topic} could not be read for {SILENCE_S:g} s"
            raise ServiceUnavailableError("Kafka", self._settings.kafka_bootstrap, hint)
