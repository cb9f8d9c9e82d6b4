"""The process that makes the load, as the benches see it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec

from bench.load import BULK, HIGH, SINGLE, Batch, Done, Order
from bench.stack import Stack
from bench.worker import Worker
from evalx.settings import Settings

#: Seconds for it to end by itself.
END_S = 30
#: Sources and inputs that no bench measures, and how many batches of each language.
WARM, WARM_BATCHES = 900_000_000, 2


class Load:
    """Use it as a context. ``wrong`` counts verdicts other than AC.

    ``in_bulk``: the broker may gather results for a moment, where only the last one's time counts.
    """

    def __init__(self, stack: Stack, *, in_bulk: bool = False) -> None:
        prefix = stack.environment()["EVALX_TOPIC_PREFIX"]
        command = [sys.executable, "-m", "bench.load", stack.kafka, prefix, BULK if in_bulk else SINGLE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.put_beside(f"{prefix}-load", self._process.pid)
        self.wrong = 0

    @property
    def process_id(self) -> int:
        """Of the process that makes the load."""
        return self._process.pid

    def send(
        self,
        batches: Sequence[Batch],
        *,
        at_once: int,
        cache: Literal["use", "refresh", "bypass"] = "use",
        partitions: Sequence[int] = HIGH,
        wait: Literal["own", "none", "all"] = "own",
    ) -> Done:
        """Send batches and wait for their results, as ``Order`` says; raises RuntimeError when it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = Order(batches=list(batches), at_once=at_once, cache=cache, partitions=list(partitions), wait=wait)
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the load generator has ended")
        done = msgspec.json.decode(answer, type=Done)
        self.wrong += sum(count for name, count in done.verdicts.items() if name != "AC")
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # It may be in the middle of an order.
            self._process.terminate()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def judging(languages: Sequence[str], *, in_bulk: bool = False) -> Iterator[tuple[Stack, Load, Worker]]:
    """A stack with one worker that has judged something in these languages, and the process that makes the load.

    The first batches pay for what happens once a worker: connections, imports, the compilers' files in memory.
    """
    with Stack(Settings.load().image_prefix) as stack, Load(stack, in_bulk=in_bulk) as load:
        worker = stack.start_worker()
        warm_up(load, languages)
        yield stack, load, worker


def warm_up(load: Load, languages: Sequence[str]) -> None:
    """Let the worker judge a few batches of each language that no bench measures."""
    known = [Batch(WARM + number, name, WARM) for number in range(WARM_BATCHES) for name in languages]
    load.send(known, at_once=len(known))
