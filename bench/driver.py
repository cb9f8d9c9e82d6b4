"""The process that makes the load, as the benches see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec

from bench.load import HIGH, Batch, Done, Order
from bench.stack import Stack

#: Seconds for it to end by itself.
END_S = 30


class Load:
    """Use it as a context. ``wrong`` counts verdicts other than AC."""

    def __init__(self, stack: Stack) -> None:
        prefix = stack.environment()["EVALX_TOPIC_PREFIX"]
        command = [sys.executable, "-m", "bench.load", stack.kafka, prefix]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
    ) -> Done:
        """Send batches and wait for their results; raises RuntimeError when it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = Order(batches=list(batches), at_once=at_once, cache=cache, partitions=list(partitions))
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
