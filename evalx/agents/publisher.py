"""Step 6: results and dead letters go to the broker, and count only when it has confirmed them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx import broker
from evalx.agents.outlet import Headers, Outlet, ThreadedOutlet
from evalx.agents.records import Record
from evalx.agents.topics import TopicAdmin
from evalx.agents.tracing import Tracing
from evalx.errors import EvalxError, JudgeFaultError, RejectedError, RejectionCode
from evalx.messages import PLACE_HEADER, Result, encode_fitting
from evalx.metrics import DEAD_LETTERS
from evalx.settings import Settings

log = structlog.get_logger(__name__)

# A rate needs a first value: what has never happened is 0, and not unknown.
_FAULTS: tuple[type[JudgeFaultError], ...] = (JudgeFaultError, *JudgeFaultError.__subclasses__())
for _code in (*get_args(RejectionCode), "internal_error", *(fault.default_code for fault in _FAULTS)):
    DEAD_LETTERS.labels(_code)

#: Milliseconds that a message waits for others to share a request with. Under load requests fill by themselves; one
#: millisecond is not noticed on an idle stack.
LINGER_MS = 1
#: Milliseconds until the producer gives a message up; then it is sent again by us, see ``RESEND_PAUSE_S``.
REQUEST_TIMEOUT_MS = 15_000
#: Seconds before a message that the broker did not take is sent again, for as long as the partition is ours.
RESEND_PAUSE_S = 1.0
#: Characters of an error message in a header: an explanation, not a document.
MAX_HEADER_CHARS = 1000
#: Bytes of the submission's own headers that a dead letter keeps; well within ``DEAD_LETTER_ROOM_BYTES``.
MAX_KEPT_HEADER_BYTES = 16 << 10
#: Bytes that a dead letter may have. What was compressed by its producer can be far larger than the topic's limit.
MAX_DEAD_LETTER_BYTES = 1 << 30

#: A trace's parent in version 00 of W3C Trace Context. Anything else would be passed on to who can do nothing with it,
#: and could make a result too large.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Encoded(NamedTuple):
    """A result, ready to be sent."""

    key: bytes
    value: bytes
    headers: Headers


class Publisher:
    """Publishes results and dead letters. ``start`` before use."""

    def __init__(self, settings: Settings, worker: str, tracing: Tracing | None = None) -> None:
        self._settings = settings
        self._worker = worker
        self._tracing = tracing
        # Checked before compression; the broker has the last word.
        self._results = Outlet(lambda: self._producer(None, settings.max_message_bytes))
        # Compressed, since its producer may have compressed the original; which takes up to a second.
        self._dead_letters = ThreadedOutlet(lambda: self._producer("gzip", MAX_DEAD_LETTER_BYTES))

    async def start(self) -> None:
        """Connect.

        Raises:
            ServiceUnavailableError: no broker answers.
        """
        try:
            await self._results.start()
            await self._dead_letters.start()
        except (KafkaError, OSError) as error:
            await self.stop()
            raise await broker.unavailable(self._settings, error) from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await asyncio.gather(self._results.stop(), self._dead_letters.stop(), return_exceptions=True)

    def encode(self, record: Record, result: Result) -> Encoded:
        """A result as it is published, cut to the topic's limit.

        Raises:
            JudgeFaultError: it cannot be encoded; a defect of ours, and another try would end the same way.
        """
        try:
            value = encode_fitting(result, self._settings.max_result_bytes)
            return Encoded(result.id.encode(), value, self._result_headers(record, result))
        except Exception as error:
            log.exception("result_not_encodable", submission=result.id)
            raise JudgeFaultError("internal_error", f"the result could not be encoded: {error!r}") from error

    async def result(self, result: Encoded, wanted: Callable[[], bool]) -> bool:
        """Publish a result and wait for the broker's confirmation.

        ``wanted`` is asked before each further try; returns False when the record is no longer ours to answer.
        """
        topic = self._settings.topic_results
        return await self._send(
            self._results, wanted, topic=topic, key=result.key, value=result.value, headers=result.headers
        )

    async def results_together(self, batch: Sequence[tuple[Encoded, Callable[[], bool]]]) -> list[bool]:
        """Publish results together, each with its ``wanted``; see ``result``."""
        topic = self._settings.topic_results
        messages = [{"topic": topic, "key": one.key, "value": one.value, "headers": one.headers} for one, _ in batch]
        try:
            confirmed = await self._results.send_all(messages)
        except KafkaError as error:
            log.warning("publish_failed", topic=topic, error=repr(error))
            confirmed = [False] * len(batch)
        again = (self._publish_again(*one) for one, sent in zip(batch, confirmed, strict=True) if not sent)
        others = iter(await asyncio.gather(*again))
        return [sent or next(others) for sent in confirmed]

    async def _publish_again(self, result: Encoded, wanted: Callable[[], bool]) -> bool:
        return wanted() and await self.result(result, wanted)

    async def dead_letter(
        self, record: Record, error: RejectedError | JudgeFaultError, wanted: Callable[[], bool]
    ) -> bool:
        """Put the original bytes on the dead letter topic; see ``result`` for ``wanted`` and what is returned."""
        sent = await self._send(
            self._dead_letters,
            wanted,
            topic=self._settings.topic_dead_letters,
            key=record.key,
            value=record.value,
            partition=record.partition_number,
            headers=_dead_letter_headers(record, error),
        )
        if sent:
            DEAD_LETTERS.labels(error.code).inc()
        return sent

    def _producer(self, compression: str | None, max_bytes: int) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **broker.connection(self._settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            compression_type=compression,
            max_request_size=max_bytes,
        )

    async def _send(self, outlet: Outlet | ThreadedOutlet, wanted: Callable[[], bool], **message: Any) -> bool:
        while True:
            try:
                await outlet.send(**message)
            except KafkaError as error:
                log.warning("publish_failed", topic=message["topic"], error=repr(error), retry_in_s=RESEND_PAUSE_S)
                if isinstance(error, MessageSizeTooLargeError) and outlet is self._dead_letters:
                    await self._make_room()
                await asyncio.sleep(RESEND_PAUSE_S)
                if not wanted():
                    return False
            else:
                return True

    async def _make_room(self) -> None:
        try:
            async with TopicAdmin(self._settings) as topics:
                await topics.make_room_for_dead_letters()
        except (KafkaError, EvalxError) as error:
            log.error("dead_letter_too_large", error=repr(error), remedy="raise max.message.bytes of the topic")

    def _result_headers(self, record: Record, result: Result) -> Headers:
        headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_id", result.id.encode()),
            ("ce_type", b"evalx.result.v1"),
            ("ce_source", f"/evalx/workers/{self._worker}".encode()),
            ("ce_time", datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
            (PLACE_HEADER, f"{record.partition_number}:{record.offset}".encode()),
        ]
        if (trace := self._traceparent(record, result)) is not None:
            headers.append(("traceparent", trace))
        return headers

    def _traceparent(self, record: Record, result: Result) -> bytes | None:
        if self._tracing is not None:
            if record.span is None:
                record.span = self._tracing.begin(record, result)
            return record.span.traceparent
        trace = record.header("traceparent")
        return trace if trace is not None and _TRACEPARENT.fullmatch(trace) else None


def _dead_letter_headers(record: Record, error: RejectedError | JudgeFaultError) -> Headers:
    return [
        ("kafka_dlt-original-topic", record.topic.encode()),
        ("kafka_dlt-original-partition", str(record.partition_number).encode()),
        ("kafka_dlt-original-offset", str(record.offset).encode()),
        ("kafka_dlt-exception-message", str(error)[:MAX_HEADER_CHARS].encode("utf-8", "backslashreplace")),
        ("evalx-error-code", error.code.encode()),
        *_kept_headers(record),
    ]


def _kept_headers(record: Record) -> Headers:
    """The submission's own, for a replay; unless there are so many that a dead letter would outgrow its topic."""
    headers = record.event.message.headers or ()
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    size = sum(len(name.encode()) + len(value or b"") for name, value in pairs)
    return pairs if size <= MAX_KEPT_HEADER_BYTES else []
