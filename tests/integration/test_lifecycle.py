"""Workers that stop, die, come and go, and services that go away: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from integration_stack import (
    LANES,
    Document,
    Services,
    Topics,
    Worker,
    admin_client,
    create_topic,
    docker,
    eventually,
    sandboxes,
    submission,
)

#: Seconds within which a worker must have stopped.
STOP_LIMIT_S = 15.0
OpenTopics = Callable[..., Topics]


def nap(seconds: float, **fields: Any) -> Document:
    """A submission that takes this long and hardly any CPU, never from the cache."""
    limits = {"wall_time_ms": 60_000}
    tests = [{"stdin": f"{seconds}\n"}]
    return submission("python", "nap", tests=tests, limits=limits, cache="bypass", **fields)


async def some_results(topics: Topics, ids: list[str], count: int) -> None:
    await eventually(lambda: sum(one in topics.results for one in ids) >= count, f"{count} results")


# --- SIGTERM


async def test_sigterm_in_load(open_topics: OpenTopics, services: Services):
    """What can end in time is finished, the rest is given back, and another worker judges it."""
    redis = services.next_redis()
    async with open_topics("sigterm") as topics:
        worker = await topics.worker(redis_url=redis).ready()
        (slow,) = await topics.submit(nap(14), lane="high")
        ids = await topics.submit(*[nap(0.3) for _ in range(60)])
        await some_results(topics, ids, 5)
        code, seconds = await worker.stop()
        assert code == 0
        assert seconds < STOP_LIMIT_S
        assert slow not in topics.results, "it cannot have ended; was it cut off and answered all the same?"
        assert not all(one in topics.results for one in ids)
        assert not sandboxes(owner=worker.name)
        assert not list(worker.temp.iterdir()), "files of the worker are left"

        second = await topics.worker(redis_url=redis).ready()
        results = await topics.wait_for([slow, *ids])
        assert {result["verdict"] for result in results.values()} == {"OK"}
        code, seconds = await second.stop()
        assert (code, seconds < STOP_LIMIT_S) == (0, True)
        ends = {partition: await topics.end(partition) for partition in range(12)}
        assert await topics.committed() == {partition: end for partition, end in ends.items() if end}


# --- kill -9


class Killed:
    """A worker was killed in load; ``second`` has taken over."""

    slow: str
    fast: list[str]
    load: list[str]
    committed_before: dict[int, int]
    answered_before: set[str]
    first: Worker
    second: Worker
    orphan: str
    stranger: str


@pytest.fixture(scope="module")
async def killed(open_topics: OpenTopics, services: Services) -> AsyncIterator[tuple[Topics, Killed]]:
    """One kill for several tests: it takes the broker 15 s to notice."""
    redis = services.next_redis()
    now = Killed()
    async with open_topics("killed") as topics:
        now.first = await topics.worker(redis_url=redis).ready()
        (now.slow,) = await topics.submit(nap(15), partition=0)
        now.fast = await topics.submit(*[submission()] * 19, partition=0)
        now.load = await topics.submit(*[nap(0.4) for _ in range(60)])
        await topics.wait_for(now.fast)
        await some_results(topics, now.load, 5)
        # Longer than the interval of commits, so that a wrong one would have been made.
        await asyncio.sleep(1)
        now.committed_before = await topics.committed()
        now.answered_before = set(topics.results)
        scope = docker(
            "inspect", "-f", '{{index .Config.Labels "org.evalx.scope"}}', sandboxes(owner=now.first.name)[0]
        )
        now.first.kill()
        now.orphan = plant(now.first.name, scope)
        now.stranger = plant(now.first.name, "another-installation")
        try:
            now.second = await topics.worker(redis_url=redis).ready()
            yield topics, now
            assert (await now.second.stop())[0] == 0
        finally:
            docker("rm", "-f", now.orphan, now.stranger, check=False)


def plant(owner: str, scope: str) -> str:
    """A container that was created and never started, as a worker leaves it that dies at that moment."""
    labels = {"org.evalx.role": "sandbox", "org.evalx.owner": owner, "org.evalx.scope": scope}
    labels["org.evalx.lease"] = f"{owner}#before"
    words = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    return docker("create", *words, "evalx-sandbox-python")


async def test_no_commit_passes_an_unfinished_record(killed: tuple[Topics, Killed]):
    topics, now = killed
    assert now.slow not in now.answered_before, "the slow one was too fast for this test"
    assert set(now.fast) <= now.answered_before
    assert now.committed_before.get(0, 0) == 0
    result = await topics.result(now.slow)
    assert (result["verdict"], result["worker"]) == ("OK", now.second.name)
    assert result["attempt"] == 2


async def test_every_submission_of_a_killed_worker_is_judged(killed: tuple[Topics, Killed]):
    topics, now = killed
    assert not set(now.load) <= now.answered_before
    results = await topics.wait_for([*now.load, *now.fast])
    assert {result["verdict"] for result in results.values()} == {"OK", "AC"}
    for one in now.fast:
        verdicts = [published.document["verdict"] for published in topics.results[one]]
        attempts = [published.document["attempt"] for published in topics.results[one]]
        assert set(verdicts) == {"AC"}
        assert attempts == sorted(set(attempts)), "a repeat has a higher attempt"


async def test_orphans_are_removed(killed: tuple[Topics, Killed]):
    _, now = killed
    await eventually(lambda: now.orphan[:12] not in sandboxes(owner=now.first.name), "the orphan is removed")
    await eventually(lambda: len(sandboxes(owner=now.first.name)) == 1, "running containers have ended by themselves")
    assert sandboxes(scope="another-installation") == [now.stranger[:12]], "that one is not ours to remove"
    removed = [entry["container"] for entry in now.second.events("orphan_removed")]
    assert now.orphan[:12] in removed


# --- SIGSTOP, SIGCONT


async def test_a_zombie_publishes_nothing_of_its_own(open_topics: OpenTopics, services: Services):
    """Stopped for longer than its session and its leases, while another judges what it had in progress, it goes on."""
    redis = services.next_redis()
    async with open_topics("zombie") as topics:
        zombie = await topics.worker(redis_url=redis, container_pool_size=0).ready()
        naps = await topics.submit(*[nap(6) for _ in range(4)])
        await eventually(lambda: napping(zombie), "naps have begun")
        zombie.process.send_signal(signal.SIGSTOP)
        try:
            other = await topics.worker(redis_url=redis, container_pool_size=0).ready()
            results = await topics.wait_for(naps)
            assert {result["worker"] for result in results.values()} == {other.name}
            committed = await topics.committed()
        finally:
            zombie.process.send_signal(signal.SIGCONT)
        await eventually(lambda: zombie.events("process_was_stopped"), "it has noticed")
        # As long as it waits to hear from Kafka, and then some.
        await asyncio.sleep(12)
        await topics.judge(*[submission()] * 20)
        for one in naps:
            published = [repeat.document for repeat in topics.results[one]]
            assert [repeat["source"] for repeat in published].count("executed") == 1
            assert len({repeat["tests"][0]["cpu_time_ms"] for repeat in published}) == 1, "a repeat is equal"
        now = await topics.committed()
        assert all(now[partition] >= offset for partition, offset in committed.items())
        for worker in (zombie, other):
            code = worker.process.poll()
            assert code is None, f"{worker.name} exited with {code}"
            assert (await worker.stop())[0] == 0


# --- back pressure


async def test_nothing_is_lost_when_a_lane_is_full(open_topics: OpenTopics, services: Services):
    """Many times more records than a lane holds, in few partitions, there before the worker is."""
    async with open_topics("pressure") as topics:
        ids = await topics.submit(*[submission()] * 250, partition=8)
        ids += await topics.submit(*[submission()] * 250, partition=9)
        ids += await topics.submit(*[submission()] * 100, partition=0)
        worker = await topics.worker(
            redis_url=services.next_redis(), buffer_max_count=20, concurrency=2, container_pool_size=0
        ).ready()
        later = await topics.submit(*[submission()] * 100, partition=8)
        results = await topics.wait_for([*ids, *later])
        assert {result["verdict"] for result in results.values()} == {"AC"}
        assert (await worker.stop())[0] == 0
        assert await topics.committed() == {0: 100, 8: 350, 9: 250}
        assert [len(topics.results[one]) for one in results] == [1] * 700


# --- topics


async def test_a_worker_refuses_topics_that_do_not_fit(services: Services):
    topics = Topics(services, f"{services.run}.unfit")
    worker = topics.worker()
    assert await asyncio.to_thread(worker.process.wait, 60) == 1
    said = worker.log.read_text()
    for name in (topics.submissions, f"{topics.prefix}.results", f"{topics.submissions}.DLT"):
        assert f"{name} has 0 partitions, the lanes need 12" in said

    topics.create()
    fewer = Topics(services, topics.prefix).worker(lanes="high=0-1,low=2-3")
    assert await asyncio.to_thread(fewer.process.wait, 60) == 1
    assert f"{topics.submissions} has 12 partitions, the lanes need 4" in fewer.log.read_text()


async def test_one_topic_with_other_partitions_is_named(services: Services):
    prefix = f"{services.run}.uneven"
    for name, partitions in (("submissions", 12), ("results", 3), ("submissions.DLT", 12)):
        await create_topic(services, f"{prefix}.{name}", partitions)
    worker = Topics(services, prefix).worker()
    assert await asyncio.to_thread(worker.process.wait, 60) == 1
    said = worker.log.read_text()
    assert f"{prefix}.results has 3 partitions, the lanes need 12" in said
    assert "submissions has" not in said


# --- services and containers that go away


async def test_redis_dies_in_load(open_topics: OpenTopics, services: Services):
    port = services.start_redis("victim")
    redis = f"redis://127.0.0.1:{port}/0"
    async with open_topics("redis") as topics:
        worker = await topics.worker(redis_url=redis, redis_timeout_ms=200).ready()
        ids = await topics.submit(*[nap(0.1) for _ in range(60)])
        await some_results(topics, ids, 5)
        docker("kill", services.container("victim"))
        ids += await topics.submit(*[submission("c", case) for case in ("sum", "wrong_answer", "sum")])
        results = await topics.wait_for(ids)
        assert [results[one]["verdict"] for one in ids] == ["OK"] * 60 + ["AC", "WA", "AC"]
        status, body = worker.health()
        assert (status, json.loads(body)["degraded"], json.loads(body)["parts"]["redis"]) == (200, True, False)
        code, seconds = await worker.stop()
        assert (code, seconds < STOP_LIMIT_S) == (0, True)

        second = await topics.worker(redis_url=redis, redis_timeout_ms=200, container_pool_size=0).ready()
        (result,) = await topics.judge(submission())
        assert (result["verdict"], result["worker"]) == ("AC", second.name)
        assert (await second.stop())[0] == 0


async def test_a_sandbox_dies_in_load(topics: Topics, worker: Worker):
    """The container's end is our fault, not the program's: it is judged again."""
    ids = await topics.submit(*[nap(2) for _ in range(2)])
    busy = await eventually(lambda: napping(worker), "naps have begun")
    docker("kill", *busy)
    results = await topics.wait_for(ids)
    assert [results[one]["verdict"] for one in ids] == ["OK", "OK"], results


def napping(worker: Worker) -> list[str]:
    """The worker's containers in which a nap is going on."""
    return [
        one
        for one in sandboxes(owner=worker.name)
        if "/box/main.py" in docker("top", one, "-eo", "pid,args", check=False)
    ]


