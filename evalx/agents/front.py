"""Answers what is known before it waits for a place: what nobody has to run is neither queued nor leased.

Theory of operation
===================
A record whose batch was judged before, or whose id was answered before, needs no place, no container and no claim of
its own; all that there is to do is to find the answer and to publish it. So every record that came in since the last
look is looked up in one call to Redis, and all that are known are published in one request. One look at a time, so the
order of what is not known stays; the busier the worker is, the more records share a call.

- Known: the script (``scripts.ANSWER_KNOWN``) has counted the attempt, and made the answer the id's own. Whoever reads
  the record again, if this worker dies now, publishes the same answer. Hence no lease: there is nothing to overtake.
- Not known, or in doubt, be it a conflict, an id that is being judged somewhere or a value that is damaged: the record
  becomes ready for a place, and the usual way (``pipeline``) decides. Nothing was changed.
- Redis away: what this process has in memory is known, the rest is not.

What is looked up counts in its lane, so a lane that is full holds its partitions back all the same. A look takes
records of the highest lane first, and of each lower one at least ``LOWER_PART`` of its room.

The order of the guarantee stays: publish, wait for the broker, then acknowledge in the order of the partition.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import structlog

from evalx.agents.flying import Flying
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import acknowledge
from evalx.agents.publisher import Encoded, Publisher
from evalx.agents.pulse import Pulse
from evalx.agents.ready import Form, Ready
from evalx.agents.records import Record
from evalx.agents.reporting import report
from evalx.agents.sequencer import Sequencer
from evalx.cache.claims import Asked, Claims, Known
from evalx.cache.outcomes import decode_outcome
from evalx.cache.store import Store
from evalx.cache.values import unpack
from evalx.engine import Case, Engine, Judgement
from evalx.messages import Result

log = structlog.get_logger(__name__)

#: Records in one look: Redis takes half a millisecond for so many, and a record of the highest lane that comes next
#: waits for no more than that.
LOOK_RECORDS = 64
#: Part of a look that each lower lane may have at least.
LOWER_PART = 0.1
#: Looks whose results may be on their way to the broker: some thousand records, more than it confirms at a time.
LOOKS_IN_FLIGHT = 16


class _Question(NamedTuple):
    record: Record
    case: Case
    asked: Asked


class _Hit(NamedTuple):
    record: Record
    result: Result
    encoded: Encoded


class Front:
    """Looks up records before they wait for a place. ``run`` it for as long as records come."""

    def __init__(
        self,
        lanes: Lanes[Record],
        sequencer: Sequencer[Record],
        engine: Engine,
        claims: Claims,
        publisher: Publisher,
        flying: Flying,
        store: Store,
        pulse: Pulse,
        worker: str,
    ) -> None:
        self._lanes = lanes
        self._sequencer = sequencer
        self._engine = engine
        self._claims = claims
        self._publisher = publisher
        self._flying = flying
        self._store = store
        self._pulse = pulse
        self._worker = worker
        self._fresh: dict[str, deque[Record]] = {name: deque() for name in lanes.waiting()}
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(LOOKS_IN_FLIGHT)
        self._publishing: set[asyncio.Task[None]] = set()
        self._ready = Ready()
        #: What kept records from ever being finished: a defect, after which the worker must not go on.
        self.failure: Exception | None = None

    def put(self, record: Record, /) -> None:
        """Take a record in the place of its lane."""
        submission = record.submission
        if submission is None or submission.cache != "use" or not self._engine.answers_batches:
            self._lanes.put(record)
            return
        self._lanes.admit(record)
        self._fresh[record.lane].append(record)
        self._wake.set()

    async def run(self) -> None:
        """Look up what comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while any(self._fresh.values()):
                await self._room.acquire()
                await self._look(self._next())

    async def stop(self) -> None:
        """Let what is being published end; ``run`` must have ended."""
        if self._publishing:
            await asyncio.wait(self._publishing)

    def _next(self) -> list[Record]:
        """The records of the next look."""
        lanes = list(self._fresh.values())
        taken = [_take(lane, int(LOOK_RECORDS * LOWER_PART)) for lane in lanes]
        for records, lane in zip(taken, lanes, strict=True):
            records += _take(lane, LOOK_RECORDS - sum(map(len, taken)))
        return [record for records in taken for record in records if self._is_ours(record)]

    async def _look(self, records: Sequence[Record]) -> None:
        """One look: what is known is published by a task of its own, which makes room when it is done."""
        hits: list[_Hit] = []
        try:
            if records and not self._flying.is_stopping:
                hits = await self._hits(records)
        except Exception:
            # A defect. The usual way has its own means against those.
            log.exception("look_failed", records=len(records))
            hits = []
        known = {hit.record for hit in hits}
        for record in records:
            if record not in known:
                self._lanes.ready(record)
        ours = [hit for hit in hits if self._lanes.leave(hit.record)]
        if not ours:
            self._room.release()
            return
        self._flying.enter(hit.record for hit in ours)
        task = asyncio.create_task(self._publish(ours))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _hits(self, records: Sequence[Record]) -> list[_Hit]:
        started = time.perf_counter()
        questions = [self._question(record) for record in records]
        answers = await self._claims.answer_known([question.asked for question in questions], self._store.memory.get)
        hits = []
        for question, known in zip(questions, answers, strict=True):
            if known is None:
                continue
            if (hit := self._hit(question, known, started)) is not None:
                hits.append(hit)
            else:
                await self._claims.forget(question.asked)
        return hits

    def _question(self, record: Record) -> _Question:
        assert record.submission is not None, "others are not taken"
        case = self._engine.case(record.submission)
        record.batch = case.keys.result
        return _Question(record, case, Asked(record.submission.id, record.content, case.keys.result))

    def _hit(self, question: _Question, known: Known, started: float) -> _Hit | None:
        record, case = question.record, question.case
        judgement = self._judgement(question, known)
        if judgement is None:
            return None
        if not known.own:
            self._store.tally.count("result", hits=1, place="redis" if known.value is None else "memory")
            self._store.count("result_cache")
        result = judgement.result(
            case.submission,
            lane=record.lane,
            worker=self._worker,
            attempt=known.attempt,
            queued_ms=record.queued_ms,
            judged_ms=(time.perf_counter() - started) * 1000,
        )
        hit = _Hit(record, result, self._publisher.encode(record, result))
        record.timeline.mark("queued", started)
        record.timeline.mark("dedupe")
        return hit

    def _judgement(self, question: _Question, known: Known) -> Judgement | None:
        key, keys = question.asked.result, question.case.keys
        form = Form(known.packed, tuple(test.id for test in question.case.submission.tests), keys.tests)
        if (ready := self._ready.get(key, form)) is not None:
            return ready
        value = self._value(key, known)
        outcome = decode_outcome(value)
        judgement = None if outcome is None else self._engine.answer(question.case, outcome)
        if value is not None and judgement is not None and known.value is None:
            # Without what it was asked by, which is larger than the answer.
            self._ready.put(key, form, msgspec.structs.replace(judgement, keys=None), len(value))
        return judgement

    def _value(self, key: str, known: Known) -> bytes | None:
        if known.value is not None:
            return known.value
        value = unpack(known.packed, None if known.own else key)
        if value is not None and not known.own:
            # For when Redis is away.
            self._store.memory.put(key, value)
        return value

    async def _publish(self, hits: Sequence[_Hit]) -> None:
        self._flying.begin_settling()
        try:
            await self._pulse.settled()
            ours = [hit for hit in hits if self._is_ours(hit.record)]
            sent = await self._publisher.results_together([(hit.encoded, self._wanted(hit.record)) for hit in ours])
            confirmed_at = time.perf_counter()
            for hit, is_sent in zip(ours, sent, strict=True):
                if is_sent:
                    hit.record.timeline.mark("publish", confirmed_at)
                    report(hit.record, hit.result)
                    acknowledge(self._sequencer, hit.record)
        except Exception as error:
            # The records stay unfinished, and their partitions with them; only a new process can take them again.
            log.exception("records_failed", records=len(hits))
            self.failure = error
        finally:
            self._flying.leave([hit.record for hit in hits])
            self._flying.end_settling()
            self._room.release()

    def _is_ours(self, record: Record) -> bool:
        return record.ticket is not None and self._sequencer.is_current(record.ticket)

    def _wanted(self, record: Record) -> _Wanted:
        return _Wanted(self._sequencer, record)


class _Wanted:
    """Whether a record is still ours to answer, for who publishes it."""

    __slots__ = ("_record", "_sequencer")

    def __init__(self, sequencer: Sequencer[Record], record: Record) -> None:
        self._sequencer = sequencer
        self._record = record

    def __call__(self) -> bool:
        ticket = self._record.ticket
        return ticket is not None and self._sequencer.is_current(ticket)


def _take(lane: deque[Record], count: int) -> list[Record]:
    return [lane.popleft() for _ in range(min(count, len(lane)))]
