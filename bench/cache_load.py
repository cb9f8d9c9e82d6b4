"""The load of ``bench.cache``, in a process of its own, so that the worker's CPU time is the worker's.

Reads orders from stdin, one JSON object a line, and answers each with one on stdout. An order names the batches to
send, by number, and how: one after another, or as fast as the topics take them with so many in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from typing import Any, Literal

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

#: Bytes of a batch, as the issue that asked for the figures has it, and its tests.
BATCH_BYTES = 5000
TESTS = 20
#: Partitions of the lane that is measured.
HIGH = range(4)
#: Seconds for all results of an order.
PATIENCE_S = 300.0
#: Seconds between two batches that are sent one after another: idle means that nothing is left of the last one.
PAUSE_S = 0.01

_SOURCE = """#include <stdio.h>
int main(void) { long a, b; if (scanf("%ld %ld", &a, &b) == 2) printf("%ld\\n", a + b); return 0; }
"""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Batches to send. ``at_once``: how many may be in progress; 1 = one after another, with a pause."""

    batches: list[int]
    at_once: int
    cache: Literal["use", "refresh", "bypass"] = "use"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an order: seconds from the first send to the last result, each one's latency, and the sources."""

    seconds: float
    latencies_s: list[float]
    sources: dict[str, int]
    verdicts: dict[str, int]


def make_batch(number: int, cache: str) -> bytes:
    """The batch of this number, without an id: 20 tests that other batches do not have, some 5 KB in all."""
    dice = random.Random(number)
    tests = []
    for _ in range(TESTS):
        one, two = dice.randrange(10**9), dice.randrange(10**9)
        tests.append({"stdin": f"{one} {two}\n", "expected_output": f"{one + two}\n"})
    document = {"language": "c", "code": _SOURCE, "tests": tests, "cache": cache}
    padding = BATCH_BYTES - len(msgspec.json.encode(document)) - 40
    document["code"] = f"{_SOURCE}/* {'x' * (padding - 6)} */"
    return msgspec.json.encode(document)[1:]


class Load:
    """Sends batches and takes their results."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._topics = (f"{prefix}.submissions", f"{prefix}.results")
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, linger_ms=0)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="latest", enable_auto_commit=False, fetch_max_wait_ms=10
        )
        self._sent: dict[str, float] = {}
        self._numbers = 0
        self._run = f"bench-{os.getpid()}-{time.time_ns() // 1000 % 10**9}"

    async def run(self) -> None:
        """Carry out orders until there are no more."""
        await self._producer.start()
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self._topics[1], number) for number in range(12)])
        await asyncio.gather(*(self._consumer.position(place) for place in self._consumer.assignment()))
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                order = msgspec.json.decode(line, type=Order)
                done = await asyncio.wait_for(self._carry_out(order), PATIENCE_S)
                print(msgspec.json.encode(done).decode(), flush=True)
        finally:
            await self._producer.stop()
            await self._consumer.stop()

    async def _carry_out(self, order: Order) -> Done:
        bodies = {number: make_batch(number, order.cache) for number in set(order.batches)}
        places = asyncio.Semaphore(order.at_once)
        taking = asyncio.create_task(self._take(len(order.batches), places))
        started = time.perf_counter()
        for number in order.batches:
            await places.acquire()
            await self._send(bodies[number])
            if order.at_once == 1:
                async with places:
                    await asyncio.sleep(PAUSE_S)
        latencies, sources, verdicts = await taking
        return Done(seconds=time.perf_counter() - started, latencies_s=latencies, sources=sources, verdicts=verdicts)

    async def _send(self, body: bytes) -> None:
        self._numbers += 1
        name = f"{self._run}-{self._numbers}"
        self._sent[name] = time.perf_counter()
        value = b'{"id":"' + name.encode() + b'",' + body
        await self._producer.send(self._topics[0], value, key=name.encode(), partition=HIGH[self._numbers % len(HIGH)])

    async def _take(self, count: int, places: asyncio.Semaphore) -> tuple[list[float], dict[str, int], dict[str, int]]:
        latencies: list[float] = []
        sources: dict[str, int] = {}
        verdicts: dict[str, int] = {}
        async for record in self._consumer:
            name = record.key.decode()
            if (sent := self._sent.pop(name, None)) is None:
                continue
            latencies.append(time.perf_counter() - sent)
            _count(record.value, sources, verdicts)
            places.release()
            if len(latencies) == count:
                break
        return latencies, sources, verdicts


class _Seen(msgspec.Struct, frozen=True):
    verdict: str | None
    source: str | None


_seen = msgspec.json.Decoder(_Seen)


def _count(value: bytes, sources: dict[str, int], verdicts: dict[str, int]) -> None:
    one = _seen.decode(value)
    for found, counted in ((one.source, sources), (one.verdict, verdicts)):
        counted[str(found)] = counted.get(str(found), 0) + 1


def main(arguments: list[str]) -> Any:
    """``KAFKA PREFIX``."""
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(*arguments))


async def _serve(bootstrap: str, prefix: str) -> None:
    await Load(bootstrap, prefix).run()


if __name__ == "__main__":
    main(sys.argv[1:])
