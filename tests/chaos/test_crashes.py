"""Workers that are killed, stopped, frozen, or come and go."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time

import pytest
from chaos_oracle import guarantee, judged_again, percentile, repeats
from chaos_scene import BUSY_MACHINE_S, CONCURRENCY, OpenScene, Scene, stop
from integration_stack import Worker, eventually

WORKERS = 3


async def test_sigkill_in_load(open_scene: OpenScene):
    """SIGKILL a worker of three, again and again."""
    async with open_scene("sigkill") as scene:
        await scene.workers(WORKERS)
        kills = scene.size.pick(2, 20)
        gap_s = scene.size.session_s + 3
        pouring = asyncio.create_task(scene.load.pour(12, kills * gap_s))
        uncommitted = 0
        for _ in range(kills):
            await asyncio.sleep(3)
            victim = scene.random.choice([one for one in scene.fleet if one.process.poll() is None])
            uncommitted += await answered_and_uncommitted(scene)
            victim.kill()
            await asyncio.gather(scene.orphans_gone(victim), partitions_move_again(scene))
            scene.spawn()
        await pouring
        await scene.answered()
        again = repeats(scene.topics, scene.ledger)
        # Every kill is two rebalances, and each of them may cut off whatever any worker has in progress.
        bound = 2 * (uncommitted + kills * WORKERS * CONCURRENCY)
        scene.report(f"{kills} kills, {again} repeated results, at most {bound}")
        guarantee(again <= bound, "repeats", f"{again} > {bound}")
        await scene.verify()


async def answered_and_uncommitted(scene: Scene) -> int:
    """Records whose answers wait for the commit of an earlier one."""
    sample = await scene.sampler.fresh()
    return sum(
        scene.topics.is_answered(one) and one.offset >= sample.committed.get(one.partition, 0)
        for one in scene.ledger.records
    )


async def partitions_move_again(scene: Scene) -> None:
    """Every partition that has something to do commits something within session timeout + 5 s."""
    before = (await scene.sampler.fresh()).committed
    pending = {p: e for p, e in scene.ledger.ends.items() if e > before.get(p, 0)}

    def moved() -> bool:
        return all(scene.sampler.committed.get(p, 0) > before.get(p, 0) for p in pending)

    limit = scene.size.session_s + 5 + scene.longest_s + BUSY_MACHINE_S
    try:
        await eventually(moved, "partitions move", limit)
    except AssertionError:
        guarantee(False, "partitions stand still", f"{before} -> {scene.sampler.committed} in {limit:.0f} s")


async def test_sigterm_in_load(open_scene: OpenScene):
    """A graceful stop repeats nothing, and ends with 0 in time."""
    async with open_scene("sigterm") as scene:
        await scene.workers(WORKERS)
        stops = scene.size.pick(2, 20)
        pouring = asyncio.create_task(scene.load.pour(12, stops * 5))
        for _ in range(stops):
            await asyncio.sleep(2)
            leaving = scene.random.choice([one for one in scene.fleet if one.process.poll() is None])
            await stop(leaving)
            await scene.spawn().ready()
        await pouring
        await scene.answered()
        again = repeats(scene.topics, scene.ledger)
        scene.report(f"{stops} stops, {again} repeated results")
        guarantee(again == 0, "repeats", again)
        await scene.verify()


@pytest.mark.kills("plain-concurrency", "claim-is-done")
async def test_kill_behind_a_slow_head(open_scene: OpenScene):
    """One long batch at the head of a partition, fast ones behind it, a kill while it runs.

    Kills the mutant `plain-concurrency`: the fast ones are committed and the slow one below them with them, so it is
    never judged. Kills `claim-is-done`: the slow one was claimed by the worker that died, and nobody judges it again.
    """
    async with open_scene("head") as scene:
        head_s, fast, kill_after_s = scene.size.pick((10, 80, 5), (30, 500, 15))
        scene.longest_s = head_s
        first, *_ = await scene.workers(2)
        partition = await partition_of(scene, first)
        await scene.load.send(scene.load.batch(head_s, tests=1), partition=partition)
        sent_at = time.monotonic()
        behind = [scene.load.batch(0.02) for _ in range(fast)]
        await scene.load.send(*behind, partition=partition)
        ids = {one.id for one in behind}
        await asyncio.sleep(kill_after_s)
        # A machine that does other things as well gets the time that the head leaves.
        while len(ids & scene.topics.results.keys()) <= fast / 2 and first.process.poll() is None:
            guarantee(time.monotonic() < sent_at + 0.9 * head_s, "the head keeps the others back", "half of them")
            await asyncio.sleep(0.1)
        done = ids & scene.topics.results.keys()
        first.kill()
        await scene.answered()
        await asyncio.sleep(1)
        again = judged_again(scene.topics, ids)
        scene.report(f"{len(done)} of {fast} were answered before the kill, {again} judged again")
        guarantee(again <= max(1, fast // 100), "judged again", f"{again} of {fast}")
        await scene.verify()


async def partition_of(scene: Scene, worker: Worker) -> int:
    """A partition that the worker holds: one whose last result it has given."""
    for partition in range(scene.topics.partitions):
        probe = scene.load.batch(0.0)
        await scene.load.send(probe, partition=partition)
        if (await scene.topics.result(probe.id))["worker"] == worker.name:
            return partition
    raise AssertionError(f"{worker.name} holds no partition")


async def test_a_frozen_worker_wakes_up(open_scene: OpenScene):
    """SIGSTOP for longer than the session lasts, then SIGCONT: its late results change nothing."""
    async with open_scene("frozen") as scene:
        workers = await scene.workers(2)
        frozen_s = scene.size.session_s + scene.size.pick(4, 10)
        pouring = asyncio.create_task(scene.load.pour(12, frozen_s + 6))
        await asyncio.sleep(2)
        workers[0].process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(frozen_s)
        workers[0].process.send_signal(signal.SIGCONT)
        await pouring
        await scene.answered()
        if workers[0].process.poll() is not None:
            scene.report(f"the frozen worker ended with {workers[0].process.returncode}")
        await scene.verify()


@pytest.mark.parametrize("partitions", [12, 3])
async def test_members_come_and_go(open_scene: OpenScene, partitions: int):
    """A storm of joins and leaves, also with more members than partitions."""
    async with open_scene(f"storm{partitions}", partitions=partitions) as scene:
        least, most = 4, scene.size.pick(5, 8)
        storm_s = scene.size.pick(10, 60)
        # One that has no partition is not ready, so the first ones have one each.
        await scene.workers(min(least, partitions))
        pouring = asyncio.create_task(scene.load.pour(10, storm_s + 3))
        began = time.monotonic()
        leaving: dict[Worker, asyncio.Task[None]] = {}
        while time.monotonic() < began + storm_s:
            await asyncio.sleep(scene.random.uniform(1, 3))
            living = [one for one in scene.fleet if one.process.poll() is None and one not in leaving]
            if len(living) >= most or (len(living) > least and scene.random.random() < 0.5):
                gone = scene.random.choice(living)
                leaving[gone] = asyncio.create_task(stop(gone))
            else:
                scene.spawn()
        await pouring
        await asyncio.gather(*leaving.values())
        await scene.answered()
        ids = {one.id for one in scene.ledger.records if one.id is not None}
        again, gaps = judged_again(scene.topics, ids), widest_gap(scene, began, began + storm_s)
        scene.report(f"{len(scene.fleet)} members in all, {again} of {len(ids)} judged again, widest gap {gaps:.1f} s")
        guarantee(again <= 0.25 * len(ids), "judged again", f"{again} of {len(ids)}")
        guarantee(gaps <= 15 + BUSY_MACHINE_S, "no output", f"{gaps:.1f} s")
        await scene.verify()


@pytest.mark.kills("no-continuity")
async def test_a_consumer_that_drops_records(open_scene: OpenScene):
    """One in ten of the records that were fetched never arrives, in the middle and at the end of partitions.

    Kills the mutant `no-continuity`: what was dropped is committed past by the next record, or never judged.
    """
    async with open_scene("dropped") as scene:
        scene.extra = ["--drop-records"]
        worker, _ = await scene.workers(2)
        await scene.load.pour(20, scene.size.pick(4, 60))
        await scene.answered()
        guarantee(worker.events("records_dropped_by_the_consumer"), "nothing was dropped")
        await scene.verify()


def widest_gap(scene: Scene, begin: float, end: float) -> float:
    """Seconds without any first answer, at most."""
    times = sorted([begin, *(at for at in scene.topics.first_answer.values() if begin <= at <= end), end])
    return max(after - before for before, after in itertools.pairwise(times))


@pytest.mark.alone
async def test_the_high_lane_overtakes_a_backlog(open_scene: OpenScene):
    """Thousands of low ones are queued, and high ones arrive one by one."""
    async with open_scene("overtake") as scene:
        low, high = scene.size.pick((400, 40), (5000, 100))
        await scene.workers(1)
        idle = await trickle(scene, high)
        backlog = [scene.load.batch(0.05, tests=1) for _ in range(low)]
        await scene.load.send(*backlog, lane="low")
        await asyncio.sleep(1)
        before = sum(one.id in scene.topics.results for one in backlog)
        busy = await trickle(scene, high)
        done = sum(one.id in scene.topics.results for one in backlog) - before
        p95_idle, p95_busy = percentile(idle, 0.95), percentile(busy, 0.95)
        share = done / (done + high)
        scene.report(f"high p95 {p95_idle:.3f} s idle, {p95_busy:.3f} s with {low} low ones; low got {share:.0%}")
        # One median batch, and what a machine adds that does other things as well.
        guarantee(p95_busy <= 1.5 * p95_idle + 0.1 + 0.5, "the high lane waits", f"{p95_idle:.3f} -> {p95_busy:.3f} s")
        guarantee(share >= 0.1, "the low lane starves", f"{share:.0%}")
        await scene.verify()


async def trickle(scene: Scene, count: int) -> list[float]:
    """Send high ones, one every 50 ms, and return how long each took from the confirmation to its answer."""
    batches = [scene.load.batch(0.05, tests=1) for _ in range(count)]
    for batch in batches:
        await scene.load.send(batch, lane="high")
        await asyncio.sleep(0.05)
    await scene.topics.wait_for([batch.id for batch in batches])
    sent = {one.id: one.at for one in scene.ledger.records}
    return [scene.topics.first_answer[batch.id] - sent[batch.id] for batch in batches]
