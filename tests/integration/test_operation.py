"""`evalx lag` and `evalx dead-letters` against a real Kafka: they read the broker, and disturb nobody."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from integration_stack import EVALX, Services, Topics, admin_client, eventually, submission

from evalx.agents.letters import Query
from evalx.agents.replay import Replayer
from evalx.settings import Settings

OpenTopics = Callable[..., Topics]

#: Seconds after which a command hangs.
HANG_S = 90


@pytest.fixture(scope="module")
async def operated(open_topics: OpenTopics) -> AsyncIterator[Topics]:
    """Topics that no worker reads."""
    async with open_topics("operated") as topics:
        yield topics


async def evalx(topics: Topics, *arguments: str, **settings: object) -> Any:
    environment = {**os.environ, **topics.environment(**settings)}
    return await asyncio.to_thread(
        lambda: subprocess.run([str(EVALX), *arguments], env=environment, capture_output=True, timeout=HANG_S)
    )


async def answer(topics: Topics, *arguments: str, code: int = 0) -> Any:
    done = await evalx(topics, *arguments, "--json")
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


async def plant(
    topics: Topics,
    partition: int,
    value: bytes | None,
    *,
    code: str = "sandbox_fault",
    key: bytes | None = b"k",
    at_ms: int | None = None,
    headers: list[tuple[str, bytes]] | None = None,
) -> int:
    """A dead letter as a worker writes it; returns its offset."""
    ours = [
        ("kafka_dlt-original-topic", topics.submissions.encode()),
        ("kafka_dlt-original-partition", str(partition).encode()),
        ("kafka_dlt-original-offset", b"7"),
        ("kafka_dlt-exception-message", "the container\nended: ß".encode()),
        ("evalx-error-code", code.encode()),
    ]
    # In a batch: a message with neither key nor value cannot be sent otherwise.
    batch = topics._producer.create_batch()
    batch.append(timestamp=at_ms, key=key, value=value, headers=[*ours, *(headers or [])])
    batch.close()
    topic = f"{topics.submissions}.DLT"
    sent = await (await topics._producer.send_batch(batch, topic, partition=partition % topics.partitions))
    return int(sent.offset)


async def replayed(topics: Topics) -> list[Any]:
    """Everything on the submissions that was replayed."""
    places = [TopicPartition(topics.submissions, number) for number in range(topics.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.services.kafka, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if "evalx-replayed-from" in dict(record.headers)]
    finally:
        await consumer.stop()
    return found


async def groups(topics: Topics) -> set[str]:
    async with admin_client(topics.services) as admin:
        return {name for name, _ in await admin.list_consumer_groups()}


# --- lag


async def test_lag_counts_what_waits_and_its_age(operated: Topics):
    hour_ago = int((time.time() - 3600) * 1000)
    before = {lane["lane"]: lane for lane in await answer(operated, "lag", "--partitions")}
    await operated.send(b"1", partition=1, timestamp_ms=hour_ago)
    await operated.send(b"2", partition=1)
    await operated.send(b"x" * 2_000_000, partition=2)
    await operated.send(b"4", partition=9)
    lanes = {lane["lane"]: lane for lane in await answer(operated, "lag", "--partitions")}
    grown = {name: lane["waiting"] - before[name]["waiting"] for name, lane in lanes.items()}
    assert grown == {"high": 3, "normal": 0, "low": 1}
    assert 3600 <= lanes["high"]["oldest_s"] < 3600 + 600
    assert lanes["low"]["oldest_s"] < 600
    partitions = {one["partition"]: one for lane in lanes.values() for one in lane["partitions"]}
    assert sorted(partitions) == list(range(12))
    assert partitions[2]["oldest_s"] is not None
    assert (partitions[4]["waiting"], partitions[4]["oldest_s"], partitions[4]["worker"]) == (0, None, None)


async def test_lag_follows_a_worker_and_names_it(open_topics: OpenTopics, services: Services):
    async with open_topics("lag") as topics:
        worker = await topics.worker(redis_url=services.next_redis(), container_pool_size=0).ready()
        await topics.judge(*[submission()] * 3)

        async def settled() -> bool:
            return all(lane["waiting"] == 0 for lane in await answer(topics, "lag"))

        await eventually(settled, "nothing waits")
        lanes = await answer(topics, "lag", "--partitions")
        assert {one["worker"] for lane in lanes for one in lane["partitions"]} == {worker.name}
        assert await groups(topics) & {f"{topics.prefix}-workers"}
        before = len(worker.events("partitions_assigned"))
        await answer(topics, "lag")
        assert len(worker.events("partitions_assigned")) == before, "looking made the group rebalance"
        assert (await worker.stop())[0] == 0


async def test_what_the_broker_has_dropped_waits_no_longer(operated: Topics):
    waited = [one["waiting"] for lane in await answer(operated, "lag", "--partitions") for one in lane["partitions"]]
    for _ in range(5):
        end = await operated.send(b"{}", partition=6) + 1
    async with admin_client(operated.services) as admin:
        await admin.delete_records({TopicPartition(operated.submissions, 6): RecordsToDelete(end - 2)})
    lanes = await answer(operated, "lag", "--partitions")
    (six,) = [one for lane in lanes for one in lane["partitions"] if one["partition"] == 6]
    assert (waited[6], six["committed"], six["end"], six["waiting"]) == (0, None, end, 2)


async def test_lag_watches_until_it_is_told_to_stop(operated: Topics):
    environment = {**os.environ, **operated.environment()}
    arguments = [str(EVALX), "lag", "--watch", "--interval", "0.2", "--json"]
    # Whoever is started in the background by a shell ignores Ctrl-C, and so does what he starts.
    process = await asyncio.create_subprocess_exec(
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for _ in range(3):
        assert len(json.loads(await asyncio.wait_for(process.stdout.readline(), HANG_S))) == 3
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), HANG_S) == 130


async def test_away_and_missing_are_sentences(operated: Topics):
    for arguments in (("lag",), ("dead-letters", "list"), ("dead-letters", "replay", "--all")):
        away = await evalx(operated, *arguments, kafka_bootstrap="127.0.0.1:1")
        assert (away.returncode, away.stdout) == (3, b"")
        assert away.stderr.startswith(b"evalx: Kafka at 127.0.0.1:1 cannot be reached")
        missing = await evalx(operated, *arguments, topic_prefix=f"{operated.prefix}.none")
        assert missing.returncode == 3
        assert b"create it with `evalx topics create`" in missing.stderr
        assert missing.stderr.count(b"\n") == 1


# --- dead letters


@pytest.fixture(scope="module")
async def letters(open_topics: OpenTopics) -> AsyncIterator[Topics]:
    """Some dead letters of several kinds."""
    async with open_topics("letters") as topics:
        two_hours_ago = int((time.time() - 7200) * 1000)
        own = [("traceparent", b"00-1"), ("other", b"\xff")]
        value = json.dumps({"id": "s-1", "language": "c", "more": 1}).encode()
        await plant(topics, 0, value, headers=own, at_ms=two_hours_ago)
        await plant(topics, 5, b'{"id": "s-2", "language": "python"}', code="unknown_field")
        await plant(topics, 5, b"\xff\x00not JSON", code="not_utf8", key=b"s-3")
        await plant(topics, 9, None, code="empty_message", key=None)
        await plant(topics, 77, b'{"id": "s-5"}', code="unknown_field")
        yield topics


async def test_list_and_its_filters(letters: Topics):
    async def places(*arguments: str) -> list[str]:
        return [one["place"] for one in await answer(letters, "dead-letters", "list", *arguments)]

    everything = await answer(letters, "dead-letters", "list")
    assert {one["place"] for one in everything} == {"0:0", "5:0", "5:1", "9:0", f"{77 % 12}:2"}
    assert everything[0]["place"] == "0:0", "the oldest comes first"
    first = {name: everything[0][name] for name in ("code", "lane", "id", "language", "replayed", "replay_of")}
    assert first == {
        "code": "sandbox_fault",
        "lane": "high",
        "id": "s-1",
        "language": "c",
        "replayed": False,
        "replay_of": None,
    }
    assert everything[0]["original"] == {"topic": letters.submissions, "partition": 0, "offset": 7}
    assert await places("--code", "not_utf8", "--code", "empty_message") == ["5:1", "9:0"]
    assert await places("--lane", "normal") == ["5:0", "5:1"]
    assert await places("--language", "python") == ["5:0"]
    assert await places("--id", "s-1", "--id", "s-3") == ["0:0", "5:1"]
    assert await places("--until", "1h") == ["0:0"]
    assert "0:0" not in await places("--since", "1h")
    assert await places("--lane", "high", "--since", "3h", "--until", "1h", "--code", "sandbox_fault") == ["0:0"]
    assert len(await places("--limit", "2")) == 2
    assert not await places("--code", "none_such")


async def test_show(letters: Topics):
    shown = await answer(letters, "dead-letters", "show", "5:1")
    assert shown["value"] == {"encoding": "base64", "data": "/wBub3QgSlNPTg=="}
    assert shown["key"] == {"encoding": "utf-8", "data": "s-3"}
    raw = await evalx(letters, "dead-letters", "show", "5:1", "--raw")
    assert raw.stdout == b"\xff\x00not JSON"
    table = (await evalx(letters, "dead-letters", "show", "0:0")).stdout.decode()
    assert "the container ended: ß" in table
    assert '"id": "s-1"' in table
    assert "header traceparent" in table
    for place in ("0:99", "400:0"):
        none = await evalx(letters, "dead-letters", "show", place)
        assert none.returncode == 1
        assert f"no dead letter at {place}".encode() in none.stderr


async def test_a_dry_run_sends_nothing(letters: Topics):
    dry = await answer(letters, "dead-letters", "replay", "--all", "--dry-run")
    assert dry["would_replay"] == 5
    assert not await replayed(letters)
    assert len(await answer(letters, "dead-letters", "list")) == 5


async def test_replay_is_faithful_and_happens_once(open_topics: OpenTopics):
    """Without the notes the second run would send everything again."""
    async with open_topics("replay") as topics:
        own = [("traceparent", b"00-1"), ("other", b"\xff")]
        await plant(topics, 3, b'{"id": "a"}', headers=own)
        await plant(topics, 3, None, key=None, code="empty_message")
        await plant(topics, 10, b"\xff\x00", key=b"")
        await plant(topics, 77, b'{"id": "gone"}')
        report = await answer(topics, "dead-letters", "replay", "--all", code=1)
        assert (report["matched"], report["replayed"], report["already"]) == (4, 3, 0)
        assert report["failed"][0]["place"] == f"{77 % 12}:0"
        sent = {(one.partition, one.key, one.value): list(one.headers) for one in await replayed(topics)}
        assert sent == {
            (3, b"k", b'{"id": "a"}'): [*own, ("evalx-replayed-from", b"3:0")],
            (3, None, None): [("evalx-replayed-from", b"3:1")],
            (10, b"", b"\xff\x00"): [("evalx-replayed-from", b"10:0")],
        }
        listed = {one["place"]: one["replayed"] for one in await answer(topics, "dead-letters", "list")}
        assert listed == {"3:0": True, "3:1": True, "10:0": True, f"{77 % 12}:0": False}

        again = await answer(topics, "dead-letters", "replay", "--all", code=1)
        assert (again["matched"], again["replayed"], again["already"]) == (4, 0, 3)
        assert len(await replayed(topics)) == 3
        assert (await answer(topics, "dead-letters", "replay", "--id", "a", "--again"))["replayed"] == 1
        assert len(await replayed(topics)) == 4
        assert not [name for name in await groups(topics) if name.startswith(topics.prefix)]


async def test_an_interrupted_replay_neither_loses_nor_repeats(open_topics: OpenTopics, monkeypatch: Any):
    """A run is killed in the middle; what it had begun with is looked up, not guessed."""
    async with open_topics("interrupted") as topics:
        wanted = {f'{{"id": "r-{number}"}}'.encode() for number in range(60)}
        for value in sorted(wanted):
            await plant(topics, 4, value)
        environment = {**os.environ, **topics.environment()}
        arguments = [str(EVALX), "dead-letters", "replay", "--all", "--rate", "10"]
        process = await asyncio.create_subprocess_exec(*arguments, env=environment)

        async def some() -> bool:
            return len(await replayed(topics)) >= 5

        await eventually(some, "some were replayed")
        process.kill()
        await process.wait()
        left = await answer(topics, "dead-letters", "replay", "--all")
        assert left["left_to_another"] > 0, "its notes are young: it might still be at it"
        monkeypatch.setattr("evalx.agents.replay.YOUNG_S", 0.0)
        settings = Settings(kafka_bootstrap=topics.services.kafka, topic_prefix=topics.prefix)
        async with Replayer(settings, rate=1000) as replayer:
            await replayer.replay(Query())
        values = [one.value for one in await replayed(topics)]
        assert sorted(values) == sorted(wanted)


async def test_two_replays_at_the_same_time_send_each_once(open_topics: OpenTopics):
    """Without the look at the other's notes, most would be sent by both."""
    async with open_topics("rivals") as topics:
        for number in range(80):
            await plant(topics, number % 4, f'{{"id": "r-{number}"}}'.encode())
        both = [answer(topics, "dead-letters", "replay", "--all", "--rate", "30") for _ in range(2)]
        reports = await asyncio.gather(*both)
        values = [one.value for one in await replayed(topics)]
        assert len(values) == len(set(values)) == 80
        assert sum(one["replayed"] for one in reports) == 80


async def test_a_replay_does_not_chase_what_it_causes(open_topics: OpenTopics, services: Services):
    """A live topic: a replayed submission that fails again is a new dead letter, and names the old one."""
    async with open_topics("chase") as topics:
        worker = await topics.worker(redis_url=services.next_redis(), container_pool_size=0).ready()
        offset = await topics.send(b"no JSON", key=b"k", partition=2, headers=[("mine", b"1")])
        letter = await topics.dead_letter(2, offset)
        assert letter.headers["mine"] == b"1"
        report = await answer(topics, "dead-letters", "replay", "--all")
        assert (report["matched"], report["replayed"]) == (1, 1)
        second = await topics.dead_letter(2, offset + 1)
        assert second.headers["evalx-replayed-from"] == f"2:{letter.offset}".encode()
        assert second.headers["mine"] == b"1"
        newest = (await answer(topics, "dead-letters", "list"))[-1]
        assert (newest["replay_of"], newest["replayed"]) == (f"2:{letter.offset}", False)
        assert (await worker.stop())[0] == 0
