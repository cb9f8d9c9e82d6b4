"""One way to Redis for all who use it: a time limit on every call, and a pause after a failure.

Redis is never the reason that a submission fails. A call that has no answer in time, or cannot be made, returns None;
then Redis is left alone for a moment (a circuit breaker), so that not every submission waits for a Redis that is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import redis.asyncio
import structlog

from evalx.metrics import REDIS_AVAILABLE

log = structlog.get_logger(__name__)

T = TypeVar("T")
#: What a script is given.
Words: TypeAlias = Sequence[str | bytes | int]

#: Seconds for which Redis is left alone after a failure: long enough not to spend every batch's time budget on a Redis
#: that is away, short enough that its return is noticed at once.
BREAKER_OPEN_S = 1.0
#: Seconds for the second try of a call whose loss would show, such as a claim: without an answer a repeat may carry the
#: attempt of the first one. A busy machine makes Redis wait for tenths of a second; more than this is an outage.
INSIST_S = 1.0
#: Seconds after the first failure in which calls are worth a second try. With ``INSIST_S`` and the usual limit, a
#: record that is taken as Redis goes away waits at most 1.2 s for it, and one taken later only the usual limit.
INSIST_WITHIN_S = 2.0


class Link:
    """A connection pool to Redis; without a URL, nothing ever answers."""

    def __init__(self, url: str | None, *, timeout_ms: int) -> None:
        self.client: Any = redis.asyncio.Redis.from_url(url) if url is not None else None
        self._timeout_s = timeout_ms / 1000
        self._closed_until = 0.0
        self._away_since: float | None = None
        self._scripts: dict[str, Any] = {}

    async def ask(self, call: Awaitable[T]) -> T | None:
        """Await one call within the time limit; None when Redis is away or was away a moment ago."""
        if time.monotonic() < self._closed_until:
            if asyncio.iscoroutine(call):
                call.close()
            return None
        return await self._try(call, self._timeout_s)

    async def insist(self, make_call: Callable[[], Awaitable[T]]) -> T | None:
        """Like ``ask``, with a second and longer try unless Redis has been away for a while.

        The call must do no harm when it is made twice: of the first one perhaps only the answer was lost.
        """
        reply = await self.ask(make_call())
        away_since = self._away_since
        if reply is None and away_since is not None and time.monotonic() - away_since < INSIST_WITHIN_S:
            reply = await self._try(make_call(), INSIST_S)
        return reply

    async def run(self, script: str, keys: Sequence[str], arguments: Words) -> Any:
        """Run a Lua script, in one round trip once Redis knows it; its answer, or None when Redis is away."""
        if self.client is None:
            return None
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        return await self.insist(lambda: self._scripts[script](keys=list(keys), args=list(arguments)))

    async def close(self) -> None:
        """Close the connections."""
        if self.client is not None:
            await self.client.aclose()

    async def _try(self, call: Awaitable[T], timeout_s: float) -> T | None:
        asked_before = cancellations()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await call
        except (redis.RedisError, OSError, TimeoutError) as error:
            heed_cancellation(asked_before)
            self._failed(error)
            return None
        heed_cancellation(asked_before)
        self._answered()
        return reply

    def _failed(self, error: Exception) -> None:
        """Say it when it changes, not for every batch."""
        now = time.monotonic()
        self._closed_until = now + BREAKER_OPEN_S
        if self._away_since is None:
            self._away_since = now
            REDIS_AVAILABLE.set(0)
            log.warning("redis_unavailable", detail=repr(error))

    def _answered(self) -> None:
        self._closed_until = 0.0
        if self._away_since is not None:
            self._away_since = None
            REDIS_AVAILABLE.set(1)
            log.warning("redis_available")


def cancellations() -> int:
    """How often the present task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancellation(asked_before: int) -> None:
    """End the task if it was asked to since: the client, as it connects or reads, can make a failure of that (seen)."""
    if cancellations() > asked_before:
        raise asyncio.CancelledError
