"""Values by key: in Redis for all workers, on the local disk for those of this machine, in memory for this one.

Three levels are kept here, each with its own bounds: whole batches (``result``), single tests (``test``) and compiled
programs (``artifact``). They are looked for in memory, then on the disk (programs only), then in Redis, in one round
trip for all that is asked at a time. While Redis is away (see ``link``) the rest answers alone. What Redis has lost or
evicted is simply not found; every value stands for itself, so nothing is wrong when any other is missing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from evalx.cache.disk import DiskStore
from evalx.cache.link import Link
from evalx.cache.tally import Place, Tally
from evalx.cache.values import pack, pack_elsewhere, unpack, unpack_elsewhere
from evalx.messages import Source
from evalx.metrics import CACHE_MEMORY_BYTES

StoreLevel: TypeAlias = Literal["result", "test", "artifact"]

#: Bytes of values that this process keeps of each level: some seven thousand batches of 20 tests, thirty thousand
#: tests, and thirty compiled programs, which the disk has, too. Redis has all of them: a batch is looked up there
#: first, and what is not here of its tests is fetched in one call.
MEMORY_BYTES: Mapping[StoreLevel, int] = {"result": 32 << 20, "test": 16 << 20, "artifact": 32 << 20}
#: Bytes that a value may have in Redis, packed; a larger one would push out hundreds of others for one.
REDIS_VALUE_BYTES: Mapping[StoreLevel, int] = {"result": 2 << 20, "test": 256 << 10, "artifact": 8 << 20}
#: Part of a memory that one value may have, for the same reason.
LARGEST_PART = 1 / 4
#: Bytes that an entry takes besides its value: a key of some 90 characters, the header of the value, a node of the map.
ENTRY_BYTES = 300
#: Bytes from which a value is packed in a thread: it would keep the event loop for over a millisecond.
THREAD_BYTES = 256 << 10


class MemoryStore:
    """A least-recently-used map, bounded by the bytes that it takes."""

    def __init__(self, max_bytes: int) -> None:
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._max_bytes = max_bytes
        #: Bytes of all entries.
        self.bytes = 0

    def get(self, key: str) -> bytes | None:
        """Return the value and mark it as used."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store a value; the oldest ones make room."""
        self._forget(key)
        size = len(value) + ENTRY_BYTES
        if size > self._max_bytes * LARGEST_PART:
            return
        self._values[key] = value
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._values)))

    def _forget(self, key: str) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self.bytes -= len(value) + ENTRY_BYTES


class Store:
    """Memory, disk and Redis; without a URL there is no Redis, without ``disk`` no disk."""

    def __init__(self, url: str | None, *, timeout_ms: int, ttl_s: int, disk: DiskStore | None = None) -> None:
        self.link = Link(url, timeout_ms=timeout_ms)
        self.tally = Tally(self.link)
        self.ttl_s = ttl_s
        self._memories = {level: MemoryStore(size) for level, size in MEMORY_BYTES.items()}
        for level, memory in self._memories.items():
            CACHE_MEMORY_BYTES.labels(level).set_function(partial(getattr, memory, "bytes"))
        self._disk = disk

    @property
    def memory(self) -> MemoryStore:
        """What this process knows of whole batches."""
        return self._memories["result"]

    async def get(self, level: StoreLevel, key: str) -> bytes | None:
        """Return the value of a key, or None when it is nowhere."""
        return (await self.get_many(level, [key]))[0]

    async def get_many(self, level: StoreLevel, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, None for each that is nowhere, in one round trip at most."""
        memory = self._memories[level]
        found = {key: memory.get(key) for key in keys}
        self._count(level, found, "memory")
        if level == "artifact" and self._disk is not None:
            await self._look(level, found, "disk")
        if self.link.client is not None:
            await self._look(level, found, "redis")
        self.tally.count(level, misses=sum(value is None for value in found.values()))
        return [found[key] for key in keys]

    async def put(self, level: StoreLevel, key: str, value: bytes) -> None:
        """Store a value here, and in Redis as long as it lives there."""
        await self.put_many(level, {key: value})

    async def put_many(self, level: StoreLevel, values: Mapping[str, bytes]) -> None:
        """Store values, in one round trip."""
        packed: dict[str, bytes] = {}
        for key, value in values.items():
            self._memories[level].put(key, value)
            packed[key] = await _packed(value, key)
        if level == "artifact" and self._disk is not None:
            for key, small in packed.items():
                await asyncio.to_thread(self._disk.put, key, small)
        await self._put_redis(level, packed)

    def count(self, source: Source) -> None:
        """Count a batch by where its answer came from."""
        if source != "result_cache":
            self.tally.count("flight", hits=source == "joined", misses=source == "executed")
        self.tally.count_batch(known=source != "executed")

    async def ping(self) -> bool:
        """Whether Redis answers; True when none is configured."""
        return self.link.client is None or await self.link.ask(self.link.client.ping()) is not None

    async def close(self) -> None:
        """Send the last counts and close the connections."""
        await self.tally.close()
        await self.link.close()

    async def _look(self, level: StoreLevel, found: dict[str, bytes | None], place: Place) -> None:
        """Fill in what was not found yet."""
        missing = [key for key, value in found.items() if value is None]
        if not missing:
            return
        values = await (self._from_disk(missing) if place == "disk" else self._from_redis(missing))
        seen = {key: value for key, value in values.items() if value is not None}
        for key, value in seen.items():
            self._memories[level].put(key, value)
        self._count(level, seen, place)
        found.update(seen)

    async def _from_disk(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        return {key: await asyncio.to_thread(self._read, key) for key in keys}

    def _read(self, key: str) -> bytes | None:
        assert self._disk is not None
        packed = self._disk.get(key)
        value = unpack_elsewhere(packed, key)
        if packed is not None and value is None:
            self._disk.drop(key)
        return value

    async def _from_redis(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        values = await self.link.ask(self.link.client.mget(keys))
        if not isinstance(values, list) or len(values) != len(keys):
            return {}
        return {key: await _unpacked(value, key) for key, value in zip(keys, values, strict=True)}

    async def _put_redis(self, level: StoreLevel, packed: Mapping[str, bytes]) -> None:
        small = {key: value for key, value in packed.items() if len(value) <= REDIS_VALUE_BYTES[level]}
        if self.link.client is None or not small:
            return
        pipe = self.link.client.pipeline(transaction=False)
        for key, value in small.items():
            pipe.set(key, value, ex=self.ttl_s)
        await self.link.ask(pipe.execute())

    def _count(self, level: StoreLevel, found: Mapping[str, bytes | None], place: Place) -> None:
        self.tally.count(level, hits=sum(value is not None for value in found.values()), place=place)


async def _packed(value: bytes, key: str) -> bytes:
    return pack(value, key) if len(value) < THREAD_BYTES else await asyncio.to_thread(pack_elsewhere, value, key)


async def _unpacked(packed: object, key: str) -> bytes | None:
    if isinstance(packed, bytes) and len(packed) >= THREAD_BYTES:
        return await asyncio.to_thread(unpack_elsewhere, packed, key)
    return unpack(packed, key)
