"""Records that cannot be judged, and records that come more than once."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter

import pytest
from chaos_load import Batch
from chaos_oracle import guarantee, judged_again, percentile
from chaos_scene import OpenScene, Scene, metric
from mutants import SHORT_LEASE_S
from test_services import configure

#: Bytes of the largest poison, which only a compressing producer gets onto the topic.
HUGE = 20 << 20


def poisons(scene: Scene) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Value and key by name. Each is refused for a reason of its own."""
    good = scene.load.batch(0.0).document
    unknown = json.dumps({**good, "id": "poison-language", "language": "intercal"})
    defect = json.dumps({**good, "id": "poison-defect", "metadata": {"cue": "provoke-a-defect"}})
    noise = os.urandom(1 << 18).hex().encode()
    return {
        "bad JSON": (b'{"id": "poison-json", ', b"poison-json"),
        "bad UTF-8": (b'{"id": "poison-utf8", "code": "\xff\xfe"}', b"poison-utf8"),
        "20 MB": (b'{"id": "poison-huge", "code": "' + noise + b" " * HUGE + b'"}', b"poison-huge"),
        "null value": (None, b"poison-null"),
        "no key": (b"[]", None),
        "unknown language": (unknown.encode(), b"poison-language"),
        "a defect of ours": (defect.encode(), b"poison-defect"),
    }


@pytest.mark.kills("swallowed-dead-letter")
async def test_poison(open_scene: OpenScene):
    """Exactly one dead letter each, with the bytes untouched, though the topic refuses some at first.

    Its limit is what an operator has set too low, so the first try of a large one fails. Kills the mutant
    `swallowed-dead-letter`: the large one is then nowhere.
    """
    async with open_scene("poison") as scene:
        scene.extra = ["--provoke-bug"]
        (worker,) = await scene.workers(1)
        # Twice, since what a quiet moment of the machine gives is no measure for the next.
        before = await latencies(scene)
        await configure(scene, "submissions.DLT", max_message_bytes=100_000)
        sent = {}
        rounds = scene.size.pick(1, 5)
        for _ in range(rounds):
            for name, (value, key) in poisons(scene).items():
                partition = scene.random.randrange(12)
                entry = await scene.load.send_raw(value, key=key, partition=partition)
                sent[entry.partition, entry.offset] = (name, value, key)
        during = await latencies(scene)
        await scene.answered()
        # Long enough for a second one to be seen.
        await asyncio.sleep(2)
        for (partition, offset), (name, value, key) in sent.items():
            letters = scene.topics.dead_letters_of(partition, offset)
            guarantee(len(letters) == 1, "dead letters", f"{name}: {len(letters)}")
            guarantee((letters[0].value, letters[0].key) == (value, key), "dead letter changed", name)
        codes = Counter(one.headers["evalx-error-code"].decode() for one in scene.topics.dead_letters)
        guarantee(sum(codes.values()) == len(sent), "dead letters", codes)
        idle, busy = percentile(before, 0.95), percentile(during, 0.95)
        scene.report(f"{dict(codes)}; neighbours' p95 {idle:.3f} -> {busy:.3f} s")
        guarantee(busy < 2 * idle + 0.5, "neighbours suffer", f"{idle:.3f} -> {busy:.3f} s")
        guarantee(worker.process.poll() is None, "a worker has ended")
        await scene.verify()


async def latencies(scene: Scene) -> list[float]:
    """Seconds from confirmation to answer of a steady trickle of ordinary batches."""
    batches = [scene.load.batch(0.05, tests=1) for _ in range(scene.size.pick(40, 200))]
    for batch in batches:
        await scene.load.send(batch, lane="normal")
        await asyncio.sleep(0.04)
    await scene.topics.wait_for([batch.id for batch in batches])
    sent = {one.id: one.at for one in scene.ledger.records}
    return [scene.topics.first_answer[batch.id] - sent[batch.id] for batch in batches]


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
