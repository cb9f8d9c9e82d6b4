"""Many submissions through one client: bounded, in any order, each answered once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from client_scene import Loopback, make, make_with, until

from evalx.client import bulk as bulk_module
from evalx.client.bulk import Room
from evalx.client.seen import SeenIds
from evalx.errors import (
    ClientStateError,
    ResultTimeoutError,
)
from evalx.languages import Registry
from evalx.messages import (
    Submission,
)
from evalx.settings import Settings

RULES = Registry.load().rules(Settings())


@pytest.fixture
async def client() -> AsyncIterator[Loopback]:
    async with Loopback() as loopback:
        yield loopback


async def answer_all(client: Loopback, count: int, most: int | None = None) -> None:
    """Answers what is produced, one at a time."""
    answered = 0
    while answered < count:
        await asyncio.sleep(0)
        assert most is None or len(client.produced) - answered <= most
        if answered < len(client.produced):
            client.answer(client.produced[answered][0])
            client.answer(client.produced[answered][0])
            answered += 1


async def test_many_are_judged_and_repeated_ids_once(client: Loopback):
    work = asyncio.create_task(answer_all(client, 50))
    submissions = [make(f"s-{number % 50}") for number in range(100)]
    results = [result.id async for result in client.judge_all(submissions, timeout=5)]
    assert sorted(results) == sorted({submission.id for submission in submissions})
    await work
    assert len(client._waiting) == len(client._bulks) == 0


@pytest.mark.parametrize("at_most", [1, 3])
@pytest.mark.parametrize("is_async", [False, True])
async def test_never_more_than_so_many_are_under_way(client: Loopback, at_most: int, is_async: bool):
    pulled = 0

    def source() -> Iterator[Submission]:
        nonlocal pulled
        for number in range(20):
            pulled += 1
            yield make(f"s-{number}")

    async def async_source() -> AsyncIterator[Submission]:
        for submission in source():
            await asyncio.sleep(0)
            yield submission

    work = asyncio.create_task(answer_all(client, 20, at_most))
    taken = 0
    async for _ in client.judge_all(async_source() if is_async else source(), timeout=5, at_most=at_most):
        taken += 1
        # Who takes his time is not overrun: the source waits.
        await asyncio.sleep(0.001)
        assert pulled - taken <= at_most
    await work
    assert taken == 20


async def test_results_come_while_the_source_has_nothing(client: Loopback):
    async def source() -> AsyncIterator[Submission]:
        yield make("s-0")
        await first_taken.wait()
        yield make("s-1")

    first_taken = asyncio.Event()
    work = asyncio.create_task(answer_all(client, 2))
    async for _ in client.judge_all(source(), timeout=5):
        first_taken.set()
    await work


async def test_what_is_not_sent_is_yielded_as_rejected(client: Loopback):
    work = asyncio.create_task(answer_all(client, 1))
    submissions = [make("a b"), make_with(language="cobol"), make("s-2"), make("s-2"), make_with(id="s-2", code="x")]
    results = [result async for result in client.judge_all(submissions, timeout=5)]
    await work
    codes = [(one.id, one.status, one.error.code if one.error else None) for one in results]
    assert sorted(codes, key=str) == [
        ("a b", "rejected", "invalid_value"),
        ("s-1", "rejected", "unknown_language"),
        ("s-2", "judged", None),
        ("s-2", "rejected", "conflict"),
    ]


async def test_a_dead_letter_among_many_ends_nothing(client: Loopback):
    iterator = client.judge_all([make("s-0"), make("s-1")], timeout=5)
    first = asyncio.create_task(anext(iterator))
    await until(lambda: len(client.produced) == 2)
    client.reject("s-0")
    client.answer("s-1")
    assert [(await first).status, *[one.status async for one in iterator]] == ["rejected", "judged"]


async def test_the_sources_own_error_ends_it(client: Loopback):
    def source() -> Iterator[Submission]:
        yield make("s-0")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async for _ in client.judge_all(source(), timeout=5):
            pass
    assert len(client._waiting) == len(client._bulks) == 0


async def test_a_timeout_ends_it(client: Loopback):
    with pytest.raises(ResultTimeoutError, match="s-0"):
        async for _ in client.judge_all([make("s-0")], timeout=0.01):
            pass


async def test_an_iteration_that_is_left_early_leaves_nothing_behind(client: Loopback):
    iterator: Any = client.judge_all((make(f"s-{number}") for number in range(5)), timeout=5)
    first = asyncio.create_task(anext(iterator))
    await until(lambda: len(client.produced) == 5)
    client.answer("s-0")
    assert (await first).id == "s-0"
    await iterator.aclose()
    assert len(client._waiting) == len(client._bulks) == 0


async def test_a_client_that_is_closed_ends_it():
    async def endless() -> AsyncIterator[Submission]:
        yield make("s-0")
        await asyncio.Event().wait()

    client = Loopback()
    async with client:
        iterator = client.judge_all(endless())
        first = asyncio.create_task(anext(iterator))
        await until(lambda: len(client.produced) == 1)
        client.answer("s-0")
        await first
    with pytest.raises(ClientStateError, match="before all results came"):
        await anext(iterator)


async def test_submissions_that_are_not_confirmed_are_held_in_bounded_memory(
    client: Loopback, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk_module, "UNCONFIRMED_BYTES", 1000)
    client.gate.clear()
    iterator: Any = client.judge_all([make_with(id=f"s-{number}", code="x" * 600) for number in range(5)], timeout=5)
    first = asyncio.create_task(anext(iterator))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(client.produced) == 1, "a second one does not fit"
    client.gate.set()
    await until(lambda: len(client.produced) == 5)
    client.answer("s-3")
    assert (await first).id == "s-3"
    await iterator.aclose()


async def test_what_is_larger_than_the_room_gets_it_alone():
    room = Room(10)
    await room.take(100)
    second = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not second.done()
    room.give(100)
    await second


def test_as_many_ids_are_remembered_as_there_is_room_for():
    seen = SeenIds(2)
    assert [seen.add(one) for one in ("a", "b", "a", "c", "a", "b")] == [None, None, b"", None, b"", None]
    assert len(seen) == 2
    assert seen.add("x", b"1") is None
    assert seen.add("x", b"2") == b"1"
