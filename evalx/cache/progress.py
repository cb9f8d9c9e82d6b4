"""How far a submission is, told to those who listen: best effort, over Redis, and only for submissions that ask for it.

A record with the header ``evalx-progress: 1`` has messages published on the channel ``evalx:v1:PREFIX:progress:ID``:
that judging has started, and the verdicts of its tests as they end, without their outputs. A message may be missing or
come twice (after a fault of ours, say, when tests are run again); the result alone is what counts.

Tests that end close together are one message, and the messages of all submissions one round trip: twenty tests cost
what one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from evalx.cache.link import Link
from evalx.messages import TestResult
from evalx.verdicts import Verdict

#: The header of a record that asks for it, and its value.
PROGRESS_HEADER = "evalx-progress"
PROGRESS_WANTED = b"1"
#: Seconds that a message waits for others to join it: less than a person notices.
GATHER_S = 0.03


class TestProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A test that has ended, without its outputs."""

    __test__ = False  # not one of pytest's, in spite of its name

    id: str
    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    cpu_time_ms: float = 0.0
    wall_time_ms: float = 0.0
    peak_memory_bytes: int = 0


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message: judging has started, these tests have ended, or the result can be fetched from the gateway."""

    started: bool = False
    tests: tuple[TestProgress, ...] = ()
    finished: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Progress)


def encode_progress(progress: Progress) -> bytes:
    """A message as it is published."""
    return _encoder.encode(progress)


def decode_progress(value: bytes) -> Progress | None:
    """A message; None for anything else."""
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError:
        return None


def channel_root(prefix: str) -> str:
    """What the channels of an installation begin with; the id follows."""
    return f"evalx:v1:{prefix}:progress:"


def summary(test: TestResult) -> TestProgress:
    """What is told of a test that has ended."""
    return TestProgress(
        id=test.id,
        verdict=test.verdict,
        exit_code=test.exit_code,
        signal=test.signal,
        cpu_time_ms=test.cpu_time_ms,
        wall_time_ms=test.wall_time_ms,
        peak_memory_bytes=test.peak_memory_bytes,
    )


class ProgressReporter:
    """A worker's end of it."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._root = channel_root(prefix)
        self._untold: dict[str, list[TestProgress]] = {}
        self._started: set[str] = set()
        self._telling: asyncio.Task[None] | None = None

    def begin(self, submission_id: str) -> Callable[[TestResult], None]:
        """Judging has started; what is returned is to be called with each test that ends."""
        self._started.add(submission_id)
        self._tell_soon(submission_id)

        def on_test(test: TestResult) -> None:
            self._tell_soon(submission_id).append(summary(test))

        return on_test

    async def stop(self) -> None:
        """Tell no more."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    def _tell_soon(self, submission_id: str) -> list[TestProgress]:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        return self._untold.setdefault(submission_id, [])

    async def _tell(self) -> None:
        """Publish until nothing is left; what Redis does not take is dropped."""
        while self._untold:
            await asyncio.sleep(GATHER_S)
            untold, self._untold = self._untold, {}
            started, self._started = self._started, set()
            pipe = self._link.client.pipeline(transaction=False)
            for submission_id, tests in untold.items():
                message = Progress(started=submission_id in started, tests=tuple(tests))
                pipe.publish(self._root + submission_id, encode_progress(message))
            await self._link.ask(pipe.execute())
