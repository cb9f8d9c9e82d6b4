"""A partition that is released is fetched at once, and not when Faust's poll of a second has ended."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchError
from aiokafka.errors import TopicAuthorizationFailedError
from faust.types import TP

from evalx.agents import app as app_module
from evalx.agents.app import create_app
from evalx.settings import Settings

HELD, OTHER = TP("t", 0), TP("t", 1)


class Thread:
    """The consumer's thread, which is not started; counts how often it is woken."""

    def __init__(self) -> None:
        self.looks = 0

    def look_again(self) -> None:
        self.looks += 1


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Any]:
    made: Any = create_app(Settings(), "w", tmp_path).consumer
    unused, made._thread = made._thread, Thread()
    made._active_partitions = {HELD, OTHER}
    yield made
    unused.thread_loop.close()


async def test_a_release_ends_the_pause_that_comes_of_everything_being_held(consumer: Any):
    for partition in (HELD, OTHER):
        consumer.on_buffer_full(partition)
    pause = asyncio.create_task(consumer._wait_next_records(60))
    await asyncio.sleep(0.01)
    assert not pause.done()
    consumer.on_buffer_drop(HELD)
    assert await asyncio.wait_for(pause, 5) == ({}, {HELD})


async def test_the_pause_ends_by_itself(consumer: Any):
    consumer._active_partitions.clear()
    assert await asyncio.wait_for(consumer._wait_next_records(0.001), 5) == ({}, set())


async def test_only_a_partition_that_was_held_wakes_a_poll(consumer: Any):
    consumer.on_buffer_drop(HELD)
    assert consumer._thread.looks == 0
    consumer.on_buffer_full(HELD)
    consumer.on_buffer_drop(HELD)
    assert consumer._thread.looks == 1
    assert consumer._active_partitions == {HELD, OTHER}


async def test_a_poll_that_is_woken_sees_what_was_released():
    """What it reads of aiokafka is not public; this fails when that has changed."""
    fetcher: Any = object.__new__(Fetcher)
    fetcher._loop, fetcher._closed, fetcher._wait_consume_future = asyncio.get_running_loop(), False, None
    fetcher._fetch_waiters = set()
    fetcher._subscriptions = SimpleNamespace(reassignment_in_progress=False, is_assigned=lambda _partition: True)
    waits = TopicPartition(*HELD)
    fetcher._records = {waits: FetchError(error=TopicAuthorizationFailedError("t"), backoff=0)}
    active = {OTHER}
    poll = asyncio.create_task(fetcher.fetched_records(active, timeout=60))
    await asyncio.sleep(0.01)
    assert not poll.done()
    active.add(HELD)
    app_module._wake(fetcher)
    with pytest.raises(TopicAuthorizationFailedError):
        await asyncio.wait_for(poll, 5)


async def test_a_thread_without_a_consumer_or_a_loop_is_not_woken(tmp_path: Path):
    thread = create_app(Settings(), "w", tmp_path).consumer._thread
    thread.look_again()
    thread.thread_loop.close()
    thread._consumer = SimpleNamespace(_fetcher=SimpleNamespace())
    thread.look_again()


async def test_a_fetch_waits_long_unless_it_leaves_a_partition_out(monkeypatch: pytest.MonkeyPatch):
    """What it reads of aiokafka is not public; this fails when that has changed."""
    fetcher: Any = object.__new__(Fetcher)
    fetcher._records, fetcher._fetcher_timeout = {}, 1.0
    waits: list[int] = []
    plan = Fetcher._get_actions_per_node

    def planned(self: Any, assignment: Any) -> Any:
        waits.append(self._fetch_max_wait_ms)
        return plan(self, assignment)

    monkeypatch.setattr(Fetcher, "_get_actions_per_node", planned)
    app_module._wait_by_what_is_asked_for(fetcher)
    nothing = SimpleNamespace(tps=())
    assert fetcher._get_actions_per_node(nothing)[0] == []
    fetcher._records[TopicPartition(*OTHER)] = FetchError(error=TopicAuthorizationFailedError("t"), backoff=0)
    fetcher._get_actions_per_node(nothing)
    assert waits == [app_module.FETCH_WAIT_MS, app_module.FETCH_WAIT_PARTIAL_MS]
    assert "self._fetch_max_wait_ms" in inspect.getsource(plan)
