"""Bytes by key: in Redis for all workers, and in memory for this one.

While Redis is away (see ``link``) the bounded memory of this process answers instead. Values that Redis has lost or
evicted are simply not found.
"""

from __future__ import annotations

from collections import OrderedDict

import structlog
import zstandard

from evalx.cache.link import Link
from evalx.metrics import CACHE_LOOKUPS

log = structlog.get_logger(__name__)

#: Bytes of values that this process keeps: some thousand batches of 5 KB, or a hundred compiled programs.
MEMORY_BYTES = 64 << 20
#: Level 1 is the fastest and halves the size of results and of binaries already.
ZSTD_LEVEL = 1


class MemoryStore:
    """A least-recently-used map, bounded by the bytes of its values."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._max_bytes = max_bytes

    def get(self, key: str) -> bytes | None:
        """Return the value and mark it as used."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store a value; the oldest ones make room."""
        self._bytes -= len(self._values.pop(key, b""))
        self._values[key] = value
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= len(dropped)


class Store:
    """Redis with memory behind it; without a URL, memory alone."""

    def __init__(self, url: str | None, *, timeout_ms: int, ttl_s: int) -> None:
        self.link = Link(url, timeout_ms=timeout_ms)
        self.memory = MemoryStore()
        self.ttl_s = ttl_s

    async def get(self, level: str, key: str) -> bytes | None:
        """Return the value of a key, or None when it is nowhere. ``level`` names the cache in the metrics."""
        value = self.memory.get(key)
        if value is None and self.link.client is not None:
            value = unpack(await self.link.ask(self.link.client.get(key)))
            if value is not None:
                self.memory.put(key, value)
        CACHE_LOOKUPS.labels(level, "miss" if value is None else "hit").inc()
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Store a value here, and in Redis as long as it lives there."""
        self.memory.put(key, value)
        if self.link.client is not None:
            await self.link.ask(self.link.client.set(key, pack(value), ex=self.ttl_s))

    async def ping(self) -> bool:
        """Whether Redis answers; True when none is configured."""
        return self.link.client is None or await self.link.ask(self.link.client.ping()) is not None

    async def close(self) -> None:
        """Close the connections."""
        await self.link.close()


def pack(value: bytes) -> bytes:
    """A value as it is kept in Redis."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(value)


def unpack(packed: object) -> bytes | None:
    """A value from Redis; one that does not unpack is as good as none."""
    if not isinstance(packed, bytes):
        return None
    try:
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError:
        log.warning("cache_value_damaged")
        return None
