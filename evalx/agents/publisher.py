"""Step 6: results and dead letters go to the broker, and count only when it has confirmed them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from evalx.agents.records import Record
from evalx.errors import JudgeFaultError, RejectedError, ServiceUnavailableError
from evalx.messages import Result, encode_result, fit_result
from evalx.metrics import DEAD_LETTERS
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Milliseconds that a message waits for others to share a request with. Under load requests fill by themselves; one
#: millisecond is not noticed on an idle stack.
LINGER_MS = 1
#: Milliseconds until the producer gives a message up; then it is sent again by us, see ``RESEND_PAUSE_S``.
REQUEST_TIMEOUT_MS = 15_000
#: Seconds before a message that the broker did not take is sent again, for as long as the partition is ours.
RESEND_PAUSE_S = 1.0
#: Characters of an error message in a header: an explanation, not a document.
MAX_HEADER_CHARS = 1000

Headers = list[tuple[str, bytes]]


class Publisher:
    """An idempotent producer with ``acks=all``. ``start`` before use."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self._settings = settings
        self._worker = worker
        self._results = self._producer(None)
        # A dead letter is its original plus headers: compressed, so that it fits where the original did.
        self._dead_letters = self._producer("gzip")

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
            raise ServiceUnavailableError("Kafka", self._settings.kafka_bootstrap, str(error)) from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await asyncio.gather(self._results.stop(), self._dead_letters.stop(), return_exceptions=True)

    async def result(self, record: Record, result: Result, wanted: Callable[[], bool]) -> bool:
        """Publish a result and wait for the broker's confirmation.

        ``wanted`` is asked before each further try; returns False when the record is no longer ours to answer.
        """
        value = encode_result(fit_result(result, self._settings.max_result_bytes))
        headers = self._result_headers(record, result)
        topic = self._settings.topic_results
        return await self._send(
            self._results, wanted, topic=topic, key=result.id.encode(), value=value, headers=headers
        )

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

    def _producer(self, compression: str | None) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            compression_type=compression,
            # Checked before compression; the broker has the last word.
            max_request_size=2 * self._settings.max_message_bytes,
        )

    async def _send(self, producer: AIOKafkaProducer, wanted: Callable[[], bool], **message: Any) -> bool:
        while True:
            try:
                await producer.send_and_wait(**message)
            except KafkaError as error:
                log.warning("publish_failed", topic=message["topic"], error=repr(error), retry_in_s=RESEND_PAUSE_S)
                await asyncio.sleep(RESEND_PAUSE_S)
                if not wanted():
                    return False
            else:
                return True

    def _result_headers(self, record: Record, result: Result) -> Headers:
        headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_id", result.id.encode()),
            ("ce_type", b"evalx.result.v1"),
            ("ce_source", f"/evalx/workers/{self._worker}".encode()),
            ("ce_time", datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
        ]
        if (trace := record.header("traceparent")) is not None:
            headers.append(("traceparent", trace))
        return headers


def _dead_letter_headers(record: Record, error: RejectedError | JudgeFaultError) -> Headers:
    return [
        ("kafka_dlt-original-topic", record.topic.encode()),
        ("kafka_dlt-original-partition", str(record.partition_number).encode()),
        ("kafka_dlt-original-offset", str(record.offset).encode()),
        ("kafka_dlt-exception-message", str(error)[:MAX_HEADER_CHARS].encode()),
        ("evalx-error-code", error.code.encode()),
    ]
