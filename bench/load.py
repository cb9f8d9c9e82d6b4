"""The load of the benches, in a process of its own, so that the worker's CPU time is the worker's.

Reads orders from stdin, one JSON object a line, and answers each with one on stdout; ``bench.driver`` is the other end.
An order names the batches to send, and how: one after another, or as fast as the topics take them with so many in
progress, and whether their results are awaited. Those that are not are a backlog, before which others can be sent.

The client is librdkafka: it shares the machine with the worker, and in Python it takes nearly as much time as that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections import deque
from typing import Literal

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from bench import workload
from evalx.languages import Registry

#: Bytes of a batch, as the figures are asked for, and those of its source, which a comment fills up; the rest is tests.
BATCH_BYTES = 5000
SOURCE_BYTES = 2080
TESTS = 20
#: Partitions of each topic, and those of the high lane.
PARTITIONS = 12
HIGH = range(4)
#: Seconds without any result after which an order has failed.
PATIENCE_S = 300.0
#: Seconds for the partitions of topics that were made a moment ago to have a leader: usually less than one, more where
#: the broker is busy.
LEADER_S = 60.0
#: Seconds between two batches that are sent one after another: idle means that nothing is left of the last one.
PAUSE_S = 0.01
#: Seconds to wait for a result before others may be sent, and results taken at a time.
POLL_S = 0.05
TAKE = 500
#: KiB that wait to be sent, and seconds to wait when they are that many: a backlog must not need memory for all of it.
QUEUE_KIB = 128 * 1024
FULL_S = 0.1
#: Bytes of results (three usual ones), and milliseconds, that the broker may gather for who takes them in bulk, as for
#: a store. Otherwise each is delivered by itself, as to a page that somebody watches.
GATHER_BYTES = 16 << 10
GATHER_MS = 50
#: As the topics take them.
MESSAGE_BYTES = 16 << 20

#: How results are taken.
SINGLE, BULK = "single", "bulk"

#: How a comment of one line begins, by language.
_COMMENTS = {"python": "#"}
_LIMITS = {"cpu_time_ms": 10_000, "wall_time_ms": 60_000}


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One batch: its inputs come of ``seed``, and ``variant`` makes the source another one, with the same output.

    ``output_bytes``: the program is another one, in C, and each of its tests writes so much.
    """

    seed: int
    language: str = "c"
    variant: int = 0
    tests: int = TESTS
    output_bytes: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Batches to send, to ``partitions`` in turn.

    ``at_once``: how many may be in progress; 1 = one after another, with a pause. ``wait``: for the results of these
    batches, for none, or also for those that were sent before without waiting.
    """

    batches: list[Batch]
    at_once: int
    partitions: list[int] = msgspec.field(default_factory=lambda: list(HIGH))
    cache: Literal["use", "refresh", "bypass"] = "use"
    wait: Literal["own", "none", "all"] = "own"


class Done(msgspec.Struct, kw_only=True):
    """What came of an order: seconds from the first send to the last result, and each one's latency.

    ``sources`` and ``verdicts`` are of all results that came meanwhile; ``left`` are in the backlog still.
    """

    seconds: float = 0.0
    latencies_s: list[float] = []
    sources: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    left: int = 0


def make_batch(batch: Batch, cache: str) -> bytes:
    """The batch without an id and the brace before it."""
    language = workload.resolve(_registry(), batch.language)
    if batch.output_bytes:
        source = workload.source(language, workload.WRITER)
        made = workload.make_outputs(batch.tests, batch.seed, batch.output_bytes)
    else:
        source, made = workload.source(language), workload.make_tests(batch.tests, batch.seed)
    code = f"{source}\n{_COMMENTS.get(language.name, '//')} {batch.variant} "
    # Of the same length for all inputs, or each batch would have a source of its own.
    code += "x" * (SOURCE_BYTES - len(code))
    document = {
        "language": language.name,
        "version": language.version,
        "code": code,
        "tests": [{"stdin": test.stdin, "expected_output": test.expected_output} for test in made],
        "limits": _LIMITS,
        "cache": cache,
    }
    return msgspec.json.encode(document)[1:]


@functools.cache
def _registry() -> Registry:
    return Registry.load()


class Load:
    """Sends batches and takes their results."""

    def __init__(self, bootstrap: str, prefix: str, taking: str) -> None:
        self._topics = (f"{prefix}.submissions", f"{prefix}.results")
        common = {"bootstrap.servers": bootstrap, "socket.nagle.disable": True}
        sending = {"queue.buffering.max.kbytes": QUEUE_KIB, "message.max.bytes": MESSAGE_BYTES}
        self._producer = Producer({**common, **sending, "acks": 1, "linger.ms": 0})
        # It belongs to no group, but the library wants a name for one.
        gathers = {"fetch.min.bytes": GATHER_BYTES, "fetch.wait.max.ms": GATHER_MS} if taking == BULK else {}
        self._consumer = Consumer({**common, **gathers, "group.id": f"{prefix}-load", "enable.auto.commit": False})
        self._sent: dict[str, float] = {}
        self._behind: set[str] = set()
        self._numbers = 0
        self._run = f"bench-{os.getpid()}-{time.time_ns() // 1000 % 10**9}"

    def run(self) -> None:
        """Carry out orders until there are no more."""
        self._read_from_the_end()
        try:
            for line in sys.stdin:
                done = self._carry_out(msgspec.json.decode(line, type=Order))
                print(msgspec.json.encode(done).decode(), flush=True)
        finally:
            # A result may be there before the broker has said that it took the batch.
            self._producer.flush(POLL_S)
            self._consumer.close()

    def _read_from_the_end(self) -> None:
        places = [TopicPartition(self._topics[1], number) for number in range(PARTITIONS)]
        deadline = time.monotonic() + LEADER_S
        for place in places:
            place.offset = self._end_of(place, deadline)
        self._consumer.assign(places)

    def _end_of(self, place: TopicPartition, deadline: float) -> int:
        """Where a partition ends; asks again until then, since a new one may not have a leader yet."""
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(place, timeout=PATIENCE_S)[1])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    def _carry_out(self, order: Order) -> Done:
        bodies = {batch: make_batch(batch, order.cache) for batch in set(order.batches)}
        done = Done()
        started = time.perf_counter()
        if order.wait == "none":
            for batch in order.batches:
                self._behind.add(self._send(bodies[batch], order.partitions))
            self._producer.flush(PATIENCE_S)
        else:
            self._send_and_take(order, bodies, done)
        done.seconds = time.perf_counter() - started
        done.left = len(self._behind)
        return done

    def _send_and_take(self, order: Order, bodies: dict[Batch, bytes], done: Done) -> None:
        waiting, last = deque(order.batches), time.perf_counter()
        while waiting or self._sent or (order.wait == "all" and self._behind):
            while waiting and len(self._sent) < order.at_once:
                name = self._send(bodies[waiting.popleft()], order.partitions)
                self._sent[name] = time.perf_counter()
            if self._take(done):
                last = time.perf_counter()
            elif time.perf_counter() > last + PATIENCE_S:
                missing = len(self._sent) + len(self._behind)
                raise TimeoutError(f"{missing} results are missing, and none has come for {PATIENCE_S:.0f} s")
            if order.at_once == 1 and not self._sent:
                time.sleep(PAUSE_S)

    def _send(self, body: bytes, partitions: list[int]) -> str:
        self._numbers += 1
        name = f"{self._run}-{self._numbers}"
        value = b'{"id":"' + name.encode() + b'",' + body
        place = partitions[self._numbers % len(partitions)]
        while True:
            try:
                self._producer.produce(self._topics[0], value, name, partition=place)
            except BufferError:
                self._producer.poll(FULL_S)
            else:
                return name

    def _take(self, done: Done) -> int:
        """Wait for one result at most, and take with it all that have come; how many."""
        self._producer.poll(0)
        first = self._consumer.poll(POLL_S)
        records = [first, *self._consumer.consume(TAKE, 0)] if first is not None else []
        for record in records:
            if (error := record.error()) is not None:
                raise KafkaException(error)
            name, value = (record.key() or b"").decode(), record.value() or b""
            if (sent := self._sent.pop(name, None)) is not None:
                done.latencies_s.append(time.perf_counter() - sent)
            elif name in self._behind:
                self._behind.remove(name)
            else:
                continue
            _count(value, done)
        return len(records)


class _Seen(msgspec.Struct, frozen=True):
    verdict: str | None
    source: str | None


_seen = msgspec.json.Decoder(_Seen)


def _count(value: bytes, done: Done) -> None:
    one = _seen.decode(value)
    for found, counted in ((one.source, done.sources), (one.verdict, done.verdicts)):
        counted[str(found)] = counted.get(str(found), 0) + 1


def main(arguments: list[str]) -> None:
    """``KAFKA PREFIX single|bulk``."""
    with contextlib.suppress(KeyboardInterrupt):
        Load(*arguments).run()


if __name__ == "__main__":
    main(sys.argv[1:])
