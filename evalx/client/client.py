"""The client itself: connects, sends, and hands what it reads to those who wait.

Theory of operation
===================
The client reads the results topic by itself, without a consumer group: every partition is assigned, and its position is
fixed at the end of the topic *before* the first submission is produced, so that no result can come unseen. Of what it
reads only the key is looked at, unless that is the id of a submission that somebody waits for; `waiting` says how the
answer to one's own record is told from others under the same id.

Delivery is at least once: a result may be repeated, with the same verdicts. Who waits gets the first one.

What a worker would reject is refused before it is sent, by the same code and rules. `rules` are those of this
installation; give others when the workers' operator allows more.

Nothing is kept of a submission whose `Sent` is gone, whose wait was cancelled or whose iteration was left.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Literal, Self

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx import broker
from evalx.cache.progress import PROGRESS_HEADER, PROGRESS_WANTED
from evalx.client.bulk import AT_MOST, Bulk
from evalx.client.prepared import Prepared, prepare
from evalx.client.seen import REMEMBERED, SeenIds
from evalx.client.topics import check_topics
from evalx.client.waiting import Pending, Place, Waiting, understand
from evalx.errors import (
    ClientStateError,
    ConfigurationError,
    DeadLetterError,
    EvalxError,
    MessageTooLargeError,
    ResultTimeoutError,
    ServiceUnavailableError,
    UsageError,
)
from evalx.languages import Registry
from evalx.messages import Result, Rules, Submission
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds to connect, to read the topics' metadata and to find their ends. A healthy broker needs some 50 ms.
CONNECT_TIMEOUT_S = 10.0
#: Milliseconds until a submission that the broker does not confirm is given up.
REQUEST_TIMEOUT_MS = 15_000
#: Bytes fetched at most from one partition at a time; a larger result still arrives, alone.
MAX_FETCH_BYTES = 4 << 20
#: Seconds that ``judge`` waits by default: a long queue and the longest batch, but a missing worker is noticed.
JUDGE_TIMEOUT_S = 300.0


class Sent:
    """A submission that the broker has confirmed, and the promise of its result.

    `partition` and `offset` are where it is on the submissions topic. Who drops this object waits no longer.
    """

    def __init__(self, client: Client, pending: Pending, lane: str, partition: int) -> None:
        self.id = pending.id
        self.lane = lane
        self.partition = partition
        self._client = client
        self._pending = pending

    def __del__(self) -> None:
        self.forget()

    @property
    def offset(self) -> int | None:
        """None until the broker has confirmed it."""
        return self._pending.place[1] if self._pending.place is not None else None

    async def result(self, timeout: float | None = None) -> Result:
        """Wait for the result, at most ``timeout`` seconds; without one, for ever. May be called again.

        Raises:
            DeadLetterError: it came back without a verdict.
            ResultTimeoutError: it did not come in time.
            ServiceUnavailableError: the results can no longer be read.
            ClientStateError: the client was closed.
        """
        return raise_unjudged(await self.outcome(timeout))

    async def outcome(self, timeout: float | None = None) -> Result:
        """Like ``result``, but what came back without a verdict is returned: `rejected` or `judge_error`."""
        try:
            async with asyncio.timeout(timeout) as limit:
                # Somebody else may wait for it too, or ask again.
                return await asyncio.shield(self._pending.future)
        except TimeoutError:
            assert timeout is not None
            assert limit.expired()
            raise self._client._late(self._pending, timeout) from None

    def forget(self) -> None:
        """Wait no longer."""
        self._client._waiting.forget(self._pending)


class Client:
    """Submits and awaits results; ``async with`` connects, once.

    Raises (on entering):
        ServiceUnavailableError: no broker answers.
        TopicMissingError: a topic does not exist.
        ConfigurationError: the topics do not fit the lanes, or a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        bootstrap: str | None = None,
        rules: Rules | None = None,
        **overrides: Any,
    ) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError("give the brokers' address by its name: Client(bootstrap=...)")
        if bootstrap is not None:
            overrides["kafka_bootstrap"] = bootstrap
        self._settings = settings if settings is not None else Settings.load(**overrides)
        self._rules = rules if rules is not None else Registry.load().rules(self._settings)
        self._partitions = {lane.name: lane.partitions for lane in self._settings.lanes}
        self._waiting = Waiting()
        self._bulks: set[Bulk] = set()
        self._state: Literal["new", "connected", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._producer: AIOKafkaProducer | None = None
        self._consumers: set[AIOKafkaConsumer] = set()
        self._ends: dict[TopicPartition, int] = {}
        self._reader: asyncio.Task[None] | None = None
        self._failure: EvalxError | None = None

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise ClientStateError("a client is entered once; make a new one")
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connect()
        except BaseException as error:
            await self.close()
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise await broker.unavailable(self._settings, error) from error
            raise
        self._state = "connected"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect; who still waits for a result gets a ClientStateError."""
        self._state = "closed"
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        self._fail(ClientStateError("the client was closed before the result came"))
        await asyncio.gather(*(bulk.close() for bulk in tuple(self._bulks)))
        parts = [part.stop() for part in (self._producer, *self._consumers) if part is not None]
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

    async def submit(self, submission: Submission, *, lane: str = "normal", progress: bool = False) -> Sent:
        """Produce a submission and wait until the broker has confirmed it.

        A submission need not be complete: what has its default in the contract is left to the worker. With
        ``progress`` the worker tells of its tests as they end, see the contract.

        Raises:
            RejectedError: it would be rejected, with the field and what is allowed; MessageTooLargeError is one.
            ServiceUnavailableError: the broker does not take it.
            ClientStateError: the client is not connected.
        """
        self._check_usable()
        prepared = self._prepare(submission)
        sent = self._expect(prepared, lane)
        await self._send(sent, prepared.value, progress=progress)
        return sent

    async def judge(
        self, submission: Submission, *, lane: str = "normal", timeout: float | None = JUDGE_TIMEOUT_S
    ) -> Result:
        """Submit, and wait for the result; ``timeout`` is for both, in seconds, None = for ever.

        See ``submit`` and ``Sent.result`` for what is raised.
        """
        self._check_usable()
        return raise_unjudged(await self._judge(self._prepare(submission), lane, timeout))

    async def judge_all(
        self,
        submissions: Iterable[Submission] | AsyncIterable[Submission],
        *,
        lane: str = "normal",
        timeout: float | None = None,
        at_most: int = AT_MOST,
    ) -> AsyncIterator[Result]:
        """Submit all and yield each one's result as it comes, whatever its status, one per id.

        Never are more than ``at_most`` under way, results that nobody has taken included: no more are taken from the
        source meanwhile, so it may be endless. A submission that would be rejected is not sent; its `rejected` result
        is yielded all the same. ``timeout`` is for each submission, in seconds from when it is sent. The first
        timeout or lost connection ends the iteration; to repeat it with the same ids does no harm.

        Raises:
            ResultTimeoutError, ServiceUnavailableError, ClientStateError: as ``judge`` does.
        """
        self._check_usable()
        self.partition_of("", lane)
        if at_most < 1:
            raise UsageError(f"at_most is {at_most}; it is 1 or more")

        def judge(prepared: Prepared, confirmed: Callable[[], None]) -> Any:
            return self._judge(prepared, lane, timeout, confirmed)

        bulk = Bulk(submissions, self._prepare, judge, lane, at_most)
        self._bulks.add(bulk)
        try:
            async for result in bulk.results():
                yield result
        finally:
            self._bulks.discard(bulk)
            await bulk.close()

    async def results(self, *, from_beginning: bool = False, remember: int = REMEMBERED) -> AsyncIterator[Result]:
        """Every result on the topic, whoever submitted it, from when this client connected; repeated ids are dropped.

        The last ``remember`` ids are known, in 10 to 30 MB for 100,000: a repeat that comes after so many others is
        yielded again. What is not taken stays in Kafka. With ``from_beginning``, all that Kafka still has. Ends when
        the client is closed.

        Raises:
            ServiceUnavailableError: the results cannot be read.
            ClientStateError: the client is not connected.
        """
        self._check_usable()
        seen = SeenIds(remember)
        consumer = self._new_consumer()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._place(consumer, from_beginning=from_beginning)
            async for record in consumer:
                result = understand(record)
                if result is not None and seen.add(result.id) is None:
                    yield result
        except (KafkaError, OSError) as error:
            raise await broker.unavailable(self._settings, error) from error
        finally:
            self._consumers.discard(consumer)
            await consumer.stop()

    async def _place(self, consumer: AIOKafkaConsumer, *, from_beginning: bool) -> None:
        await consumer.start()
        consumer.assign(list(self._ends))
        if from_beginning:
            await consumer.seek_to_beginning(*self._ends)
            return
        for place, end in self._ends.items():
            consumer.seek(place, end)

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
        places = await check_topics(self._settings, self._producer)
        consumer = self._new_consumer()
        await consumer.start()
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        self._ends = {place: await consumer.position(place) for place in places}
        self._reader = asyncio.create_task(self._read(consumer))

    def _new_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **broker.connection(self._settings),
            enable_auto_commit=False,
            # Positions are always given; one that retention has overtaken goes on with what is left.
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
        )
        self._consumers.add(consumer)
        return consumer

    def _prepare(self, submission: Submission) -> Prepared:
        return prepare(submission, self._rules, self._settings.max_message_bytes)

    def _expect(self, prepared: Prepared, lane: str) -> Sent:
        partition = self.partition_of(prepared.id, lane)
        return Sent(self, self._waiting.expect(prepared.id, prepared.content), lane, partition)

    async def _send(self, sent: Sent, value: bytes, *, progress: bool = False) -> None:
        headers = [("content-type", b"application/json")]
        if progress:
            headers.append((PROGRESS_HEADER, PROGRESS_WANTED))
        try:
            sent._pending.confirmed(await self._produce(sent.id, sent.partition, value, headers))
        except BaseException:
            sent.forget()
            raise

    async def _judge(
        self, prepared: Prepared, lane: str, timeout: float | None, confirmed: Callable[[], None] = lambda: None
    ) -> Result:
        """Send, and wait for whatever comes back; ``confirmed`` is called when sending is over, either way."""
        sent = self._expect(prepared, lane)
        try:
            async with asyncio.timeout(timeout):
                try:
                    await self._send(sent, prepared.value)
                finally:
                    confirmed()
                # While it waits, only the id is needed.
                del prepared
                return await sent.outcome()
        except TimeoutError:
            assert timeout is not None
            raise self._late(sent._pending, timeout) from None
        finally:
            sent.forget()

    async def _produce(
        self, submission_id: str, partition: int, value: bytes, headers: list[tuple[str, bytes]]
    ) -> Place:
        assert self._producer is not None, "async with comes first"
        topic, key = self._settings.topic_submissions, submission_id.encode()
        try:
            sent = await self._producer.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
        except MessageSizeTooLargeError:
            raise MessageTooLargeError(len(value), self._settings.max_message_bytes) from None
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        return int(sent.partition), int(sent.offset)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Hand results to those who wait for them, until the client is closed."""
        try:
            async for record in consumer:
                self._waiting.take(record)
        except (KafkaError, OSError) as error:
            self._fail(self._unavailable(error))
        except Exception as error:
            log.exception("results_not_read")
            self._fail(EvalxError(f"the results can no longer be read: {error!r}"))

    def _check_usable(self) -> None:
        if self._state == "new":
            raise ClientStateError("the client is not connected; use it inside of `async with Client(...) as client:`")
        if self._state == "closed":
            raise ClientStateError("the client was closed; use it inside of its `async with` block, or make a new one")
        if self._loop is not asyncio.get_running_loop():
            raise ClientStateError("the client belongs to another event loop; make one for each loop")
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: EvalxError) -> None:
        self._failure = self._failure or error
        self._waiting.fail(error)

    def _late(self, pending: Pending, timeout: float) -> ResultTimeoutError:
        known = None if pending.place is None else (self._settings.topic_submissions, *pending.place)
        return ResultTimeoutError(pending.id, timeout, known)

    def _unavailable(self, error: BaseException) -> ServiceUnavailableError:
        hint = str(error) or type(error).__name__
        return ServiceUnavailableError(
            "Kafka", self._settings.kafka_bootstrap, f"{hint}; is it running, and is EVALX_KAFKA_BOOTSTRAP right?"
        )


def raise_unjudged(result: Result) -> Result:
    """The result itself, unless it came back without a verdict.

    Raises:
        DeadLetterError: it is `rejected`, or a `judge_error`.
    """
    if result.error is None or result.status not in ("rejected", "judge_error"):
        return result
    error = result.error
    raise DeadLetterError(result.id, error.code, error.message, error.field, result)
