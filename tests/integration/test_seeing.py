"""What a real worker tells of itself: its metrics, and what `evalx top` makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import redis.asyncio
from integration_stack import EVALX, Document, Services, Topics, Worker, docker, eventually, submission
from prometheus_client.parser import text_string_to_metric_families

from evalx.cache.roster import Place, Roster, place_of

STAGES = ("queued", "dedupe", "acquire", "compile", "run", "publish", "ack")


class Seen(NamedTuple):
    """A worker's samples, by name and labels."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Samples of this name with at least these labels, added up."""
        wanted = labels.items()
        return sum(value for (one, has), value in self.samples.items() if one == name and wanted <= has)

    def stage(self, name: str) -> float:
        return self.value("evalx_stage_seconds_sum", stage=name)


def see(worker: Worker) -> Seen:
    status, body = worker.health("/metrics")
    assert status == 200
    families = text_string_to_metric_families(body.decode())
    return Seen({(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples})


async def test_the_stages_of_batches_add_up_to_their_time(topics: Topics, worker: Worker):
    before = see(worker)
    document = submission("c", "sum", metadata={"for": "stages"}, cache="refresh")
    assert [one["verdict"] for one in await topics.judge(document)] == ["AC"]
    assert [one["source"] for one in await topics.judge({**document, "cache": "use"})] == ["result_cache"]
    assert [one["status"] for one in await topics.judge({**document, "language": "none"})] == ["rejected"]

    # Counted when a record is acknowledged, which is a moment after its result is there.
    def all_counted() -> Seen | None:
        now = see(worker)
        count = "evalx_submission_seconds_count"
        return now if now.value(count) >= before.value(count) + 3 else None

    after: Seen = await eventually(all_counted, "three are counted")
    assert all(after.stage(name) > before.stage(name) for name in STAGES)
    grown = sum(after.stage(name) - before.stage(name) for name in STAGES)
    whole = "evalx_submission_seconds_sum"
    assert grown == pytest.approx(after.value(whole) - before.value(whole), rel=1e-6)
    # The code and the tests of the first were compiled and run, and nothing else.
    for name in ("compile", "run"):
        count = "evalx_stage_seconds_count"
        assert after.value(count, stage=name) == before.value(count, stage=name) + 1


async def test_each_submission_has_one_line_in_the_log_and_nothing_of_its_program(topics: Topics, worker: Worker):
    tests = [{"stdin": "1 2 hush\n", "expected_output": "3"}]
    executed = submission("c", "sum", tests=tests, metadata={"for": "hush"}, cache="refresh")
    executed["code"] += "/* hush */"
    documents = (executed, {**executed, "cache": "use"}, {**executed, "language": "none"})
    ids = [result["id"] for document in documents for result in await topics.judge(document)]

    def lines() -> list[Document]:
        return [line for line in worker.events("submission_finished") if line["submission"] in ids]

    await eventually(lambda: len(lines()) == len(ids), "each has a line")
    assert [line["submission"] for line in lines()] == ids
    first, known, rejected = lines()
    assert (first["lane"], first["language"], first["verdict"], first["source"]) == ("normal", "c", "AC", "executed")
    assert sum(first[f"{name}_ms"] for name in STAGES) == pytest.approx(first["total_ms"], abs=0.1)
    # Published first and stored then: who sends the same in between joins what is still being stored.
    assert known["source"] in ("result_cache", "joined")
    assert rejected["error"] == "unknown_language"
    assert "hush" not in worker.log.read_text()


async def test_a_worker_tells_of_its_slots_its_containers_its_lag_and_its_build(topics: Topics, worker: Worker):
    await topics.judge(submission("c", "sum", cache="bypass"))
    seen = see(worker)
    assert seen.value("evalx_build_info") == 1
    assert seen.value("evalx_cpu_slot_busy_seconds_total") > 0
    assert seen.value("evalx_cpu_slots") >= 1
    assert seen.value("evalx_pool_resets_total") >= 1

    def lag_is_told() -> bool:
        return {"high", "normal", "low"} <= {
            dict(labels)["lane"] for name, labels in see(worker).samples if name == "evalx_group_lag"
        }

    await eventually(lag_is_told, "the broker's lag is told")


async def top(topics: Topics, *arguments: str) -> Document:
    command = [str(EVALX), "top", "--once", "--json", "--interval", "0.5", *arguments]
    environment = {**os.environ, **topics.environment()}
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr.decode()
    shown: Document = json.loads(done.stdout)
    return shown


async def test_top_finds_the_worker_and_shows_it_and_the_slowest(topics: Topics, worker: Worker):
    (result,) = await topics.judge(submission("c", "sum", cache="bypass"))
    assert result["verdict"] == "AC"
    shown = await top(topics)
    assert (shown["workers"], shown["troubles"]) == (1, [])
    assert [lane["lane"] for lane in shown["lanes"]] == ["high", "normal", "low"]
    assert all(isinstance(lane["lag"], int) for lane in shown["lanes"])
    assert list(shown["stages"]) == list(STAGES)
    assert shown["stages"]["run"]["p95_s"] > 0
    assert shown["slots"]["slots"] >= 1
    assert sum(one["idle"] + one["busy"] + one["checking"] for one in shown["pool"]) >= 1
    slowest = shown["slowest"]
    assert slowest
    assert all(sum(one["stages"].values()) == pytest.approx(one["seconds"], abs=1e-4) for one in slowest)


async def test_top_asks_a_worker_that_is_named(topics: Topics, worker: Worker):
    shown = await top(topics, "--worker", f"127.0.0.1:{worker.port}", "--worker", "127.0.0.1:1")
    assert shown["workers"] == 1
    assert "127.0.0.1:1" in "".join(shown["troubles"])


@pytest.fixture
async def client(services: Services) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(services.next_redis(), decode_responses=True) as client:
        yield client


async def test_who_is_on_the_roster_is_found_until_it_leaves_or_is_silent(client: redis.asyncio.Redis):
    roster, other = Roster(client, "one"), Roster(client, "other")
    here, there = Place("b", "10.0.0.1:6066"), Place("a", "10.0.0.2:6066")
    for place in (here, there, here):
        await roster.enter(place, 600)
    assert await roster.read() == [there, here]
    assert await other.read() == []
    await roster.leave(there)
    assert await roster.read() == [here]
    await roster.enter(here, 0)
    assert await roster.read() == []


async def test_who_listens_on_any_address_is_told_by_the_one_that_redis_sees(services: Services):
    url = f"redis://127.0.0.1:{services.redis_port}/0"
    assert (await place_of("0.0.0.0", 7, url)).address == "127.0.0.1:7"
    assert (await place_of("10.1.2.3", 7, url)).address == "10.1.2.3:7"
    assert (await place_of("::1", 7, url)).address == "[::1]:7"
    # The bridge's own address is one under which containers are seen to be.
    bridge = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", services.container("redis"))
    seen = (await place_of("", 7, f"redis://user:secret@{bridge}:6379/0")).address
    assert seen.endswith(":7")
    assert not seen.startswith(("127.", "0."))
