"""What must hold after every scenario, found out without evalx: from Kafka, by a reader and a sampler of their own.

A committed offset that was sampled is compared with what was on the topics *at that moment*: the ends of the results
and dead letter topics are asked for after the commit was read, so an answer beyond those ends was not there when the
offset was committed. How late the reader itself is does not matter.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError
from chaos_load import Ledger, Sent, Verdicts
from integration_stack import Published, Topics, admin_client

#: Seconds for a busy broker to tell of the topics that it has just created.
SETTLE_S = 60
#: Seconds between samples.
SAMPLE_INTERVAL_S = 0.1
#: Milliseconds for one question of the sampler; a broker that is stopped does not answer.
SAMPLE_TIMEOUT_MS = 10_000
#: Seconds for one sample, which is two questions and, for the first one, two connections.
SAMPLE_LIMIT_S = 30
#: Seconds until there must be a sample: the longest outage, 30 s, and one sample that was begun in it.
FRESH_LIMIT_S = 90


class GuaranteeBrokenError(AssertionError):
    """The product broke a promise: ``kind`` says which."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


def guarantee(holds: Any, kind: str, detail: object = "") -> None:
    """Raise unless it holds."""
    if not holds:
        raise GuaranteeBrokenError(kind, str(detail))


@dataclass(frozen=True)
class Sample:
    """What the broker said at one moment: committed offsets, then the ends of results and dead letters."""

    at: float
    committed: dict[int, int]
    ends: dict[TopicPartition, int]


