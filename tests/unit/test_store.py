"""Redis with memory behind it: Redis is never the reason that a submission fails."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import zstandard

from evalx.cache import disk as disk_module
from evalx.cache import store as store_module
from evalx.cache.disk import DiskStore
from evalx.cache.link import Link
from evalx.cache.outcomes import encode
from evalx.cache.store import ENTRY_BYTES, MemoryStore, Store
from evalx.cache.values import MAX_UNPACKED_BYTES, pack, unpack
from evalx.messages import TestResult
from evalx.verdicts import Verdict


class FakeRedis:
    """A Redis that can be away, or hang."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.ends: set[str] = set()
        self.calls = 0
        self.away = False
        self.hangs = False

    async def _call(self) -> None:
        self.calls += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.away:
            raise redis.ConnectionError("connection refused")

    async def mget(self, keys: list[str]) -> list[bytes | None]:
        await self._call()
        return [self.values.get(key) for key in keys]

    def pipeline(self, transaction: bool) -> FakePipeline:
        assert not transaction
        return FakePipeline(self)

    async def ping(self) -> bool:
        await self._call()
        return True

    async def aclose(self) -> None:
        pass


class FakePipeline:
    def __init__(self, server: FakeRedis) -> None:
        self.server = server
        self.todo: list[tuple[Any, ...]] = []

    def set(self, key: str, value: bytes, ex: int) -> None:
        assert ex > 0
        self.todo.append((self.server.values.__setitem__, key, value))

    def incrby(self, name: str, count: int) -> None:
        self.todo.append((self.server.counts.update, {name: count}))

    def hincrby(self, name: str, field: str, count: int) -> None:
        self.todo.append((self.server.counts.update, {field: count}))

    def expire(self, name: str, seconds: int) -> None:
        self.todo.append((self.server.ends.add, name))

    async def execute(self) -> list[bool]:
        await self.server._call()
        for call, *arguments in self.todo:
            call(*arguments)
        return [True] * len(self.todo)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    fake = FakeRedis()
    monkeypatch.setattr(redis.asyncio.Redis, "from_url", lambda *args, **kwargs: fake)
    return fake


def connect() -> Store:
    return Store("redis://fake", timeout_ms=50, ttl_s=60)


async def pass_time(store: Store) -> None:
    await store.link.probe()


async def test_what_one_worker_stores_another_finds(server: FakeRedis):
    await connect().put("result", "k", b"value" * 100)
    assert await connect().get("result", "k") == b"value" * 100
    assert len(server.values["k"]) < 100, "values are compressed"


async def test_what_was_found_once_is_kept_at_hand(server: FakeRedis):
    await connect().put("result", "k", b"v")
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
    await store.put("result", "k", b"v")
    assert await store.get("result", "k") == b"v"
    assert await store.get("result", "other") is None
    assert not await store.ping()


async def test_after_a_failure_redis_is_left_alone_for_a_moment(server: FakeRedis):
    server.away = True
    store = connect()
    for number in range(20):
        assert await store.get("result", f"k{number}") is None
    assert server.calls == 1
    server.away = False
    await pass_time(store)
    assert await store.ping()
    await store.put("result", "k", b"v")
    assert "k" in server.values


async def test_a_call_leaves_nothing_for_the_garbage_collector():
    link = Link(None, timeout_ms=5000)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await link.ask(asyncio.sleep(0))
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_a_redis_that_hangs_costs_one_time_limit(server: FakeRedis):
    server.hangs = True
    store = connect()
    async with asyncio.timeout(1):
        for number in range(20):
            assert await store.get("result", f"k{number}") is None
    assert server.calls == 1


async def test_memory_alone_needs_no_redis():
    store = Store(None, timeout_ms=50, ttl_s=60)
    await store.put("result", "k", b"v")
    assert await store.get("result", "k") == b"v"
    assert await store.ping()
    await store.close()


