"""The gateway's core: accepts submissions and knows what became of them. Knows no HTTP.

The way of one submission::

    1. admit     its ticket is kept in Redis, unless the queue or a limit says no
    2. register  from here on its result is wanted
    3. produce   into a partition of its lane; the broker's confirmation is the acceptance
    4. result    kept in memory, told to those who wait, then kept in Redis

What must outlive this process is in Redis from 1 on, and the result in Kafka. A gateway that is gone has its open
submissions adopted by another one, or by itself after a restart (see ``adopt``): they are registered first and then
looked for among the results since they were accepted, so that none is missed in between.

While Redis is away everything goes on for the submissions of this process: its memory keeps what waits, and the latest
results. What only Redis knows is then a 503, never a 404.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from evalx.cache.progress import PROGRESS_HEADER, PROGRESS_WANTED
from evalx.cache.store import MemoryStore
from evalx.errors import EvalxError, RequestError
from evalx.gateway.entries import Entry, State, Ticket, decode_entry, encode_entry, finished
from evalx.gateway.hub import Hub
from evalx.gateway.metrics import ACCEPTED, ADOPTED, ANSWERED, REFUSED, WAITING
from evalx.gateway.shelf import ALIVE_S, Admission, Shelf
from evalx.gateway.wire import Wire
from evalx.messages import Submission, content_hash, decode_result, encode_submission
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Bytes of results that this process keeps; older ones are in Redis.
MEMORY_BYTES = 64 << 20
#: Results that are on their way to Redis at one time; more make the reader of results wait.
STORING = 64
#: Seconds between looks at Redis for a result that another gateway waits for; usually it is told at once.
LOOK_S = 1.0
#: Whole seconds after which a caller may try again while Redis is away.
REDIS_RETRY_S = 2
#: Whole seconds after which a caller may try again when the queue is full, at least and at most.
RETRY_AFTER_S = (1, 60)
#: Results over which the rate is taken at which the queue moves.
RATE_RESULTS = 1000
#: Results that Redis did not take, kept to be offered again: some seconds' work.
UNSTORED = 5000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a complete submission, its lane, and for whom; see ``Ticket``."""

    submission: Submission
    lane: str
    owner: str
    payer: str
    callback_url: str | None = None
    traceparent: str | None = None


class LaneQueue(msgspec.Struct, frozen=True):
    """What waits in one lane: how many submissions, and since when the oldest of them, in seconds."""

    name: str
    waiting: int
    oldest_s: float


class Queue(msgspec.Struct, frozen=True):
    """`waiting` counts the submissions of all gateways, `lanes` those of the gateway that answers, highest lane first.

    While Redis is away, `waiting` too is of this gateway alone.
    """

    waiting: int
    lanes: tuple[LaneQueue, ...]


class Admitted(NamedTuple):
    """A ticket, and whether it was made now or is that of a submission which is repeated."""

    ticket: Ticket
    new: bool


