"""What of the client needs no Kafka: partitions, messages, results that are handed to those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from evalx.client import Client
from evalx.errors import ConfigurationError, RejectedError, ResultTimeoutError, ServiceUnavailableError
from evalx.languages import Registry
from evalx.messages import Result, Submission, TestCase, decode_submission, encode_result
from evalx.settings import Settings
from evalx.verdicts import Verdict

RULES = Registry.load().rules(Settings())


def make(submission_id: str = "s-1") -> Submission:
    """As a service would: without the defaults that the worker fills in."""
    return Submission(id=submission_id, language="python", code="", tests=(TestCase(stdin="1"), TestCase(stdin="2")))


class Loopback(Client):
    """A client whose broker is a list."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.produced: list[tuple[str, int, bytes]] = []

    async def _connect(self) -> None:
        pass

    async def _produce(self, submission_id: str, partition: int, value: bytes) -> None:
        self.produced.append((submission_id, partition, value))

    def answer(self, submission_id: str, attempt: int = 1) -> None:
        result = Result(
            id=submission_id, status="judged", verdict=Verdict.OK, lane="normal", worker="w", attempt=attempt
        )
        self._take(submission_id.encode(), encode_result(result))


@pytest.fixture
async def client() -> AsyncIterator[Loopback]:
    async with Loopback() as loopback:
        yield loopback


def test_the_same_id_always_goes_to_the_same_partition_of_its_lane():
    client = Client(Settings())
    # Fixed numbers: services in other languages may hash likewise, and repeats must meet their originals.
    assert [client.partition_of("s-1", lane) for lane in ("high", "normal", "low")] == [2, 6, 10]
    assert {client.partition_of(f"s-{number}", "low") for number in range(100)} == {8, 9, 10, 11}
    with pytest.raises(ConfigurationError, match="no lane 'urgent'; there are: high, normal, low"):
        client.partition_of("s-1", "urgent")


async def test_an_incomplete_submission_is_sent_without_placeholders(client: Loopback):
    await client.submit(make())
    ((_, _, value),) = client.produced
    document = msgspec.json.decode(value)
    assert "version" not in document
    assert "wall_time_ms" not in document["limits"]
    assert document["tests"][0] == {"stdin": "1", "expected_output": None}
    assert [test.id for test in decode_submission(value, RULES).tests] == ["1", "2"]


async def test_a_complete_submission_is_sent_as_it_is(client: Loopback):
    complete = decode_submission(msgspec.json.encode({"id": "s-1", "language": "c", "code": "", "tests": [{}]}), RULES)
    await client.submit(complete)
    assert decode_submission(client.produced[0][2], RULES) == complete


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 129, "é"])
async def test_an_id_that_no_result_could_carry_is_refused(client: Loopback, wrong: str):
    with pytest.raises(RejectedError) as caught:
        await client.submit(make(wrong))
    assert caught.value.field == "id"
    assert client.produced == []


async def test_a_result_reaches_everyone_who_waits_for_its_id(client: Loopback):
    first, second, other = [await client.submit(make(name)) for name in ("s-1", "s-1", "s-2")]
    client.answer("s-1")
    assert (await first.result(1)).id == (await second.result(1)).id == "s-1"
    with pytest.raises(ResultTimeoutError, match=r"no result for s-2 within 0\.01 s"):
        await other.result(0.01)
    assert client._waiting == {}


async def test_a_repeat_is_not_noticed(client: Loopback):
    sent = await client.submit(make())
    client.answer("s-1", attempt=1)
    client.answer("s-1", attempt=2)
    assert (await sent.result(1)).attempt == 1
    client.answer("s-1", attempt=3)


async def test_results_of_others_and_damaged_ones_are_passed_over(client: Loopback):
    sent = await client.submit(make())
    client._take(None, None)
    client._take(b"\xff", b"{}")
    client._take(b"s-other", b"not looked at")
    client._take(b"s-1", b"not json")
    client.answer("s-1")
    assert (await sent.result(1)).id == "s-1"


async def test_many_are_judged_and_repeated_ids_once(client: Loopback):
    async def worker() -> None:
        answered = 0
        while answered < 50:
            await asyncio.sleep(0)
            for submission_id, _, _ in reversed(client.produced[answered:]):
                client.answer(submission_id)
                client.answer(submission_id)
                answered += 1

    work = asyncio.create_task(worker())
    submissions = [make(f"s-{number % 50}") for number in range(100)]
    results = [result.id async for result in client.judge_many(submissions, timeout=5)]
    assert sorted(results) == sorted({submission.id for submission in submissions})
    await work


async def test_more_than_the_window_are_judged_without_all_being_under_way(
    client: Loopback, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("evalx.client.WINDOW", 3)
    seen = 0
    iterator = client.judge_many((make(f"s-{number}") for number in range(10)), timeout=5)

    async def worker() -> None:
        answered = 0
        while answered < 10:
            await asyncio.sleep(0)
            assert len(client.produced) - answered <= 3
            if answered < len(client.produced):
                client.answer(client.produced[answered][0])
                answered += 1

    work = asyncio.create_task(worker())
    async for _ in iterator:
        seen += 1
    await work
    assert seen == 10


async def test_an_iteration_that_is_left_early_leaves_nothing_behind(client: Loopback):
    iterator: Any = client.judge_many((make(f"s-{number}") for number in range(5)), timeout=5)
    first = asyncio.create_task(anext(iterator))
    await asyncio.sleep(0.01)
    client.answer("s-0")
    assert (await first).id == "s-0"
    await iterator.aclose()
    assert client._waiting == {}


async def test_who_waits_when_the_client_is_closed_is_told():
    client = Loopback()
    async with client:
        sent = await client.submit(make())
    with pytest.raises(ServiceUnavailableError, match="the client was closed"):
        await sent.result(1)
    with pytest.raises(ServiceUnavailableError):
        await client.submit(make())
