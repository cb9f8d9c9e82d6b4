"""Stand-ins for tests, here and in projects that build on evalx: no Docker, no Kafka, no Redis.

They keep a *journal*, a list of what happened in order, which several of them can share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from evalx.errors import JudgeFaultError, RejectedError
from evalx.messages import Result
from evalx.sandbox.container import Collected
from evalx.sandbox.protocol import File, Job, ResultFlag, RunResult
from evalx.sandbox.runtime import OnResult
from evalx.verdicts import Outcome

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

    async def execute(self, image: str, job: Job, *, rank: int, on_result: OnResult) -> Collected:
        """Run the job, in the order of its inputs."""
        self.jobs.append(job)
        if self._gate is not None:
            await self._gate.wait()
        # As a container would: others have their turn.
        await asyncio.sleep(0)
        if self._faults:
            raise self._faults.pop(0)
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
        self.journal: Journal = journal if journal is not None else []

    async def get(self, level: str, key: str) -> bytes | None:
        """The value of a key."""
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Store a value."""
        self.values[key] = value
        self.journal.append(("store", key))


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
