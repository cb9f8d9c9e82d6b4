"""No more runs at once than there are slots, the highest lane first, several for whoever comes alone."""

from __future__ import annotations

import asyncio
import random

import pytest

from evalx.sandbox.slots import CpuSlots


async def test_who_comes_alone_gets_what_can_be_used():
    slots = CpuSlots(4)
    async with slots.take(10, 0) as granted:
        assert granted == [0, 1, 2, 3]
    async with slots.take(3, 0) as granted:
        assert len(granted) == 3


async def test_the_rest_is_left_to_others():
    slots = CpuSlots(4)
    async with slots.take(3, 0) as first, slots.take(3, 0) as second:
        assert (first, second) == ([0, 1, 2], [3])


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
        async with slots.take(2, 0) as count:
            granted.append(len(count))
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
    async with asyncio.timeout(1), slots.take(1, 0) as granted:
        assert granted == [0]


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
    async with asyncio.timeout(1), slots.take(1, 0) as granted:
        assert granted == [0]


async def test_under_random_load_with_cancellations_the_bound_holds_and_all_slots_come_back():
    slots, rng, running, most = CpuSlots(3), random.Random(7), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with slots.take(rng.randint(1, 4), rng.randint(0, 2)) as granted:
            running += len(granted)
            most = max(most, running)
            try:
                await asyncio.sleep(rng.random() / 500)
            finally:
                running -= len(granted)

    tasks = [asyncio.create_task(work()) for _ in range(200)]
    for task in rng.sample(tasks, 80):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    async with slots.take(9, 0) as granted:
        assert len(granted) == 3