class Desk:
    """Accepts, waits and answers for one gateway."""

    def __init__(self, settings: Settings, name: str, wire: Wire, shelf: Shelf, hub: Hub) -> None:
        self.name = name
        self.hub = hub
        self._settings = settings
        self._wire = wire
        self._shelf = shelf
        self._lanes = {lane.name: lane.partitions for lane in settings.lanes}
        self._open: dict[str, Ticket] = {}
        self._results = MemoryStore(MEMORY_BYTES)
        self._storing: set[asyncio.Task[Any]] = set()
        self._unstored: dict[str, Entry] = {}
        self._recent: deque[float] = deque(maxlen=RATE_RESULTS)
        #: Set when a webhook may be due.
        self.hook_due = asyncio.Event()

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes, highest first."""
        return tuple(self._lanes)

    @property
    def waiting(self) -> int:
        """Submissions that this gateway waits for."""
        return len(self._open)

    def wants(self, submission_id: str) -> bool:
        """Whether a result is awaited here."""
        return submission_id in self._open

    async def accept(self, orders: Sequence[Order]) -> list[Ticket]:
        """Accept all or none: a refusal of one withdraws those before it.

        Raises:
            RequestError: 429 over the queue's or a payer's limit, 409 an id with other content, 503 Kafka is away.
        """
        admitted: list[Admitted] = []
        try:
            for order in orders:
                # One at a time: what was admitted before a refusal must be known.
                admitted.append(await self._admit(order))  # noqa: PERF401
            await asyncio.gather(*map(self._produce, orders, admitted))
        except BaseException:
            await asyncio.shield(self._withdraw(one.ticket for one in admitted if one.new))
            raise
        return [one.ticket for one in admitted]

    async def find(self, submission_id: str, owner: str) -> Entry:
        """What is known of a submission.

        Raises:
            RequestError: 404 unknown, or somebody else's; 503 only Redis would know.
        """
        # In this order: what is judged again has an older result as well.
        if (ticket := self._open.get(submission_id)) is not None:
            return _owned(Entry(ticket), owner)
        if (kept := decode_entry(self._results.get(submission_id))) is not None:
            return _owned(kept, owner)
        entry, away = await self._shelf.find(submission_id)
        if away:
            raise RequestError(503, "Redis, which knows of this submission, does not answer; try again", REDIS_RETRY_S)
        if entry is None:
            raise _unknown()
        if entry.packed is not None:
            self._results.put(submission_id, encode_entry(entry))
        return _owned(entry, owner)

    async def wait(self, submission_id: str, owner: str, seconds: float) -> Entry:
        """What is known of it when it is finished, or after this many seconds; raises as ``find`` does."""
        deadline = time.monotonic() + seconds
        with self.hub.listen(submission_id) as feed:
            while True:
                entry = await self.find(submission_id, owner)
                left = deadline - time.monotonic()
                if entry.packed is not None or left <= 0 or feed.ended:
                    return entry
                await feed.next(left if self.wants(submission_id) else min(left, LOOK_S))

    async def queue(self) -> Queue:
        """How much waits."""
        waiting = await self._shelf.waiting()
        now_ms = time.time() * 1000
        since: dict[str, list[int]] = {name: [] for name in self._lanes}
        for ticket in self._open.values():
            since.setdefault(ticket.lane, []).append(ticket.submitted_ms)
        lanes = tuple(
            LaneQueue(name, len(times), round(max(0.0, now_ms - min(times)) / 1000, 1) if times else 0.0)
            for name, times in since.items()
        )
        return Queue(self.waiting if waiting is None else waiting, lanes)

    def state(self, entry: Entry) -> State:
        """How far a submission is."""
        if entry.packed is not None:
            return "finished"
        return "processing" if self.hub.has_started(entry.ticket.id) else "queued"

    async def on_result(self, submission_id: str, value: bytes) -> None:
        """Step 4; a repeated result is no longer wanted."""
        ticket = self._open.get(submission_id)
        if ticket is None:
            return
        entry = finished(ticket, value)
        # In this order, so that at no moment nothing is known of it.
        self._results.put(submission_id, encode_entry(entry))
        self._close(submission_id)
        self._recent.append(time.monotonic())
        self.hub.finished(submission_id)
        if len(self._storing) >= STORING:
            await asyncio.wait(self._storing, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._store(entry))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def adopt(self) -> int:
        """Wait for what gateways waited for that are gone; returns for how many submissions."""
        adopted = 0
        for name in await self._shelf.gone():
            entries = await self._shelf.find_all(await self._shelf.opened_by(name))
            tickets = [
                msgspec.structs.replace(entry.ticket, instance=self.name)
                for entry in entries
                if entry.packed is None and entry.ticket.id not in self._open
            ]
            for ticket in tickets:
                self._register(ticket)
            await self._shelf.take_over(name, tickets)
            if tickets:
                log.info("submissions_adopted", gateway=name, count=len(tickets))
                await self._wire.scan(min(one.submitted_ms for one in tickets), self.wants, self.on_result)
            adopted += len(tickets)
        ADOPTED.inc(adopted)
        return adopted

    async def expire(self) -> None:
        """Wait no longer for what nobody can ask for any more: its result was lost, or will be too late."""
        oldest_ms = (time.time() - self._settings.gateway_ttl_s) * 1000
        for ticket in [one for one in self._open.values() if one.submitted_ms < oldest_ms]:
            log.warning("result_never_came", submission=ticket.id)
            self._close(ticket.id)
            await self._shelf.withdraw(ticket)

    async def keep_alive(self) -> None:
        """Beat, and adopt, until it is cancelled."""
        while True:
            await self._shelf.beat()
            for entry in list(self._unstored.values()):
                await self._store(entry)
            await self.expire()
            try:
                await self.adopt()
            except EvalxError as error:
                # What was registered stays so, and is on the list of this gateway now: a restart looks for it again.
                log.warning("adoption_failed", error=str(error))
            await asyncio.sleep(ALIVE_S / 3)

    async def stop(self) -> None:
        """Keep what is still on its way to Redis, and leave what is open to others."""
        if self._storing:
            await asyncio.wait(self._storing, timeout=2 * self._settings.redis_timeout_s)
        await self._shelf.leave()

    async def _admit(self, order: Order) -> Admitted:
        """Step 1."""
        submission = order.submission
        ticket = Ticket(
            id=submission.id,
            owner=order.owner,
            payer=order.payer,
            instance=self.name,
            lane=order.lane,
            language=submission.language,
            version=submission.version,
            tests=len(submission.tests),
            content=content_hash(submission),
            submitted_ms=int(time.time() * 1000),
            callback_url=order.callback_url,
        )
        admission = await self._shelf.admit(ticket)
        if admission.known is not None:
            return Admitted(_same(ticket, admission.known.ticket), new=False)
        if admission.away and len(self._open) >= self._settings.max_waiting:
            admission = Admission(refusal="waiting")
        if admission.refusal is not None:
            raise self._refused(admission)
        return Admitted(ticket, new=True)

    async def _produce(self, order: Order, admitted: Admitted) -> None:
        """Steps 2 and 3, of a repeat too: the first one may be lost, and a `judge_error` is no verdict."""
        ticket = admitted.ticket
        if not admitted.new and _has_verdict(await self.find(ticket.id, order.owner)):
            return
        self._register(ticket)
        partitions = self._lanes[order.lane]
        partition = partitions[zlib.crc32(ticket.id.encode()) % len(partitions)]
        headers = [("content-type", b"application/json"), (PROGRESS_HEADER, PROGRESS_WANTED)]
        if order.traceparent is not None:
            headers.append(("traceparent", order.traceparent.encode()))
        await self._wire.send(ticket.id, partition, encode_submission(order.submission), headers)
        ACCEPTED.labels(order.lane).inc()

    async def _withdraw(self, tickets: Iterable[Ticket]) -> None:
        """Forget what was not accepted as a whole."""
        for ticket in tickets:
            self._close(ticket.id)
            await self._shelf.withdraw(ticket)

    async def _store(self, entry: Entry) -> None:
        ticket = entry.ticket
        if await self._shelf.finish(entry, *self.hub.channel(ticket.id)):
            self._unstored.pop(ticket.id, None)
            ANSWERED.labels("kept").inc()
            if ticket.callback_url is not None:
                self.hook_due.set()
        elif len(self._unstored) < UNSTORED:
            self._unstored[ticket.id] = entry
        else:
            ANSWERED.labels("in_memory").inc()

    def _register(self, ticket: Ticket) -> None:
        self._open[ticket.id] = ticket
        WAITING.set(len(self._open))

    def _close(self, submission_id: str) -> None:
        self._open.pop(submission_id, None)
        WAITING.set(len(self._open))

    def _refused(self, admission: Admission) -> RequestError:
        assert admission.refusal is not None
        REFUSED.labels(admission.refusal).inc()
        settings = self._settings
        match admission.refusal:
            case "waiting":
                text = f"{settings.max_waiting} submissions wait already, which is the most (EVALX_MAX_WAITING)"
                return RequestError(429, f"{text}; try again later", self._queue_moves_in())
            case "concurrency":
                text = f"{settings.gateway_concurrency} submissions of yours wait already, which is the most"
                return RequestError(429, f"{text}; wait for a result first", self._queue_moves_in())
            case "rate":
                text = f"at most {settings.gateway_rate_per_s:g} submissions a second are accepted of one caller"
                return RequestError(429, f"{text}; slow down", max(1, -(-admission.retry_after_ms // 1000)))

    def _queue_moves_in(self) -> int:
        """Whole seconds until a tenth of what waits here should be done, at the present rate."""
        least, most = RETRY_AFTER_S
        if len(self._recent) < 2:
            return most
        rate = len(self._recent) / max(0.001, time.monotonic() - self._recent[0])
        return int(min(most, max(least, len(self._open) / 10 / rate)))


def _same(ticket: Ticket, known: Ticket) -> Ticket:
    """The ticket that an id has already; one id has one content and one owner."""
    if known.owner != ticket.owner or known.content != ticket.content:
        raise RequestError(409, f"id {ticket.id!r} was used before with other content; give another one, or none")
    return known


def _has_verdict(entry: Entry) -> bool:
    return (result := entry.result) is not None and decode_result(result).status != "judge_error"


def _owned(entry: Entry, owner: str) -> Entry:
    # Whether somebody else's id exists is nobody's business.
    if entry.ticket.owner != owner:
        raise _unknown()
    return entry


def _unknown() -> RequestError:
    return RequestError(404, "no submission of this id is known; it never was, or its result has expired")
