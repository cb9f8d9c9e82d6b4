"""A worker stops at once whatever it is at, and ends by itself when it gets nowhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from integration_stack import Document, Services, Topics, Worker, admin_client, eventually, sandboxes, submission

#: Seconds within which a worker must have stopped.
STOP_LIMIT_S = 15.0
OpenTopics = Callable[..., Topics]


def nap(seconds: float) -> Document:
    tests = [{"stdin": f"{seconds}\n"}]
    return submission("python", "nap", tests=tests, limits={"wall_time_ms": 60_000}, cache="bypass")


async def check_nothing_left(worker: Worker) -> None:
    # The daemon answers that a removal is in progress, and then it takes a moment.
    await eventually(lambda: not sandboxes(owner=worker.name), "its containers are gone", 10)
    assert not list(worker.temp.iterdir()), "files of the worker are left"


async def listens(worker: Worker) -> None:
    await eventually(lambda: worker.health("/livez")[0] == 200, "it answers")


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.6, 1.2])
async def test_sigterm_while_it_starts(open_topics: OpenTopics, services: Services, delay_s: float):
    """Before it has containers, while they start, before it has partitions: it has nothing to lose yet."""
    async with open_topics(f"start{int(delay_s * 10)}") as topics:
        worker = topics.worker(redis_url=f"redis://127.0.0.1:{services.redis_port}/15")
        await listens(worker)
        await asyncio.sleep(delay_s)
        code, seconds = await worker.stop()
        assert (code, seconds < STOP_LIMIT_S) == (0, True), worker.log.read_text()
        await check_nothing_left(worker)


@pytest.mark.parametrize("delay_s", [0.5, 3.0])
async def test_sigterm_in_a_rebalance(open_topics: OpenTopics, services: Services, delay_s: float):
    """One that has work in flight is told to stop while the group deals its partitions anew."""
    async with open_topics(f"deal{int(delay_s * 10)}") as topics:
        redis = f"redis://127.0.0.1:{services.redis_port}/14"
        first = await topics.worker(redis_url=redis, container_pool_size=1).ready()
        ids = await topics.submit(*[nap(3) for _ in range(4)], *[nap(0.1) for _ in range(20)])
        await eventually(lambda: len(topics.results) >= 1, "it judges")
        second = topics.worker(redis_url=redis, container_pool_size=1)
        await listens(second)
        await asyncio.sleep(delay_s)
        code, seconds = await first.stop()
        assert (code, seconds < STOP_LIMIT_S) == (0, True), first.log.read_text()
        await check_nothing_left(first)
        results = await topics.wait_for(ids)
        assert {result["verdict"] for result in results.values()} == {"OK"}
        await second.ready()
        code, seconds = await second.stop()
        assert (code, seconds < STOP_LIMIT_S) == (0, True)
        ends = {partition: await topics.end(partition) for partition in range(12)}
        assert await topics.committed() == {partition: end for partition, end in ends.items() if end}


async def test_sigterm_repeats_nothing(open_topics: OpenTopics, services: Services):
    """What can end in time is published and committed, what has not begun is given back: none is published twice."""
    async with open_topics("norepeat") as topics:
        redis = f"redis://127.0.0.1:{services.redis_port}/13"
        worker = await topics.worker(redis_url=redis).ready()
        ids = await topics.submit(*[nap(0.02 * (number % 20)) for number in range(80)])
        for _ in range(3):
            await asyncio.sleep(1)
            code, seconds = await worker.stop()
            assert (code, seconds < STOP_LIMIT_S) == (0, True), worker.log.read_text()
            await check_nothing_left(worker)
            worker = await topics.worker(redis_url=redis).ready()
        await topics.wait_for(ids)
        assert (await worker.stop())[0] == 0
        repeated = {one: len(published) for one, published in topics.results.items() if len(published) > 1}
        assert not repeated


async def test_sigterm_with_kafka_away(open_topics: OpenTopics, services: Services):
    """No broker to leave, to commit to or to publish to: it ends all the same, and in time."""
    async with open_topics("gone") as topics:
        worker = await topics.worker(
            redis_url=f"redis://127.0.0.1:{services.redis_port}/12", container_pool_size=1
        ).ready()
        ids = await topics.submit(*[nap(1) for _ in range(4)])
        await eventually(lambda: b"evalx_in_flight 0.0" not in worker.health("/metrics")[1], "something is in flight")
        kafka = services.container("kafka")
        pause(kafka)
        try:
            code, seconds = await worker.stop()
        finally:
            pause(kafka, "unpause")
        assert (code, seconds < STOP_LIMIT_S) == (0, True), worker.log.read_text()
        await check_nothing_left(worker)
        second = await topics.worker(redis_url=services.next_redis(), container_pool_size=1).ready()
        assert {one["verdict"] for one in (await topics.wait_for(ids)).values()} == {"OK"}
        assert (await second.stop())[0] == 0


def pause(container: str, what: str = "pause") -> None:
    from integration_stack import docker

    docker(what, container)


async def test_a_standstill_ends_the_worker(open_topics: OpenTopics, services: Services):
    """Results cannot be published: the broker's committed offset stands still with work in flight. Without the watch
    the worker would stay as it is for ever; with it, a supervisor starts another one."""
    async with open_topics("standstill") as topics:
        settings = {"redis_url": services.next_redis(), "container_pool_size": 0, "standstill_grace_s": 4}
        worker = await topics.worker(**settings).ready()
        await topics.judge(submission())
        await limit_results(topics, 100)
        ids = await topics.submit(submission("python", "sum", limits={"wall_time_ms": 1000}))
        seen: set[tuple[int, str]] = set()

        def ended() -> bool:
            status, body = worker.health("/livez")
            if status:
                seen.add((status, json.loads(body)["reason"][:30]))
            return worker.process.poll() is not None

        await eventually(ended, "the worker has ended")
        assert worker.process.returncode == 1, worker.log.read_text()
        (stuck,) = worker.events("worker_stuck")
        assert "with work in flight" in stuck["reason"]
        assert "evalx: the worker is stuck: partition" in worker.log.read_text()
        assert (200, "") in seen
        await check_nothing_left(worker)

        await limit_results(topics, 1 << 20)
        second = await topics.worker(**settings).ready()
        assert (await topics.wait_for(ids))[ids[0]]["verdict"] == "AC"
        assert (await second.stop())[0] == 0


async def limit_results(topics: Topics, max_bytes: int) -> None:
    limit = {"max.message.bytes": str(max_bytes)}
    async with admin_client(topics.services) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"{topics.prefix}.results", limit)])


async def test_a_long_batch_and_a_stop_of_the_process_are_no_standstill(open_topics: OpenTopics, services: Services):
    """A batch may take what its limits allow, and a process that was stopped has seen nothing."""
    async with open_topics("patient") as topics:
        worker = await topics.worker(
            redis_url=services.next_redis(), container_pool_size=0, standstill_grace_s=2
        ).ready()
        (slow,) = await topics.submit(nap(8), partition=0)
        fast = await topics.submit(*[submission()] * 20, partition=0)
        await topics.wait_for([slow, *fast])
        os.kill(worker.process.pid, signal.SIGSTOP)
        more = await topics.submit(*[submission()] * 5, partition=0)
        await asyncio.sleep(5)
        os.kill(worker.process.pid, signal.SIGCONT)
        results: dict[str, Any] = await topics.wait_for(more)
        assert {one["verdict"] for one in results.values()} == {"AC"}
        assert not worker.events("worker_stuck")
        assert (await worker.stop())[0] == 0
