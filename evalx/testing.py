"""Stand-ins for tests, here and in projects that build on evalx: no Docker, no Kafka, no Redis.

They keep a *journal*, a list of what happened in order, which several of them can share.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from evalx.cache.link import Link
from evalx.errors import JudgeFaultError, RejectedError
from evalx.gateway.entries import Entry, Ticket
from evalx.gateway.shelf import Admission, Found, Shelf
from evalx.gateway.wire import OnResult as OnAnswer
from evalx.gateway.wire import Wanted, Wire
from evalx.messages import Result, Submission, TestResult, encode_result
from evalx.sandbox.container import Collected
from evalx.sandbox.protocol import File, Job, ResultFlag, RunResult
from evalx.sandbox.underway import OnResult, OnTurn
from evalx.settings import Settings
from evalx.stages import mark
from evalx.verdicts import Outcome, Verdict

Journal = list[tuple[str, Any]]


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How a pretended run ended. Times in milliseconds."""

    stdout: bytes = b""
    stderr: bytes = b""
    outcome: Outcome = Outcome.EXITED
    exit_code: int | None = 0
    signal: int | None = None
    cpu_ms: int = 1
    wall_ms: int = 2
    peak_bytes: int = 1 << 20
    flags: ResultFlag = ResultFlag(0)

    def result(self, index: int) -> RunResult:
        """What the runner would have sent."""
        return RunResult(
            index=index,
            outcome=self.outcome,
            exit_code=self.exit_code,
            signal=self.signal,
            user_ns=self.cpu_ms * 1_000_000,
            sys_ns=0,
            wall_ns=self.wall_ms * 1_000_000,
            peak_bytes=self.peak_bytes,
            flags=self.flags,
            stdout=self.stdout,
            stderr=self.stderr,
        )


Program = Callable[[bytes], "Ran | bytes"]


class FakeSandbox:
    """Runs a Python function of stdin instead of a program; a compile is a function of the source.

    ``faults`` are raised by the first calls, one each. ``gate``, when it is set, holds every job until it is opened.
    """

    def __init__(
        self,
        program: Program = lambda stdin: stdin,
        *,
        compiler: Program = lambda source: Ran(),
        faults: Iterable[Exception] = (),
        gate: asyncio.Event | None = None,
    ) -> None:
        self.jobs: list[Job] = []
        self._program = program
        self._compiler = compiler
        self._faults = list(faults)
        self._gate = gate

    @property
    def compiles(self) -> int:
        """How many jobs asked for files back."""
        return sum(bool(job.collect) for job in self.jobs)

    @property
    def runs(self) -> int:
        """How many jobs ran tests."""
        return len(self.jobs) - self.compiles

    def toolchain(self, image: str) -> str:
        """A digest that depends on the image's name alone."""
        return f"sha256:{image}"

    async def execute(
        self, image: str, job: Job, *, rank: int, on_result: OnResult, on_turn: OnTurn | None = None
    ) -> Collected:
        """Run the job, in the order of its inputs."""
        self.jobs.append(job)
        mark("dedupe")
        if self._gate is not None:
            await self._gate.wait()
        # As a container would: others have their turn.
        await asyncio.sleep(0)
        if on_turn is not None:
            on_turn()
        if self._faults:
            raise self._faults.pop(0)
        mark("acquire")
        return self._compile(job, on_result) if job.collect else self._run(job, on_result)

    def _compile(self, job: Job, on_result: OnResult) -> Collected:
        ran = _ran(self._compiler(job.files[0].data))
        on_result(ran.result(0))
        succeeded = ran.outcome is Outcome.EXITED and ran.exit_code == 0
        files = (File(job.collect[0], b"compiled " + job.files[0].data, 0o755),) if succeeded else ()
        return Collected(files, None)

    def _run(self, job: Job, on_result: OnResult) -> Collected:
        stop_at = len(job.inputs)
        for index, stdin in enumerate(job.inputs):
            cancelled = Ran(outcome=Outcome.CANCELLED, exit_code=None, signal=9)
            ran = cancelled if index >= stop_at else _ran(self._program(stdin))
            if (asked := on_result(ran.result(index))) is not None:
                stop_at = min(stop_at, asked)
        return Collected((), None)


def _ran(answer: Ran | bytes) -> Ran:
    return Ran(stdout=answer) if isinstance(answer, bytes) else answer


