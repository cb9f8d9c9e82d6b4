"""The way of one record, from its lane to its acknowledgement.

::

    1. intake     decoded or rejected, entered into its partition's order              (intake.py)
    2. lanes      waits for a free place, highest lane first                           (lanes.py)
    3. claim      one id, one content, one worker at a time; counts the attempt        (cache/claims.py)
    4. judge      caches -> compile once -> run the tests                              (engine.py)
    5. answer     a Result; a dead letter too when it could not be judged
    6. publish    if it is still ours: wait for the broker's confirmation              (publisher.py)
    7. store      for repeats of the id, and for identical submissions to come
    8. ack        in the order of the partition, never past an unfinished record       (sequencer.py)

6 before 7 before 8 is the guarantee: a crash anywhere repeats work and never loses it. Redis is asked in 3, 4, 6 and 7,
and never decides whether a record counts as delivered: a record of an id that was answered before is answered again,
with what was published then.

Between 5 and 6 time may have passed that this process knows nothing of. What is still ours is asked of Kafka (the
sequencer, after the consumer had a moment to hear of a rebalance) and of Redis (the claim):

- Both ours: publish.
- The claim is somebody else's: drop what came of it and begin again, to wait for their answer and publish the same.
- The partition is somebody else's: publish nothing; they read the record again, and get our answer through the claim.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import structlog

from evalx.agents.flying import Flying
from evalx.agents.followers import Followers
from evalx.agents.lanes import Lanes
from evalx.agents.publisher import Encoded, Publisher
from evalx.agents.pulse import Pulse
from evalx.agents.quarantine import Quarantine
from evalx.agents.records import Record
from evalx.agents.reporting import report, report_unnamed
from evalx.agents.sequencer import Sequencer
from evalx.agents.timing import finished
from evalx.cache.claims import Claim, Claims
from evalx.cache.progress import PROGRESS_HEADER, PROGRESS_WANTED, ProgressReporter
from evalx.engine import Engine, Judgement
from evalx.errors import JudgeFaultError, RejectedError
from evalx.execution import OnTest
from evalx.messages import (
    Result,
    Submission,
    judge_error_result,
    peek_id,
    rejected_result,
)
from evalx.stages import follow

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
        claims: Claims,
        publisher: Publisher,
        worker: str,
        pulse: Pulse | None = None,
        progress: ProgressReporter | None = None,
        followers: Followers | None = None,
    ) -> None:
        self._lanes = lanes
        self._sequencer = sequencer
        self._engine = engine
        self._claims = claims
        self._publisher = publisher
        self._worker = worker
        self._pulse = pulse if pulse is not None else Pulse()
        self._progress = progress
        self._followers = followers if followers is not None else Followers(lanes, 1)
        self._quarantine = Quarantine()
        #: What kept a record from ever being finished: a defect, after which the worker must not go on.
        self.failure: Exception | None = None
        self.flying = Flying()

    async def run_place(self, lowest: str | None = None) -> None:
        """One place of the worker, for lanes down to this one: records until it is cancelled or the worker stops."""
        while True:
            record = await self._lanes.take(lowest)
            if self.flying.is_stopping:
                return
            if self._followers.follow(record, len(self.flying)):
                continue
            self.flying.enter([record])
            try:
                await self.process(record)
            except Exception as error:
                # The record stays unfinished, and its partition with it; only a new process can take it again.
                log.exception("record_failed", partition=record.partition_number, offset=record.offset)
                self.failure = error
            finally:
                self.flying.leave([record])
                self._followers.end(record)

    async def process(self, record: Record) -> None:
        """Steps 3 to 8."""
        record.timeline.mark("queued")
        follow(record.timeline)
        try:
            while not await self._deliver(record):
                if not self._is_ours(record):
                    log.info("record_given_back", partition=record.partition_number, offset=record.offset)
                    return
            self._acknowledge(record)
        finally:
            self.flying.end_settling()

    async def _deliver(self, record: Record) -> bool:
        """Steps 3 to 7. False when the answer is not ours to give, or not any more."""
        if record.submission is None:
            self.flying.begin_settling()
            return await self._publish(record, self._unjudged(record, record.rejection))
        return await self._process_claimed(record, record.submission)

    async def _process_claimed(self, record: Record, submission: Submission) -> bool:
        """Steps 3 to 7 of a record that can be judged. False when the answer is not ours to give, or not any more."""

        def wanted() -> bool:
            return self._is_ours(record)

        self.flying.wait_for_others(record)
        async with self._claims.hold(submission.id, record.content, wanted) as claim:
            self.flying.go_on(record)
            if claim is None or not wanted():
                return False
            answer = await self._answer(record, submission, claim)
            record.timeline.mark("dedupe")
            self.flying.begin_settling()
            self._claims.settle(claim)
            delivered = False
            try:
                await self._pulse.settled()
                if await self._claims.holds(claim):
                    delivered = await self._publish(record, answer)
            finally:
                await self._conclude(submission, answer, claim, published=delivered)
            return delivered

    def stop_taking(self) -> None:
        """Start nothing new; what is being judged goes on."""
        self.flying.is_stopping = True

    async def wait_idle(self, timeout_s: float) -> bool:
        """See ``Flying.wait_idle``."""
        return await self.flying.wait_idle(timeout_s)

    @property
    def in_flight(self) -> int:
        """Records that are being judged or published."""
        return len(self.flying)

    async def _answer(self, record: Record, submission: Submission, claim: Claim) -> Answer:
        """Steps 4 and 5; whatever goes wrong, there is an answer."""
        started = time.perf_counter()
        circumstances: dict[str, Any] = {
            "lane": record.lane,
            "worker": self._worker,
            "attempt": claim.attempt,
            "queued_ms": record.queued_ms,
        }
        if claim.conflict:
            conflict = RejectedError("conflict", f"id {submission.id!r} was used before with other content", "id")
            return self._unjudged(record, conflict, started)
        try:
            judgement = await self._judge(record, submission, claim)
            result = judgement.result(submission, judged_ms=_ms_since(started), **circumstances)
            return Answer(result, judgement=judgement)
        except Exception as error:
            record.timeline.mark("acquire")
            fault = _as_fault(error, submission)
            circumstances |= {"judged_ms": _ms_since(started), "metadata": submission.metadata}
            language, version = submission.language, submission.version
            result = judge_error_result(submission.id, fault, language=language, version=version, **circumstances)
            return Answer(result, fault)

    async def _judge(self, record: Record, submission: Submission, claim: Claim) -> Judgement:
        """Step 4, unless the id was answered before, or should not be judged any more."""
        if claim.answer is not None and (known := self._engine.unpack(submission, claim.answer)) is not None:
            return known
        if claim.poison:
            raise JudgeFaultError("poison", _verdict_on(claim))
        if claim.suspect:
            log.warning("judging_alone", submission=submission.id, deaths=claim.deaths)
        async with self._quarantine.enter(alone=claim.suspect):
            on_test = self._listener(record, submission)
            return await self._engine.judge(submission, rank=self._lanes.rank(record.lane), on_test=on_test)

    def _listener(self, record: Record, submission: Submission) -> OnTest | None:
        """What is told of each test as it ends, when the record asks for it."""
        if self._progress is None or record.header(PROGRESS_HEADER) != PROGRESS_WANTED:
            return None
        return self._progress.begin(submission.id)

    def _unjudged(self, record: Record, rejection: RejectedError | None, started: float | None = None) -> Answer:
        """What is answered to a record that cannot be judged."""
        rejection = rejection or RejectedError("invalid_value", "the submission could not be read")
        try:
            return Answer(self._rejected(record, rejection, started), rejection)
        except Exception:
            log.exception("answer_not_built", partition=record.partition_number, offset=record.offset)
            return Answer(None, rejection)

    def _rejected(self, record: Record, rejection: RejectedError, started: float | None) -> Result | None:
        known = record.submission
        submission_id = known.id if known is not None else peek_id(record.value)
        if submission_id is None:
            return None
        return rejected_result(
            submission_id,
            rejection,
            lane=record.lane,
            worker=self._worker,
            queued_ms=record.queued_ms,
            judged_ms=_ms_since(started) if started is not None else 0.0,
            language=known.language if known is not None else None,
            version=known.version if known is not None else None,
            metadata=known.metadata if known is not None else None,
        )

    async def _publish(self, record: Record, answer: Answer) -> bool:
        """Step 6. False when the partition was lost before the broker took the message."""
        await self._pulse.settled()
        if not self._is_ours(record):
            return False
        failure, encoded, result = self._encode(record, answer)

        def wanted() -> bool:
            return self._is_ours(record)

        if failure is not None and not await self._publisher.dead_letter(record, failure, wanted):
            return False
        if encoded is not None and not await self._publisher.result(encoded, wanted):
            return False
        record.timeline.mark("publish")
        if result is not None:
            report(record, result)
        elif failure is not None:
            report_unnamed(record, failure)
        return True

    def _encode(
        self, record: Record, answer: Answer
    ) -> tuple[RejectedError | JudgeFaultError | None, Encoded | None, Result | None]:
        """What is sent for an answer. One that cannot be encoded never could be, so it becomes a dead letter instead.

        Without this its record would never be finished, and stop its partition and every worker that gets it.
        """
        if answer.result is None:
            return answer.failure, None, None
        try:
            return answer.failure, self._publisher.encode(record, answer.result), answer.result
        except JudgeFaultError as fault:
            failure = answer.failure or fault
            plain = _bare_result(answer.result, fault)
        try:
            return failure, self._publisher.encode(record, plain), plain
        except JudgeFaultError:
            return failure, None, None

    async def _conclude(self, submission: Submission, answer: Answer, claim: Claim, *, published: bool) -> None:
        """Step 7. Whatever goes wrong here, the result is out already, or another worker's to give."""
        judgement = answer.judgement
        value = self._engine.pack(submission, judgement) if judgement is not None else None
        try:
            if published:
                overtaken = not await self._claims.end(claim, value)
            else:
                overtaken = value is None or not await self._claims.pass_on(claim, value)
            if judgement is not None and not overtaken and published:
                await self._engine.remember(submission, judgement)
            elif judgement is not None:
                await self._engine.hand_over(submission, judgement)
        except Exception:
            log.exception("store_failed", submission=submission.id)

    def _acknowledge(self, record: Record) -> None:
        """Step 8."""
        acknowledge(self._sequencer, record)

    def _is_ours(self, record: Record) -> bool:
        return record.ticket is not None and self._sequencer.is_current(record.ticket)


def acknowledge(sequencer: Sequencer[Record], record: Record) -> None:
    """A record is finished: acknowledge what is now a finished prefix of its partition."""
    assert record.ticket is not None, "intake gives every record a ticket"
    for released in sequencer.finish(record.ticket):
        released.event.ack()
        finished(released)


def _as_fault(error: Exception, submission: Submission) -> JudgeFaultError:
    """A defect of ours is a fault like any other: the submission gets an answer, and the worker goes on."""
    if isinstance(error, JudgeFaultError):
        return error
    log.exception("judging_crashed", submission=submission.id)
    return JudgeFaultError("internal_error", f"the judge failed: {error!r}")


def _bare_result(result: Result, fault: JudgeFaultError) -> Result:
    """What can be said instead of a result that cannot be encoded: as little of it as possible."""
    return judge_error_result(
        result.id, fault, language=None, version=None, lane=result.lane, worker=result.worker, attempt=result.attempt
    )


def _verdict_on(claim: Claim) -> str:
    return (
        f"{claim.deaths} workers died while they judged it, {claim.lone} of them with nothing else in progress; "
        "it is not judged again"
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
