"""Redis with memory behind it: Redis is never the reason that a submission fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio
import zstandard

from evalx.cache import store as store_module
from evalx.cache.store import Claim, MemoryStore, Store


class FakeRedis:
    """A Redis that can be away, or hang."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.hashes: dict[str, dict[str, Any]] = {}
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

    def pipeline(self, transaction: bool) -> FakePipeline:
        return FakePipeline(self)

    async def aclose(self) -> None:
        pass


class FakePipeline:
    def __init__(self, owner: FakeRedis) -> None:
        self._owner = owner
        self._steps: list[Any] = []

    def hsetnx(self, key: str, field: str, value: bytes) -> None:
        self._steps.append(lambda: self._hash(key).setdefault(field, value))

    def hget(self, key: str, field: str) -> None:
        self._steps.append(lambda: self._hash(key).get(field))

    def hincrby(self, key: str, field: str, amount: int) -> None:
        def step() -> int:
            self._hash(key)[field] = self._hash(key).get(field, 0) + amount
            return int(self._hash(key)[field])

        self._steps.append(step)

    def expire(self, key: str, seconds: int) -> None:
        self._steps.append(lambda: True)

    async def execute(self) -> list[Any]:
        await self._owner._call()
        return [step() for step in self._steps]

    def _hash(self, key: str) -> dict[str, Any]:
        return self._owner.hashes.setdefault(key, {})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    fake = FakeRedis()
    monkeypatch.setattr(redis.asyncio.Redis, "from_url", lambda *args, **kwargs: fake)
    return fake


def connect() -> Store:
    return Store("redis://fake", timeout_ms=50, ttl_s=60)


def pass_time(store: Store) -> None:
    store._closed_until = 0.0


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


async def test_an_id_is_counted_and_its_content_compared_over_all_workers(server: FakeRedis):
    one, two = connect(), connect()
    assert await one.claim("s-1", b"content") == Claim(1, False)
    assert await two.claim("s-1", b"content") == Claim(2, False)
    assert await two.claim("s-1", b"other") == Claim(3, True)
    assert await one.claim("s-2", b"other") == Claim(1, False)


async def test_without_redis_a_worker_still_knows_its_own_ids(server: FakeRedis):
    store = connect()
    await store.claim("s-1", b"content")
    server.away = True
    assert await store.claim("s-1", b"content") == Claim(2, False)
    assert await store.claim("s-1", b"other") == Claim(3, True)


async def test_an_attempt_never_goes_back_when_redis_has_forgotten(server: FakeRedis):
    store = connect()
    for _ in range(3):
        await store.claim("s-1", b"content")
    server.hashes.clear()
    assert (await store.claim("s-1", b"content")).attempt == 4


async def test_memory_alone_needs_no_redis():
    store = Store(None, timeout_ms=50, ttl_s=60)
    await store.put("k", b"v")
    assert await store.get("result", "k") == b"v"
    assert await store.claim("s-1", b"c") == Claim(1, False)
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


async def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "MEMORY_CLAIMS", 10)
    store = Store(None, timeout_ms=50, ttl_s=60)
    for number in range(50):
        await store.claim(f"s-{number}", b"c")
    assert len(store._claims) == 10
    assert (await store.claim("s-49", b"c")).attempt == 2