class MemoryCache:
    """An unbounded cache that keeps a journal of what was stored."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.values: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.journal: Journal = journal if journal is not None else []

    async def get(self, level: str, key: str) -> bytes | None:
        """The value of a key."""
        return self.values.get(key)

    async def get_many(self, level: str, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys."""
        return [self.values.get(key) for key in keys]

    async def put(self, level: str, key: str, value: bytes) -> None:
        """Store a value."""
        await self.put_many(level, {key: value})

    async def put_many(self, level: str, values: Mapping[str, bytes]) -> None:
        """Store values."""
        self.values.update(values)
        self.journal.append(("store", level))

    def count(self, source: str) -> None:
        """Count a batch by where its answer came from."""
        self.counts[source] += 1


class FakePartition(NamedTuple):
    """A topic's partition, as Faust names it."""

    topic: str
    partition: int


class FakeEvent:
    """What Faust hands to an agent: a message, and a way to acknowledge it."""

    def __init__(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"key",
        topic: str = "evalx.submissions",
        partition: int = 4,
        offset: int = 0,
        headers: Iterable[tuple[str, bytes]] = (),
        journal: Journal | None = None,
    ) -> None:
        self.journal: Journal = journal if journal is not None else []
        self.acked = False
        self.message = SimpleNamespace(
            tp=FakePartition(topic, partition),
            topic=topic,
            partition=partition,
            offset=offset,
            key=key,
            value=value,
            timestamp=time.time(),
            headers=list(headers),
        )

    def ack(self) -> None:
        """Acknowledge."""
        self.acked = True
        self.journal.append(("ack", self.message.offset))


class FakePublisher:
    """Keeps what would be published. With ``reachable`` off the broker takes nothing, as after a lost connection."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal: Journal = journal if journal is not None else []
        self.results: list[Result] = []
        self.dead_letters: list[tuple[Any, RejectedError | JudgeFaultError]] = []
        self.reachable = True
        self.unencodable: set[str] = set()

    def encode(self, record: Any, result: Result) -> Result:
        """The result itself; raises JudgeFaultError for a status in ``unencodable``."""
        if result.status in self.unencodable:
            raise JudgeFaultError("internal_error", "the result could not be encoded")
        return result

    async def result(self, result: Result, wanted: Callable[[], bool]) -> bool:
        """Publish a result; False when nobody wants it any more and it was not taken."""
        if not await self._taken(wanted):
            return False
        self.results.append(result)
        self.journal.append(("publish", result.id))
        return True

    async def results_together(self, batch: Sequence[tuple[Result, Callable[[], bool]]]) -> list[bool]:
        """Publish results together."""
        return [await self.result(*one) for one in batch]

    async def dead_letter(
        self, record: Any, error: RejectedError | JudgeFaultError, wanted: Callable[[], bool]
    ) -> bool:
        """Publish a dead letter; likewise."""
        if not await self._taken(wanted):
            return False
        self.dead_letters.append((record, error))
        self.journal.append(("dead_letter", error.code))
        return True

    async def _taken(self, wanted: Callable[[], bool]) -> bool:
        await asyncio.sleep(0)
        while not self.reachable:
            if not wanted():
                return False
            await asyncio.sleep(0.001)
        return True


class FakeFlow:
    """Keeps which partitions are held back."""

    def __init__(self) -> None:
        self.held: set[Any] = set()
        self.journal: Journal = []

    def hold(self, partition: Any) -> None:
        """Fetch no more of it."""
        self.held.add(partition)
        self.journal.append(("hold", partition))

    def release(self, partition: Any) -> None:
        """Fetch it again."""
        self.held.discard(partition)
        self.journal.append(("release", partition))


def accepted(submission: Submission) -> Result:
    """What a worker would answer to a program that prints what it reads and passes every test."""
    tests = tuple(
        TestResult(id=test.id, verdict=Verdict.OK, exit_code=0, stdout=test.stdin) for test in submission.tests
    )
    return Result(
        id=submission.id,
        status="judged",
        verdict=Verdict.OK,
        language=submission.language,
        version=submission.version,
        tests=tests,
        lane="normal",
        worker="fake",
        metadata=submission.metadata,
    )


class FakeWire(Wire):
    """Keeps what a gateway produces; ``judge``, when it is set, answers at once. ``refusal`` is raised instead."""

    def __init__(self, judge: Callable[[Submission], Result] | None = accepted) -> None:
        super().__init__(Settings.load())
        self.judge = judge
        self.sent: list[tuple[int, Submission, dict[str, bytes]]] = []
        #: Results that came before this gateway listened, for ``scan``.
        self.history: list[Result] = []
        self.refusal: Exception | None = None
        self._on_result: OnAnswer | None = None

    async def start(self, wanted: Wanted, on_result: OnAnswer) -> None:
        """Listen."""
        self._on_result = on_result
        self.reader = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]

    async def send(self, key: str, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Keep a submission, and answer it if there is a judge."""
        if self.refusal is not None:
            raise self.refusal
        submission = msgspec.json.decode(value, type=Submission)
        self.sent.append((partition, submission, dict(headers)))
        if self.judge is not None:
            await self.answer(self.judge(submission))

    async def scan(self, since_ms: int, wanted: Wanted, on_result: OnAnswer) -> None:
        """Hand over what is wanted of the history."""
        for result in self.history:
            if wanted(result.id):
                await on_result(result.id, encode_result(result))

    async def answer(self, result: Result) -> None:
        """A result arrives."""
        assert self._on_result is not None, "start comes first"
        await self._on_result(result.id, encode_result(result))


