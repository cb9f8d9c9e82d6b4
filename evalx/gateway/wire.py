"""The gateway's side of Kafka: submissions out, results in.

Every gateway reads all results, without a consumer group, from the ends that they had when it started: there is no
rebalance that answers would have to wait for, and a gateway more or less changes nothing for the others. Of a result
only the key is looked at, unless somebody asks for it. What came while no gateway waited is found by a *scan* from a
point in time, with a consumer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx import broker
from evalx.client import check_topics
from evalx.errors import RequestError
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds to connect, to read the topics' metadata and to find their ends. A healthy broker needs some 50 ms.
CONNECT_TIMEOUT_S = 15.0
#: Milliseconds until a submission that the broker does not confirm is given up, and the caller gets a 503.
REQUEST_TIMEOUT_MS = 10_000
#: Bytes fetched at most from one partition at a time; a larger result still arrives, alone.
MAX_FETCH_BYTES = 4 << 20
#: Seconds that a scan may take: a day of results is read in less.
SCAN_TIMEOUT_S = 120.0
#: Milliseconds that clocks of producers and brokers may differ without a scan missing a result.
CLOCK_SKEW_MS = 60_000
#: Whole seconds after which a caller may try again when Kafka does not take a submission.
RETRY_AFTER_S = 5

Wanted: TypeAlias = Callable[[str], bool]
OnResult: TypeAlias = Callable[[str, bytes], Awaitable[None]]


class Wire:
    """Produces submissions, and hands over the results that are wanted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._places: list[TopicPartition] = []
        #: Ends only when results can no longer be read; the gateway must end with it.
        self.reader: asyncio.Task[None] | None = None

    async def start(self, wanted: Wanted, on_result: OnResult) -> None:
        """Connect, and read from now on.

        Raises:
            ServiceUnavailableError: no broker answers.
            ConfigurationError: the topics do not exist or do not fit the lanes.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connect()
        except (KafkaError, OSError, TimeoutError) as error:
            raise await broker.unavailable(self._settings, error) from error
        assert self._consumer is not None
        self.reader = asyncio.create_task(self._read(self._consumer, wanted, on_result))

    async def stop(self) -> None:
        """Disconnect."""
        if self.reader is not None:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)
        parts = [part.stop() for part in (self._producer, self._consumer) if part is not None]
        await asyncio.gather(*parts, return_exceptions=True)

    async def send(self, key: str, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Produce a submission and wait for the broker's confirmation.

        Raises:
            RequestError: the broker does not take it.
        """
        assert self._producer is not None, "start comes first"
        try:
            await self._producer.send_and_wait(
                self._settings.topic_submissions, key=key.encode(), value=value, partition=partition, headers=headers
            )
        except MessageSizeTooLargeError:
            most = self._settings.max_message_bytes
            raise RequestError(413, f"{len(value)} bytes are more than the {most} that a submission may have") from None
        except (KafkaError, OSError) as error:
            log.warning("submission_not_taken", error=repr(error))
            raise RequestError(503, "Kafka does not take submissions now; try again", RETRY_AFTER_S) from error

    async def scan(self, since_ms: int, wanted: Wanted, on_result: OnResult) -> None:
        """Hand over what is wanted of the results between a point in time and now.

        Raises:
            ServiceUnavailableError: they cannot be read.
        """
        consumer = self._new_consumer()
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S):
                await consumer.start()
                await self._scan(consumer, since_ms - CLOCK_SKEW_MS, wanted, on_result)
        except (KafkaError, OSError, TimeoutError) as error:
            raise await broker.unavailable(self._settings, error) from error
        finally:
            await consumer.stop()

    async def _scan(self, consumer: AIOKafkaConsumer, since_ms: int, wanted: Wanted, on_result: OnResult) -> None:
        consumer.assign(self._places)
        starts = await consumer.offsets_for_times(dict.fromkeys(self._places, max(0, since_ms)))
        ends = await consumer.end_offsets(self._places)
        ahead = {place: ends[place] for place, start in starts.items() if start and start.offset < ends[place]}
        consumer.assign(list(ahead))
        for place in ahead:
            consumer.seek(place, starts[place].offset)
        while ahead:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    await _hand_over(record, wanted, on_result)
            # Positions rather than records: an aborted transaction leaves offsets without any.
            ahead = {place: end for place, end in ahead.items() if await consumer.position(place) < end}

    async def _connect(self) -> None:
        self._producer = AIOKafkaProducer(
            **broker.connection(self._settings),
            acks="all",
            # Not idempotent: a repeat does no harm, while a batch that such a producer had to give up would leave a
            # gap in its numbers, and the broker would refuse everything after it.
            enable_idempotence=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_request_size=self._settings.max_message_bytes,
        )
        await self._producer.start()
        self._places = await check_topics(self._settings, self._producer)
        self._consumer = self._new_consumer()
        await self._consumer.start()
        self._consumer.assign(self._places)
        await self._consumer.seek_to_end(*self._places)
        for place in self._places:
            await self._consumer.position(place)

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **broker.connection(self._settings),
            enable_auto_commit=False,
            # Positions are always given; one that retention has overtaken goes on with what is left.
            auto_offset_reset="earliest",
            request_timeout_ms=4 * REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
        )

    async def _read(self, consumer: AIOKafkaConsumer, wanted: Wanted, on_result: OnResult) -> None:
        async for record in consumer:
            await _hand_over(record, wanted, on_result)


async def _hand_over(record: Any, wanted: Wanted, on_result: OnResult) -> None:
    submission_id = (record.key or b"").decode("utf-8", "replace")
    if record.value and wanted(submission_id):
        await on_result(submission_id, record.value)
