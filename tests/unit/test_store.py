"""Redis with memory behind it: Redis is never the reason that a submission fails."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
import zstandard

from evalx.cache.store import MemoryStore, Store


class FakeRedis:
    """A Redis that can be away, or hang."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.calls = 0
        self.away = False
        self.hangs = False

    async def _call(self) -> None:
        self.calls += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.away:
            raise redis.ConnectionError("connection refused")

    async def get(self, key: str) -> bytes | None:
        await self._call()
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ex: int) -> bool:
        await self._call()
        assert ex > 0
        self.values[key] = value
        return True

    async def ping(self) -> bool:
        await self._call()
        return True

    async def aclose(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    fake = FakeRedis()
    monkeypatch.setattr(redis.asyncio.Redis, "from_url", lambda *args, **kwargs: fake)
    return fake


def connect() -> Store:
    return Store("redis://fake", timeout_ms=50, ttl_s=60)


def pass_time(store: Store) -> None:
    store.link._closed_until = 0.0


async def test_what_one_worker_stores_another_finds(server: FakeRedis):
    await connect().put("k", b"value" * 100)
    assert await connect().get("result", "k") == b"value" * 100
    assert len(server.values["k"]) < 100, "values are compressed"


async def test_what_was_found_once_is_kept_at_hand(server: FakeRedis):
    await connect().put("k", b"v")
    store = connect()
    await store.get("result", "k")
    calls = server.calls
    assert await store.get("result", "k") == b"v"
    assert server.calls == calls


async def test_what_redis_has_evicted_is_simply_not_found(server: FakeRedis):
    assert await connect().get("result", "k") is None


async def test_a_damaged_value_is_simply_not_found(server: FakeRedis):
    server.values["k"] = b"not zstd"
    server.values["cut"] = zstandard.ZstdCompressor().compress(b"x" * 1000)[:10]
    store = connect()
    assert await store.get("result", "k") is None
    assert await store.get("result", "cut") is None


async def test_memory_stands_in_while_redis_is_away(server: FakeRedis):
    server.away = True
    store = connect()
    await store.put("k", b"v")
    assert await store.get("result", "k") == b"v"
    assert await store.get("result", "other") is None
    assert not await store.ping()


async def test_after_a_failure_redis_is_left_alone_for_a_moment(server: FakeRedis):
    server.away = True
    store = connect()
    for number in range(20):
        assert await store.get("result", f"k{number}") is None
    assert server.calls == 1
    pass_time(store)
    server.away = False
    assert await store.ping()
    await store.put("k", b"v")
    assert "k" in server.values


async def test_a_redis_that_hangs_costs_one_time_limit(server: FakeRedis):
    server.hangs = True
    store = connect()
    async with asyncio.timeout(1):
        for number in range(20):
            assert await store.get("result", f"k{number}") is None
    assert server.calls == 1


async def test_memory_alone_needs_no_redis():
    store = Store(None, timeout_ms=50, ttl_s=60)
    await store.put("k", b"v")
    assert await store.get("result", "k") == b"v"
    assert await store.ping()
    await store.close()


def test_the_least_recently_used_values_make_room():
    memory = MemoryStore(max_bytes=30)
    for name in "abc":
        memory.put(name, bytes(10))
    assert memory.get("a") is not None
    memory.put("d", bytes(10))
    assert [name for name in "abcd" if memory.get(name) is not None] == ["a", "c", "d"]


def test_a_value_that_is_replaced_counts_once():
    memory = MemoryStore(max_bytes=30)
    for _ in range(10):
        memory.put("a", bytes(10))
    memory.put("b", bytes(20))
    assert memory.get("a") is not None


def test_a_value_larger_than_everything_is_not_kept():
    memory = MemoryStore(max_bytes=30)
    memory.put("a", bytes(31))
    assert memory.get("a") is None
