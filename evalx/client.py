"""For Python services: submit over Kafka and await the results.

::

    async with Client(bootstrap="localhost:9092") as client:
        result = await client.judge(submission, lane="high", timeout=30)

Theory of operation
===================
The client reads the results topic by itself, without a consumer group: every partition is assigned, and its position is
fixed at the end of the topic *before* the first submission is produced, so that no result can come unseen. Of what it
reads only the key is looked at, unless that is the id of a submission that somebody waits for.

Delivery is at least once: a result may be repeated, with the same verdicts. Who waits gets the first one.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx.errors import (
    ConfigurationError,
    EvalxError,
    RejectedError,
    ResultTimeoutError,
    ServiceUnavailableError,
)
from evalx.messages import Result, Submission, decode_result, encode_submission, peek_id
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds to connect, to read the topics' metadata and to find their ends. A healthy broker needs some 50 ms.
CONNECT_TIMEOUT_S = 10.0
#: Milliseconds until a submission that the broker does not confirm is given up.
REQUEST_TIMEOUT_MS = 15_000
#: Bytes fetched at most from one partition at a time; a larger result still arrives, alone.
MAX_FETCH_BYTES = 4 << 20
#: Submissions of ``judge_many`` that are under way at once: some seconds' work for a few workers.
WINDOW = 1000


class Sent:
    """A submission that the broker has confirmed, and the promise of its result."""

    def __init__(self, client: Client, submission_id: str, lane: str, partition: int) -> None:
        self.id = submission_id
        self.lane = lane
        self.partition = partition
        self._client = client
        self._future = client._expect(submission_id)

    async def result(self, timeout: float | None = None) -> Result:
        """Wait for the result, at most ``timeout`` seconds; without one, for ever.

        Raises:
            ResultTimeoutError: it did not come in time.
            ServiceUnavailableError: the results can no longer be read.
        """
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._future)
        except TimeoutError:
            assert timeout is not None
            raise ResultTimeoutError(self.id, timeout) from None
        finally:
            self.forget()

    def forget(self) -> None:
        """Wait no longer."""
        self._client._forget(self.id, self._future)


class Client:
    """Submits and awaits results; ``async with`` connects.

    Raises (on entering):
        ServiceUnavailableError: no broker answers.
        ConfigurationError: the topics do not exist or do not fit the lanes.
    """

    def __init__(self, settings: Settings | None = None, *, bootstrap: str | None = None, **overrides: Any) -> None:
        if bootstrap is not None:
            overrides["kafka_bootstrap"] = bootstrap
        self._settings = settings if settings is not None else Settings.load(**overrides)
        self._partitions = {lane.name: lane.partitions for lane in self._settings.lanes}
        self._waiting: dict[str, set[asyncio.Future[Result]]] = {}
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: asyncio.Task[None] | None = None
        self._failure: EvalxError | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connect()
        except BaseException as error:
            await self.close()
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise self._unavailable(error) from error
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect; who still waits for a result gets a ServiceUnavailableError."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._fail(ServiceUnavailableError("Kafka", self._settings.kafka_bootstrap, "the client was closed"))
        parts = [part.stop() for part in (self._producer, self._consumer) if part is not None]
        await asyncio.gather(*parts, return_exceptions=True)

    def partition_of(self, submission_id: str, lane: str) -> int:
        """Where a submission goes: the same id always to the same partition of a lane.

        Raises:
            ConfigurationError: there is no such lane.
        """
        partitions = self._partitions.get(lane)
        if partitions is None:
            raise ConfigurationError(f"no lane {lane!r}; there are: {', '.join(self._partitions)}")
        return partitions[zlib.crc32(submission_id.encode()) % len(partitions)]

    async def submit(self, submission: Submission, *, lane: str = "normal") -> Sent:
        """Produce a submission and wait until the broker has confirmed it.

        A submission need not be complete: what has its default in the contract is left to the worker.

        Raises:
            RejectedError: it has no valid id, or is too large for Kafka; whatever else is wrong, the result says.
            ServiceUnavailableError: the broker does not take it.
        """
        if self._failure is not None:
            raise self._failure
        partition = self.partition_of(submission.id, lane)
        value = _encode(submission)
        sent = Sent(self, submission.id, lane, partition)
        try:
            await self._produce(submission.id, partition, value)
        except BaseException:
            sent.forget()
            raise
        return sent

    async def judge(self, submission: Submission, *, lane: str = "normal", timeout: float | None = None) -> Result:
        """Submit, and wait for the result; see ``submit`` and ``Sent.result`` for what is raised."""
        sent = await self.submit(submission, lane=lane)
        return await sent.result(timeout)

    async def judge_many(
        self, submissions: Iterable[Submission], *, lane: str = "normal", timeout: float | None = None
    ) -> AsyncIterator[Result]:
        """Submit many and yield each one's result as it comes, one per id however often it is repeated.

        ``timeout`` is for each submission, from when it is produced. The first error ends the iteration.
        """
        finished: asyncio.Queue[asyncio.Task[Result]] = asyncio.Queue()
        tasks: set[asyncio.Task[Result]] = set()
        under_way = 0
        try:
            for submission in {submission.id: submission for submission in submissions}.values():
                if under_way == WINDOW:
                    yield await _next(finished, tasks)
                    under_way -= 1
                task = asyncio.create_task(self.judge(submission, lane=lane, timeout=timeout))
                tasks.add(task)
                task.add_done_callback(finished.put_nowait)
                under_way += 1
            for _ in range(under_way):
                yield await _next(finished, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> None:
        bootstrap = self._settings.kafka_bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            # Not idempotent: a repeat does no harm, while a batch that such a producer had to give up would leave a
            # gap in its numbers, and the broker would refuse everything after it.
            enable_idempotence=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_request_size=self._settings.max_message_bytes,
        )
        await self._producer.start()
        results = await check_topics(self._settings, self._producer)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
        )
        await self._consumer.start()
        self._consumer.assign(results)
        await self._consumer.seek_to_end(*results)
        for partition in results:
            await self._consumer.position(partition)
        self._reader = asyncio.create_task(self._read(self._consumer))

    async def _produce(self, submission_id: str, partition: int, value: bytes) -> None:
        assert self._producer is not None, "async with comes first"
        try:
            await self._producer.send_and_wait(
                self._settings.topic_submissions,
                key=submission_id.encode(),
                value=value,
                partition=partition,
                headers=[("content-type", b"application/json")],
            )
        except MessageSizeTooLargeError:
            text = f"{len(value)} bytes, Kafka takes at most {self._settings.max_message_bytes} in one message"
            raise RejectedError("invalid_value", text) from None
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Hand results to those who wait for them, until the client is closed."""
        try:
            async for record in consumer:
                self._take(record.key, record.value)
        except (KafkaError, OSError) as error:
            self._fail(self._unavailable(error))

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        waiting = self._waiting.get((key or b"").decode("utf-8", "replace"))
        if not waiting:
            return
        try:
            result = decode_result(value or b"")
        except msgspec.DecodeError as error:
            log.warning("result_not_understood", key=key, error=str(error))
            return
        for future in waiting:
            if not future.done():
                future.set_result(result)

    def _expect(self, submission_id: str) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(submission_id, set()).add(future)
        return future

    def _forget(self, submission_id: str, future: asyncio.Future[Result]) -> None:
        future.cancel()
        waiting = self._waiting.get(submission_id, set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop(submission_id, None)

    def _fail(self, error: EvalxError) -> None:
        self._failure = error
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
                    # Whoever never asks for the result is not to be told of an exception that was never retrieved.
                    future.exception()

    def _unavailable(self, error: BaseException) -> ServiceUnavailableError:
        hint = str(error) or type(error).__name__
        return ServiceUnavailableError(
            "Kafka", self._settings.kafka_bootstrap, f"{hint}; is it running, and is EVALX_KAFKA_BOOTSTRAP right?"
        )


async def _next(finished: asyncio.Queue[asyncio.Task[Result]], tasks: set[asyncio.Task[Result]]) -> Result:
    task = await finished.get()
    tasks.discard(task)
    return task.result()


def _encode(submission: Submission) -> bytes:
    """The message; a default that depends on another value is left out rather than sent as its placeholder."""
    value = encode_submission(submission)
    if peek_id(value) is None:
        raise RejectedError("invalid_value", f"{submission.id[:40]!r} is not 1 to 128 of A-Z a-z 0-9 . _ : -", "id")
    if submission.version and submission.limits.wall_time_ms and all(test.id for test in submission.tests):
        return value
    document: dict[str, Any] = msgspec.json.decode(value)
    _drop_unset(document, "version")
    _drop_unset(document["limits"], "wall_time_ms")
    for test in document["tests"]:
        _drop_unset(test, "id")
    return msgspec.json.encode(document)


def _drop_unset(owner: dict[str, Any], name: str) -> None:
    if not owner[name]:
        del owner[name]


async def check_topics(settings: Settings, producer: AIOKafkaProducer) -> list[TopicPartition]:
    """Make sure that every lane's partitions exist, and return the partitions of the results.

    Raises:
        ConfigurationError: naming the topic or the partition that is not there.
    """
    cluster = await producer.client.fetch_all_metadata()
    found = {
        topic: cluster.partitions_for_topic(topic) or set()
        for topic in (settings.topic_submissions, settings.topic_results)
    }
    for topic, partitions in found.items():
        if not partitions:
            raise ConfigurationError(f"there is no topic {topic}; create it with `evalx topics create`")
    if missing := settings.lane_of.keys() - found[settings.topic_submissions]:
        raise ConfigurationError(
            f"{settings.topic_submissions} has no partition {min(missing)}, which EVALX_LANES names"
        )
    return [TopicPartition(settings.topic_results, number) for number in sorted(found[settings.topic_results])]
