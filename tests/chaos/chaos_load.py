"""The load: real programs, heavy-tailed, each with the verdict that it must get; and a ledger of what Kafka has taken.

4 % of the batches take 20 to 60 times the median. Every batch has inputs of its own, so that none is answered from the
cache of another; what they print is computed here as well, so the verdicts are known without asking evalx.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from integration_stack import LANES, Document

PROGRAMS = Path(__file__).parent / "programs"
#: Seconds of sleep of an ordinary batch; 60 times this is below the moment that a rebalance grants (10 s).
MEDIAN_S = 0.05
TAIL_SHARE = 0.04
TAIL_FACTORS = (20, 60)
LONGEST_S = MEDIAN_S * TAIL_FACTORS[1]
MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407
CODE = {"c": (PROGRAMS / "work.c").read_text(), "python": (PROGRAMS / "work.py").read_text()}
#: Seconds until a record counts as not confirmed by the broker: the longest outage, 30 s, and as much again.
SEND_LIMIT_S = 60
#: Milliseconds; the longest batches of the suite sleep for 30 s.
WALL_LIMIT_MS = 120_000

Verdicts = tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """A submission and what must come of it."""

    document: Document
    expected: Verdicts

    @property
    def id(self) -> str:
        return str(self.document["id"])


@dataclass(frozen=True)
class Sent:
    """One record that the broker has confirmed."""

    id: str | None
    partition: int
    offset: int
    at: float
    expected: Verdicts | None
    #: Milliseconds since the epoch; the broker's, if the topic has `LogAppendTime`.
    stamp: int


@dataclass
class Ledger:
    """Every record that the broker has confirmed. What it did not confirm is not owed an answer."""

    records: list[Sent] = field(default_factory=list)
    by_place: dict[tuple[int, int], Sent] = field(default_factory=dict)
    #: Not confirmed, though perhaps taken.
    uncertain: int = 0

    def add(self, sent: Sent) -> None:
        self.records.append(sent)
        self.by_place[sent.partition, sent.offset] = sent

    @property
    def sends(self) -> Counter[str]:
        """How often each id was sent."""
        return Counter(one.id for one in self.records if one.id is not None)

    @property
    def ends(self) -> dict[int, int]:
        """The offset behind the last record of each partition."""
        ends: dict[int, int] = defaultdict(int)
        for one in self.records:
            ends[one.partition] = max(ends[one.partition], one.offset + 1)
        return dict(ends)


class Load:
    """Makes batches from a seed and sends them."""

    def __init__(self, prefix: str, seed: int, ledger: Ledger, partitions: int = 12) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        #: What programs are written in, the first one most of all.
        self.languages: tuple[str, ...] = ("c", "python")
        self._prefix = prefix
        self._partitions = partitions
        self._count = 0
        self._producer: AIOKafkaProducer

    async def start(self, bootstrap: str) -> None:
        # Idempotent: what the producer repeats by itself after an outage is in the ledger, and in the topic, once.
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=60_000,
            max_request_size=64 << 20,
            compression_type="gzip",
        )
        await self._producer.start()

    async def stop(self) -> None:
        # What is not confirmed by now is not waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_LIMIT_S):
                await self._producer.stop()

    def batch(self, seconds: float | None = None, *, tests: int | None = None) -> Batch:
        """A batch that takes so many seconds; without them, as the distribution has it."""
        draw = self.random
        self._count += 1
        if seconds is None:
            seconds = MEDIAN_S * draw.uniform(0.5, 1.5)
            if draw.random() < TAIL_SHARE:
                seconds = MEDIAN_S * draw.uniform(*TAIL_FACTORS)
        language = self.languages[0] if draw.random() < 0.9 else self.languages[-1]
        kind = draw.choices(("AC", "WA", "CE"), (90, 8, 2 if language == "c" else 0))[0]
        document = {
            "id": f"{self._prefix}-{self._count}",
            "language": language,
            "code": CODE[language] + ("}" if kind == "CE" else ""),
            "tests": [self._test(language, seconds) for _ in range(tests or draw.randint(1, 3))],
            "limits": {"wall_time_ms": WALL_LIMIT_MS},
        }
        if kind == "CE":
            return Batch(document, ("compile_error", "CE", ()))
        verdicts = ["AC"] * len(document["tests"])
        if kind == "WA":
            document["tests"][-1]["expected_output"] = "0 is not what it prints\n"
            verdicts[-1] = "WA"
        return Batch(document, ("judged", kind, tuple(verdicts)))

    def copy(self, batch: Batch) -> Batch:
        """The same batch under an id of its own."""
        self._count += 1
        return Batch({**batch.document, "id": f"{self._prefix}-{self._count}"}, batch.expected)

    async def send(self, *batches: Batch, partition: int | None = None, lane: str | None = None) -> None:
        """Send each as one record, and enter those that the broker confirms."""
        await asyncio.gather(*(self._send_one(batch, partition, lane) for batch in batches))

    async def send_raw(self, value: bytes | None, *, key: bytes | None, partition: int) -> Sent:
        """Send bytes as they are."""
        sent = await self._producer.send_and_wait(f"{self._prefix}.submissions", value, key=key, partition=partition)
        entry = Sent(None, partition, sent.offset, time.monotonic(), None, sent.timestamp)
        self.ledger.add(entry)
        return entry

    async def pour(self, rate: float, seconds: float, *, lanes: Iterable[str] = LANES) -> None:
        """Send at a steady rate for so long, whatever the broker does meanwhile; returns when all has been decided."""
        sending = []
        started = time.monotonic()
        names = list(lanes)
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            sending.append(asyncio.create_task(self._send_one(self.batch(), None, self.random.choice(names))))
        await asyncio.gather(*sending)

    async def _send_one(self, batch: Batch, partition: int | None, lane: str | None) -> None:
        if partition is None:
            choices = list(LANES[lane]) if lane and self._partitions == 12 else range(self._partitions)
            partition = self.random.choice(list(choices))
        value = json.dumps(batch.document).encode()
        try:
            # The producer repeats an idempotent record for ever.
            async with asyncio.timeout(SEND_LIMIT_S):
                sent = await self._producer.send_and_wait(
                    f"{self._prefix}.submissions", value, key=batch.id.encode(), partition=partition
                )
        except (KafkaError, TimeoutError):
            self.ledger.uncertain += 1
            return
        self.ledger.add(Sent(batch.id, partition, sent.offset, time.monotonic(), batch.expected, sent.timestamp))

    def _test(self, language: str, seconds: float) -> Document:
        state = seed = self.random.getrandbits(62)
        rounds = self.random.randint(1, 200)
        for _ in range(rounds):
            state = (state * MULTIPLIER + INCREMENT) % 2**64
        return {"stdin": f"{seconds:.4f} {rounds} {seed}\n", "expected_output": f"{state}\n"}