class FakeShelf(Shelf):
    """What gateways share, in a dictionary that several of them may be given. ``away`` is a Redis that is lost."""

    def __init__(self, settings: Settings | None = None, name: str = "g-1", shared: FakeShelf | None = None) -> None:
        super().__init__(settings or Settings.load(), name, Link(None, timeout_ms=1))
        self.away = False
        self.entries: dict[str, Entry] = shared.entries if shared else {}
        self.hooks: dict[str, float] = shared.hooks if shared else {}
        self.dead: set[str] = shared.dead if shared else set()
        self.tries = 0

    async def admit(self, ticket: Ticket) -> Admission:
        """Keep a ticket if the limits allow it; the rate is not looked at."""
        if self.away:
            return Admission(away=True)
        if (known := self.entries.get(ticket.id)) is not None:
            return Admission(known=known)
        open_tickets = [entry.ticket for entry in self.entries.values() if entry.packed is None]
        if len(open_tickets) >= self._settings.max_waiting:
            return Admission(refusal="waiting")
        most = self._settings.gateway_concurrency
        if most and sum(one.payer == ticket.payer for one in open_tickets) >= most:
            return Admission(refusal="concurrency")
        self.entries[ticket.id] = Entry(ticket)
        return Admission()

    async def find(self, submission_id: str) -> Found:
        """The entry of an id."""
        return Found(None, away=True) if self.away else Found(self.entries.get(submission_id), away=False)

    async def find_all(self, ids: Sequence[str]) -> list[Entry]:
        """The entries of these ids that are there."""
        return [self.entries[one] for one in ids if one in self.entries]

    async def withdraw(self, ticket: Ticket) -> None:
        """Forget a submission."""
        self.entries.pop(ticket.id, None)

    async def finish(self, entry: Entry, channel: str, message: bytes) -> bool:
        """Keep a result."""
        if self.away:
            return False
        self.entries[entry.ticket.id] = entry
        if entry.ticket.callback_url is not None:
            self.hooks[entry.ticket.id] = 0.0
        return True

    async def waiting(self) -> int | None:
        """How many submissions wait in all."""
        return None if self.away else sum(entry.packed is None for entry in self.entries.values())

    async def beat(self) -> None:
        """This gateway is alive."""

    async def leave(self) -> None:
        """This gateway ends."""
        self.dead.add(self._name)

    async def gone(self) -> list[str]:
        """Gateways that have ended."""
        return [] if self.away else sorted(self.dead - {self._name})

    async def opened_by(self, name: str) -> list[str]:
        """The ids that a gateway waits for."""
        return [one.ticket.id for one in self.entries.values() if one.ticket.instance == name and one.packed is None]

    async def take_over(self, name: str, tickets: Iterable[Ticket]) -> None:
        """Note who waits now."""
        self.entries |= {ticket.id: Entry(ticket) for ticket in tickets}
        self.dead.discard(name)

    async def claim_hooks(self, most: int) -> list[str]:
        """Ids whose webhook is due."""
        due = [one for one, at in self.hooks.items() if at <= time.time()][:most]
        self.hooks |= dict.fromkeys(due, time.time() + 60)
        return due

    async def hook_failed(self, submission_id: str) -> int:
        """Count a failed try."""
        self.tries += 1
        return self.tries

    async def hook_again(self, submission_id: str, pause_s: float) -> None:
        """Try it again at once, whatever the pause."""
        self.hooks[submission_id] = 0.0

    async def hook_done(self, submission_id: str) -> None:
        """Call it no more."""
        self.hooks.pop(submission_id, None)
