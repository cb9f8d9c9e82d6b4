"""No more runs at once than there are slots, the highest lane first, several for whoever comes alone."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from evalx.sandbox.slots import MOST_OVERTAKEN, CpuSlots, Grant


async def test_who_comes_alone_gets_what_can_be_used():
    slots = CpuSlots(4)
    async with slots.take(10, 0) as grant:
        assert grant.numbers == [0, 1, 2, 3]
    async with slots.take(3, 0) as grant:
        assert len(grant.numbers) == 3


async def test_the_rest_is_left_to_others():
    slots = CpuSlots(4)
    async with slots.take(3, 0) as first, slots.take(3, 0) as second:
        assert (first.numbers, second.numbers) == ([0, 1, 2], [3])


async def test_the_highest_rank_is_served_first_and_equal_ones_in_order():
    slots = CpuSlots(1)
    order: list[str] = []

    async def work(name: str, rank: int) -> None:
        async with slots.take(1, rank):
            order.append(name)

    async with slots.take(1, 0):
        tasks = []
        for name, rank in (("low", 2), ("normal", 1), ("high-1", 0), ("high-2", 0)):
            tasks.append(asyncio.create_task(work(name, rank)))
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["high-1", "high-2", "normal", "low"]


async def test_nobody_takes_spare_slots_while_others_wait():
    slots = CpuSlots(2)
    granted: list[int] = []

    async def work() -> None:
        async with slots.take(2, 0) as grant:
            granted.append(len(grant.numbers))
            await asyncio.sleep(0.001)

    async with slots.take(2, 0):
        tasks = [asyncio.create_task(work()) for _ in range(2)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert granted == [1, 1]


async def test_who_gives_up_waiting_loses_no_slot():
    slots = CpuSlots(1)
    async with slots.take(1, 0):
        waiting = asyncio.create_task(slots.take(1, 0).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), slots.take(1, 0) as grant:
        assert grant.numbers == [0]


async def test_who_is_cancelled_just_after_the_grant_gives_it_back():
    slots = CpuSlots(1)
    holder = slots.take(1, 0)
    await holder.__aenter__()
    waiting = asyncio.create_task(slots.take(1, 0).__aenter__())
    await asyncio.sleep(0)
    await holder.__aexit__(None, None, None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1), slots.take(1, 0) as grant:
        assert grant.numbers == [0]


async def test_under_random_load_with_cancellations_the_bound_holds_and_all_slots_come_back():
    slots, rng, running, most = CpuSlots(3), random.Random(7), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with slots.take(rng.randint(1, 4), rng.randint(0, 2)) as grant:
            running += len(grant.numbers)
            most = max(most, running)
            try:
                await asyncio.sleep(rng.random() / 500)
            finally:
                running -= len(grant.numbers)

    tasks = [asyncio.create_task(work()) for _ in range(200)]
    for task in rng.sample(tasks, 80):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    async with slots.take(9, 0) as grant:
        assert len(grant.numbers) == 3


HIGH, NORMAL, LOW = 1, 3, 5


@contextlib.asynccontextmanager
async def waiting(slots: CpuSlots, rank: int, *, borrows: bool = True) -> AsyncIterator[asyncio.Task[Grant]]:
    """Somebody who waits for a slot, and holds it until the end once he has it."""
    context = slots.take(1, rank, borrows=borrows)
    task = asyncio.create_task(context.__aenter__())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        await task
        await context.__aexit__(None, None, None)


async def test_a_higher_lane_is_lent_a_slot_between_two_tests():
    slots, asked = CpuSlots(1), list[int]()
    async with slots.take(1, LOW) as low:
        low.offer(asked.append)
        async with waiting(slots, HIGH) as high:
            assert asked == [0]
            assert not high.done()
            low.keep(0)
            assert (await high).numbers == [0]
            assert low.numbers == []
            back = asyncio.create_task(low.regain())
            await asyncio.sleep(0)
            assert not back.done()
        await back
        assert low.numbers == [0]


async def test_who_holds_two_is_asked_for_one():
    slots, asked = CpuSlots(2), list[int]()
    async with slots.take(2, LOW) as low:
        low.offer(asked.append)
        async with waiting(slots, HIGH) as high:
            low.keep(1)
            assert (asked, low.numbers, (await high).numbers) == ([1], [0], [1])
            async with waiting(slots, HIGH) as another:
                low.keep(0)
                assert (asked, low.numbers, (await another).numbers) == ([1, 0], [], [0])


async def test_what_was_offered_later_is_asked_for_then():
    slots, asked = CpuSlots(1), list[int]()
    async with slots.take(1, LOW) as low, waiting(slots, HIGH):
        low.offer(asked.append)
        assert asked == [0]
        low.keep(0)


async def test_for_each_who_waits_one_is_asked_the_lowest_first():
    slots, asked = CpuSlots(3), list[str]()
    async with slots.take(1, NORMAL) as normal, slots.take(1, LOW) as low, slots.take(1, HIGH) as high:
        for name, grant in (("normal", normal), ("low", low), ("high", high)):
            grant.offer(lambda _keeps, name=name: asked.append(name))
        async with waiting(slots, HIGH):
            assert asked == ["low"]
            async with waiting(slots, HIGH):
                assert asked == ["low", "normal"]
                low.keep(0)
                normal.keep(0)


@pytest.mark.parametrize(("rank", "borrows"), [(LOW, True), (LOW - 1, True), (HIGH, False)])
async def test_within_a_lane_and_without_a_container_nobody_is_asked(rank: int, borrows: bool):
    slots, asked = CpuSlots(1), list[int]()
    async with contextlib.AsyncExitStack() as stack:
        async with slots.take(1, LOW) as low:
            low.offer(asked.append)
            await stack.enter_async_context(waiting(slots, rank, borrows=borrows))
        assert asked == []


async def test_who_ends_before_his_tests_allow_it_gives_back_all_he_has():
    slots = CpuSlots(2)
    async with contextlib.AsyncExitStack() as stack:
        async with slots.take(2, LOW) as low:
            low.offer(lambda _keeps: None)
            high = await stack.enter_async_context(waiting(slots, HIGH))
        assert (await high).numbers == [0]
        async with asyncio.timeout(1), slots.take(2, HIGH) as rest:
            assert rest.numbers == [1]


async def test_who_was_overtaken_too_often_is_next_and_not_asked_again():
    slots, asked = CpuSlots(1), list[int]()
    async with slots.take(1, LOW) as low:
        low.offer(asked.append)
        for _ in range(MOST_OVERTAKEN):
            async with waiting(slots, HIGH) as high:
                if low.numbers:
                    low.keep(0)
                    back = asyncio.create_task(low.regain())
                async with waiting(slots, HIGH):
                    (await high).close()
            await asyncio.sleep(0)
        await back
        asked.clear()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(waiting(slots, HIGH))
            assert asked == []
            low.close()


async def test_who_waits_to_regain_one_and_is_cancelled_loses_none():
    slots = CpuSlots(1)
    async with slots.take(1, LOW) as low:
        low.offer(lambda _keeps: None)
        async with waiting(slots, HIGH):
            low.keep(0)
            back = asyncio.create_task(low.regain())
            await asyncio.sleep(0)
            back.cancel()
            with pytest.raises(asyncio.CancelledError):
                await back
    async with asyncio.timeout(1), slots.take(1, LOW) as grant:
        assert grant.numbers == [0]


async def test_who_gave_one_up_for_nobody_has_it_again_at_once():
    """The borrower got another one before the test ended: all are free, and nobody else may ever give one back."""
    slots, asked = CpuSlots(2), list[int]()
    async with slots.take(1, LOW) as low:
        low.offer(asked.append)
        other = slots.take(1, HIGH)
        await other.__aenter__()
        async with waiting(slots, HIGH) as borrower:
            assert asked == [0]
            await other.__aexit__(None, None, None)
            assert (await borrower).numbers == [1]
        low.keep(0)
        async with asyncio.timeout(1):
            await low.regain()
        assert len(low.numbers) == 1
        # Nobody is left waiting, so whoever comes takes what is free.
        async with asyncio.timeout(1), slots.take(1, LOW) as next_one:
            assert len(next_one.numbers) == 1
