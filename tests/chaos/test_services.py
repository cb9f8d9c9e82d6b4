"""Kafka, Redis and the topics go away, stand still or refuse; each scenario that breaks one has its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from chaos_load import Batch
from chaos_oracle import guarantee
from chaos_scene import BUSY_MACHINE_S, OpenScene, Scene, metric, resident_bytes, service_signal, service_start
from integration_stack import Services, admin_client, docker, eventually
from test_crashes import partition_of

#: Seconds within which a worker consumes again when Kafka is back.
CONSUMING_AGAIN_S = 30.0
#: Bytes by which a worker may grow while it cannot publish: its buffers are bounded, and the allocator keeps some.
GROWTH_BYTES = 128 << 20
#: What a worker may hold back in the scenarios of back pressure; small, so that little load fills it.
SMALL_BUFFER = 20
#: Records that fill it in each lane; and seconds after which the consumer asks for no more. Its calls take one at most.
FIRST_PART, FETCH_S = 200, 1.5


async def kill_and_restart(services: Services, name: str, down_s: float) -> None:
    await asyncio.to_thread(service_signal, services, name, "KILL")
    await asyncio.sleep(down_s)
    await asyncio.to_thread(service_start, services, name)


async def freeze(services: Services, name: str, for_s: float) -> None:
    await asyncio.to_thread(service_signal, services, name, "STOP")
    try:
        await asyncio.sleep(for_s)
    finally:
        await asyncio.to_thread(service_signal, services, name, "CONT")


Break = Callable[[Services, str, float], Awaitable[None]]


@pytest.mark.parametrize(
    ("breakage", "short", "long"), [(kill_and_restart, (5,), (5, 30)), (freeze, (8,), (20,))], ids=["killed", "frozen"]
)
async def test_kafka_goes_away(open_scene: OpenScene, breakage: Break, short: tuple[int, ...], long: tuple[int, ...]):
    """It is killed and comes back on its data, or stands still; then consuming goes on, and memory was bounded."""
    async with open_scene(f"kafka-{breakage.__name__}", own_kafka=True) as scene:
        workers = await scene.workers(2)
        before = {worker: resident_bytes(worker) for worker in workers}
        for down_s in scene.size.pick(short, long):
            await break_kafka(scene, breakage, down_s)
            for worker in workers:
                grown = resident_bytes(worker) - before[worker]
                guarantee(grown < GROWTH_BYTES, "memory grows", f"{worker.name}: {grown >> 20} MiB")
        await scene.answered()
        guarantee(all(worker.process.poll() is None for worker in workers), "a worker has ended")
        await scene.verify()


async def break_kafka(scene: Scene, breakage: Break, down_s: float) -> None:
    """With a load from before until after; returns when results have come again and the load has been sent."""
    pouring = asyncio.create_task(scene.load.pour(12, down_s + 8))
    await asyncio.sleep(3)
    broken_at = time.monotonic()
    await breakage(scene.services, "kafka", down_s)
    back_at = time.monotonic()
    scene.outage_s = max(scene.outage_s, back_at - broken_at + CONSUMING_AGAIN_S)
    limit = CONSUMING_AGAIN_S + scene.longest_s + BUSY_MACHINE_S
    try:
        await eventually(lambda: scene.topics.last_arrival > back_at, "results come again", limit)
    except AssertionError:
        guarantee(False, "not consuming again", f"no result in {limit:.0f} s after Kafka's return")
    scene.report(f"a result {scene.topics.last_arrival - back_at:.1f} s after Kafka's return")
    await pouring


async def flush(services: Services, name: str, for_s: float) -> None:
    for _ in range(3):
        await asyncio.to_thread(docker, "exec", services.container(name), "redis-cli", "flushall")
        await asyncio.sleep(for_s / 3)


@pytest.mark.parametrize(
    ("breakage", "short_s", "long_s"),
    [(kill_and_restart, 5, 30), (freeze, 5, 15), (flush, 3, 9)],
    ids=["killed", "frozen", "flushed"],
)
async def test_redis_goes_away(open_scene: OpenScene, breakage: Break, short_s: float, long_s: float):
    """It is killed without saving, stands still, or forgets everything: judging goes on, and the metric says so.

    A worker answers from its own memory meanwhile what it has judged before; and what is judged after Redis's return is
    known to all workers again, whatever Redis has forgotten.
    """
    name = f"redis-{breakage.__name__}"
    async with open_scene(name, own_redis=True) as scene:
        down_s = scene.size.pick(short_s, long_s)
        workers = await scene.workers(2, redis_timeout_ms=200)
        places = [await partition_of(scene, worker) for worker in workers]
        known = accepted(scene)
        await known_at(scene, known, places[0])
        pouring = asyncio.create_task(scene.load.pour(12, down_s + 4))
        await asyncio.sleep(2)
        answered = len(scene.topics.first_answer)
        breaking = asyncio.create_task(breakage(scene.services, name, down_s))
        if breakage is not flush:
            await eventually(
                lambda: all(metric(worker, "evalx_redis_available") == 0 for worker in workers),
                "every worker says that Redis is away",
                down_s,
            )
        await known_at(scene, known, places[0])
        await breaking
        during = len(scene.topics.first_answer) - answered
        scene.report(f"{during} answers while Redis was away for {down_s} s")
        guarantee(during > 0, "judging stopped", "no answer while Redis was away")
        await pouring
        await scene.answered()
        guarantee(all(worker.process.poll() is None for worker in workers), "a worker has ended")
        await eventually(
            lambda: all(metric(worker, "evalx_redis_available") == 1 for worker in workers) or breakage is flush,
            "Redis is back in use",
        )
        fresh = accepted(scene)
        for place in places:
            await known_at(scene, fresh, place)
        await scene.verify()


def accepted(scene: Scene) -> Batch:
    """A short batch that compiles and is right."""
    while (batch := scene.load.batch(0.05)).expected[1] != "AC":
        pass
    return batch


async def known_at(scene: Scene, batch: Batch, place: int) -> None:
    """Send the batch under new ids to this partition until it is answered without a run."""

    async def known() -> bool:
        again = scene.load.copy(batch)
        await scene.load.send(again, partition=place)
        return bool((await scene.topics.result(again.id))["source"] == "result_cache")

    await eventually(known, f"{batch.id} is known to whoever holds partition {place}")


async def configure(scene: Scene, topic: str, **settings: object) -> None:
    """Set these settings of a topic, and no others."""
    values = {name.replace("_", "."): str(value) for name, value in settings.items()}
    async with admin_client(scene.services) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"{scene.topics.prefix}.{topic}", values)])


@pytest.mark.kills("ack-before-publish", "pause-partitions")
async def test_results_cannot_be_written(open_scene: OpenScene):
    """Every write to the results topic is refused for a while, with more waiting than a worker may hold.

    Kills the mutant `ack-before-publish`: offsets are committed whose results are nowhere. Kills `pause-partitions`:
    what was fetched for a paused partition is dropped and never judged.
    """
    async with open_scene("unwritable") as scene:
        refused_s, waiting = scene.size.pick((8, 600), (20, 3000))
        (worker,) = await scene.workers(1, buffer_max_count=SMALL_BUFFER)
        before = resident_bytes(worker)
        await configure(scene, "results", max_message_bytes=100)
        scene.outage_s = refused_s + 20
        lane = [4, 5, 6, 7, 8]
        batches = [scene.load.batch(0.01, tests=1) for _ in range(waiting)]
        first, rest = batches[:FIRST_PART], batches[FIRST_PART:]
        await asyncio.gather(*(scene.load.send(one, partition=lane[n % 5]) for n, one in enumerate(first)))
        await eventually(lambda: metric(worker, "evalx_lane_waiting") >= SMALL_BUFFER, "they wait in the worker")
        # What was asked for before the partitions were held back still arrives, in one fetch, however much it is.
        await asyncio.sleep(FETCH_S)
        await asyncio.gather(*(scene.load.send(one, partition=lane[n % 5]) for n, one in enumerate(rest)))
        await asyncio.sleep(refused_s)
        held = metric(worker, "evalx_lane_waiting")
        grown = resident_bytes(worker) - before
        # The broker says yes to a new setting before each partition heeds it, so a few results may still be taken. Of
        # each sample, also of those from now, `verify` knows whether all that was committed had its result by then.
        sample = await scene.sampler.fresh()
        written = sum(end for place, end in sample.ends.items() if place.topic == f"{scene.topics.prefix}.results")
        await configure(scene, "results", max_message_bytes=16 << 20)
        scene.report(f"{held:.0f} of {waiting} waited in the worker, which grew by {grown >> 20} MiB")
        guarantee(held < waiting / 2, "no back pressure", f"{held:.0f} of {waiting} are in the worker")
        guarantee(written < FIRST_PART, "the broker went on taking results", written)
        guarantee(grown < GROWTH_BYTES, "memory grows", f"{grown >> 20} MiB")
        await scene.answered()
        await scene.verify()


@pytest.mark.kills("pause-partitions")
async def test_results_are_slow(open_scene: OpenScene):
    """The broker runs a quarter of the time: results trickle out, and the worker holds Kafka back again and again.

    Kills the mutant `pause-partitions`: what was fetched for a paused partition is dropped and never judged.
    """
    async with open_scene("slow", own_kafka=True) as scene:
        rounds, waiting = scene.size.pick((6, 400), (30, 2000))
        (worker,) = await scene.workers(1, buffer_max_count=SMALL_BUFFER)
        before = resident_bytes(worker)
        batches = [scene.load.batch(0.01, tests=1) for _ in range(waiting)]
        await scene.load.send(*batches, lane="normal")
        for _ in range(rounds):
            await freeze(scene.services, "kafka", 0.6)
            await asyncio.sleep(0.2)
        scene.outage_s = rounds * 0.8
        await scene.answered()
        grown = resident_bytes(worker) - before
        guarantee(grown < GROWTH_BYTES, "memory grows", f"{grown >> 20} MiB")
        await scene.verify()
