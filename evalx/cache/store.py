"""Bytes by key: in Redis for all workers, and in memory for this one.

Redis is never the reason that a submission fails. Every call has one short time limit; after a failure Redis is left
alone for a moment (a circuit breaker), and the bounded memory of this process answers instead. Values that Redis has
lost or evicted are simply not found.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import TypeVar

import msgspec
import redis.asyncio
import structlog
import zstandard

from evalx.cache import keys
from evalx.metrics import CACHE_LOOKUPS, REDIS_AVAILABLE

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds for which Redis is left alone after a failure: long enough not to spend every batch's time budget on a Redis
#: that is away, short enough that its return is noticed at once.
BREAKER_OPEN_S = 1.0
#: Bytes of values that this process keeps: some thousand batches of 5 KB, or a hundred compiled programs.
MEMORY_BYTES = 64 << 20
#: Ids that this process remembers for the case that Redis is away.
MEMORY_CLAIMS = 100_000
#: Level 1 is the fastest and halves the size of results and of binaries already.
ZSTD_LEVEL = 1


class Claim(msgspec.Struct, frozen=True):
    """What is known of a submission's id: how often it was taken, with this time, and whether its content differs."""

    attempt: int
    conflict: bool


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
        self._timeout_s = timeout_ms / 1000
        self._ttl_s = ttl_s
        self._memory = MemoryStore()
        self._claims: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._closed_until = 0.0
        self._available = True
        self._redis = redis.asyncio.Redis.from_url(url) if url is not None else None

    async def get(self, level: str, key: str) -> bytes | None:
        """Return the value of a key, or None when it is nowhere. ``level`` names the cache in the metrics."""
        value = self._memory.get(key)
        if value is None and self._redis is not None:
            packed = await self._ask(self._redis.get(key))
            value = _unpack(packed) if isinstance(packed, bytes) else None
            if value is not None:
                self._memory.put(key, value)
        CACHE_LOOKUPS.labels(level, "miss" if value is None else "hit").inc()
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Store a value here, and in Redis as long as it lives there."""
        self._memory.put(key, value)
        if self._redis is not None:
            packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(value)
            await self._ask(self._redis.set(key, packed, ex=self._ttl_s))

    async def claim(self, submission_id: str, content: bytes) -> Claim:
        """Register that a submission was taken, in one round trip.

        While Redis is away only this process's own memory is asked: a conflict may then go unseen, and an attempt may
        be counted twice. Neither loses a submission.
        """
        local = self._claim_locally(submission_id, content)
        if self._redis is None:
            return local
        key = keys.claim_key(submission_id)
        pipe = self._redis.pipeline(transaction=False)
        pipe.hsetnx(key, "content", content)
        pipe.hget(key, "content")
        pipe.hincrby(key, "attempt", 1)
        pipe.expire(key, self._ttl_s)
        replies = await self._ask(pipe.execute())
        if replies is None:
            return local
        _, known, attempt, _ = replies
        return Claim(max(int(attempt), local.attempt), known != content)

    async def ping(self) -> bool:
        """Whether Redis answers; True when none is configured."""
        return self._redis is None or await self._ask(self._redis.ping()) is not None

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    def _claim_locally(self, submission_id: str, content: bytes) -> Claim:
        known, attempt = self._claims.pop(submission_id, (content, 0))
        self._claims[submission_id] = (known, attempt + 1)
        if len(self._claims) > MEMORY_CLAIMS:
            self._claims.popitem(last=False)
        return Claim(attempt + 1, known != content)

    async def _ask(self, call: Awaitable[T]) -> T | None:
        """Await one Redis call within the time limit; None when Redis is away or was away a moment ago."""
        if time.monotonic() < self._closed_until:
            if asyncio.iscoroutine(call):
                call.close()
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await call
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._closed_until = time.monotonic() + BREAKER_OPEN_S
            self._report(available=False, detail=repr(error))
            return None
        self._report(available=True)
        return reply

    def _report(self, *, available: bool, detail: str = "") -> None:
        """Say it when it changes, not for every batch."""
        if available != self._available:
            self._available = available
            REDIS_AVAILABLE.set(int(available))
            log.warning("redis_available" if available else "redis_unavailable", detail=detail)


def _unpack(packed: bytes) -> bytes | None:
    """A value that does not unpack is as good as none."""
    try:
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError:
        log.warning("cache_value_damaged")
        return None