class Recorder(Topics):
    """Reads results and dead letters, and notes when they came."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first_answer: dict[str, float] = {}
        #: The timestamp of each id's first result, in ms: the broker's, if the topic has `LogAppendTime`.
        self.first_stamp: dict[str, int] = {}
        self.last_arrival = time.monotonic()

    async def make(self) -> None:
        """Create the topics, as `evalx topics create` does, and wait until the broker tells of them."""
        names = (self.submissions, f"{self.prefix}.results", f"{self.prefix}.submissions.DLT")
        limits = {"max.message.bytes": str(16 << 20)}
        async with admin_client(self.services) as admin:
            await admin.create_topics([NewTopic(name, self.partitions, 1, topic_configs=limits) for name in names])
            async with asyncio.timeout(SETTLE_S):
                while any(one["error_code"] for one in await admin.describe_topics(list(names))):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    def answers(self, sent: Sent) -> list[tuple[TopicPartition, int]]:
        """Where on the topics the answers to a record are."""
        results = [] if sent.id is None else self.results.get(sent.id, [])
        letters = self.dead_letters_of(sent.partition, sent.offset) if not results else []
        places = [(TopicPartition(f"{self.prefix}.results", one.partition), one.offset) for one in results]
        dead = [(TopicPartition(f"{self.prefix}.submissions.DLT", one.partition), one.offset) for one in letters]
        return places + dead

    def unanswered(self, ledger: Ledger) -> list[Sent]:
        return [one for one in ledger.records if not self.is_answered(one)]

    def is_answered(self, sent: Sent) -> bool:
        return sent.id in self.results if sent.id is not None else bool(self.answers(sent))

    async def _keep(self, record: Any) -> None:
        await super()._keep(record)
        self.last_arrival = time.monotonic()
        if not record.topic.endswith(".DLT"):
            self.first_answer.setdefault((record.key or b"").decode(), self.last_arrival)
            self.first_stamp.setdefault((record.key or b"").decode(), record.timestamp)


class OffsetSampler:
    """Asks the broker ten times a second what is committed, and how far results and dead letters go."""

    def __init__(self, topics: Recorder) -> None:
        self._topics = topics
        self.samples: list[Sample] = []
        self._task: asyncio.Task[None] | None = None
        self._failed: Exception | None = None

    async def __aenter__(self) -> OffsetSampler:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def committed(self) -> dict[int, int]:
        return self.samples[-1].committed if self.samples else {}

    async def fresh(self) -> Sample:
        """A sample that was begun after this call."""
        asked = time.monotonic()
        while not self.samples or self.samples[-1].at < asked:
            assert self._task is not None
            assert not self._task.done(), self._task
            assert time.monotonic() < asked + FRESH_LIMIT_S, f"no sample in {FRESH_LIMIT_S} s, {self._failed!r}"
            await asyncio.sleep(SAMPLE_INTERVAL_S / 2)
        return self.samples[-1]

    async def _run(self) -> None:
        while True:
            try:
                await self._sample_until_error()
            except (KafkaError, OSError, TimeoutError) as error:
                # The broker is away, on purpose.
                self._failed = error
                await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def _sample_until_error(self) -> None:
        topics = self._topics
        names = (f"{topics.prefix}.results", f"{topics.prefix}.submissions.DLT")
        places = [TopicPartition(name, number) for name in names for number in range(topics.partitions)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=topics.services.kafka, enable_auto_commit=False, request_timeout_ms=SAMPLE_TIMEOUT_MS
        )
        try:
            await consumer.start()
            async with admin_client(topics.services) as admin:
                while True:
                    at = time.monotonic()
                    async with asyncio.timeout(SAMPLE_LIMIT_S):
                        offsets = await admin.list_consumer_group_offsets(f"{topics.prefix}-workers")
                        ends = await consumer.end_offsets(places)
                    committed = {p.partition: o.offset for p, o in offsets.items() if o.offset >= 0}
                    self.samples.append(Sample(at, committed, ends))
                    await asyncio.sleep(SAMPLE_INTERVAL_S)
        finally:
            await consumer.stop()


# --- what must hold


def nothing_lost(topics: Recorder, ledger: Ledger) -> None:
    missing = topics.unanswered(ledger)
    guarantee(not missing, "lost", f"{len(missing)} of {len(ledger.records)}: {missing[:3]}")


def verdicts_of(published: Published) -> Verdicts:
    document = published.document
    return document["status"], document["verdict"], tuple(test["verdict"] for test in document["tests"])


def one_verdict_set(topics: Recorder, ledger: Ledger) -> None:
    """Repeats are equal, and as the program deserves: a fault of ours never becomes a verdict."""
    for sent in ledger.records:
        if sent.expected is None or sent.id is None:
            continue
        found = {verdicts_of(one) for one in topics.results.get(sent.id, ())}
        error = [one.document["error"] for one in topics.results.get(sent.id, ())]
        guarantee(found == {sent.expected}, "wrong verdict", f"{sent.id}: {found}, not {sent.expected}; {error}")


def commits_never_pass(topics: Recorder, ledger: Ledger, samples: list[Sample]) -> None:
    """At no sample was an unfinished record below the committed offset, and none of them moved back."""
    before: dict[int, int] = defaultdict(int)
    for sample in samples:
        for partition, committed in sample.committed.items():
            passed = range(before[partition], committed)
            guarantee(
                committed >= before[partition],
                "committed offset moved back",
                f"partition {partition}: {before[partition]} -> {committed}",
            )
            before[partition] = committed
            for offset in passed:
                sent = ledger.by_place.get((partition, offset))
                if sent is not None and not any(o < sample.ends[tp] for tp, o in topics.answers(sent)):
                    raise GuaranteeBrokenError("committed past an unfinished record", f"{committed} over {sent}")


def everything_committed(ledger: Ledger, committed: dict[int, int]) -> bool:
    return all(committed.get(partition, 0) >= end for partition, end in ledger.ends.items())


def longest_standstill(topics: Recorder, ledger: Ledger) -> float:
    """Seconds that passed at most without a first answer while a record was owed one."""
    events = [(one.at, 1) for one in {one.id: one for one in reversed(ledger.records) if one.id}.values()]
    events += [(at, -1) for id_, at in topics.first_answer.items() if id_ in ledger.sends]
    owed, since, longest = 0, 0.0, 0.0
    for at, change in sorted(events):
        if owed > 0:
            longest = max(longest, at - since)
        if change < 0 or owed == 0:
            since = at
        owed += change
    return longest


def repeats(topics: Recorder, ledger: Ledger) -> int:
    """Results beyond one for each record."""
    return sum(max(0, len(topics.results.get(id_, ())) - count) for id_, count in ledger.sends.items())


def executions(topics: Recorder, id_: str) -> int:
    """How many of an id's results came of a run of its own."""
    return sum(one.document["source"] == "executed" for one in topics.results.get(id_, ()))


def judged_again(topics: Recorder, ids: set[str]) -> int:
    """Runs beyond the first, as far as they led to a result."""
    return sum(max(0, executions(topics, one) - 1) for one in ids)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