async def test_a_refused_result_is_sent_again_and_keeps_no_other_back(open_topics: OpenTopics, services: Services):
    async with open_topics("refused") as topics:
        worker = await topics.worker(redis_url=services.next_redis(), container_pool_size=0).ready()
        # Enough for every partition of the results: the broker knows the producer then, and expects its next number.
        await topics.judge(*[submission()] * 60)
        await limit_results(topics, 20_000)
        (large,) = await topics.submit(submission("c", "emit", tests=[{"stdin": "50000 0 120"}]))
        await eventually(lambda: worker.events("publish_failed"), "the broker has refused it")
        small = await topics.submit(*[submission()] * 60)
        await topics.wait_for(small)
        assert large not in topics.results
        await limit_results(topics, 1 << 20)
        assert (await topics.result(large))["verdict"] == "OK"
        assert (await worker.stop())[0] == 0


async def limit_results(topics: Topics, max_bytes: int) -> None:
    limit = {"max.message.bytes": str(max_bytes)}
    async with admin_client(topics.services) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"{topics.prefix}.results", limit)])


async def test_kafka_stands_still_in_load(services: Services, tmp_path: Path):
    """For longer than a worker's session and a producer's request last."""
    own = Services(f"{services.run}k", tmp_path)
    try:
        own.start()
        topics = Topics(own, f"{services.run}.frozen")
        topics.create()
        async with topics:
            worker = await topics.worker().ready()
            ids = await topics.submit(*[nap(0.2) for _ in range(60)], *[submission("c", "compile_error")] * 3)
            await some_results(topics, ids, 5)
            docker("pause", own.container("kafka"))
            await asyncio.sleep(17)
            docker("unpause", own.container("kafka"))
            results = await topics.wait_for(ids)
            assert [results[one]["verdict"] for one in ids] == ["OK"] * 60 + ["CE"] * 3
            code, seconds = await worker.stop()
            assert (code, seconds < STOP_LIMIT_S) == (0, True)
    finally:
        own.stop()


