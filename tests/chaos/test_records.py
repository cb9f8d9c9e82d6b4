"""Records that cannot be judged, and records that come more than once."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from typing import NamedTuple

import pytest
from aiokafka.codec import gzip_encode
from chaos_load import Batch
from chaos_oracle import guarantee, judged_again, percentile
from chaos_scene import OpenScene, Scene, metric
from mutants import SHORT_LEASE_S
from test_services import configure

#: Bytes of the largest poison, which only a compressing producer gets onto the topic.
HUGE = 20 << 20
#: Seconds that a latency may have on top: the fetch of 20 MB keeps the consumer's thread for 0.1 s on an idle machine.
ALLOWANCE_S = 0.25


class Poison(NamedTuple):
    """A record that is refused."""

    name: str
    value: bytes | None
    key: bytes | None


def poisons(scene: Scene) -> list[Poison]:
    """Each is refused for a reason of its own."""
    good = scene.load.batch(0.0).document
    unknown = json.dumps({**good, "id": "poison-language", "language": "intercal"})
    defect = json.dumps({**good, "id": "poison-defect", "metadata": {"cue": "provoke-a-defect"}})
    return [
        Poison("bad JSON", b'{"id": "poison-json", ', b"poison-json"),
        Poison("bad UTF-8", b'{"id": "poison-utf8", "code": "\xff\xfe"}', b"poison-utf8"),
        Poison("20 MB", b'{"id": "poison-huge", "code": "' + huge() + b'"}', b"poison-huge"),
        Poison("null value", None, b"poison-null"),
        Poison("no key", b"[]", None),
        Poison("unknown language", unknown.encode(), b"poison-language"),
        Poison("a defect of ours", defect.encode(), b"poison-defect"),
    ]


def huge() -> bytes:
    """Much work to compress, and little to read; no two are alike."""
    digits = bytes(b"0123"[number % 4] for number in range(256))
    return os.urandom(1 << 19).translate(digits) + b" " * HUGE


def seconds_to_compress(value: bytes) -> float:
    """CPU time of it on this machine, done as aiokafka does it."""
    began = time.thread_time()
    gzip_encode(value)
    return time.thread_time() - began


@pytest.mark.alone
@pytest.mark.kills("swallowed-dead-letter")
async def test_poison(open_scene: OpenScene):
    """Exactly one dead letter each, with the bytes untouched, though the topic refuses some at first.

    Its limit is what an operator has set too low, so the first try of a large one fails. Kills the mutant
    `swallowed-dead-letter`: the large one is then nowhere.
    """
    async with open_scene("poison") as scene:
        scene.extra = ["--provoke-bug", "--watch-loops"]
        (worker,) = await scene.workers(1)
        for topic in ("submissions", "results"):
            await configure(scene, topic, max_message_bytes=16 << 20, message_timestamp_type="LogAppendTime")
        sent: dict[tuple[int, int], Poison] = {}
        idle, busy = [], []
        stretches = len(worker.events("loop_was_busy"))
        # In turns, since what one moment of the machine gives is no measure for the next. What a poison costs it costs
        # in every round, what others do to the machine in some: so the best counts, and more are made before it fails.
        least, most = scene.size.pick((3, 9), (5, 15))
        while len(busy) < least or (len(busy) < most and min(busy) >= suffering_from(idle)):
            idle.append(percentile(await latencies(scene), 0.95))
            await configure(scene, "submissions.DLT", max_message_bytes=100_000)
            poisoned, during = await asyncio.gather(send_poisons(scene), latencies(scene))
            sent |= poisoned
            busy.append(percentile(during, 0.95))
        await scene.answered()
        # Long enough for a second one to be seen.
        await asyncio.sleep(2)
        for (partition, offset), poison in sent.items():
            letters = scene.topics.dead_letters_of(partition, offset)
            guarantee(len(letters) == 1, "dead letters", f"{poison.name}: {len(letters)}")
            guarantee(
                (letters[0].value, letters[0].key) == (poison.value, poison.key), "dead letter changed", poison.name
            )
        codes = Counter(one.headers["evalx-error-code"].decode() for one in scene.topics.dead_letters)
        guarantee(sum(codes.values()) == len(sent), "dead letters", codes)
        longest = max([one["cpu_s"] for one in worker.events("loop_was_busy")[stretches:]], default=0.0)
        scene.report(f"{dict(codes)}; neighbours' p95 {idle} -> {busy}; a loop was busy for {longest} s in one go")
        # To read 20 MB takes a tenth of the time that it takes to compress them, and is all that the loops may do.
        guarantee(longest < seconds_to_compress(huge()) / 2, "nothing else is done", f"for {longest} s of CPU time")
        guarantee(min(busy) < suffering_from(idle), "neighbours suffer", f"p95 {idle} -> {busy} s")
        guarantee(worker.process.poll() is None, "a worker has ended")
        await scene.verify()


def suffering_from(idle: list[float]) -> float:
    """Seconds of a neighbour's latency from which on it suffers; those of some idle rounds are given."""
    return 2 * statistics.median(idle) + ALLOWANCE_S


