"""The way of one record, from its lane to its acknowledgement.

::

    1. intake     decoded or rejected, entered into its partition's order              (intake.py)
    2. lanes      waits for a free place, highest lane first                           (lanes.py)
    3. claim      one id, one content; counts the attempt
    4. judge      caches -> compile once -> run the tests                              (engine.py)
    5. answer     a Result; a dead letter too when it could not be judged
    6. publish    wait for the broker's confirmation                                   (publisher.py)
    7. store      in the cache, for identical submissions to come
    8. ack        in the order of the partition, never past an unfinished record       (sequencer.py)

6 before 7 before 8 is the guarantee: a crash anywhere repeats work and never loses it. Redis is asked in 3, 4 and 7,
and never decides whether a record counts as delivered.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog

from evalx.agents.lanes import Lanes
from evalx.agents.publisher import Publisher
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.store import Store
from evalx.engine import Engine, Judgement
from evalx.errors import JudgeFaultError, RejectedError
from evalx.messages import (
    Result,
    Submission,
    content_hash,
    judge_error_result,
    peek_id,
    rejected_result,
)
from evalx.metrics import IN_FLIGHT, JUDGED, STAGE_SECONDS, TESTS

log = structlog.get_logger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """What is published for a record: a result if an id is known, a dead letter if it could not be judged."""

    result: Result | None
    failure: RejectedError | JudgeFaultError | None = None
    judgement: Judgement | None = None


class Pipeline:
    """Takes records from the lanes, as many at a time as there are places."""

    def __init__(
        self,
        lanes: Lanes[Record],
        sequencer: Sequencer[Record],
        engine: Engine,
        store: Store,
        publisher: Publisher,
        worker: str,
    ) -> None:
        self._lanes = lanes
        self._sequencer = sequencer
        self._engine = engine
        self._store = store
        self._publisher = publisher
        self._worker = worker
        #: What kept a record from ever being finished: a defect, after which the worker must not go on.
        self.failure: Exception | None = None
        self._in_flight: set[Record] = set()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run_place(self) -> None:
        """One place of the worker: one record after another until it is cancelled or the worker stops."""
        while True:
            record = await self._lanes.take()
            if self._stopping.is_set():
                return
            self._enter(record)
            try:
                await self.process(record)
            except Exception as error:
                # The record stays unfinished, and its partition with it; only a new process can take it again.
                log.exception("record_failed", partition=record.partition_number, offset=record.offset)
                self.failure = error
            finally:
                self._leave(record)

    async def process(self, record: Record) -> None:
        """Steps 3 to 8."""
        answer = await self._answer(record)
        if not await self._publish(record, answer):
            log.info("record_given_back", partition=record.partition_number, offset=record.offset)
            return
        await self._remember(record, answer)
        self._acknowledge(record)

    def stop_taking(self) -> None:
        """Start nothing new; what is being judged goes on."""
        self._stopping.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is being judged; False when the time was not enough."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def in_flight(self) -> int:
        """Records that are being judged or published."""
        return len(self._in_flight)

    async def _answer(self, record: Record) -> Answer:
        started = time.perf_counter()
        queued_ms = record.queued_ms
        try:
            if record.submission is None:
                raise record.rejection or RejectedError("invalid_value", "the submission could not be read")
            return await self._judge(record, record.submission, started, queued_ms)
        except RejectedError as rejection:
            return self._rejected(record, rejection, started, queued_ms)

    async def _judge(self, record: Record, submission: Submission, started: float, queued_ms: float) -> Answer:
        claim = await self._store.claim(submission.id, content_hash(submission))
        if claim.conflict:
            raise RejectedError("conflict", f"id {submission.id!r} was used before with other content", "id")
        common: dict[str, Any] = {
            "lane": record.lane,
            "worker": self._worker,
            "attempt": claim.attempt,
            "queued_ms": queued_ms,
        }
        try:
            judgement = await self._engine.judge(submission, rank=self._lanes.rank(record.lane))
        except Exception as error:
            fault = _as_fault(error, submission)
            common |= {"judged_ms": _ms_since(started), "metadata": submission.metadata}
            return Answer(
                judge_error_result(
                    submission.id, fault, language=submission.language, version=submission.version, **common
                ),
                fault,
            )
        return Answer(judgement.result(submission, judged_ms=_ms_since(started), **common), judgement=judgement)

    def _rejected(self, record: Record, rejection: RejectedError, started: float, queued_ms: float) -> Answer:
        known = record.submission
        submission_id = known.id if known is not None else peek_id(record.value)
        if submission_id is None:
            return Answer(None, rejection)
        result = rejected_result(
            submission_id,
            rejection,
            lane=record.lane,
            worker=self._worker,
            queued_ms=queued_ms,
            judged_ms=_ms_since(started),
            language=known.language if known is not None else None,
            version=known.version if known is not None else None,
            metadata=known.metadata if known is not None else None,
        )
        return Answer(result, rejection)

    async def _publish(self, record: Record, answer: Answer) -> bool:
        """Step 6. False when the partition was lost meanwhile and the broker did not take the message."""
        started = time.perf_counter()
        if answer.failure is not None and not await self._publisher.dead_letter(
            record, answer.failure, lambda: self._is_ours(record)
        ):
            return False
        if answer.result is not None and not await self._publisher.result(
            record, answer.result, lambda: self._is_ours(record)
        ):
            return False
        STAGE_SECONDS.labels("publish").observe(time.perf_counter() - started)
        if answer.result is not None:
            _count(answer.result)
        return True

    async def _remember(self, record: Record, answer: Answer) -> None:
        """Step 7. Whatever goes wrong here, the result is out already."""
        if answer.judgement is None or record.submission is None:
            return
        try:
            await self._engine.remember(record.submission, answer.judgement)
        except Exception:
            log.exception("store_failed", submission=record.submission.id)

    def _acknowledge(self, record: Record) -> None:
        """Step 8."""
        assert record.ticket is not None, "intake gives every record a ticket"
        for finished in self._sequencer.finish(record.ticket):
            finished.event.ack()

    def _is_ours(self, record: Record) -> bool:
        return record.ticket is not None and self._sequencer.is_current(record.ticket)

    def _enter(self, record: Record) -> None:
        self._in_flight.add(record)
        self._idle.clear()
        IN_FLIGHT.set(len(self._in_flight))

    def _leave(self, record: Record) -> None:
        self._in_flight.discard(record)
        IN_FLIGHT.set(len(self._in_flight))
        if not self._in_flight:
            self._idle.set()


def _as_fault(error: Exception, submission: Submission) -> JudgeFaultError:
    """A defect of ours is a fault like any other: the submission gets an answer, and the worker goes on."""
    if isinstance(error, JudgeFaultError):
        return error
    log.exception("judging_crashed", submission=submission.id)
    return JudgeFaultError("internal_error", f"the judge failed: {error!r}")


def _count(result: Result) -> None:
    JUDGED.labels(result.lane, result.status, result.source or "none").inc()
    STAGE_SECONDS.labels("queued").observe(result.queued_ms / 1000)
    STAGE_SECONDS.labels("judge").observe(result.judged_ms / 1000)
    for test in result.tests:
        TESTS.labels(result.language, test.verdict.value).inc()
    log.info(
        "submission_finished",
        submission=result.id,
        lane=result.lane,
        status=result.status,
        verdict=result.verdict,
        language=result.language,
        source=result.source,
        attempt=result.attempt,
        queued_ms=round(result.queued_ms, 1),
        judged_ms=round(result.judged_ms, 1),
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