def test_what_is_kept_takes_no_more_than_it_is():
    """An encoder's buffer is half as long again as what is in it, and would be kept with it."""
    test = TestResult(id="1", verdict=Verdict.AC, stdout="x" * 5000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [encode(test) for _ in range(100)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1.1 * sum(map(len, kept))


def test_the_least_recently_used_values_make_room():
    memory = MemoryStore(4 * (10 + ENTRY_BYTES))
    for name in "abcd":
        memory.put(name, bytes(10))
    assert memory.get("a") is not None
    memory.put("e", bytes(10))
    assert memory.bytes == 4 * (10 + ENTRY_BYTES)
    assert [name for name in "abcde" if memory.get(name) is not None] == ["a", "c", "d", "e"]


def test_a_value_that_is_replaced_counts_once():
    memory = MemoryStore(4 * (10 + ENTRY_BYTES))
    for _ in range(10):
        memory.put("a", bytes(10))
    for name in "bcd":
        memory.put(name, bytes(10))
    assert memory.get("a") is not None


def test_a_value_that_would_push_out_many_is_not_kept():
    memory = MemoryStore(4 * (10 + ENTRY_BYTES))
    memory.put("a", bytes(5))
    memory.put("b", bytes(11))
    memory.put("a", bytes(11))
    assert (memory.get("a"), memory.get("b"), memory.bytes) == (None, None, 0)


async def test_many_are_asked_for_in_one_call(server: FakeRedis):
    await connect().put_many("test", {f"k{number}": bytes([number]) for number in range(20)})
    store = connect()
    server.calls = 0
    assert await store.get_many("test", ["k3", "none", "k4"]) == [b"\x03", None, b"\x04"]
    assert server.calls == 1


async def test_a_value_that_is_too_large_for_redis_stays_here(server: FakeRedis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(store_module.REDIS_VALUE_BYTES, "test", 10)  # type: ignore[arg-type]
    store = connect()
    await store.put("test", "k", bytes(range(200)))
    assert not server.values
    assert await store.get("test", "k") == bytes(range(200))


async def test_a_large_value_comes_back_as_it_was_put(server: FakeRedis):
    value = bytes(range(256)) * 8192
    await connect().put("artifact", "k", value)
    assert await connect().get("artifact", "k") == value


async def test_hits_and_misses_are_counted_in_redis(server: FakeRedis):
    store = connect()
    await store.put("result", "k", b"v")
    for key in ("k", "other"):
        await store.get("result", key)
    for source in ("executed", "joined", "result_cache"):
        store.count(source)
    await store.close()
    assert server.counts == {
        "cache:hits": 2, "cache:misses": 1, "result:hit": 1, "result:miss": 1, "flight:hit": 1, "flight:miss": 1
    }  # fmt: skip
    assert server.ends == {"cache:hits", "cache:misses", "cache:levels"}


async def test_counts_that_could_not_be_sent_are_sent_later(server: FakeRedis):
    store = connect()
    server.away = True
    store.count("executed")
    await store.tally.send()
    assert not server.counts
    server.away = False
    await pass_time(store)
    await store.tally.send()
    assert server.counts["cache:misses"] == 1
    await store.close()


class TestValues:
    def test_a_value_of_another_key_is_none(self):
        assert unpack(pack(b"v", "a"), "a") == b"v"
        assert unpack(pack(b"v", "a"), "b") is None
        assert unpack(pack(b"v", "a")) == b"v"

    def test_one_flipped_bit_is_noticed(self):
        packed = pack(bytes(range(256)), "k")
        for place in range(len(packed)):
            damaged = bytearray(packed)
            damaged[place] ^= 0x10
            assert unpack(bytes(damaged), "k") in (None, bytes(range(256)))

    @pytest.mark.parametrize("wrong", [None, 7, b"", b"x", b"\x28\xb5\x2f\xfd"])
    def test_what_is_no_value_is_none(self, wrong: object):
        assert unpack(wrong, "k") is None

    def test_a_value_that_claims_to_be_huge_is_none(self):
        bomb = zstandard.ZstdCompressor().compress(bytes(MAX_UNPACKED_BYTES + 1))
        assert len(bomb) < 20_000
        assert unpack(bomb) is None


class TestDisk:
    async def test_a_program_is_there_after_a_restart(self, tmp_path: Path):
        def start() -> Store:
            return Store(None, timeout_ms=50, ttl_s=60, disk=DiskStore(tmp_path / "programs", 1 << 20))

        await start().put("artifact", "evalx:v2:artifact:abc", b"program")
        store = start()
        assert await store.get("artifact", "evalx:v2:artifact:abc") == b"program"
        await store.put("result", "evalx:v2:result:abc", b"result")
        assert [path.name for path in (tmp_path / "programs").iterdir()] == ["abc"], "programs only"

    async def test_a_damaged_file_is_removed(self, tmp_path: Path):
        store = Store(None, timeout_ms=50, ttl_s=60, disk=DiskStore(tmp_path, 1 << 20))
        (tmp_path / "abc").write_bytes(b"torn")
        assert await store.get("artifact", "x:abc") is None
        assert not (tmp_path / "abc").exists()

    def test_what_was_not_used_for_the_longest_time_makes_room(self, tmp_path: Path):
        disk = DiskStore(tmp_path, 1000)
        for number in range(10):
            disk.put(f"x:{number}", bytes(100))
            os.utime(tmp_path / f"{number}", (number, number))
        assert disk.get("x:0") is not None
        disk.put("x:new", bytes(100))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4", "5", "6", "7", "8", "9", "new"]

    def test_a_program_larger_than_its_part_is_not_kept(self, tmp_path: Path):
        disk = DiskStore(tmp_path, 1000)
        disk.put("x:large", bytes(126))
        assert list(tmp_path.iterdir()) == []

    def test_what_a_crash_has_left_is_removed(self, tmp_path: Path):
        left = tmp_path / ".new-left"
        left.write_bytes(b"half")
        os.utime(left, (1, 1))
        DiskStore(tmp_path, 1000).put("x:1", b"1")
        assert [path.name for path in tmp_path.iterdir()] == ["1"]

    def test_a_folder_that_others_can_write_to_is_not_used(self, tmp_path: Path):
        tmp_path.chmod(0o777)
        disk = DiskStore(tmp_path, 1000)
        disk.put("x:1", b"1")
        assert disk.get("x:1") is None
        assert list(tmp_path.iterdir()) == []

    def test_a_link_to_a_folder_is_not_used(self, tmp_path: Path):
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert not disk_module._is_own(tmp_path / "link")

    def test_a_disk_that_takes_nothing_is_no_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        disk = DiskStore(tmp_path, 1000)

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "mkstemp", full)
        disk.put("x:1", b"1")
        assert disk.get("x:1") is None