async def send_poisons(scene: Scene) -> dict[tuple[int, int], Poison]:
    """One of each; by partition and offset."""
    sent = {}
    for poison in poisons(scene):
        entry = await scene.load.send_raw(poison.value, key=poison.key, partition=scene.random.randrange(12))
        sent[entry.partition, entry.offset] = poison
    return sent


async def latencies(scene: Scene) -> list[float]:
    """Seconds of a steady trickle of ordinary batches, by the broker's clock, which does not care how busy we are."""
    batches = [scene.load.batch(0.05, tests=1) for _ in range(scene.size.pick(40, 200))]
    for batch in batches:
        await scene.load.send(batch, lane="normal")
        await asyncio.sleep(0.025)
    await scene.topics.wait_for([batch.id for batch in batches])
    sent = {one.id: one.stamp for one in scene.ledger.records}
    return [(scene.topics.first_stamp[batch.id] - sent[batch.id]) / 1000 for batch in batches]


async def test_everything_is_sent_twice(open_scene: OpenScene):
    """And one in a hundred five times; an id may be on two partitions, of two workers, at the same time."""
    async with open_scene("twice") as scene:
        workers = await scene.workers(2)
        runs_before = sum(metric(worker, "evalx_runs_total") for worker in workers)
        batches = [scene.load.batch() for _ in range(scene.size.pick(150, 2000))]
        for number, batch in enumerate(batches):
            copies = 5 if number % 100 == 0 else 2
            partitions = [scene.random.randrange(12) for _ in range(copies)]
            await asyncio.gather(*(scene.load.send(batch, partition=one) for one in partitions))
            await asyncio.sleep(0.03)
        await scene.answered()
        await scene.topics.wait_for([one.id for one in batches])
        again = judged_again(scene.topics, {one.id for one in batches})
        due = sum(runs_due(batch) for batch in batches)
        runs = sum(metric(worker, "evalx_runs_total") for worker in workers) - runs_before
        scene.report(f"{again} of {len(batches)} judged twice; {runs:.0f} runs of {due} tests")
        guarantee(again <= max(1, 0.005 * len(batches)), "judged twice", f"{again} of {len(batches)}")
        guarantee(runs <= 1.02 * due + 3, "judged twice", f"{runs:.0f} runs of {due} tests")
        await scene.verify()


def runs_due(batch: Batch) -> int:
    return 0 if batch.expected[0] == "compile_error" else len(batch.document["tests"])


@pytest.mark.kills("no-lease-renewal")
async def test_a_long_one_on_two_partitions(open_scene: OpenScene):
    """The same id with two workers, for longer than a lease lives: it is judged once.

    Kills the mutant `no-lease-renewal`: the lease ends while it is being judged, and the other worker judges it too.
    """
    async with open_scene("leased") as scene:
        workers = await scene.workers(2)
        scene.longest_s = 3 * scene.size.pick(SHORT_LEASE_S, 12.0)
        runs_before = sum(metric(worker, "evalx_runs_total") for worker in workers)
        long_one = scene.load.batch(scene.longest_s, tests=1)
        while long_one.expected[0] != "judged":
            long_one = scene.load.batch(scene.longest_s, tests=1)
        # On every partition of a lane, so that whoever holds which, both workers have it.
        await asyncio.gather(*(scene.load.send(long_one, partition=partition) for partition in range(4)))
        await scene.answered()
        await scene.topics.result(long_one.id, count=4)
        runs = sum(metric(worker, "evalx_runs_total") for worker in workers) - runs_before
        lost = sum(metric(worker, "evalx_leases_total") for worker in workers)
        scene.report(f"{runs:.0f} runs of one test in {scene.longest_s:.0f} s; {lost:.0f} events of leases")
        guarantee(runs == 1, "judged twice", f"{runs:.0f} runs")
        await scene.verify()
