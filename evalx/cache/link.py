"""One way to Redis for all who use it: a time limit on every call, and a pause after a failure.

Theory of operation
===================
Redis is never the reason that a submission fails. A call that has no answer in time, or cannot be made, returns None,
and from then on nothing is asked (a circuit breaker) until Redis has answered a ping within the limit. So a Redis that
is away, or merely slow, costs those that were asking at that moment one limit each, and nobody else anything; and it is
used again within a second of its return.

- The time that this process did not get to look at the answer is not Redis's: when the limit is noticed late, it is
  granted once more.
- What Redis answers with an error (a key of another type, no memory left) is no answer to that call, and says nothing
  of the next one.
- ``insist`` is for calls whose loss would show, such as a claim. In the first moments of an outage they get another and
  longer try: most outages are a restart, or a machine that is busy.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import redis.asyncio
import structlog

from evalx.access import redis_hint
from evalx.metrics import REDIS_AVAILABLE, REDIS_FAILURES

log = structlog.get_logger(__name__)

T = TypeVar("T")
#: What a script is given.
Words: TypeAlias = Sequence[str | bytes | int]

#: Seconds between a failure and the pings that follow, the last one again and again: a hiccup is over at once, and an
#: outage is not worth more than a call a second.
PROBE_S = (0.05, 0.1, 0.25, 0.5, 1.0)
#: Seconds by which a limit must be noticed late to be granted once more: far more than a loop that is merely working.
LATE_S = 0.005
#: Seconds between two log lines about calls that Redis has refused.
REFUSALS_LOGGED_S = 10.0
#: Seconds for the second try of a call whose loss would show, such as a claim: without an answer a repeat may carry the
#: attempt of the first one. A busy machine makes Redis wait for tenths of a second; more than this is an outage.
INSIST_S = 1.0
#: Seconds after the first failure in which calls are worth a second try. With ``INSIST_S`` and the usual limit, a
#: record that is taken as Redis goes away waits at most 1.05 s for it, and one taken later not at all.
INSIST_WITHIN_S = 2.0


class Link:
    """A connection pool to Redis; without a URL, nothing ever answers."""

    def __init__(self, url: str | None, *, timeout_ms: int) -> None:
        # A call has our limit. The client's own would be two more timers in each, a third of what it costs.
        self.client: Any = redis.asyncio.Redis.from_url(url, socket_timeout=None) if url is not None else None
        #: For subscriptions, which nothing of ours limits.
        self.listener: Any = redis.asyncio.Redis.from_url(url) if url is not None else None
        self._timeout_s = timeout_ms / 1000
        # Until something else is known.
        REDIS_AVAILABLE.set(1)
        #: Whether nothing is asked for now.
        self._is_open = False
        self._away_since: float | None = None
        self._probing: asyncio.Task[None] | None = None
        self._refusal_logged_at = float("-inf")
        self._scripts: dict[str, Any] = {}

    async def ask(self, call: Awaitable[T]) -> T | None:
        """Await one call within the time limit; None when Redis is away, or was when it was asked last."""
        if self._is_open:
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
        return await self.insist(lambda: self._call(script, keys, arguments))

    async def run_once(self, script: str, keys: Sequence[str], arguments: Words) -> Any:
        """Like ``run``, but without a second try."""
        return None if self.client is None else await self.ask(self._call(script, keys, arguments))

    def _call(self, script: str, keys: Sequence[str], arguments: Words) -> Awaitable[Any]:
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        called: Awaitable[Any] = self._scripts[script](keys=list(keys), args=list(arguments))
        return called

    async def probe(self) -> bool:
        """Ask for a sign of life, whatever is known; whether there was one in time."""
        if self.client is None:
            return True
        # Connecting again may take longer than an answer may.
        if await self._try(self.client.ping(), INSIST_S) is not None and self._is_open:
            await self._try(self.client.ping(), self._timeout_s)
        return not self._is_open

    async def close(self) -> None:
        """Close the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        if self.client is not None:
            await self.client.aclose()
            await self.listener.aclose()

    async def _try(self, call: Awaitable[T], timeout_s: float) -> T | None:
        asked_before = cancellations()
        asked_at = time.monotonic()
        try:
            async with _limit(timeout_s):
                reply = await call
        except redis.exceptions.ResponseError as error:
            heed_cancellation(asked_before)
            self._refused(error)
            return None
        except (redis.RedisError, OSError, TimeoutError) as error:
            heed_cancellation(asked_before)
            self._failed(error)
            return None
        heed_cancellation(asked_before)
        # One that came late, in answer to a longer try, is welcome; but Redis is not back by that.
        if self._is_open and time.monotonic() - asked_at <= self._timeout_s:
            self._answered()
        return reply

    def _failed(self, error: Exception) -> None:
        """Say it when it changes, not for every batch."""
        self._is_open = True
        REDIS_FAILURES.labels("slow" if isinstance(error, TimeoutError) else "away").inc()
        if self._away_since is None:
            self._away_since = time.monotonic()
            REDIS_AVAILABLE.set(0)
            log.warning("redis_unavailable", detail=repr(error), **_hint(error))
        if self.client is not None and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    def _refused(self, error: Exception) -> None:
        REDIS_FAILURES.labels("refused").inc()
        if time.monotonic() - self._refusal_logged_at > REFUSALS_LOGGED_S:
            self._refusal_logged_at = time.monotonic()
            log.warning("redis_refused", detail=str(error))

    def _answered(self) -> None:
        self._is_open = False
        self._away_since = None
        REDIS_AVAILABLE.set(1)
        log.warning("redis_available")

    async def _probe(self) -> None:
        for pause in itertools.chain(PROBE_S, itertools.repeat(PROBE_S[-1])):
            await asyncio.sleep(pause)
            if not self._is_open or await self.probe():
                return


def _hint(error: Exception) -> dict[str, str]:
    """What to do, when it is more than to wait."""
    hint = redis_hint(error)
    return {"hint": hint} if hint else {}


class _limit:  # noqa: N801  used like asyncio.timeout
    """Like ``asyncio.timeout``, but the time that the event loop itself was late does not count.

    A class, and no generator with a callback that knows itself: that would be garbage in a cycle after each call.
    """

    __slots__ = ("_due", "_extended", "_loop", "_seconds", "_timeout", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._extended = False
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + self._seconds
        await self._timeout.__aenter__()
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._due, self._end)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._timeout.__aexit__(kind, error, trace)

    def _end(self) -> None:
        if not self._extended and self._loop.time() - self._due > LATE_S:
            self._extended = True
            self._timer = self._loop.call_later(self._seconds, self._end)
        else:
            self._timer = None
            self._timeout.reschedule(0.0)


def cancellations() -> int:
    """How often the present task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancellation(asked_before: int) -> None:
    """End the task if it was asked to since: the client, as it connects or reads, can make a failure of that (seen)."""
    if cancellations() > asked_before:
        raise asyncio.CancelledError