# --- several workers


async def test_each_worker_gets_its_share_of_each_lane(open_topics: OpenTopics, services: Services):
    redis = services.next_redis()
    async with open_topics("shares") as topics:
        workers: list[Worker] = []
        for count in range(1, 5):
            workers.append(topics.worker(redis_url=redis, container_pool_size=0))
            shares = await eventually(lambda n=count: stable_shares(topics, n), f"{count} workers share the partitions")
            for lane, partitions in LANES.items():
                sizes = sorted(len(share & set(partitions)) for share in shares)
                assert sizes[0] >= len(partitions) // count, f"{count} workers, lane {lane}: {shares}"
        ids = await topics.submit(*[submission("c", cache="bypass")] * 12)
        results = await topics.wait_for(ids)
        assert {result["verdict"] for result in results.values()} == {"AC"}
        stopped = await asyncio.gather(*(worker.stop() for worker in workers))
        assert [code for code, _ in stopped] == [0] * 4
        assert not [one for worker in workers for one in sandboxes(owner=worker.name)]


async def stable_shares(topics: Topics, members: int) -> list[set[int]]:
    """The partitions of each member of the group, or nothing while they are being dealt."""
    try:
        async with admin_client(topics.services) as admin:
            (response,) = await admin.describe_consumer_groups([f"{topics.prefix}-workers"])
    except KafkaError:
        return []  # the broker has only begun to keep groups
    ((_, _, state, _, _, described, *_),) = response.groups
    shares = [partitions_of(topics, member[4]) for member in described]
    complete = state == "Stable" and len(shares) == members and sum(map(len, shares)) == topics.partitions
    return shares if complete else []


def partitions_of(topics: Topics, assignment: bytes) -> set[int]:
    dealt = ConsumerProtocolMemberAssignment.decode(assignment).assignment if assignment else []
    return {partition for topic, partitions in dealt if topic == topics.submissions for partition in partitions}
